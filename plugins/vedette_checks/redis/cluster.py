"""All nodes of a cluster: found anew at each run, each visited as a single server is, and the cluster as a whole.

A run has three steps, each with its share of the time: find the nodes, visit all of them at once, follow the keys that
moved. So a node that hangs costs the others nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from vedette import CheckError, Emit, Status
from vedette.kit import Budget
from vedette_checks.redis.address import Address
from vedette_checks.redis.config import RedisConfig
from vedette_checks.redis.counters import Counter
from vedette_checks.redis.findings import Finding
from vedette_checks.redis.info import number
from vedette_checks.redis.keys import KeyLength
from vedette_checks.redis.nodes import UNREACHABLE, Levels, Node, OptionAdvisor
from vedette_checks.redis.reads import Reads, Request
from vedette_checks.redis.scan import Scan, Shares
from vedette_checks.redis.shards import Member, Shards, hash_tag, read_shards, slot_of, spoken
from vedette_checks.redis.topology import REDIS_PORT, ClusterConfig, split_address

Place = tuple[str, int]
"""Host and port."""

T = TypeVar("T")

_FIND, _VISIT, _READ = 0.25, 0.45, 0.1  # of the run's patience; reading takes up to three exchanges
_MOST_NAMED = 10
_OPTIONS = (("`host`", "`cluster.addresses`"),)
_FIELDS = ("slots_assigned", "slots_ok", "slots_pfail", "slots_fail", "known_nodes", "size")


class ClusterWatch:
    """Watches all nodes of one cluster.

    Args:
        config: the instance's options.
        options: its option `cluster`.
        patience: seconds that a run may take.
        keys: keys whose length to report.
        counters: numbers to read.
        state: what the instance committed.
    """

    def __init__(
        self,
        config: RedisConfig,
        options: ClusterConfig,
        patience: float,
        keys: Sequence[KeyLength],
        counters: Sequence[Counter],
        state: Mapping[str, Any],
    ) -> None:
        self._config = config
        self._state = state
        self._patience = patience
        self._seeds = [split_address(text, REDIS_PORT) for text in options.addresses]
        self._nodes: dict[Place, Node] = {}
        self._known: list[Place] = []
        self._budget = Budget(options.max_nodes)
        self._levels = Levels()
        self._shares = Shares(config.scan.budget) if config.scan is not None else None
        self._hash_tags: dict[Place, str] = {}
        self._reads = Reads(keys, counters, config.streams, config.tag_limit, patience * _READ)

    def open(self) -> None:
        """See `Watch`."""
        for seed in self._seeds:
            self._at(*seed)
        for node in self._nodes.values():
            node.open()

    def close(self) -> None:
        """See `Watch`."""
        for node in self._nodes.values():
            node.close()

    def nodes(self) -> Iterable[Node]:
        """See `Watch`."""
        return self._nodes.values()

    def _at(self, host: str, port: int) -> Node:
        node = self._nodes.get((host, port))
        if node is None:
            address = replace(self._config.address, host=host, port=port)
            node = self._nodes[host, port] = Node(
                self._config,
                OptionAdvisor(address, self._patience * _VISIT, _OPTIONS),
                state=self._state,
                scope=str(address),
                streams=(),
                totals=self._levels.at(host, port),
            ).open()
        return node

    async def run(self, emit: Emit, now: float) -> None:
        """Find the nodes, visit them, read the keys.

        Raises:
            vedette.CheckError: no node answers.
        """
        shards = await self._find(emit)
        members = self._admit(shards)
        here = {member.id: self._at(*member.place) for member in members}
        self._deal(members, here)
        requests = list(self._reads.requests(now))
        routes = self._reads.route(requests, shards, lambda owner: here.get(owner.id))
        visits = (self._visit(emit, now, member, here[member.id], routes) for member in members)
        ends = await asyncio.gather(*visits, return_exceptions=True)
        findings = await self._reads.conclude(requests, emit, now, self._at)
        if cut := sum(member.visitable for member in shards.members) - len(members):
            findings.append(Finding(f"{cut} nodes are not visited", "raise `cluster.max_nodes`"))
        emit.status("redis.reads", Status.WARNING if findings else Status.OK, "; ".join(map(str, findings)))
        report(emit, shards, members)
        for end in ends:
            if isinstance(end, BaseException):  # not a finding but a fault, which waits until the others are done
                raise end

    def _deal(self, members: Sequence[Member], here: Mapping[str, Node]) -> None:
        """Give each primary its share of `scan.budget`; its replicas have the same keys."""
        if self._shares is None:
            return
        primaries: list[Scan] = []
        copies: list[Scan] = []
        for member in sorted(members, key=lambda member: member.id):
            if (scan := here[member.id].plan.scan) is not None:
                (primaries if member.is_primary else copies).append(scan)
        self._shares.deal(primaries, copies)

    async def _visit(
        self, emit: Emit, now: float, member: Member, node: Node, routes: Mapping[Node, Sequence[Request]]
    ) -> None:
        writable = bool(member.slots) and self._config.round_trip
        try:
            await node.visit(emit, now, round_trip=writable, slot=self._hash_tag(member) if writable else "")
        except CheckError:
            return  # its own redis.can_connect says it
        if requests := routes.get(node):
            await self._reads.fetch(node, requests)

    def _hash_tag(self, member: Member) -> str:
        tag = self._hash_tags.get(member.place)
        if tag is None or not member.serves(slot_of(tag)):
            tag = self._hash_tags[member.place] = hash_tag(member)
        return tag

    async def _find(self, emit: Emit) -> Shards:
        """The cluster as the first node says that answers and finds all well, else as the one that sees it best.

        A node that was cut off, or reset, may see a cluster that is not the one that the others see.
        """
        places = list(dict.fromkeys((*self._known, *self._seeds)))
        limit = self._patience * _FIND
        deadline = asyncio.get_running_loop().time() + limit
        asks = [partial(self._ask, place, deadline) for place in places]
        answers = await staggered(asks, limit / len(asks), lambda answer: isinstance(answer, Shards) and answer.well)
        found = [(place, answer) for place, answer in zip(places, answers, strict=True) if isinstance(answer, Shards)]
        if not found:
            raise self._lost(emit, dict(zip(places, answers, strict=True)))
        source, shards = max(found, key=lambda one: one[1].soundness)
        self._known = [source]  # asked first at the next run
        return shards

    async def _ask(self, place: Place, deadline: float) -> Shards | Finding:
        node = self._at(*place)
        limit = max(deadline - asyncio.get_running_loop().time(), 0.01)
        advisor, greeted = replace(node.advisor, patience=limit), node.session.greeted
        try:
            replies = await node.ask([("CLUSTER", "INFO"), ("CLUSTER", "NODES"), ("CLUSTER", "SLOTS")], limit)
        except UNREACHABLE as error:
            return advisor.failure(error, greeted=greeted)
        info, nodes, slots = replies.values
        for reply, command in ((info, "cluster|info"), (nodes, "cluster|nodes")):
            if not isinstance(reply, Exception):
                continue
            if "cluster support disabled" in str(reply):
                return Finding(f"{node.address} is not part of a cluster", "use `host` and `port` instead of `cluster`")
            return advisor.refusal(reply, command, "")
        return read_shards(str(node.address), place[0], info, nodes, slots)

    def _lost(self, emit: Emit, answers: Mapping[Place, Shards | Finding | None]) -> CheckError:
        """Say that no node answers; returns the error to raise."""
        findings = {place: answer for place, answer in answers.items() if isinstance(answer, Finding)}
        for place, finding in findings.items():
            if place in self._known:  # a seed's name may differ from its address in the cluster
                emit.status("redis.can_connect", Status.CRITICAL, str(finding), Address(*place).tags)
        first = next(iter(findings.values()), Finding("no node is known"))
        what = replace(first, message=f"no node tells of the cluster: {first.message}")
        emit.status("redis.cluster.state", Status.CRITICAL, str(what))
        return what.error()

    def _admit(self, shards: Shards) -> list[Member]:
        """The nodes to visit; drops the connections to those that are not among them."""
        self._budget.begin()
        members = [member for member in shards.members if member.visitable and self._budget.admit(member.id)]
        places = dict.fromkeys(member.place for member in members)
        self._known = list(dict.fromkeys((*(place for place in self._known if place in places), *places)))
        for place in [place for place in self._nodes if place not in places]:
            self._nodes.pop(place).close()
            self._hash_tags.pop(place, None)
        return members


async def staggered(
    asks: Sequence[Callable[[], Coroutine[Any, Any, T]]], pause: float, enough: Callable[[T], bool]
) -> list[T | None]:
    """Ask one after the other until an answer is enough; returns the answers so far, None where there is none.

    The next is asked when one has answered, or after a pause: so that one that hangs does not hold up the search.

    Args:
        asks: what to await, in this order.
        pause: seconds.
        enough: whether an answer ends the search.
    """
    answers: list[T | None] = [None] * len(asks)
    running: dict[asyncio.Task[T], int] = {}
    waiting = list(enumerate(asks))[::-1]
    try:
        while waiting or running:
            if waiting:
                place, ask = waiting.pop()
                running[asyncio.create_task(ask())] = place
            done, _ = await asyncio.wait(
                running, timeout=pause if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                answers[running.pop(task)] = task.result()
            if any(enough(task.result()) for task in done):
                break
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return answers


def report(emit: Emit, shards: Shards, visited: Iterable[Member]) -> None:
    """Emit the state of the cluster, and what belongs to the nodes that were visited."""
    for field in _FIELDS:
        if (value := number(shards.info.get(f"cluster_{field}", ""))) is not None:
            emit.gauge(f"redis.cluster.{field}", value)
    emit.gauge("redis.cluster.nodes_failing", sum(member.down for member in shards.members))
    emit.gauge("redis.cluster.nodes_pfail", sum(member.suspected for member in shards.members))
    for member in visited:
        if member.is_primary:
            tags = (*Address(*member.place).tags, "redis_role:master")
            emit.gauge("redis.cluster.node.slots", member.slot_count, tags)
            emit.gauge("redis.cluster.node.replicas", shards.replicas(member), tags)
    status, message = judge(shards)
    emit.status("redis.cluster.state", status, message)


def judge(shards: Shards) -> tuple[Status, str]:
    """How the cluster is, and what is wrong with it."""
    state = shards.info.get("cluster_state", "unknown")
    down = [member for member in shards.members if member.down]
    gaps = shards.uncovered()
    wrong = [
        f"{member} is down" + (f" with the slots {spoken(member.slots)}" if member.slots else "")
        for member in down[:_MOST_NAMED]
    ]
    wrong += [f"{len(down) - _MOST_NAMED} more nodes are down"] if len(down) > _MOST_NAMED else []
    suspected = [str(member) for member in shards.members if member.suspected]
    if suspected:
        wrong.append(f"{shards.source} gets no answer from {', '.join(suspected[:_MOST_NAMED])}")
    if gaps:
        wrong.append(f"no node serves the slots {spoken(gaps)}")
    if state != "ok":
        wrong.insert(0, f"the cluster does not serve (cluster_state is {state})")
    if not wrong:
        return Status.OK, ""
    critical = state != "ok" or gaps or any(member.slots for member in down)
    hint = (
        "start the nodes again, or CLUSTER FORGET them" if down else "assign them with CLUSTER ADDSLOTS" if gaps else ""
    )
    return Status.CRITICAL if critical else Status.WARNING, "; ".join([*wrong, hint] if hint else wrong)
