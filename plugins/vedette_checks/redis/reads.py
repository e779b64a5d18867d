"""Keys, counters and streams of a cluster: a key's slot decides which node is asked.

They are tagged without a node: a number that an application keeps in the cluster is the same wherever its slot lives.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import AskError, MovedError

from vedette import Emit
from vedette_checks.redis.counters import Counter
from vedette_checks.redis.findings import Finding
from vedette_checks.redis.keys import KeyLength
from vedette_checks.redis.nodes import UNREACHABLE, Node
from vedette_checks.redis.part import Scene
from vedette_checks.redis.session import Command
from vedette_checks.redis.shards import Member, Shards, slot_of
from vedette_checks.redis.streams import Streams

Take = Callable[[Iterator[Any], Scene], Iterable[Command]]
"""Takes replies, emits, and returns what remains to be asked."""


@dataclass(slots=True)
class Request:
    """What is read of one key.

    Attributes:
        what: its name, for people.
        key: the key.
        commands: what to send.
        take: takes the replies.
        take_late: takes the replies to what `take` returned.
        node: who is asked, or was asked last.
        replies: as many as there are commands, or none if the node does not answer.
    """

    what: str
    key: str
    commands: Sequence[Command]
    take: Take
    take_late: Take
    node: Node | None = None
    replies: list[Any] = field(default_factory=list)

    @property
    def redirect(self) -> AskError | None:
        """Where the key lives now, if the node said that it has moved."""
        return next((reply for reply in self.replies if isinstance(reply, AskError)), None)


class Reads:
    """The keys, counters and streams of one cluster.

    Args:
        keys: keys whose length to report.
        counters: numbers to read.
        streams: keys of streams.
        limit: most consumer groups of a stream to tell apart.
        patience: seconds to wait for a node, at each of the steps.
    """

    def __init__(
        self,
        keys: Sequence[KeyLength],
        counters: Sequence[Counter],
        streams: Sequence[str],
        limit: int,
        patience: float,
    ) -> None:
        self._keys, self._counters = keys, counters
        self._streams = [(name, Streams([name], limit)) for name in streams]
        self._patience = patience

    def requests(self, now: float) -> Iterator[Request]:
        """What a run reads; `now` in Unix seconds decides the keys and windows of counters."""
        for key in self._keys:
            yield Request(f"keys: {key.key}", key.key, list(key.commands()), _length(key), _late_length(key))
        for counter in self._counters:
            commands = list(counter.commands(now))
            yield Request(str(counter), str(commands[0][1]), commands, _number(counter), _nothing)
        for name, stream in self._streams:
            yield Request(f"streams: {name}", name, list(stream.commands()), stream.take, _late_stream(stream))

    @staticmethod
    def route(
        requests: Iterable[Request], shards: Shards, node_of: Callable[[Member], Node | None]
    ) -> dict[Node, list[Request]]:
        """The requests by the node to be asked; those whose slot nobody serves are left out."""
        routes: dict[Node, list[Request]] = defaultdict(list)
        for request in requests:
            owner = shards.owner(slot_of(request.key))
            request.node = None if owner is None else node_of(owner)
            if request.node is not None:
                routes[request.node].append(request)
        return routes

    async def fetch(self, node: Node, requests: Sequence[Request], *, asking: bool = False) -> None:
        """Ask one node; `asking` where it is about to take over the slots. Does not raise if it does not answer."""
        commands = [command for request in requests for command in request.commands]
        sent = [each for command in commands for each in (("ASKING",), command)] if asking else commands
        try:
            values = (await node.ask(sent, self._patience)).values
        except UNREACHABLE:
            return
        answers = iter(values[1::2] if asking else values)
        for request in requests:
            request.node = node
            request.replies = [next(answers) for _ in request.commands]

    async def conclude(
        self, requests: Sequence[Request], emit: Emit, now: float, node_at: Callable[[str, int], Node]
    ) -> list[Finding]:
        """Follow keys that have moved, once, and emit what was read; returns what was wrong.

        Args:
            requests: all requests of the run, fetched or not.
            emit: where to.
            now: Unix seconds.
            node_at: the node at an address that a redirection names.
        """
        findings: list[Finding] = []
        await self._follow(requests, node_at)
        late = [request for request in requests if self._take(request, emit, now, findings)]
        by_node: dict[Node, list[Request]] = defaultdict(list)
        for request in late:
            if request.node is not None:
                by_node[request.node].append(request)
        await asyncio.gather(*(self.fetch(node, its) for node, its in by_node.items()))
        await self._follow(late, node_at)
        for request in late:
            self._take(request, emit, now, findings)
        return findings

    async def _follow(self, requests: Sequence[Request], node_at: Callable[[str, int], Node]) -> None:
        targets: dict[tuple[Node, bool], list[Request]] = defaultdict(list)
        for request in requests:
            moved = request.redirect
            if moved is not None and request.node is not None:
                node = node_at(moved.host or request.node.address.host, moved.port)
                targets[node, not isinstance(moved, MovedError)].append(request)
        by_node: dict[Node, list[tuple[bool, list[Request]]]] = defaultdict(list)
        for (node, asking), its in targets.items():
            by_node[node].append((asking, its))

        async def visit(node: Node, errands: list[tuple[bool, list[Request]]]) -> None:
            for asking, its in errands:  # one after the other: a connection carries one exchange at a time
                await self.fetch(node, its, asking=asking)

        await asyncio.gather(*(visit(node, errands) for node, errands in by_node.items()))

    @staticmethod
    def _take(request: Request, emit: Emit, now: float, findings: list[Finding]) -> bool:
        """Emit what was read; returns whether something remains to be asked, which the request then holds."""
        if not request.replies:
            why = "nobody serves its slot" if request.node is None else f"{request.node.address} does not answer"
            findings.append(Finding(f"{request.what}: {why}"))
            return False
        if request.node is None:
            return False
        scene = Scene(emit, request.node.advisor, (), {}, now, findings)
        late = list(request.take(iter(request.replies), scene))
        request.commands, request.take, request.replies = late, request.take_late, []
        return bool(late)


def _length(key: KeyLength) -> Take:
    def take(replies: Iterator[Any], scene: Scene) -> Iterable[Command]:
        outcome = key.take(replies, scene.emit, scene.database, scene.advisor)
        if isinstance(outcome, Finding):
            scene.findings.append(outcome)
        return (outcome,) if isinstance(outcome, tuple) else ()

    return take


def _late_length(key: KeyLength) -> Take:
    def take(replies: Iterator[Any], scene: Scene) -> Iterable[Command]:
        if found := key.take_length(next(replies), scene.emit, scene.database, scene.advisor):
            scene.findings.append(found)
        return ()

    return take


def _number(counter: Counter) -> Take:
    def take(replies: Iterator[Any], scene: Scene) -> Iterable[Command]:
        if found := counter.take(replies, scene.emit, (), scene.advisor):
            scene.findings.append(found)
        return ()

    return take


def _late_stream(stream: Streams) -> Take:
    def take(replies: Iterator[Any], scene: Scene) -> Iterable[Command]:
        stream.take_late(replies, scene)
        return ()

    return take


def _nothing(replies: Iterator[Any], scene: Scene) -> Iterable[Command]:
    return ()
