"""What a durable queue holds, and how that is written: one frame for each record, with a checksum over all of it."""

from __future__ import annotations

import enum
import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette.spool.segment import Segment

HEADER = b"vedette spool 1\n"
"""How a segment file begins."""
_MAGIC = b"vSp1"
_FRAME = struct.Struct("<4sIIIIBBxxdd")
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
    """Their checksum is wrong."""


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
        busy: whether somebody is sending it: it is not evicted meanwhile.
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
    busy: bool = False

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
        kept: list[tuple[int, int]] = []
        for first, last in self.rest:
            kept += [part for part in ((first, min(last, start)), (max(first, stop), last)) if part[0] < part[1]]
        self.rest = kept
        return before - self.left


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


def frame(entry: Entry) -> bytes:
    """An entry as it is written."""
    checked = _FRAME.pack(
        _MAGIC, 0, len(entry.body), entry.count, entry.raw, entry.kind, entry.form, entry.oldest, entry.newest
    )[_AFTER_CHECKSUM:]
    checksum = zlib.crc32(entry.body, zlib.crc32(checked))
    return b"".join((_MAGIC, struct.pack("<I", checksum), checked, entry.body))


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


def frames(data: memoryview) -> Iterator[tuple[Record, bool]]:
    """The records in a segment's bytes, header left out, and whether each is undamaged; the rest of a torn one is not.

    A damaged frame is skipped where the next one can be found behind it.
    """
    at, number = 0, 0
    while at + _FRAME.size <= len(data):
        magic, checksum, size, count, raw, kind, form, oldest, newest = _FRAME.unpack_from(data, at)
        body = at + _FRAME.size
        end = body + size
        if magic != _MAGIC or size > LONGEST or end > len(data):
            return
        whole = zlib.crc32(data[at + _AFTER_CHECKSUM : end]) == checksum
        if not whole and end != len(data) and bytes(data[end : end + len(_MAGIC)]) != _MAGIC:
            return
        record = Record(kind, form, count, raw, oldest, newest, size, number=number, offset=body)
        record.rest = [(0, count)] if count else []
        yield record, whole
        number += 1
        at = end


def intact(head: bytes, body: bytes) -> bool:
    """Whether a body read again is the one that its frame's head was written for."""
    checksum: int = struct.unpack_from("<I", head, len(_MAGIC))[0]
    return zlib.crc32(body, zlib.crc32(head[_AFTER_CHECKSUM:])) == checksum
