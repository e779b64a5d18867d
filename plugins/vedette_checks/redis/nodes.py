"""One server: the unit that a single server, a master behind sentinels and a cluster have in common."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from redis.exceptions import RedisError

from vedette import Emit, SecretError
from vedette.kit import Totals
from vedette_checks.redis.address import Address
from vedette_checks.redis.config import RedisConfig
from vedette_checks.redis.counters import Counter
from vedette_checks.redis.findings import Advisor, Finding
from vedette_checks.redis.keys import KeyLength
from vedette_checks.redis.parts import plan_of
from vedette_checks.redis.session import Command, Replies, Session
from vedette_checks.redis.visit import Visit

UNREACHABLE = (RedisError, OSError, EOFError, SecretError)
"""What a connection raises when there is no talking to the server."""


@dataclass(frozen=True, slots=True)
class OptionAdvisor(Advisor):
    """Explains errors of servers that other options lead to than `host`.

    Attributes:
        options: (option in the hints, option that is meant).
    """

    options: tuple[tuple[str, str], ...]

    def failure(self, error: BaseException, *, greeted: bool) -> Finding:
        """Why there is no talking to the server."""
        return self._renamed(Advisor.failure(self, error, greeted=greeted))

    def refusal(self, error: Exception, command: str, key: str) -> Finding:
        """Why the server refused a command."""
        return self._renamed(Advisor.refusal(self, error, command, key))

    def _renamed(self, finding: Finding) -> Finding:
        hint = finding.hint
        for name, meant in self.options:
            hint = hint.replace(name, meant)
        return replace(finding, hint=hint)


class Watch(Protocol):
    """What an instance watches: a server, a master behind sentinels, a cluster. It lives as long as the instance."""

    def open(self) -> None:
        """Prepare the connections; none is made yet.

        Raises:
            OSError: a certificate file cannot be read, or ssl.SSLError: it holds none.
        """

    async def run(self, emit: Emit, now: float) -> None:
        """One collection; `now` in Unix seconds decides the keys and windows of counters.

        Raises:
            vedette.CheckError: there is nothing to collect from.
        """

    def close(self) -> None:
        """Drop all connections."""

    def nodes(self) -> Iterable[Node]:
        """All servers that are known by now."""
        ...


class Node:
    """A server's connection, and what its runs have in common.

    Args:
        config: the instance's options.
        advisor: explains errors; knows the address and how long to wait.
        keys: keys whose length to report.
        counters: numbers to read.
        place: tags of the statuses; the address's own if it is left out.
        state: what the instance committed.
        scope: tells the servers of one instance apart in what it commits.
        streams: the streams on this server, if not all that are configured.
        totals: what keeps its totals level; its own if it is left out.
    """

    __slots__ = ("_config", "_session", "address", "advisor", "plan")

    def __init__(
        self,
        config: RedisConfig,
        advisor: Advisor,
        *,
        keys: Sequence[KeyLength] = (),
        counters: Sequence[Counter] = (),
        place: tuple[str, ...] | None = None,
        state: Mapping[str, Any] | None = None,
        scope: str = "",
        streams: Sequence[str] | None = None,
        totals: Totals | None = None,
    ) -> None:
        self._config = config
        self._session: Session | None = None
        self.address: Address = advisor.address
        self.advisor = advisor
        tags = self.address.tags if place is None else place
        self.plan = plan_of(
            config, advisor, keys, counters, tags, {} if state is None else state, scope=scope, streams=streams
        )
        if totals is not None:
            self.plan = replace(self.plan, totals=totals)

    def open(self) -> Node:
        """Prepare the connection, which the first exchange makes; returns itself.

        Raises:
            OSError: a certificate file cannot be read, or ssl.SSLError: it holds none.
        """
        self._session = Session(self._config, self.address)
        return self

    @property
    def session(self) -> Session:
        """The connection, open or not.

        Raises:
            RuntimeError: `open` was not called.
        """
        if self._session is None:
            raise RuntimeError("open() comes before run()")
        return self._session

    @property
    def asked(self) -> int:
        """Commands sent so far."""
        return self._session.asked if self._session is not None else 0

    async def visit(self, emit: Emit, now: float, *, round_trip: bool, slot: str = "") -> None:
        """One pipeline with everything to read, then the round trip.

        Args:
            emit: where to.
            now: Unix seconds; decides the keys and windows of counters.
            round_trip: whether to set, get and delete a key.
            slot: hash tag of that key, or empty.

        Raises:
            vedette.CheckError: there is no talking to the server, or it refuses service.
        """
        advisor, session = self.advisor, self.session
        visit = Visit(self.plan, session, emit)
        try:
            async with asyncio.timeout(advisor.patience):
                await visit.read(now)
                if round_trip:
                    await visit.round_trip(slot)
        except UNREACHABLE as error:
            finding = advisor.failure(error, greeted=session.greeted)
            session.close()
            raise visit.failed(finding) from error
        except BaseException:
            session.close()
            raise
        visit.conclude()

    async def ask(self, commands: Sequence[Command], patience: float) -> Replies:
        """The replies to some commands, within `patience` seconds.

        Raises:
            redis.exceptions.RedisError, OSError, EOFError: there is no talking to the server; the connection is closed.
        """
        replies = Replies()
        try:
            async with asyncio.timeout(patience):
                await self.session.exchange(commands, replies)
        except BaseException:
            self.session.close()
            raise
        return replies

    def close(self) -> None:
        """Drop the connection; the next exchange makes a new one."""
        if self._session is not None:
            self._session.close()


class Single:
    """One server at a fixed address.

    Args:
        node: the server.
        round_trip: whether to set, get and delete a key.
    """

    def __init__(self, node: Node, *, round_trip: bool) -> None:
        self._node = node
        self._round_trip = round_trip

    def open(self) -> None:
        """See `Watch`."""
        self._node.open()

    def nodes(self) -> Iterable[Node]:
        """See `Watch`."""
        return (self._node,)

    async def run(self, emit: Emit, now: float) -> None:
        """See `Watch`."""
        await self._node.visit(emit, now, round_trip=self._round_trip)

    def close(self) -> None:
        """See `Watch`."""
        self._node.close()


class Levels:
    """The `Totals` of servers that come and go, by address: one that comes back goes on where it was.

    Args:
        limit: how many addresses to remember.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[str, int], Totals] = OrderedDict()

    def at(self, host: str, port: int) -> Totals:
        """Those of this address."""
        totals = self._known.pop((host, port), None) or Totals()
        self._known[host, port] = totals
        if len(self._known) > self._limit:
            self._known.popitem(last=False)
        return totals
