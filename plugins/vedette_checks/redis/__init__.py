"""The redis check: INFO, round trip, key lengths and dashboard counters of Redis, Valkey and their managed kin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vedette import Check, Listener, hookimpl
from vedette_checks.redis.check import Redis
from vedette_checks.redis.config import CounterConfig, RedisConfig

__all__ = ["CounterConfig", "Redis", "RedisConfig", "register_checks"]


@hookimpl
def register_checks(register: Callable[[type[Check[Any]] | type[Listener[Any]]], None]) -> None:
    """Offer the check to the agent."""
    register(Redis)
