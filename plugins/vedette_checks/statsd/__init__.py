"""The statsd listener: DogStatsD over UDP and unix sockets, aggregated here, for every sink."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vedette import Check, Listener, hookimpl
from vedette_checks.statsd.check import Statsd
from vedette_checks.statsd.config import MappingConfig, StatsdConfig

__all__ = ["MappingConfig", "Statsd", "StatsdConfig", "register_checks"]


@hookimpl
def register_checks(register: Callable[[type[Check[Any]] | type[Listener[Any]]], None]) -> None:
    """Offer the statsd listener."""
    register(Statsd)
