"""The queue before Datadog's intake, with records that somebody changed so that their checksums are right."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from vedette.kit import Entry, Outcome, Piece, Spool
from vedette.sinks.datadog.lanes import LANES, Kind
from vedette.sinks.datadog.press import pack
from vedette.sinks.datadog.queue import Queue, Request

MB = 1024 * 1024


def entry(raw: bytes, count: int, oldest: float, kind: int = Kind.SERIES) -> Entry:
    form, body = pack(raw)
    return Entry(int(kind), form, count, len(raw), oldest, time.time(), body)


def points(number: int) -> bytes:
    one = b'{"metric":"m","type":3,"tags":[],"points":[{"timestamp":%d,"value":1}]}' % time.time()
    return b",".join([one] * number)


DEEP = b'{"points":' + b"[" * 5000 + b"]" * 5000 + b"}"
HUGE = b'{"points":[{"timestamp":1%s}]}' % (b"0" * 400)


async def treated(folder: Path, entries: list[Entry], kind: Kind = Kind.SERIES) -> tuple[Queue, Request | None]:
    """A queue over these records, after a sweep and a look for what to send."""
    spool = Spool(folder, MB)
    spool.open()
    spool.put(entries)
    spool.close()
    queue = Queue(folder, MB, 7 * 86_400, "zstd")
    try:
        await queue.open()
        await queue.sweep()
        return queue, await queue.next(next(lane for lane in LANES if kind in lane.kinds))
    finally:
        queue.close()


@pytest.mark.parametrize(
    ("raw", "count"),
    [(points(10), 50), (points(10), 5), (HUGE, 1), (DEEP, 1), (b'{"points":[null]}', 1)],
    ids=["fewer", "more", "huge", "deep", "null"],
)
def test_a_record_that_somebody_changed_costs_only_itself(tmp_path: Path, raw: bytes, count: int) -> None:
    now = time.time()
    queue, request = asyncio.run(treated(tmp_path, [entry(raw, count, now - 8000), entry(points(3), 3, now)]))
    assert (queue.standing.tally[Outcome.DAMAGED], queue.standing.left) == (count, 3)
    assert request is not None
    assert (request.count, request.raw.count(b'"metric":"m"')) == (3, 3)


def test_records_of_an_unknown_kind_are_given_up_and_told(tmp_path: Path) -> None:
    now = time.time()
    queue, request = asyncio.run(treated(tmp_path, [entry(points(4), 4, now, 77), entry(points(3), 3, now)]))
    assert (queue.standing.tally[Outcome.DAMAGED], queue.standing.left) == (4, 3)
    assert queue.notes == ["4 items on disk of a kind that this version does not know were given up"]
    assert request is not None


def test_items_that_a_record_does_not_have_are_not_sent(tmp_path: Path) -> None:
    """Events go one by one: the first of a hundred is there, the second is not."""
    event = b'{"title":"x","date_happened":%d}' % time.time()
    entries = [entry(event, 100, time.time(), Kind.EVENT)]
    _, request = asyncio.run(treated(tmp_path, entries, Kind.EVENT))
    assert request is not None
    assert (request.count, request.raw) == (1, event)
    spool = Spool(tmp_path, MB)
    spool.open()
    (record,) = spool.pending[Kind.EVENT]
    spool.settle([Piece(record, 0, 1)], Outcome.SENT)
    spool.close()
    queue, request = asyncio.run(treated(tmp_path, [], Kind.EVENT))
    assert request is None
    assert (queue.standing.tally[Outcome.DAMAGED], queue.standing.left) == (99, 0)
