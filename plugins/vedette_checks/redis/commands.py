"""What the server knows about each command: calls, time per call, percentiles of latency."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from vedette_checks.redis.findings import Finding
from vedette_checks.redis.info import number, pairs, parse_info
from vedette_checks.redis.names import PERCENTILES
from vedette_checks.redis.options import OTHER
from vedette_checks.redis.part import Names, Part, Scene
from vedette_checks.redis.session import Command

_LATENCY = "latency_percentiles_usec_"


class CommandStats(Part):
    """Calls and time per call, from INFO COMMANDSTATS: `cmdstat_get:calls=1,usec=2,usec_per_call=2.00`."""

    def __init__(self, limit: int) -> None:
        self._names = Names(limit, "command_stats")

    def commands(self) -> Iterable[Command]:
        """INFO COMMANDSTATS."""
        return (("INFO", "commandstats"),)

    def take(self, replies: Iterator[Any], scene: Scene) -> Iterable[Command]:
        """Emit calls and microseconds per call; of commands beyond the limit in sum."""
        reply = next(replies)
        if isinstance(reply, Exception):
            scene.refused(reply, "info")
            return ()
        names, emit = self._names, scene.emit
        names.begin(scene.now)
        rest = [0.0, 0.0]
        for field, text in parse_info(reply).items():
            if not field.startswith("cmdstat_"):
                continue
            values = pairs(text)
            calls, each = number(values.get("calls", "")), number(values.get("usec_per_call", ""))
            if names.admits(field):
                here = (*scene.tags, f"command:{field[8:]}")
                if calls is not None:
                    emit.gauge("redis.command.calls", calls, here)
                if each is not None:
                    emit.gauge("redis.command.usec_per_call", each, here)
            else:
                rest[0] += calls or 0
                rest[1] += number(values.get("usec", "")) or 0
        if rest[0]:
            here = (*scene.tags, f"command:{OTHER}")
            emit.gauge("redis.command.calls", rest[0], here)
            emit.gauge("redis.command.usec_per_call", rest[1] / rest[0], here)
        names.report(scene)
        return ()


class Percentiles(Part):
    """Percentiles of each command's latency, from INFO LATENCYSTATS (Redis 7 and later)."""

    def __init__(self, limit: int) -> None:
        self._names = Names(limit, "latency_percentiles")

    def commands(self) -> Iterable[Command]:
        """INFO LATENCYSTATS."""
        return (("INFO", "latencystats"),)

    def take(self, replies: Iterator[Any], scene: Scene) -> Iterable[Command]:
        """Emit `latency_percentiles_usec_get:p50=1.003,p99=2.007,p99.9=2.007`."""
        reply = next(replies)
        if isinstance(reply, Exception):
            scene.refused(reply, "info")
            return ()
        names, emit = self._names, scene.emit
        names.begin(scene.now)
        found = False
        for line in reply.decode("utf-8", "replace").split("\r\n"):
            if not line.startswith(_LATENCY):
                continue
            found = True
            command, _, text = line[len(_LATENCY) :].rpartition(":")
            if not names.admits(command):
                continue
            here = (*scene.tags, f"command:{command}")
            for percentile, value in pairs(text).items():
                metric, micros = PERCENTILES.get(percentile), number(value)
                if metric is not None and micros is not None:
                    emit.gauge(metric, micros, here)
        if not found:
            scene.findings.append(_untracked(reply))
        names.report(scene)
        return ()


def _untracked(reply: bytes) -> Finding:
    """Why the section is empty: the run's own INFO is in it wherever the server keeps it."""
    if reply:
        return Finding("latency_percentiles: the server does not track them", "CONFIG SET latency-tracking yes")
    return Finding(
        "latency_percentiles: the server has none: they came with Redis 7", "leave `latency_percentiles` out there"
    )
