"""What an instance costs the API server: for `vedette plan`."""

from __future__ import annotations

from collections.abc import Iterator

from vedette import Estimate
from vedette_checks.k8s.config import K8sConfig
from vedette_checks.k8s.pace import Pace

_DAY = 86_400.0


def estimate(config: K8sConfig, pace: Pace, *, watches: int, objects: int, requests: int) -> Iterator[Estimate]:
    """Objects listed at the start, watches held open, and requests of a start and of a day.

    Args:
        config: the options.
        pace: how long watches last.
        watches: how many there are.
        objects: how many they hold.
        requests: how many were sent so far.
    """
    yield Estimate("objects listed at the start", objects, "objects", "once; changes come by watch")
    yield Estimate("watches held open", watches, "connections")
    yield Estimate("API requests so far", requests, "requests", "a start and the runs of this plan")
    if config.cadence:
        polls = int(config.usage and "nodes" in config.watched) * _DAY / config.cadence
        renewals = watches * _DAY / (sum(pace.lifetime) / 2)
        yield Estimate("API requests per day", polls + renewals, "requests/day", "watches renewed, and use asked for")
