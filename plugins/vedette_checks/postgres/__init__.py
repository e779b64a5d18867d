"""The postgres check: one server's health and throughput, its replica, its tables and statements, and your own SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vedette import Check, Listener, hookimpl
from vedette_checks.postgres.check import Postgres
from vedette_checks.postgres.config import PostgresConfig

__all__ = ["Postgres", "PostgresConfig", "register_checks"]


@hookimpl
def register_checks(register: Callable[[type[Check[Any]] | type[Listener[Any]]], None]) -> None:
    """Offer the check to the agent."""
    register(Postgres)
