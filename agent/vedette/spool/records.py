"""What a durable queue holds, and how that is written: one frame for each record, with a checksum over all of it."""

from __future__ import annotations

import enum
import math
import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette.spool.segment import Segment

HEADER = b"vedette spool 2\n"
"""How a segment file begins."""
_MAGIC = b"vSp2"
_FRAME = struct.Struct("<4sIIIIIIIBBxxdd")
"""Magic, checksum of the head behind it, checksum of the body, and what a `_Head` has."""
_AFTER_CHECKSUM = 8
LONGEST = 64 * 1024 * 1024
"""Bytes of a record beyond which a length cannot be true."""


class Outcome(enum.IntEnum):
    """What became of items."""

    SENT = 1
    EXPIRED = 2
    """Too old for the receiver by the time that they could be sent."""
    REFUSED = 3
    """The receiver will never take them."""
    EVICTED = 4
    """The queue's budget was used up, and they were the oldest."""
    DAMAGED = 5
    """They are not what was written any more."""


class DamagedError(Exception):
    """What is on disk is not what was written."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be queued.

    Attributes:
        kind: what its items are, 0 to 255; records of each kind are a queue of their own.
        form: how the body is encoded, 0 to 255; for whoever reads it.
        count: how many items there are to send; with none of them it is only kept for the next process to see.
        raw: bytes of the body once it is decoded.
        oldest: Unix seconds of its oldest item.
        newest: Unix seconds of its newest item.
        body: the items.
    """

    kind: int
    form: int
    count: int
    raw: int
    oldest: float
    newest: float
    body: bytes


@dataclass(slots=True, eq=False)
class Record:
    """A record of the queue.

    Attributes:
        kind, form, count, raw, oldest, newest: as in `Entry`.
        size: bytes of the body.
        segment: the file it is in; None while it is in memory only.
        number: its place among the records of its file.
        offset: where in the file its body begins.
        body: the body of one that is in memory only.
        rest: ranges of items that nothing is known of yet, in order.
        held: ranges of items that somebody is sending; it is not evicted meanwhile.
    """

    kind: int
    form: int
    count: int
    raw: int
    oldest: float
    newest: float
    size: int
    segment: Segment | None = None
    number: int = 0
    offset: int = 0
    body: bytes | None = None
    rest: list[tuple[int, int]] = field(default_factory=list)
    held: list[tuple[int, int]] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        """Whether somebody is sending some of it."""
        return bool(self.held)

    @property
    def left(self) -> int:
        """How many items are still to be sent."""
        return sum(stop - start for start, stop in self.rest)

    @property
    def safe(self) -> bool:
        """Whether a kill cannot lose it: it is on disk, or there is nothing left of it."""
        return self.body is None or not self.rest

    def take_off(self, start: int, stop: int) -> int:
        """Remove a range from what is left; returns how many items that were."""
        before = self.left
        self.rest = _without(self.rest, start, stop)
        return before - self.left

    def hold(self, start: int, stop: int) -> None:
        """Somebody begins to send a range."""
        self.held.append((start, stop))

    def release(self, start: int, stop: int) -> None:
        """Nobody is sending a range any more; what else of the record is under way stays so."""
        self.held = _without(self.held, start, stop)


def _without(ranges: list[tuple[int, int]], start: int, stop: int) -> list[tuple[int, int]]:
    kept: list[tuple[int, int]] = []
    for first, last in ranges:
        kept += [part for part in ((first, min(last, start)), (max(first, stop), last)) if part[0] < part[1]]
    return kept


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of a record's items."""

    record: Record
    start: int
    stop: int

    @property
    def count(self) -> int:
        """How many items."""
        return self.stop - self.start


def frame(entry: Entry, number: int, before: int) -> bytes:
    """An entry as it is written.

    Args:
        entry: to write.
        number: its place among the records of its file.
        before: how many items the records before it in the file have; so it is known how many damage costs.
    """
    checked = _FRAME.pack(
        _MAGIC,
        0,
        zlib.crc32(entry.body),
        len(entry.body),
        entry.count,
        entry.raw,
        number,
        before,
        entry.kind,
        entry.form,
        entry.oldest,
        entry.newest,
    )[_AFTER_CHECKSUM:]
    return b"".join((_MAGIC, struct.pack("<I", zlib.crc32(checked)), checked, entry.body))


def made(entry: Entry) -> Record:
    """The record of an entry, in memory."""
    return Record(
        entry.kind,
        entry.form,
        entry.count,
        entry.raw,
        entry.oldest,
        entry.newest,
        len(entry.body),
        body=entry.body,
        rest=[(0, entry.count)] if entry.count else [],
    )


FRAME_SIZE = _FRAME.size


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of a segment that cannot be read.

    Attributes:
        first: number of the first record in it.
        stop: number of the last one + 1.
        items: how many items its records have.
    """

    first: int
    stop: int
    items: int


@dataclass(slots=True)
class Found:
    """What was found in a segment's bytes.

    Attributes:
        records: those whose head is whole.
        torn: those of them whose body is not.
        gaps: what lies between them.
        damaged: whether anything is not as it was written; a torn end, which a kill leaves, is no damage.
    """

    records: list[Record] = field(default_factory=list)
    torn: list[Record] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    damaged: bool = False


def search(data: bytes, at: int) -> Found:
    """Find the records in a segment's bytes; where one is damaged the next is looked for behind it.

    Args:
        data: of the whole file.
        at: where the first frame should be.
    """
    found = Found()
    number = before = 0
    while at < len(data):
        place, head = _next_head(data, at, number, before)
        if head is None:
            found.damaged |= not _MAGIC.startswith(data[at : at + len(_MAGIC)]) or len(data) - at >= FRAME_SIZE
            if (last := _mended(data[at:], number, before)) is not None:
                found.gaps.append(Gap(number, number + 1, last.record.count))
            break
        if place > at or head.before > before or head.number > number:
            found.damaged = True
            found.gaps.append(Gap(number, head.number, head.before - before))
        at = place + FRAME_SIZE + head.record.size
        if at > len(data):
            break  # killed while it was written
        head.record.offset = place + FRAME_SIZE
        found.records.append(head.record)
        if zlib.crc32(memoryview(data)[head.record.offset : at]) != head.checksum:
            found.damaged = True
            found.torn.append(head.record)
        number, before = head.number + 1, head.before + head.record.count
    return found


@dataclass(frozen=True, slots=True)
class _Head:
    """What stands before a body."""

    record: Record
    checksum: int
    number: int
    before: int


def _next_head(data: bytes, at: int, number: int, before: int) -> tuple[int, _Head | None]:
    """The first whole head from a place on that can follow, and where it is."""
    while (at := data.find(_MAGIC, at)) >= 0:
        head = _head(data, at)
        if head is not None and head.number >= number and head.before >= before:
            return at, head
        at += 1
    return at, None


def _head(data: bytes, at: int) -> _Head | None:
    if at + FRAME_SIZE > len(data):
        return None
    _, checksum, of_body, size, count, raw, number, before, kind, form, oldest, newest = _FRAME.unpack_from(data, at)
    if zlib.crc32(data[at + _AFTER_CHECKSUM : at + FRAME_SIZE]) != checksum:
        return None
    if size > LONGEST or not (math.isfinite(oldest) and math.isfinite(newest)):
        return None
    record = Record(kind, form, count, raw, oldest, newest, size, number=number)
    record.rest = [(0, count)] if count else []
    return _Head(record, of_body, number, before)


def _mended(data: bytes, number: int, before: int) -> _Head | None:
    """What the head of a segment's last frame was before one byte of it changed: nothing behind it tells its count."""
    draft = bytearray(_MAGIC + data[len(_MAGIC) : FRAME_SIZE])
    for place in range(len(_MAGIC), len(draft)):
        right = draft[place]
        for draft[place] in range(256):
            head = _head(bytes(draft), 0)
            if head is not None and (head.number, head.before) == (number, before):
                return head if FRAME_SIZE + head.record.size <= len(data) else None
        draft[place] = right
    return None


def intact(head: bytes, body: bytes) -> bool:
    """Whether a body read again is the one that its frame's head was written for."""
    known = _head(head, 0)
    return known is not None and known.record.size == len(body) and zlib.crc32(body) == known.checksum
