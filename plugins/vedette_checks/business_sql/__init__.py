"""The business_sql check: what the business did in the last closed hour, to the cent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vedette import Check, Listener, hookimpl
from vedette_checks.business_sql.check import BusinessSql
from vedette_checks.business_sql.config import BusinessSqlConfig

__all__ = ["BusinessSql", "BusinessSqlConfig", "register_checks"]


@hookimpl
def register_checks(register: Callable[[type[Check[Any]] | type[Listener[Any]]], None]) -> None:
    """Offer the check to the agent."""
    register(BusinessSql)
