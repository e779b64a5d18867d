"""One run: what is asked, in some six requests, and what of the answers is emitted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vedette import Status
from vedette_checks.rabbitmq.api import PAGE, Refused, strange
from vedette_checks.rabbitmq.choice import Choice, full_name
from vedette_checks.rabbitmq.names import DEPTHS, EXCHANGE, NODE, OVERVIEW, QUEUE, Object, columns, figures
from vedette_checks.rabbitmq.verdict import judge_cluster, judge_names, judge_queue, judge_vhost, length

if TYPE_CHECKING:
    from vedette import Emit
    from vedette_checks.rabbitmq.api import Api, Page
    from vedette_checks.rabbitmq.config import RabbitMQConfig

ALIVE: Final = "rabbitmq.aliveness"
CLUSTER: Final = "rabbitmq.cluster"
QUEUE_STATUS: Final = "rabbitmq.queue"
FOUND: Final = "rabbitmq.queue_found"
_ABOUT: Final = ("name", "vhost", "type", "policy", "state", "node", "leader", "members", "online")
_AT_ONCE: Final = 200
_PERMISSION: Final = 'rabbitmqctl set_permissions -p VHOST USER "" "" ""'


@dataclass(slots=True)
class Memory:
    """What one run leaves to the next.

    Attributes:
        vhosts: those that were seen last.
        unfiltered: what the server cannot choose by our regular expressions, such as `queues`.
        short: how many queues the user did not see in the last run.
    """

    vhosts: tuple[str, ...] = ()
    unfiltered: set[str] = field(default_factory=set)
    short: int = 0


@dataclass(slots=True)
class Listed:
    """A list, as far as it was read.

    Attributes:
        items: what is reported, with the tags of its family.
        cut: how many were left out, at most.
        matched: how many the server has that fit its own filter.
        whole: whether all of it was read.
    """

    items: list[tuple[Object, tuple[str, ...]]] = field(default_factory=list)
    cut: int = 0
    matched: int = 0
    whole: bool = True


class Survey:
    """Asks and emits.

    Args:
        config: the instance's options.
        api: the server.
        emit: the run's.
        memory: of the last run, for the next one.
    """

    def __init__(self, config: RabbitMQConfig, api: Api, emit: Emit, memory: Memory) -> None:
        self._config = config
        self._api = api
        self._emit = emit
        self._memory = memory
        self._vhosts: tuple[str, ...] = ()
        self.notes: list[str] = []
        """What could not be reported, and how to mend it."""

    async def take(self) -> None:
        """All of it.

        Raises:
            CheckError: there is no talking to the server.
        """
        overview = await self._overview()
        stats = not overview.get("disable_stats")
        if self._config.node_metrics:
            await self._nodes(overview)
        await self._find_vhosts()
        await self._queues(overview, stats=stats)
        if not stats:  # by its own configuration: the rest would be empty
            if self._config.consumers_least:
                self.notes.append("consumers are not known, since the server's configuration has disable_stats")
            return
        if self._config.max_exchanges:
            await self._exchanges()
        if self._config.max_connections:
            await self._connections()

    async def _overview(self) -> Object:
        overview = await self._api.get("overview", columns=columns(OVERVIEW, "cluster_name", "disable_stats"))
        if not isinstance(overview, Mapping) or "object_totals" not in overview:
            raise strange()
        self._say(OVERVIEW, overview, (f"rabbitmq_cluster:{overview.get('cluster_name', '')}",))
        return overview

    async def _nodes(self, overview: Object) -> None:
        try:
            nodes = _objects(await self._api.get("nodes", columns=columns(NODE, "name")))
        except Refused as error:
            if error.status != 401:
                raise
            self.notes.append(f"the nodes cannot be asked for: {error.message}; {error.hint}")
            return
        for node in nodes:
            self._say(NODE, node, (f"rabbitmq_node:{node.get('name', '')}",))
        status, text = judge_cluster(nodes)
        self._emit.status(CLUSTER, status, text, (f"rabbitmq_cluster:{overview.get('cluster_name', '')}",))

    async def _find_vhosts(self) -> None:
        config, emit = self._config, self._emit
        known = {
            str(one.get("name", "")): one
            for one in _objects(await self._api.get("vhosts", columns="name,cluster_state"))
        }
        names = config.vhosts or tuple(sorted(known))
        if len(names) > config.max_vhosts:
            self.notes.append(f"{len(names) - config.max_vhosts} vhosts are left out: raise max_vhosts, or name some")
            names = names[: config.max_vhosts]
        for name in names:
            status, text = judge_vhost(known[name]) if name in known else (Status.CRITICAL, "there is no such vhost")
            emit.status(ALIVE, status, text, (f"vhost:{name}",))
        self._memory.vhosts = names
        self._vhosts = tuple(name for name in names if name in known)

    def _paths(self, *before: str, after: str = "") -> list[tuple[str, ...]]:
        """What to ask for: all at once, or each vhost that is wanted."""
        last = (after,) if after else ()
        if not self._config.vhosts:
            return [last or before]
        return [(*before, name, *last) for name in self._vhosts]

    async def _list(self, kind: str, choice: Choice, limit: int, query: dict[str, str | int]) -> Listed:
        found = Listed()
        for path in self._paths(kind):
            try:
                await self._read(found, path, choice, limit, query)
            except Refused as error:
                if len(path) == 1 or error.status not in (401, 404):
                    raise
                why = "the user has no permissions on it" if error.status == 401 else "it is gone"
                self.notes.append(f"{kind} of the vhost {path[1]} are left out: {why}")
                found.whole = False
        return found

    async def _read(
        self, found: Listed, path: tuple[str, ...], choice: Choice, limit: int, query: dict[str, str | int]
    ) -> None:
        """One list, page by page, until there is enough of it."""
        kind, number, seen = path[0], 0, 0
        size = min(PAGE, max(1, limit - len(found.items))) if kind == "queues" and choice.everything else PAGE
        while True:
            number += 1
            chosen = {"name": choice.filter, "use_regex": "true"} if choice.filter else {}
            if kind in self._memory.unfiltered:
                chosen = {}
            try:
                page = await self._api.page(number, size, *path, **query, **chosen)
            except Refused as error:
                if not chosen or error.status != 400:
                    raise
                self._memory.unfiltered.add(kind)  # its regular expressions are not quite Python's
                number -= 1
                continue
            seen += len(page.items)
            self._keep(found, page.items, choice, limit, idle=kind == "queues")
            if page.last or len(found.items) >= limit:
                break
        found.matched += page.matched
        if not page.last:
            found.whole = False
            found.cut += max(0, page.matched - seen)

    @staticmethod
    def _keep(found: Listed, items: list[dict[str, Any]], choice: Choice, limit: int, *, idle: bool) -> None:
        """Take what is meant; where `idle` is false only what has figures: most exchanges of a server never do."""
        for one in items:
            family = choice.tags(one)
            if family is None or not (idle or one.get("message_stats")):
                continue
            if len(found.items) < limit:
                found.items.append((one, family))
            else:
                found.cut += 1

    async def _queues(self, overview: Object, *, stats: bool) -> None:
        config = self._config
        family = "rabbitmq_queue_family" if config.tag_families else ""
        choice = Choice(config.queues, config.queues_regex, family)
        fields = QUEUE if stats else DEPTHS
        asked: dict[str, str | int] = {"columns": columns(fields, *_ABOUT)}
        if not stats:
            asked |= {"disable_stats": "true", "enable_queue_totals": "true"}
        found = await self._list("queues", choice, config.max_queues, asked)
        bound = await self._bindings() if config.bindings and found.items else {}
        for number, (one, families) in enumerate(found.items):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)  # others have the loop to themselves too
            tags = (*_queue_tags(one), *families)
            self._say(fields, one, tags)
            if full_name(one) in bound:  # the server lists none of a queue whose node is down
                self._emit.gauge("rabbitmq.queue.bindings.count", bound[full_name(one)], tags)
            if isinstance(one.get("members"), list):
                self._emit.gauge("rabbitmq.queue.members", len(one["members"]), tags)
                self._emit.gauge("rabbitmq.queue.members_online", length(one.get("online")), tags)
            status, text = judge_queue(one, config)
            self._emit.status(QUEUE_STATUS, status, text, tags)
        self._emit.gauge("rabbitmq.queues_cut", found.cut)
        self._of_queues(found, choice, overview)

    def _of_queues(self, found: Listed, choice: Choice, overview: Object) -> None:
        """What is to be said of all queues: those that are missing, left out, or not seen."""
        named, everything = choice.found(one for one, _ in found.items), found.whole and not found.cut
        for status, text, tags in judge_names(named, self._config.vhosts, everything=everything):
            self._emit.status(FOUND, status, text, tags)
        if found.cut:
            self.notes.append(f"{found.cut:,} queues are left out: raise max_queues, or name queues")
        totals = overview.get("object_totals")
        there = totals.get("queues") if isinstance(totals, Mapping) else None
        if not choice.everything or self._config.vhosts or not isinstance(there, int):
            return
        short, before = max(0, there - found.matched), self._memory.short
        self._memory.short = short
        if short and (before or not found.matched):  # one that was deleted a moment ago is counted for a while
            self.notes.append(f"the user does not see {short:,} of {there:,} queues: {_PERMISSION}")

    async def _bindings(self) -> Counter[str]:
        """By vhost and name of the queue."""
        found: Counter[str] = Counter()
        for path in self._paths("bindings"):
            answer = await self._api.get(*path, columns="vhost,destination,destination_type")
            found.update(
                f"{one.get('vhost', '')}/{one.get('destination', '')}"
                for one in _objects(answer)
                if one.get("destination_type") == "queue"
            )
        return found

    async def _exchanges(self) -> None:
        config = self._config
        family = "rabbitmq_exchange_family" if config.tag_families else ""
        choice = Choice(config.exchanges, config.exchanges_regex, family)
        asked: dict[str, str | int] = {"columns": columns(EXCHANGE, "name", "vhost")}
        found = await self._list("exchanges", choice, config.max_exchanges, asked)
        for one, families in found.items:
            name = one.get("name") or "(default)"
            tags = (f"rabbitmq_vhost:{one.get('vhost', '')}", f"rabbitmq_exchange:{name}", *families)
            self._say(EXCHANGE, one, tags)
        self._emit.gauge("rabbitmq.exchanges_cut", found.cut)

    async def _connections(self) -> None:
        most = self._config.max_connections
        vhosts = Counter(dict.fromkeys(self._vhosts, 0))
        states: Counter[str] = Counter()
        read = 0
        for path in self._paths("vhosts", after="connections"):
            async for page in self._pages_of_connections(path):
                if read + page.matched > most:
                    self.notes.append(f"more than {most:,} connections are not told apart: raise max_connections")
                    return
                for one in page.items:
                    if (name := str(one.get("vhost"))) in vhosts:
                        vhosts[name] += 1
                        states[str(one.get("state") or "direct")] += 1
                read += page.matched if page.last else 0
        for name, number in vhosts.items():
            self._emit.gauge("rabbitmq.connections", number, (f"rabbitmq_vhost:{name}",))
        for state, number in states.items():
            self._emit.gauge("rabbitmq.connections.state", number, (f"rabbitmq_conn_state:{state}",))

    async def _pages_of_connections(self, path: tuple[str, ...]) -> AsyncIterator[Page]:
        number = 0
        while True:
            number += 1
            try:
                page = await self._api.page(number, PAGE, *path, columns="vhost,state")
            except Refused as error:
                if len(path) == 1 or error.status not in (401, 404):
                    raise
                return  # the vhost is gone meanwhile, or not for the user: that was said of its queues
            yield page
            if page.last:
                return

    def _say(self, fields: tuple[Any, ...], one: Object, tags: tuple[str, ...]) -> None:
        for name, value in figures(fields, one):
            self._emit.gauge(name, value, tags)


def _objects(answer: Any) -> list[dict[str, Any]]:
    if not isinstance(answer, list):
        raise strange()
    return [one for one in answer if isinstance(one, dict)]


def _queue_tags(one: Object) -> tuple[str, ...]:
    parts = {
        "vhost": one.get("vhost"),
        "queue": one.get("name"),
        "node": one.get("node") or one.get("leader"),
        "queue_type": one.get("type"),
        "policy": one.get("policy"),
    }
    return tuple(f"rabbitmq_{key}:{value}" for key, value in parts.items() if value)
