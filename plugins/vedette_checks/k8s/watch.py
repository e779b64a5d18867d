"""One resource, listed once and then watched: Kubernetes API concepts, "Efficient detection of changes".

A streaming list (KEP-3157) where the server has it, else LIST from its cache and WATCH. A broken watch goes on where it
was; only a resourceVersion that the server no longer knows makes for a new list. What the store holds stays while that
goes on, so that no point is missing because a connection broke.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import msgspec

from vedette import CheckError
from vedette_checks.k8s.client import Client, Query, Stream
from vedette_checks.k8s.decode import MARK, event_of
from vedette_checks.k8s.errors import ApiError, Fault, of_event
from vedette_checks.k8s.pace import Manners, Source
from vedette_checks.k8s.splitting import Items, Lines
from vedette_checks.k8s.table import Store

_DICE = random.SystemRandom()
_PAGE = "500"
"""Items per page; a server that answers from its cache ignores it."""
_SHORT = 1.0
"""Seconds: a watch that ends sooner and told nothing counts as a failure, else it would be asked without pause."""


class Watch:
    """Keeps a store like the server's state, for as long as `run` goes on.

    Args:
        client: sends the requests.
        source: what to watch.
        store: what takes the objects.
        manners: shared with the other watches of this server.
    """

    def __init__(self, client: Client, source: Source, store: Store, manners: Manners) -> None:
        self.source = source
        self.store = store
        self.fault: ApiError | CheckError | None = None
        """Why it is not connected; None while it is."""
        self.synced = False
        """Whether the store was filled once."""
        self.settled = asyncio.Event()
        """Set once it is synced, or has failed in a way that will not pass at once."""
        self.heard = 0.0
        """When the server last said how things are, by the monotonic clock."""
        self.answered = False
        """Whether the server ever said anything at all."""
        self.lists = 0
        """Full lists so far."""
        self._client = client
        self._manners = manners
        self._pace = manners.pace
        self._streaming = True
        self._paging = True
        self._version = ""
        self._floor = "0"
        """The version that a list must not be older than: a replica may lag behind what was seen. "0" takes any, and
        empty makes the server ask etcd, which is dear."""
        self._failures = 0
        self._told = 0
        self._told_at_expiry = -1
        self._since = 0.0

    def fresh(self, patience: float) -> bool:
        """Whether the store is as the server's state is, or was within so many seconds.

        A server may freeze while connections stay: nobody knows that before the next bookmark is overdue.
        """
        if self.fault is None:
            patience = max(patience, self._pace.silence)
        return self.synced and monotonic() - max(self.heard, self._held(_SHORT)) <= patience

    def _held(self, least: float) -> float:
        """When the watch was taken, if it has held for so many seconds: some are answered with 200 and then fail."""
        return self._since if self._since and monotonic() - self._since >= least else 0.0

    async def run(self) -> None:
        """List, watch, and do so again whenever the connection ends; never returns."""
        while True:
            try:
                pause = await self._once()
            except (ApiError, CheckError) as error:
                pause = await self._react(error)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self._forget()
                pause = self._failed(ApiError(Fault.INVALID, "it sent what is no JSON"))
            if pause:
                await asyncio.sleep(pause)

    async def _once(self) -> float:
        """One request and all that comes of it; the pause to make then."""
        begun, told = monotonic(), self._told
        if self._version:
            await self._follow_on()
        elif self._streaming and self._manners.streaming:
            if not await self._list_streaming():
                return 0.0
        else:
            await self._list()
            return 0.0
        return self._back_off() if monotonic() - begun < _SHORT and self._told == told else 0.0

    # Ways to fill the store and to keep it up to date

    async def _list_streaming(self) -> bool:
        """A list and a watch in one; False where the server cannot do that."""
        query = {
            **self.source.query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "sendInitialEvents": "true",
            "resourceVersionMatch": "NotOlderThan",
            "resourceVersion": "",
            "timeoutSeconds": self._lifetime(),
        }
        store, lines, loop = self.store, Lines(), asyncio.get_running_loop()
        store.begin()
        await self._manners.gate.acquire()
        waiting, end = True, loop.time() + self._pace.whole
        try:
            async with asyncio.timeout(self._pace.quiet) as limit:
                async with self._stream(query, self._pace.answer) as stream:
                    async for part in stream:
                        for line in lines.feed(part):
                            if not waiting:
                                self._take(line)
                            elif self._collect(line):
                                waiting = False
                                self._since = monotonic()
                                self._manners.gate.release()
                        limit.reschedule(min(loop.time() + self._pace.quiet, end) if waiting else None)
                        if not waiting:
                            await stream.rest(self._pace.breath)
            self._ended(lines)
        except TimeoutError:  # no end of the list: an older server takes the request for a plain watch
            self._streaming = False
            return False
        except ApiError as error:
            if not waiting:
                raise
            if error.fault is Fault.INVALID or (error.fault is Fault.BUSY and error.status == 500):
                self._manners.streaming = False  # not in this version, or not with its etcd
                return False
            raise
        finally:
            if waiting:
                self._manners.gate.release()
        self._streaming = not waiting
        return not waiting

    def _collect(self, line: bytes) -> bool:
        """Take an event of a streaming list; whether it was the last."""
        type_, raw = event_of(line)
        if type_ == "BOOKMARK":
            mark = MARK.decode(raw)
            if mark.complete:
                self._filled(mark.version)
            return mark.complete
        if type_ == "ERROR":
            raise of_event(raw)
        if type_ == "DELETED":
            self.store.uncollect(raw)
        else:
            self.store.collect(raw)
        return False

    async def _list(self) -> None:
        """LIST from the server's cache, in pages where it makes some."""
        query = {**self.source.query, **self._least()}
        if self._paging and self._floor in ("", "0"):  # with a version, a limit would have older servers ask etcd
            query["limit"] = _PAGE
        version = ""
        self.store.begin()
        async with self._manners.turn():
            while True:
                items = Items()
                async with self._stream(query, self._pace.answer_list) as parts:
                    async for part in parts:
                        items.feed(part, self.store.collect)
                items.end(self.store.collect)
                version = version or items.head.version
                if not items.head.token:
                    break
                if items.head.token == query.get("continue"):
                    raise ApiError(Fault.INVALID, "the pages of its list do not end")
                query = {**self.source.query, "limit": _PAGE, "continue": items.head.token}
        self._filled(version)

    def _least(self) -> Query:
        """How new a list must be (Kubernetes API concepts, "resourceVersion in query parameters")."""
        if self._floor in ("", "0"):
            return {"resourceVersion": self._floor}
        return {"resourceVersion": self._floor, "resourceVersionMatch": "NotOlderThan"}

    def _forget(self) -> None:
        """Make for a new list, which must not be older than what was seen."""
        self._floor, self._version = self._version or self._floor, ""

    async def _follow_on(self) -> None:
        query = {
            **self.source.query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": self._lifetime(),
        }
        lines = Lines()
        async with self._stream(query, self._pace.answer) as stream:
            self._since = monotonic()
            self._connected()
            async for part in stream:
                for line in lines.feed(part):
                    self._take(line)
                await stream.rest(self._pace.breath)
        self._ended(lines)

    @asynccontextmanager
    async def _stream(self, query: Query, answer: float) -> AsyncIterator[Stream]:
        """A request's body; what it tells by how long it held is kept."""
        try:
            async with self._client.stream(
                self.source.path, query, answer=answer, silence=self._pace.silence
            ) as stream:
                self.answered = True
                yield stream
        finally:
            self.heard = max(self.heard, self._held(_SHORT))
            if self._held(max(_SHORT, self._pace.most)):  # a proxy may cut what is quiet for less than a minute
                self._failures = 0
            self._since = 0.0

    def _take(self, line: bytes) -> None:
        type_, raw = event_of(line)
        if type_ == "BOOKMARK":
            self._version = MARK.decode(raw).version or self._version
        elif type_ == "DELETED":
            self._version = self.store.remove(raw) or self._version
        elif type_ == "ERROR":
            raise of_event(raw)
        else:
            self._version = self.store.put(raw) or self._version
        self._told += 1
        self._failures = 0
        self.heard = monotonic()

    # What came of it

    def _filled(self, version: str) -> None:
        self.store.finish()
        self._version = version
        self.lists += 1
        self.synced = self._paging = True
        self.heard = monotonic()
        self._connected()

    def _connected(self) -> None:
        self.fault = None
        self.settled.set()

    def _ended(self, lines: Lines) -> None:
        """The body is at its end: by `timeoutSeconds`, which is no failure, or cut."""
        if lines.unfinished:
            raise ApiError(Fault.UNREACHABLE, "the connection was cut within an event")

    async def _react(self, error: ApiError | CheckError) -> float:
        """Note a failure; the pause to make."""
        if isinstance(error, CheckError):
            return self._failed(error)
        self.answered = self.answered or error.status > 0
        if error.fault is Fault.EXPIRED:
            self._paging = self._version != ""  # a continue token ran out: next time in one piece
            if not self._version and not error.token:
                self._floor = ""  # the list itself cannot be had from there
            self._forget()
            again, self._told_at_expiry = self._told == self._told_at_expiry, self._told
            return max(_DICE.uniform(0, self._pace.spread), self._back_off() if again else 0.0)
        if error.fault is Fault.AHEAD:
            self._version = self._floor = ""
        if error.fault is Fault.INVALID:
            self._floor = self._version or "0"
            self._version = ""
        if error.fault is Fault.UNREACHABLE and self.synced and self.fault is None and not self._failures:
            return self._back_off()  # a connection that broke is no finding; one that cannot be made again is
        if error.fault in (Fault.UNAUTHORIZED, Fault.UNTRUSTED):
            try:
                renewed = await self._client.access.renew()
            except CheckError as why:
                return self._failed(why)
            if renewed:
                self.fault = error
                self._failures += 1
                return 0.0
        if error.fault is Fault.FORBIDDEN:
            return self._failed(error, self._pace.refused)
        if error.fault is Fault.ABSENT:
            return self._failed(error, self._pace.absent)
        return self._failed(error, error.retry_after or 0.0)

    def _failed(self, error: ApiError | CheckError, least: float = 0.0) -> float:
        self.fault = error
        if isinstance(error, CheckError) or error.fault is not Fault.BUSY:  # that passes, perhaps within the run
            self.settled.set()
        return max(self._back_off(), least * _DICE.uniform(1.0, 1.2))

    def _back_off(self) -> float:
        self._failures += 1
        longest = min(self._pace.first * 2.0 ** min(self._failures - 1, 20), self._pace.most)
        return _DICE.uniform(longest / 2, longest)

    def _lifetime(self) -> str:
        return str(_DICE.randint(*self._pace.lifetime))
