"""The agents of these tests live in the event loop's time."""

from __future__ import annotations

from .memory import loop_time

__all__ = ["loop_time"]
