"""The queue itself: its segments, its budget, what it holds in memory while the disk refuses."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vedette.spool.records import FRAME_SIZE, DamagedError, Entry, Outcome, Piece, Record, frame, made
from vedette.spool.segment import Segment, set_aside
from vedette.spool.totals import HIGHEST, TOTALS, Totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SEGMENT = re.compile(r"[0-9a-f]{16}\.seg")
_NOTES = re.compile(r"[0-9a-f]{16}\.ack")
_LOCK = "lock"
_LARGEST_SEGMENT = 8 * 1024 * 1024
_SMALLEST_SEGMENT = 64 * 1024
_SHARES = 16
_TAIL = 256 * 1024
_ASIDE = 4
"""One byte of so many of the budget may be taken by what is set aside; beyond that the oldest of it goes."""
_MOST_ASIDE = 100
_LOOK_AGAIN = 30.0
_NOT_A_FILE = frozenset((errno.EINVAL, errno.ELOOP, errno.EFBIG, errno.EISDIR, errno.ENXIO))
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


class SpoolTakenError(Exception):
    """Another process has this queue."""


class Spool:
    """A queue of records that survives a kill at any instant. For one thread at a time; every method may block.

    What `put` returned for is on disk (`fdatasync`), unless `trouble` says otherwise: then it is in memory, and goes to
    the disk with the first `put` or `rescue` that can write again. What `settle` notes is written but not forced to the
    disk: it survives a kill, while a power cut may have items sent twice.

    Args:
        directory: its own folder; None has it in memory only.
        budget: bytes it may take on disk; beyond that the oldest segment goes, and is counted.
    """

    def __init__(self, directory: Path | None, budget: int) -> None:
        self.directory = directory
        self.trouble = ""
        """Why records are in memory only; empty while they are not."""
        self.tally: Counter[Outcome] = Counter()
        """What became of all items so far, those of earlier processes included."""
        self.pending: dict[int, dict[Record, None]] = {}
        """Records with something left, by kind, the oldest first."""
        self.in_memory = 0
        """Bytes of what is in memory only."""
        self.left = 0
        """How many items are still to be sent."""
        self.aside: list[str] = []
        """Names of files that were set aside when it was opened, and why."""
        self._folder = directory or Path()
        self._budget = budget
        self._share = min(_LARGEST_SEGMENT, max(_SMALLEST_SEGMENT, budget // _SHARES))
        self._segments: dict[int, Segment] = {}
        self._active: Segment | None = None
        self._next = 1
        self._memory: dict[Record, None] = {}
        self._undeleted: set[int] = set()
        self.removed = 0
        """How many files that were set aside before are gone, since there were too many."""
        self.unread: dict[int, str] = {}
        """Segments that could not be read so far, and why: they stay where they are, and are tried again."""
        self._look_again_at = 0.0
        self._kept: set[int] = set()
        """Segments that stay although they may be finished: their sources may not know yet that they were taken."""
        self._folded: Counter[Outcome] = Counter()
        self._lock = -1

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(segment.size + segment.noted for segment in self._segments.values())

    @property
    def volatile(self) -> int:
        """How many of the items that are left are in memory only."""
        return sum(record.left for record in self._memory)

    # Opening

    def open(self) -> list[tuple[Record, bytes]]:
        """Take over what an earlier process left.

        Returns:
            The records written last with their bodies, sent or not: what an interrupted source may hand over once more.

        Raises:
            SpoolTakenError: another process has it; the queue works in memory until that one lets go.
            OSError: the folder cannot be used; the queue works in memory, and `trouble` says so.
        """
        if self.directory is None:
            return []
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            self._failed(error)
            raise
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.trouble = "another process uses the queue on disk"
            self.close()
            raise SpoolTakenError(self.trouble) from None
        folded = self._load_totals()
        self._load_segments(folded)
        tail = self._tail()
        self._kept = {record.segment.number for record, _ in tail if record.segment is not None}
        for segment in list(self._segments.values()):
            self._fold_if_finished(segment)
        self._tidy()
        return tail

    def _load_totals(self) -> frozenset[int]:
        """The counts of segments that are gone; returns which of them may still be there."""
        path = self._folder / TOTALS
        try:
            totals = Totals.load(path)
        except FileNotFoundError:
            return frozenset()
        except Exception:  # whoever changed it chooses what goes wrong
            self._put_aside(path, "the counts are damaged")
            return frozenset()
        self._folded = totals.items
        self._next = max(self._next, *totals.folded, totals.next)  # the number of one that is gone is not used again
        self.tally.update(totals.items)
        return totals.folded

    def _load_segments(self, folded: frozenset[int]) -> None:
        for path in sorted(self._folder.iterdir()):
            if not _SEGMENT.fullmatch(path.name):
                continue
            segment = Segment(path, int(path.stem, 16))
            if segment.number >= HIGHEST:
                self._put_aside(path, "its number cannot be true")
                continue
            self._next = max(self._next, segment.number + 1)
            if segment.number in folded:
                self._remove(segment)
                continue
            self._load(segment)

    def _load(self, segment: Segment) -> None:
        """Have its records, if it can be read; what is no segment at all is set aside."""
        try:
            segment.load()
        except OSError as error:
            if error.errno in _NOT_A_FILE:
                self._put_aside(segment.path, error.strerror or str(error))
            else:  # rights, too many open files, a disk that fails: that may pass
                self.unread[segment.number] = error.strerror or str(error)
            return
        except DamagedError as error:
            self._put_aside(segment.path, str(error))
            return
        self.unread.pop(segment.number, None)
        if segment.forgotten:
            self.aside.append(f"{segment.notes_path.name} ({segment.forgotten}; its items are sent once more)")
        if segment.damaged:
            self.aside.append(f"{segment.path.name} (damaged in part)")
        self._segments[segment.number] = segment
        self.tally.update(segment.tally)
        for record in segment.records:
            self._index(record)

    def _look_again(self) -> None:
        """Try those that could not be read, now and then; older ones come before what is here."""
        if not self.unread or time.monotonic() < self._look_again_at:
            return
        self._look_again_at = time.monotonic() + _LOOK_AGAIN
        for number in sorted(self.unread):
            self._load(Segment(self._folder / f"{number:016x}.seg", number))
        self._segments = dict(sorted(self._segments.items()))

    def _tail(self) -> list[tuple[Record, bytes]]:
        """The newest records."""
        found: list[tuple[Record, bytes]] = []
        size = 0
        for number in sorted(self._segments, reverse=True):
            for record in reversed(self._segments[number].records):
                size += record.size
                if size > _TAIL:
                    return found
                with suppress(DamagedError):
                    found.append((record, self._segments[number].read(record)))
        return found

    def _tidy(self) -> None:
        """Remove notes without a segment, and what was set aside long ago if that takes too much room."""
        for path in self._folder.iterdir():
            if _NOTES.fullmatch(path.name) and int(path.stem, 16) not in self._segments.keys() | self.unread.keys():
                with suppress(OSError):
                    path.unlink()
        aside = sorted(self._folder.glob("*.aside"), key=lambda path: path.lstat().st_mtime, reverse=True)
        room = self._budget // _ASIDE
        for number, path in enumerate(aside):
            room -= path.lstat().st_size
            if room < 0 or number >= _MOST_ASIDE:
                with suppress(OSError):
                    path.unlink()
                    self.removed += 1

    def _put_aside(self, path: Path, why: str) -> None:
        self.aside.append(f"{path.name} ({why})")
        with suppress(OSError):
            set_aside(path)

    # Putting in

    def put(self, entries: Iterable[Entry]) -> list[Record]:
        """Queue entries, all of one fsync; they are on disk when this returns, or in memory if `trouble` says so."""
        records = [made(entry) for entry in entries]
        for record in records:
            self._memory[record] = None
            self.in_memory += record.size
            self._index(record)
        self.rescue()
        return records

    def rescue(self) -> None:
        """Try to bring to the disk what is in memory only."""
        if self._lock < 0 and not self._opens():
            return
        self._look_again()
        waiting = [record for record in self._memory if record.rest or not record.count]
        while waiting:
            some = self._some(waiting)
            try:
                self._write(some)
            except OSError as error:
                self._failed(error)
                return
            del waiting[: len(some)]
            for record in some:
                self._leave_memory(record)
            self._evict()
        self.trouble = ""

    def _opens(self) -> bool:
        """Whether the folder can be used by now."""
        with suppress(OSError, SpoolTakenError):
            if self.directory is not None:
                self.open()
        return self._lock >= 0

    def _some(self, waiting: Sequence[Record]) -> list[Record]:
        """As many as a segment takes, at least one."""
        room = self._share - (self._active.size if self._active is not None else 0)
        for number, record in enumerate(waiting):
            room -= record.size
            if room < 0 and number:
                return list(waiting[:number])
        return list(waiting)

    def _write(self, records: Sequence[Record]) -> None:
        """Append records; items of theirs that something is known of already are noted at once."""
        active = self._writable()
        frames, offsets, size, before = [], [], 0, active.items
        for number, record in enumerate(records, len(active.records)):
            body = record.body or b""
            entry = Entry(record.kind, record.form, record.count, record.raw, record.oldest, record.newest, body)
            frames.append(frame(entry, number, before))
            before += record.count
            offsets.append(size + FRAME_SIZE)
            size += len(frames[-1])
        try:
            active.append(b"".join(frames), records, offsets)
        except OSError:
            self._active = None  # whatever state its end is in, nothing follows it
            self._kept.add(active.number)
            active.close()
            if not active.records:
                self._segments.pop(active.number, None)
                with suppress(OSError):
                    active.remove()
            raise
        for record in records:
            self._note_gaps(record)

    def _note_gaps(self, record: Record) -> None:
        """Write down that part of a record was sent while it was in memory; it is counted already."""
        rest, at = record.rest, 0
        gaps = []
        for start, stop in [*rest, (record.count, record.count)]:
            if at < start:
                gaps.append((at, start))
            at = stop
        if gaps and record.segment is not None:
            record.rest = [(0, record.count)]
            with suppress(OSError):
                for start, stop in gaps:
                    record.segment.note(record, start, stop, Outcome.SENT)
            record.rest = rest

    def _writable(self) -> Segment:
        if self._active is not None and self._active.size < self._share:
            return self._active
        if self._active is not None:
            self._active.close()
            before, self._kept, self._active = self._kept, {self._active.number}, None
            for number in before:
                self._fold_if_finished(self._segments.get(number))
        if self._next >= HIGHEST:  # somebody made a file of such a number; what is written must be found again
            self._next = 1
        while self._next in self._segments or self._next in self._undeleted:
            self._next += 1
        segment = Segment(self._folder / f"{self._next:016x}.seg", self._next)
        self._next += 1
        self._active = self._segments[segment.number] = segment
        return segment

    def _index(self, record: Record) -> None:
        if record.rest:
            self.pending.setdefault(record.kind, {})[record] = None
            self.left += record.left

    def _leave_memory(self, record: Record) -> None:
        if self._memory.pop(record, False) is None:
            self.in_memory -= record.size

    def _failed(self, error: OSError) -> None:
        self.trouble = f"the queue is in memory only: {self.directory}: {error.strerror or error}"

    # Taking out

    def read(self, record: Record) -> bytes:
        """The body of a record.

        Raises:
            DamagedError: it is not what was written.
        """
        if record.body is not None:
            return record.body
        if record.segment is None:
            raise DamagedError("it is neither on disk nor in memory")
        return record.segment.read(record)

    def settle(self, pieces: Iterable[Piece], outcome: Outcome) -> int:
        """Note what became of items, which are not to be sent any more; returns how many items that were.

        Nobody holds them any more either.
        """
        number = 0
        for piece in pieces:
            record = piece.record
            record.release(piece.start, piece.stop)
            if record.segment is None:
                settled = record.take_off(piece.start, piece.stop)
            else:
                settled = self._note(record.segment, record, piece, outcome)
            self.tally[outcome] += settled
            self.left -= settled
            number += settled
            if not record.rest:
                self._done_with(record)
        return number

    def _note(self, segment: Segment, record: Record, piece: Piece, outcome: Outcome) -> int:
        before = record.left
        try:
            return segment.note(record, piece.start, piece.stop, outcome)
        except OSError as error:  # known in memory; a restart has it sent once more
            self._failed(error)
            return before - record.left

    def _done_with(self, record: Record) -> None:
        self.pending.get(record.kind, {}).pop(record, None)
        self._leave_memory(record)
        if record.segment is None:
            record.body = None
        else:
            self._fold_if_finished(record.segment)

    def _evict(self) -> None:
        """Give up the oldest segments until the budget is kept."""
        while self.size > self._budget:
            old = [one for one in self._segments.values() if one is not self._active and not one.busy]
            if not old:
                return
            for record in list(old[0].records):
                self.tally[Outcome.EVICTED] += (lost := record.left)
                old[0].tally[Outcome.EVICTED] += lost
                self.left -= lost
                record.rest = []
                self.pending.get(record.kind, {}).pop(record, None)
            if not self._fold(old[0]):
                return

    def _fold_if_finished(self, segment: Segment | None) -> None:
        if segment is None or segment is self._active or segment.number in self._kept:
            return
        if segment.finished:
            self._fold(segment)

    def _fold(self, segment: Segment) -> bool:
        """Add a segment's counts to the totals and delete it; a kill in between counts nothing twice.

        Returns:
            Whether it is gone; where its counts cannot be written it stays, and is tried again later.
        """
        if segment.number not in self._segments:
            return True
        counts = self._folded + segment.tally
        gone = self._undeleted | {segment.number}
        try:
            Totals(counts, frozenset(gone), self._next).save(self._folder / TOTALS)
        except OSError as error:
            if error.errno not in _FULL:
                self._kept.add(segment.number)
                return False
            saved = False  # the deletion makes room for it
        else:
            saved = True
        del self._segments[segment.number]
        self._folded, self._undeleted = counts, gone
        self._remove(segment)
        if not saved:
            with suppress(OSError):
                Totals(counts, frozenset(self._undeleted), self._next).save(self._folder / TOTALS)
        return True

    def _remove(self, segment: Segment) -> None:
        try:
            segment.remove()
        except OSError:
            self._undeleted.add(segment.number)
        else:
            self._undeleted.discard(segment.number)

    def close(self) -> None:
        """Let go of the files; what is on disk stays."""
        for segment in self._segments.values():
            segment.close()
        self._active = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
