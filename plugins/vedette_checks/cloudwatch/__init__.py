"""The cloudwatch check: RDS, ElastiCache, SQS and what else is in CloudWatch, on time and with the bill in sight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vedette import Check, Listener, hookimpl
from vedette_checks.cloudwatch.check import CloudWatch
from vedette_checks.cloudwatch.config import CloudWatchConfig

__all__ = ["CloudWatch", "CloudWatchConfig", "register_checks"]


@hookimpl
def register_checks(register: Callable[[type[Check[Any]] | type[Listener[Any]]], None]) -> None:
    """Offer the check to the agent."""
    register(CloudWatch)
