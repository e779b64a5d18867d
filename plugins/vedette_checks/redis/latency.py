"""The server's own notes of what held it up: LATENCY LATEST."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from vedette_checks.redis.part import Names, Part, Scene
from vedette_checks.redis.session import Command


class LatencyEvents(Part):
    """Events that took longer than the server's `latency-monitor-threshold`."""

    def __init__(self, limit: int) -> None:
        self._names = Names(limit, "latency_events")

    def commands(self) -> Iterable[Command]:
        """LATENCY LATEST."""
        return (("LATENCY", "LATEST"),)

    def take(self, replies: Iterator[Any], scene: Scene) -> Iterable[Command]:
        """Emit each event's latest and longest duration and its age.

        A row is (event, Unix seconds, latest ms, most ms, …); Valkey adds to it.
        """
        reply = next(replies)
        if isinstance(reply, Exception):
            scene.refused(reply, "latency|latest", option="latency_events")
            return ()
        self._names.begin(scene.now)
        emit = scene.emit
        for event, time, latest, most, *_ in reply:
            name = event.decode("utf-8", "replace")
            if self._names.admits(name):
                here = (*scene.tags, f"event:{name}")
                emit.gauge("redis.latency.event.latest_ms", latest, here)
                emit.gauge("redis.latency.event.max_ms", most, here)
                emit.gauge("redis.latency.event.age_seconds", max(scene.now - time, 0), here)
        self._names.report(scene)
        return ()
