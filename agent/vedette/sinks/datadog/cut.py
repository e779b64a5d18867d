"""Cuts items into records of the queue, and joins pieces of records into bodies that an endpoint takes."""

from __future__ import annotations

import re
from itertools import compress
from typing import TYPE_CHECKING, Any

import msgspec

from vedette.kit import Entry, Piece
from vedette.sinks.datadog.lanes import Kind
from vedette.sinks.datadog.press import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from vedette.kit import Record
    from vedette.sinks.datadog.lanes import Lane

_LARGEST = 400_000
"""Bytes of a record before compression, so that each fits into a request even if nothing can be compressed."""
_MOST_ITEMS = {Kind.LOG: 500, Kind.STATUS: 500, Kind.EVENT: 100}
_MANY = 5_000
_NAME = re.compile(rb'"(?:metric|check|title)":("(?:[^"\\]|\\.)*")')
_MOST_NAMES = 5


class _Timed(msgspec.Struct):
    """Where the items of all kinds have their time."""

    points: list[Any] = []
    timestamp: float = 0.0
    date_happened: float = 0.0


_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_timed = msgspec.json.Decoder(list[_Timed]).decode


class Items:
    """Items of one kind, encoded; records are made of them as soon as there are enough for one.

    Args:
        kind: of record.
        repeats: hashes of points to leave out.
    """

    def __init__(self, kind: Kind, repeats: frozenset[int] = frozenset()) -> None:
        self._kind = kind
        self._repeats = repeats if kind in (Kind.SERIES, Kind.LATE) else frozenset()
        self._most = _MOST_ITEMS.get(kind, _MANY)
        self._texts: list[bytes] = []
        self._times: list[float] = []
        self._open = self._packed = 0
        self._entries: list[Entry] = []

    @property
    def size(self) -> int:
        """Bytes."""
        return self._open + self._packed

    @property
    def raw(self) -> int:
        """Bytes before compression."""
        return self._open + sum(entry.raw for entry in self._entries)

    def add(self, item: bytes, time: float) -> None:
        """One more JSON object, and its Unix seconds."""
        size = len(item)
        if self._open + size > _LARGEST or len(self._texts) >= self._most:
            self._pack()
        self._texts.append(item)
        self._times.append(time)
        self._open += size + 1

    def take(self) -> list[Entry]:
        """All of it as records."""
        self._pack()
        return self._entries

    def _pack(self) -> None:
        texts, times = self._texts, self._times
        if self._repeats:
            kept = [hash(item) not in self._repeats for item in texts]
            known = [item for item, new in zip(texts, kept, strict=True) if not new]
            texts, times = list(compress(texts, kept)), list(compress(times, kept))
            if known:  # a third process may be handed them too
                self._add(known, [0.0], 0)
        if texts:
            self._add(texts, times, len(texts))
        self._texts, self._times, self._open = [], [], 0

    def _add(self, texts: list[bytes], times: list[float], count: int) -> None:
        raw = b",".join(texts)
        form, body = pack(raw)
        self._entries.append(Entry(int(self._kind), form, count, len(raw), min(times), max(times), body))
        self._packed += len(body)


def split(raw: bytes) -> list[bytes]:
    """The items of a record's raw bytes.

    Raises:
        ValueError: they are no JSON.
    """
    try:
        return [bytes(item) for item in _split(b"[%b]" % raw)]
    except msgspec.MsgspecError as error:
        raise ValueError(f"it holds no JSON: {error}") from None


def times(raw: bytes, kind: int) -> list[float]:
    """When each item of a record is of, in Unix seconds.

    Raises:
        ValueError: they are not what was written.
    """
    try:
        items = _timed(b"[%b]" % raw)
        if kind == Kind.LOG:
            return [item.timestamp / 1000 for item in items]
        if kind == Kind.DISTRIBUTION:
            return [float(item.points[0][0]) for item in items]
        if kind in (Kind.SERIES, Kind.LATE):
            return [float(item.points[0]["timestamp"]) for item in items]
        return [item.timestamp or item.date_happened for item in items]
    except (msgspec.MsgspecError, LookupError, TypeError) as error:
        raise ValueError(f"it does not hold what it should: {error}") from None


def names(raw: bytes) -> list[str]:
    """The first few distinct names of what is in a body."""
    found: dict[str, None] = {}
    for name in _NAME.finditer(raw):
        found[msgspec.json.decode(name[1])] = None
        if len(found) == _MOST_NAMES:
            break
    return list(found)


def together(candidates: Iterable[Piece], lane: Lane) -> list[Piece]:
    """As many pieces from the first on as one request takes."""
    chosen: list[Piece] = []
    items = raw = body = 0
    for piece in candidates:
        if items >= lane.most_items:
            break
        if piece.count > lane.most_items - items:
            piece = Piece(piece.record, piece.start, piece.start + lane.most_items - items)
        share = piece.count / max(1, piece.record.count)
        raw += round(piece.record.raw * share) + 1
        body += round(piece.record.size * share)
        if chosen and (raw > lane.most_raw or body > lane.most_body):
            break
        chosen.append(piece)
        items += piece.count
    return chosen


def halves(pieces: Sequence[Piece]) -> tuple[list[Piece], list[Piece]]:
    """The same items as two requests; the second is empty where there is only one item."""
    if len(pieces) > 1:
        middle = len(pieces) // 2
        return list(pieces[:middle]), list(pieces[middle:])
    (piece,) = pieces
    middle = (piece.start + piece.stop + 1) // 2
    first, second = Piece(piece.record, piece.start, middle), Piece(piece.record, middle, piece.stop)
    return [first], [second] if second.count else []


def content(pieces: Sequence[Piece], read: Callable[[Any], bytes]) -> bytes:
    """The items of pieces, joined.

    Args:
        pieces: of records.
        read: gives a record's body.

    Raises:
        ValueError: a record does not hold what was written.
    """
    parts: list[bytes] = []
    for piece in pieces:
        raw = unpack(piece.record.form, read(piece.record), piece.record.raw)
        if piece.count < piece.record.count:
            raw = b",".join(split(raw)[piece.start : piece.stop])
        parts.append(raw)
    return b",".join(parts)


def remainder(record: Record) -> list[Entry]:
    """What is left of a record that is in memory, to be put into another queue.

    Raises:
        ValueError: it does not hold what was written.
    """
    made: list[Entry] = []
    for start, stop in record.rest:
        form, raw, body = record.form, record.raw, record.body or b""
        if stop - start < record.count:
            part = content([Piece(record, start, stop)], lambda one: one.body or b"")
            raw, (form, body) = len(part), pack(part)
        made.append(Entry(record.kind, form, stop - start, raw, record.oldest, record.newest, body))
    return made


def runs(piece: Piece, wanted: Sequence[bool]) -> Iterator[Piece]:
    """Those parts of a piece whose items are wanted.

    Args:
        piece: of a record.
        wanted: for each item of the whole record.
    """
    start = piece.start
    for place in range(piece.start, piece.stop + 1):
        if place == piece.stop or not wanted[place]:
            if place > start:
                yield Piece(piece.record, start, place)
            start = place + 1
