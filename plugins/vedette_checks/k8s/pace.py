"""What is watched, and how patiently: what the watches of one server have in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from vedette_checks.k8s.client import Query
from vedette_checks.k8s.errors import ApiError, Fault


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient and how pushing a watch is, all in seconds.

    Attributes:
        first: pause after a first failure; it doubles with each.
        most: longest pause after failures.
        spread: a new list after an expired resourceVersion begins at random within this: all agents expire at once.
        refused: pause after a refusal, in which somebody may add the rule.
        absent: pause where the server does not have the resource.
        quiet: a streaming list that says nothing for so long will not end: some servers take it for a watch.
        answer: a watch must be answered so soon.
        answer_list: and a list, which the server makes as a whole first.
        whole: a list that takes longer is given up: only a few at a time are let through.
        silence: a watch without a byte for so long is dead: a bookmark comes once a minute.
        breath: events are taken this often at most: so late may what is reported be.
        lifetime: shortest and longest time that a watch is asked to last.
    """

    first: float = 1.0
    most: float = 30.0
    spread: float = 5.0
    refused: float = 60.0
    absent: float = 300.0
    quiet: float = 3.0
    answer: float = 10.0
    answer_list: float = 60.0
    whole: float = 120.0
    silence: float = 100.0
    breath: float = 0.5
    lifetime: tuple[int, int] = (300, 600)


@dataclass(slots=True)
class Manners:
    """What the watches of one server have in common.

    Attributes:
        pace: their patience.
        streaming: whether the server is believed to have streaming lists.
        gate: lets few lists at a time through.
    """

    pace: Pace = field(default_factory=Pace)
    streaming: bool = True
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(3))

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn to list. Whoever takes too long for it gives up, lest the others wait for ever.

        Raises:
            ApiError: it took too long.
        """
        async with self.gate:
            try:
                async with asyncio.timeout(self.pace.whole):
                    yield
            except TimeoutError:
                raise ApiError(Fault.UNREACHABLE, f"its list did not end within {self.pace.whole:g}s") from None


@dataclass(frozen=True, slots=True)
class Source:
    """What is watched.

    Attributes:
        resource: plural name of the resource.
        group: its API group; empty for the core.
        path: path of the list.
        query: selectors.
        namespace: the namespace of the path; empty for all.
    """

    resource: str
    group: str
    path: str
    query: Query = field(default_factory=dict)
    namespace: str = ""
