"""The queue before the intake: a spool in a thread of its own, which knows how old items may get."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from vedette.kit import Outcome, Piece, Record, Spool, SpoolTakenError
from vedette.sinks.datadog import cut
from vedette.sinks.datadog.clock import Clock
from vedette.sinks.datadog.encode import newest_counts
from vedette.sinks.datadog.lanes import LANES, Kind
from vedette.sinks.datadog.press import codings, compress, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from vedette.kit import Entry
    from vedette.sinks.datadog.lanes import Lane

T = TypeVar("T")
_ENOUGH = 200
_LOOKED_AT = 2_000
_SWEEP = 5.0


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be sent to an endpoint.

    Attributes:
        pieces: what is in it.
        raw: its items.
        body: as it is sent.
        coding: its content coding.
    """

    pieces: list[Piece]
    raw: bytes
    body: bytes
    coding: str

    @property
    def count(self) -> int:
        """How many items."""
        return sum(piece.count for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the queue stands, as of its last change.

    Attributes:
        left: items still to be sent.
        size: bytes on disk.
        in_memory: bytes in memory only.
        volatile: items in memory only.
        trouble: why they are; empty while they are not.
        tally: what became of all items so far, earlier processes included.
        waiting: full requests that wait, by endpoint.
        inherited: what had become of items before this process took over the folder.
    """

    left: int = 0
    size: int = 0
    in_memory: int = 0
    volatile: int = 0
    trouble: str = ""
    tally: Counter[Outcome] = field(default_factory=Counter)
    waiting: dict[str, float] | None = None
    inherited: Counter[Outcome] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Window:
    """The times that an endpoint takes, in Unix seconds.

    Attributes:
        oldest: the first.
        newest: the last.
        sure: whether what is older may be given up.
        confirmed: whether what is newer may.
    """

    oldest: float
    newest: float
    sure: bool
    confirmed: bool

    def touches(self, record: Record) -> bool:
        """Whether something of a record may be inside."""
        return record.newest >= self.oldest and record.oldest <= self.newest


class Queue:
    """Keeps items until an endpoint has taken them, or would not take them any more.

    Args:
        directory: of the spool; None keeps everything in memory.
        budget: bytes on disk.
        late: seconds that points with historical ingestion may be old.
        compression: what is preferred.
    """

    def __init__(self, directory: Path | None, budget: int, late: float, compression: str) -> None:
        self.standing = Standing()
        self.clock = Clock()
        self.notes: list[str] = []
        """What is worth telling of its opening."""
        self._inherited: Counter[Outcome] = Counter()
        self._directory = directory
        self._opened = directory is None
        self._spool = Spool(directory, budget)
        self._late = late
        self._codings = {lane.name: codings(lane.codings, compression) for lane in LANES}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vedette-datadog")
        self.repeats: frozenset[int] = frozenset()
        """Hashes of the points that were queued just before the last process ended."""
        self.counts: dict[bytes, int] = {}
        """The newest second of each series of counts among them."""
        self._swept: dict[str, float] = {}

    async def _call(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do something in the queue's own thread, to the end even if nobody waits any more."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, partial(self._do, work, *arguments))
        return await asyncio.shield(future)

    def _do(self, work: Callable[..., T], *arguments: Any) -> T:
        try:
            return work(*arguments)
        finally:
            spool = self._spool
            waiting = {lane.name: self._waiting(lane) for lane in LANES}
            self.standing = Standing(
                spool.left,
                spool.size,
                spool.in_memory,
                spool.volatile,
                spool.trouble,
                Counter(spool.tally),
                waiting,
                self._inherited,
            )

    def _waiting(self, lane: Lane) -> float:
        """How many requests wait for an endpoint that could be sent now; of very many the exact number is of no use."""
        some = [
            record
            for kind in lane.kinds
            if (window := self._window(lane, kind))
            for record in islice(self._spool.pending.get(kind, {}), _ENOUGH)
            if window.touches(record)
        ]
        return max(
            sum(record.raw for record in some) / lane.most_raw,
            sum(record.size for record in some) / lane.most_body,
            sum(record.count for record in some) / lane.most_items,
        )

    # In

    async def open(self) -> None:
        """Take over what an earlier process left on disk."""
        await self._call(self._open)

    def _open(self) -> None:
        try:
            tail = self._take_folder()
        except SpoolTakenError as error:
            self.notes.append(f"{error}: this one is in memory only until that ends")
            return
        except OSError:
            self.notes.append(self._spool.trouble)
            return
        self.notes += [f"{name} of the queue on disk was set aside" for name in self._spool.aside]
        if unread := self._spool.unread:
            why = "; ".join(sorted(set(unread.values())))
            text = f"{len(unread)} files of the queue on disk cannot be read ({why}): they stay, and are tried again"
            self.notes.append(f"{text}; see whose they are")
        if removed := self._spool.removed:
            self.notes.append(f"{removed} files that were set aside earlier are removed: there were too many")
        items = list(_points(tail))
        self.repeats = frozenset(map(hash, items))
        self.counts = newest_counts(items)
        self._give_up_unknown()

    def _give_up_unknown(self) -> None:
        """Settle records of kinds that no lane takes: nobody would ever look at them again."""
        for kind in self._spool.pending.keys() - {kind for lane in LANES for kind in lane.kinds}:
            records = [Piece(record, 0, record.count) for record in list(self._spool.pending[kind])]
            if number := self._spool.settle(records, Outcome.DAMAGED):
                self.notes.append(f"{number} items on disk of a kind that this version does not know were given up")

    def _take_folder(self) -> list[tuple[Record, bytes]]:
        """Open the spool. Another process may hold it now and end later, so that it is tried again with each write.

        Raises:
            SpoolTakenError: another process has it.
            OSError: the folder cannot be used.
        """
        before = Counter(self._spool.tally)
        self._spool.directory = self._directory
        try:
            tail = self._spool.open()
        except (SpoolTakenError, OSError):
            self._spool.directory = None  # lest it open the folder by itself, whose counts are not of this process
            raise
        self._opened = True
        self._inherited = self._spool.tally - before
        return tail

    def _reopen(self) -> None:
        if not self._opened:
            with suppress(SpoolTakenError, OSError):
                self._take_folder()

    async def put(self, entries: list[Entry]) -> list[Record]:
        """Queue records; when this returns they are on disk, or `standing.trouble` says why not."""
        return await self._call(self._put, entries)

    def _put(self, entries: list[Entry]) -> list[Record]:
        self._reopen()
        return self._spool.put(entries)

    async def rescue(self) -> None:
        """Try to bring to the disk what is in memory only."""
        await self._call(self._rescue)

    def _rescue(self) -> None:
        self._reopen()
        self._spool.rescue()

    # Out

    async def next(self, lane: Lane) -> Request | None:
        """What to send next to an endpoint, the newest first; None if nothing waits for it.

        Its records are kept from eviction until they are settled or given `back`.
        """
        return await self._call(self._next, lane)

    def _next(self, lane: Lane) -> Request | None:
        if time.monotonic() - self._swept.get(lane.name, 0.0) > _SWEEP:
            self._expire(lane)
        while True:
            pieces = cut.together(self._candidates(lane), lane)
            if not pieces:
                return None
            made = self._build(lane, pieces)
            if made is not None:
                return made

    async def build(self, lane: Lane, pieces: list[Piece]) -> Request | None:
        """The request of these pieces; None if none of them can be read."""
        return await self._call(self._build, lane, pieces)

    def _build(self, lane: Lane, pieces: list[Piece]) -> Request | None:
        good: list[Piece] = []
        parts: list[bytes] = []
        for piece in pieces:
            try:
                part = cut.content([piece], self._spool.read)
                if not part:
                    raise ValueError("it does not hold as many items as it says")
                parts.append(part)
            except Exception:  # whoever changed the file chooses what goes wrong
                self._settle([Piece(piece.record, 0, piece.record.count)], Outcome.DAMAGED)
            else:
                good.append(piece)
                piece.record.hold(piece.start, piece.stop)
        if not good:
            return None
        raw = b",".join(parts)
        coding = next(iter(self._codings[lane.name]), "")
        body = compress(b"%b%b%b" % (lane.head, raw, lane.tail), coding)
        return Request(good, raw, body, coding)

    def plainer(self, lane: Lane, coding: str) -> bool:
        """Use another content coding than this one, which the endpoint refuses; returns whether there is one."""
        known = self._codings[lane.name]
        if coding not in known:
            return False
        known.remove(coding)
        return True

    async def settle(self, request: Request, outcome: Outcome) -> None:
        """Its items are not to be sent any more."""
        await self._call(self._settle, request.pieces, outcome)

    def _settle(self, pieces: Iterable[Piece], outcome: Outcome) -> None:
        self._spool.settle(pieces, outcome)

    def back(self, request: Request) -> None:
        """It could not be sent now."""
        for piece in request.pieces:
            piece.record.release(piece.start, piece.stop)

    def _candidates(self, lane: Lane) -> Iterator[Piece]:
        for kind in lane.kinds:
            window = self._window(lane, kind)
            for record in list(islice(reversed(self._spool.pending.get(kind, {})), _LOOKED_AT)):
                if record.oldest >= window.oldest and record.newest <= window.newest:
                    good = [Piece(record, start, stop) for start, stop in record.rest]
                else:
                    good = self._expire_items(record, window)
                yield from reversed(good)

    def _window(self, lane: Lane, kind: Kind) -> _Window:
        """The times that an endpoint takes now."""
        moment = self.clock.look()
        oldest = moment.earliest - (self._late if kind is Kind.LATE else lane.oldest)
        return _Window(oldest, moment.latest + lane.ahead, moment.sure, moment.confirmed)

    async def sweep(self) -> None:
        """Count what no endpoint would take any more, also while none answers."""
        await self._call(self._sweep)

    def _sweep(self) -> None:
        for lane in LANES:
            self._expire(lane)

    def _expire(self, lane: Lane) -> None:
        """Settle what is too old, or so far ahead that its clock was wrong."""
        self._swept[lane.name] = time.monotonic()
        for kind in lane.kinds:
            window = self._window(lane, kind)
            for record in list(self._spool.pending.get(kind, {})):
                if not record.busy and (record.oldest < window.oldest or record.newest > window.newest):
                    self._expire_items(record, window)

    def _expire_items(self, record: Record, window: _Window) -> list[Piece]:
        """Give up what is outside for good; returns what may be sent. What may yet get inside stays."""
        whole = [Piece(record, 0, record.count)]
        if not window.touches(record):
            old = record.newest < window.oldest
            if window.sure if old else window.confirmed:
                self._settle(whole, Outcome.EXPIRED if old else Outcome.REFUSED)
            return []
        try:
            times = cut.times(unpack(record.form, self._spool.read(record), record.raw), record.kind)
            if len(times) != record.count:
                raise ValueError("it does not hold as many items as it says")
        except Exception:  # whoever changed the file chooses what goes wrong
            self._settle(whole, Outcome.DAMAGED)
            return []
        if window.sure:
            self._settle(cut.runs(whole[0], [one < window.oldest for one in times]), Outcome.EXPIRED)
        if window.confirmed:
            self._settle(cut.runs(whole[0], [one > window.newest for one in times]), Outcome.REFUSED)
        left = [one for start, stop in record.rest for one in times[start:stop]]
        if left:
            record.oldest, record.newest = min(left), max(left)
        inside = [window.oldest <= one <= window.newest for one in times]
        return [piece for start, stop in record.rest for piece in cut.runs(Piece(record, start, stop), inside)]

    def close(self) -> dict[Record, list[Entry]]:
        """Let go of the files; returns what is in memory only, as entries for the next queue."""
        self._thread.submit(self._spool.close)
        self._thread.shutdown(wait=True)
        left = [record for some in self._spool.pending.values() for record in some]
        return {record: cut.remainder(record) for record in left if not record.safe}


def _points(tail: Iterable[tuple[Record, bytes]]) -> Iterator[bytes]:
    """The points in records. Only points: one that comes twice is the same one, but two log lines may be alike."""
    for record, body in tail:
        if record.kind in (Kind.SERIES, Kind.LATE):
            with suppress(Exception):
                yield from cut.split(unpack(record.form, body, record.raw))
