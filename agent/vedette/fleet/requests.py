"""Floor 4: what the protocol asks of the engine. It makes no request itself: whoever drives it does, and answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from vedette.engine import EngineConflict, EngineRecord, EngineUnavailable

Failure: TypeAlias = EngineConflict | EngineUnavailable


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """All records under a prefix."""

    prefix: str
    answer: Callable[[list[EngineRecord] | Failure], None]


@dataclass(frozen=True, slots=True, eq=False)
class Get:
    """One record."""

    key: str
    answer: Callable[[EngineRecord | Failure | None], None]


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """Compare and set; answered with the new revision."""

    key: str
    value: str
    revision: str | None
    guard: EngineRecord | None
    answer: Callable[[str | Failure], None]


@dataclass(frozen=True, slots=True, eq=False)
class Remove:
    """Compare and delete; answered with None."""

    key: str
    revision: str
    answer: Callable[[Failure | None], None]


Request: TypeAlias = Read | Get | Write | Remove
