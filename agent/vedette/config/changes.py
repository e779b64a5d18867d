"""Floor 2: what differs between two configurations, instance by instance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette.errors import Problem


@dataclass(frozen=True, slots=True)
class Change:
    """One instance or sink that is configured differently.

    Attributes:
        name: instance id, `sink <name>` or `agent.yaml`.
        what: the options that differ, such as `interval 30s → 15s`; names only where a value may be secret.
    """

    name: str
    what: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload did, or would do.

    Attributes:
        added: ids of new instances (and `sink <name>`).
        changed: those that start anew because something of theirs differs.
        removed: ids of instances that ended.
        same: how many instances were left alone.
        problems: everything that is wrong in the configuration now, warnings included.
    """

    added: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()
    removed: tuple[str, ...] = ()
    same: int = 0
    problems: tuple[Problem, ...] = ()

    def __str__(self) -> str:
        """`+1 ~1 (interval 30s → 15s) -0 =12`."""
        what = "; ".join(dict.fromkeys(text for change in self.changed for text in change.what))
        detail = f" ({what})" if what else ""
        return f"+{len(self.added)} ~{len(self.changed)}{detail} -{len(self.removed)} ={self.same}"
