"""The log_file listener: lines of files and containers, followed through rotations, for every sink that takes logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vedette import Check, Listener, hookimpl
from vedette_checks.log_file.check import LogFile
from vedette_checks.log_file.config import LogFileConfig

__all__ = ["LogFile", "LogFileConfig", "register_checks"]


@hookimpl
def register_checks(register: Callable[[type[Check[Any]] | type[Listener[Any]]], None]) -> None:
    """Offer the log_file listener."""
    register(LogFile)
