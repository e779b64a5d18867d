"""The sqs check: how many messages wait in queues, how long the oldest has waited, what ended in dead-letter queues."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vedette import Check, Listener, hookimpl
from vedette_checks.sqs.check import Sqs
from vedette_checks.sqs.config import SqsConfig

__all__ = ["Sqs", "SqsConfig", "register_checks"]


@hookimpl
def register_checks(register: Callable[[type[Check[Any]] | type[Listener[Any]]], None]) -> None:
    """Offer the check to the agent."""
    register(Sqs)
