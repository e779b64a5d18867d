"""An agent to look at: its instances are whatever a test says, its page is the real one on a real socket."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from servers import until
from vedette.config import HttpConfig
from vedette.config.changes import Change, Changes
from vedette.control import ControlError, Snapshot
from vedette.errors import Problem
from vedette.metrics import Batch, Kind, Sample
from vedette.report import SinkVitals
from vedette.runner import State, Vitals
from vedette.status.service import StatusPage

NOW = 1_790_000_000.0
TOKEN = "a-token-of-the-tests"


class Actor:
    """Plays the agent: `Operations` over vitals that the test changes, and a note of what was asked."""

    def __init__(self, *instances: Vitals, sinks: tuple[SinkVitals, ...] = (), problems: tuple[Problem, ...] = ()):
        self.instances = list(instances)
        self.sinks = sinks
        self.problems = problems
        self.asked: list[tuple[Any, ...]] = []
        self.pictures = 0

    def snapshot(self) -> Snapshot:
        self.pictures += 1
        instances = tuple(replace(vitals) for vitals in self.instances)
        return Snapshot(NOW, NOW - 3600, instances, self.sinks, self.problems, "conf.d", "node-7")

    async def reload(self, *, check: bool = False) -> Changes:
        self.asked.append(("reload", check))
        change = Change("redis/cache", ("interval 30s → 15s",))
        return Changes(("host/new",), (change,), ("redis/old",), 12, self.problems)

    def run_now(self, instance: str) -> None:
        self.asked.append(("run-now", instance))
        if instance == "redis/busy":
            raise ControlError("redis/busy cannot run now: a run is in progress")

    def mute(self, instance: str, until: float) -> None:
        self.asked.append(("mute", instance, until))


def vitals(name: str, state: State = State.OK, **more: Any) -> Vitals:
    """An instance that has run."""
    made = Vitals(name, name.partition("/")[0], state, since=NOW - 600, last_run=NOW - 5, next_run=NOW + 10)
    made.duration, made.lateness, made.runs, made.samples = 0.0123, 0.0004, 42, 4200
    return replace(made, **more)


def failing(name: str = "redis/cache", **more: Any) -> Vitals:
    """An instance that fails."""
    options = {"message": "nothing listens on 10.0.0.5:6379", "hint": "is the server running?", "failures": 9, **more}
    return vitals(name, State.FAILING, **options)


def batch(name: str, time: float, *samples: Sample, took: float = 12.0) -> Batch:
    """What a run hands over."""
    tags = (f"check:{name.partition('/')[0]}",)
    core = (
        Sample("health_check.status", Kind.GAUGE, 1, tags),
        Sample("health_check.response_time", Kind.HISTOGRAM, took, tags),
    )
    return Batch(name, name.partition("/")[0], time, 1.0, "node-7", (*samples, *core))


def wave(name: str, number: int, phase: float = 0.0, **tags: str) -> Sample:
    """A gauge that goes up and down."""
    value = 100 + 40 * math.sin(number / 6 + phase) + 5 * math.sin(number * 1.7)
    return Sample(name, Kind.GAUGE, value, tuple(f"{key}:{text}" for key, text in tags.items()))


class Served:
    """A page on a free port of this machine, with an event loop in a thread of its own."""

    def __init__(self, actor: Actor, **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.page = StatusPage(actor, HttpConfig(**{"listen": "127.0.0.1:0", **options}), len(actor.instances))
        self._thread = threading.Thread(target=self.loop.run_forever, name="page")

    @property
    def url(self) -> str:
        return self.page.url.rstrip("/")

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.page.start(), self.loop).result(40)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.page.stop(), self.loop).result(40)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(40)
        self.loop.close()

    def remember(self, *batches: Batch) -> None:
        for one in batches:
            self.page.history.add(one)

    def wait_for_viewers(self, number: int) -> None:
        until(lambda: len(self.page._page.hub._viewers) == number, f"{number} viewers")


@contextmanager
def served(actor: Actor, **options: Any) -> Iterator[Served]:
    """The page of this agent."""
    page = Served(actor, **options)
    page.start()
    try:
        yield page
    finally:
        page.stop()
