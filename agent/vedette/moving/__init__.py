"""Floor 5: other agents' configuration in our words, for moving over."""

from __future__ import annotations

from vedette.moving.datadog import Moved, move

__all__ = ["Moved", "move"]
