"""How the fleet's engine finds the server that takes writes: at its address, by sentinels, or in a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any, Protocol

from redis import exceptions

from vedette import EngineUnavailable
from vedette_checks.redis.address import Address, ServerOptions
from vedette_checks.redis.cluster import staggered
from vedette_checks.redis.findings import Finding
from vedette_checks.redis.info import number
from vedette_checks.redis.nodes import UNREACHABLE, OptionAdvisor
from vedette_checks.redis.session import Command, Replies, Session
from vedette_checks.redis.topology import REDIS_PORT, SENTINEL_PORT, ClusterPlace, SentinelConfig, split_address

Options = tuple[tuple[str, str], ...]
_SHARE = 0.5  # of the patience, for finding it
_LASTS = 2.0  # times the patience: sentinels are asked again after that, though all seems well


class Search(Protocol):
    """A way to find the server."""

    options: Options
    """(option in the hints of the check, option that is meant)."""
    follows: bool
    """Whether it may be another server next time."""
    lasts: float
    """Seconds after which to look again."""

    async def find(self, last: Address | None) -> Address:
        """Where it is.

        Args:
            last: what was found last, unless that failed.

        Raises:
            EngineUnavailable: nobody says.
        """
        ...


def search_for(options: ServerOptions, key: str, patience: float) -> Search:
    """The way that the options ask for.

    Args:
        options: where to look and how to log in.
        key: a key that the server has.
        patience: seconds for a request with all that belongs to it.
    """
    if options.sentinel is not None:
        return BySentinels(options, options.sentinel, patience)
    if options.cluster is not None:
        return InCluster(options, options.cluster, key, patience)
    return Fixed(options.address)


@dataclass(slots=True)
class Fixed:
    """One address, for good."""

    address: Address
    options: Options = ()
    follows: bool = False
    lasts: float = inf

    async def find(self, last: Address | None) -> Address:
        """See `Search`."""
        return self.address


class BySentinels:
    """The master that most is known of: all sentinels are asked, and the newest configuration is believed."""

    follows = True
    options: Options = (
        ("`host`", "`sentinel.addresses`"),
        ("`password`", "`sentinel.password`"),
        ("`username`", "`sentinel.username`"),
    )

    def __init__(self, options: ServerOptions, sentinel: SentinelConfig, patience: float) -> None:
        self._options = options
        self._master = sentinel.master
        self._limit = patience * _SHARE
        self.lasts = patience * _LASTS
        password = sentinel.password.reveal() if sentinel.password else ""
        login = replace(options.address, db=0, username=sentinel.username, password=password, minted=None)
        places = (split_address(text, SENTINEL_PORT) for text in sentinel.addresses)
        self._sentinels = [replace(login, host=host, port=port) for host, port in places]

    async def find(self, last: Address | None) -> Address:
        """See `Search`; while no sentinel answers, the last one stays."""
        answers = await asyncio.gather(*(self._ask(sentinel) for sentinel in self._sentinels))
        views = [answer for answer in answers if not isinstance(answer, Finding)]
        if views:
            _, host, port = max(views, key=lambda view: view[0])
            return replace(self._options.address, host=host, port=port)
        if last is not None:
            return last
        raise EngineUnavailable(f"no sentinel names the master {self._master}: {answers[0]}")

    async def _ask(self, sentinel: Address) -> tuple[float, str, int] | Finding:
        """Version of the configuration, host and port."""
        advisor = OptionAdvisor(sentinel, self._limit, self.options)
        commands: list[Command] = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master)]
        commands.append(("SENTINEL", "MASTER", self._master))
        replies = await once(self._options, advisor, commands)
        if isinstance(replies, Finding):
            return replies
        address, fields = replies
        if address is None or "No such master" in str(fields):
            return Finding(f"the sentinel {sentinel} knows no master {self._master}", "check `sentinel.master`")
        for reply in (address, fields):
            if isinstance(reply, Exception):
                if "unknown command" in str(reply):
                    return Finding(f"{sentinel} is no sentinel", "check `sentinel.addresses`: the usual port is 26379")
                return advisor.refusal(reply, "sentinel", "")
        named = dict(zip(fields[::2], fields[1::2], strict=True))
        return number(named.get(b"config-epoch", b"").decode()) or 0, address[0].decode(), int(address[1])


class InCluster:
    """The primary that serves a key's slot: any node knows it."""

    follows = True
    lasts = inf  # whoever serves the slot no more says so
    options: Options = (("`host`", "`cluster.addresses`"),)

    def __init__(self, options: ServerOptions, cluster: ClusterPlace, key: str, patience: float) -> None:
        self._options = options
        self._key = key
        self._limit = patience * _SHARE
        places = (split_address(text, REDIS_PORT) for text in cluster.addresses)
        self._nodes = [replace(options.address, host=host, port=port) for host, port in places]

    async def find(self, last: Address | None) -> Address:
        """See `Search`."""
        asks = [partial(self._ask, node) for node in self._nodes]
        answers = await staggered(asks, self._limit / len(asks), lambda answer: isinstance(answer, Address))
        for answer in answers:
            if isinstance(answer, Address):
                return answer
        raise EngineUnavailable(f"no node tells of the cluster: {answers[0]}")

    async def _ask(self, node: Address) -> Address | Finding:
        advisor = OptionAdvisor(node, self._limit, self.options)
        replies = await once(self._options, advisor, [("HGET", self._key, "")])
        if isinstance(replies, Finding):
            return replies
        (reply,) = replies
        if isinstance(reply, exceptions.MovedError):
            return replace(node, host=reply.host or node.host, port=reply.port)
        if isinstance(reply, Exception) and not isinstance(reply, exceptions.AskError):
            return advisor.refusal(reply, "hget", self._key)
        return node


async def once(options: ServerOptions, advisor: OptionAdvisor, commands: Sequence[Command]) -> list[Any] | Finding:
    """The replies of a server on a connection that is dropped again, or why there are none."""
    replies, session = Replies(), None
    greeted = False
    try:
        session = Session(options, advisor.address)
        async with asyncio.timeout(advisor.patience):
            await session.exchange(commands, replies)
    except UNREACHABLE as error:
        greeted = session is not None and session.greeted
        return advisor.failure(error, greeted=greeted)
    finally:
        if session is not None:
            session.close()
    return replies.values
