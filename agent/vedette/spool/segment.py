"""One file of a durable queue with its records, and beside it the file that says what became of them."""

from __future__ import annotations

import errno
import os
import stat
import struct
import zlib
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from vedette.spool.records import FRAME_SIZE, HEADER, LONGEST, DamagedError, Gap, Outcome, Record, intact, search

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_MODE = 0o600
_NOTE = struct.Struct("<IIIII")
"""Number of the record, first item, last item + 1, outcome, checksum."""
_OUTCOMES = frozenset(map(int, Outcome))
_MOST = 2**32 - 1
_LARGEST = 2 * LONGEST
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


class Segment:
    """A segment: written once, at its end only; notes of what became of its records are appended to a second file.

    Args:
        path: of the file with records.
        number: its place in the queue.
    """

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        self.size = 0
        self.noted = 0
        """Bytes of the notes."""
        self.items = 0
        """How many items its records have."""
        self.records: list[Record] = []
        self.tally: Counter[Outcome] = Counter()
        """What became of its items."""
        self.damaged = False
        self.forgotten = ""
        """Why it is not known what became of its records; they are sent once more."""
        self._file = -1
        self._notes = -1

    @property
    def notes_path(self) -> Path:
        """Of the file with notes."""
        return self.path.with_suffix(".ack")

    @property
    def finished(self) -> bool:
        """Whether nothing in it is to be sent any more."""
        return not any(record.rest for record in self.records)

    @property
    def busy(self) -> bool:
        """Whether something of it is being sent."""
        return any(record.busy for record in self.records)

    # Reading

    def load(self) -> None:
        """Read what is there: records, and what became of them.

        Raises:
            OSError: it cannot be read.
            DamagedError: it is not a segment.
        """
        data = read_file(self.path)
        self.size = len(data)
        if HEADER.startswith(data):
            return  # killed before its first record
        begun = data.startswith(HEADER)
        found = search(data, len(HEADER) if begun else 0)
        if not begun and not found.records:
            raise DamagedError("it does not begin like one")
        self.damaged = found.damaged or not begun
        self.records = found.records
        for record in found.records:
            record.segment = self
        self._load_notes(found.gaps)
        for record in found.torn:
            self.tally[Outcome.DAMAGED] += record.take_off(0, record.count)

    def _load_notes(self, gaps: list[Gap]) -> None:
        """Read what became of the records; of what is in gaps the rest is lost."""
        try:
            data = read_file(self.notes_path)
        except FileNotFoundError:
            data = b""
        except OSError as error:
            data = b""
            self.forgotten = error.strerror or str(error)
            with suppress(OSError):
                set_aside(self.notes_path)
        self.noted = len(data) - len(data) % _NOTE.size
        known = {record.number: record for record in self.records}
        ghosts: dict[int, Record] = {}
        for number, start, stop, outcome, checksum in _NOTE.iter_unpack(data[: self.noted]):
            if outcome not in _OUTCOMES or checksum != zlib.crc32(_NOTE.pack(number, start, stop, outcome, 0)[:-4]):
                continue
            if number not in known and any(gap.first <= number < gap.stop for gap in gaps):
                ghosts[number] = known[number] = _ghost(number)
            if number in known:
                self.tally[Outcome(outcome)] += known[number].take_off(start, stop)
        for gap in gaps:
            settled = sum(_MOST - ghost.left for ghost in ghosts.values() if gap.first <= ghost.number < gap.stop)
            self.tally[Outcome.DAMAGED] += max(0, gap.items - settled)

    def read(self, record: Record) -> bytes:
        """The body of one of its records.

        Raises:
            DamagedError: it is not what was written, or cannot be read.
        """
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | _FLAGS)
            try:
                data = os.pread(file, FRAME_SIZE + record.size, record.offset - FRAME_SIZE)
            finally:
                os.close(file)
        except OSError as error:
            raise DamagedError(error.strerror or "it cannot be read") from error
        head, body = data[:FRAME_SIZE], data[FRAME_SIZE:]
        if len(body) != record.size or not intact(head, body):
            raise DamagedError("its checksum is wrong")
        return body

    # Writing

    def append(self, written: bytes, records: Iterable[Record], offsets: Iterable[int]) -> None:
        """Write frames and have them on disk when this returns; all of them or none.

        Args:
            written: the frames.
            records: theirs, from now on of this segment.
            offsets: where in `written` their bodies begin.

        Raises:
            OSError: none of them was written.
        """
        if self._file < 0:
            self._begin()
        start = self.size
        try:
            write_all(self._file, written)
            os.fdatasync(self._file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, start)
            raise
        self.size = start + len(written)
        for record, offset in zip(records, offsets, strict=True):
            record.segment, record.number, record.offset = self, len(self.records), start + offset
            record.body = None
            self.items += record.count
            self.records.append(record)

    def _begin(self) -> None:
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | _FLAGS, _MODE)
        try:
            write_all(file, HEADER)
            sync_folder(self.path.parent)
        except OSError:
            os.close(file)
            with suppress(OSError):
                self.path.unlink()
            raise
        self._file = file
        self.size = len(HEADER)

    def note(self, record: Record, start: int, stop: int, outcome: Outcome) -> int:
        """Take off items and write down what became of them; returns how many items that were.

        Notes are not forced to the disk: a power cut may have some items sent twice.

        Raises:
            OSError: it could not be written down; in memory it holds.
        """
        number = record.take_off(start, stop)
        self.tally[outcome] += number
        if not number:
            return 0
        if self._notes < 0:
            self._notes = os.open(
                self.notes_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | _FLAGS, _MODE
            )
            os.ftruncate(self._notes, self.noted)  # what a kill left of the last one
        head = _NOTE.pack(record.number, start, stop, outcome, 0)[:-4]
        try:
            write_all(self._notes, head + struct.pack("<I", zlib.crc32(head)))
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._notes, self.noted)
            raise
        self.noted += _NOTE.size
        return number

    def close(self) -> None:
        """Close its files; nothing is appended any more."""
        for file in (self._file, self._notes):
            if file >= 0:
                os.close(file)
        self._file = self._notes = -1

    def remove(self) -> None:
        """Delete it; one with damage is kept under another name, for whoever wants to know.

        Raises:
            OSError: it is still there.
        """
        self.close()
        if self.damaged:
            set_aside(self.path)
        else:
            self.path.unlink(missing_ok=True)
        self.notes_path.unlink(missing_ok=True)


def _ghost(number: int) -> Record:
    """A record of which only the notes are left."""
    return Record(0, 0, _MOST, 0, 0.0, 0.0, 0, number=number, rest=[(0, _MOST)])


def set_aside(path: Path) -> None:
    """Rename a file (or whatever it is) so that it is no part of the queue any more.

    Raises:
        OSError: it is still there.
    """
    path.rename(path.with_name(f"{path.name}.aside"))


def read_file(path: Path) -> bytes:
    """The content of a file that is one: reading a pipe would wait for ever.

    Raises:
        OSError: it is another thing, or larger than any file of a queue, or cannot be read.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _FLAGS)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        if status.st_size > _LARGEST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        with os.fdopen(file, "rb", closefd=False) as stream:
            return stream.read()
    finally:
        os.close(file)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk.

    Raises:
        OSError: they may not be.
    """
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def write_all(file: int, data: bytes) -> None:
    """Write all of it, in as many calls as that takes.

    Raises:
        OSError: some of it may be written.
    """
    done = 0
    while done < len(data):
        done += os.write(file, memoryview(data)[done:])
