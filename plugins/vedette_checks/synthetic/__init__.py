"""The synthetic check: does the money path work, end to end, right now?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vedette import Check, Listener, hookimpl
from vedette_checks.synthetic.check import Synthetic
from vedette_checks.synthetic.config import SyntheticConfig

__all__ = ["Synthetic", "SyntheticConfig", "register_checks"]


@hookimpl
def register_checks(register: Callable[[type[Check[Any]] | type[Listener[Any]]], None]) -> None:
    """Offer the check to the agent."""
    register(Synthetic)
