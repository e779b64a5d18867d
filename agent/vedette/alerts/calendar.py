"""When nobody is told: maintenance windows that return, and silences that a person set."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from vedette.cron import next_cron

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vedette.rules.model import Maintenance

log = logging.getLogger("vedette.alerts")


class Window:
    """A maintenance window and when it is open; asks its cron expression only where that may change.

    Args:
        config: as it is written.
    """

    def __init__(self, config: Maintenance) -> None:
        self.config = config
        self._begins = 0.0
        self._asked = float("inf")

    def is_open(self, now: float) -> bool:
        """Whether it is open at this Unix time."""
        duration = self.config.duration
        if not self._asked <= now < self._begins + duration:
            self._begins = next_cron(self.config.schedule, self.config.timezone, now - duration)
            self._asked = now
        return self._begins <= now < self._begins + duration

    def concerns(self, rule: str, labels: Mapping[str, str]) -> bool:
        """Whether it is about this rule in this group."""
        return _fits(self.config.rules, self.config.tags, rule, labels)


class Calendar:
    """All maintenance windows."""

    def __init__(self, windows: Iterable[Maintenance] = ()) -> None:
        self._windows = [Window(one) for one in windows]

    def reason(self, rule: str, labels: Mapping[str, str], now: float) -> str:
        """Why nobody is told of this; empty if no window is open for it."""
        for window in self._windows:
            if window.concerns(rule, labels) and window.is_open(now):
                return f"maintenance: {window.config.name}"
        return ""


@dataclass(frozen=True, slots=True)
class Silence:
    """What a person does not want to be told of.

    Attributes:
        id: its number.
        rules: names; `*` stands for anything.
        tags: tags or labels that the group must have.
        until: Unix seconds of its end.
        comment: why.
        created: Unix seconds of its beginning.
    """

    id: int
    rules: tuple[str, ...]
    tags: tuple[str, ...]
    until: float
    comment: str = ""
    created: float = 0.0

    def __str__(self) -> str:
        return " ".join([*self.rules, *self.tags])


class Silences:
    """All silences; those that have ended are forgotten.

    Args:
        rows: what `rows` gave before, perhaps of another version: it is kept as far as it is understood.
    """

    def __init__(self, rows: Any = ()) -> None:
        self._all: list[Silence] = []
        for row in rows if isinstance(rows, list | tuple) else ():
            made = _silence_of(row)
            if made is None:
                log.warning("a silence that was kept makes no sense to this version, and is left out")
            else:
                self._all.append(made)

    def add(self, rules: Sequence[str], tags: Sequence[str], now: float, until: float, comment: str) -> Silence:
        """Be silent about this until then."""
        number = max((one.id for one in self._all), default=0) + 1
        made = Silence(number, tuple(rules) or ("*",), tuple(tags), until, comment, now)
        self._all.append(made)
        return made

    def end(self, number: int) -> bool:
        """End one; returns whether there was one of this number."""
        before = len(self._all)
        self._all = [one for one in self._all if one.id != number]
        return len(self._all) < before

    def active(self, now: float) -> list[Silence]:
        """Those that go on."""
        self._all = [one for one in self._all if one.until > now]
        return list(self._all)

    def reason(self, rule: str, labels: Mapping[str, str], now: float) -> str:
        """Why nobody is told of this; empty if no silence is about it."""
        for one in self._all:
            if one.until > now and _fits(one.rules, one.tags, rule, labels):
                return f"silence {one.id}{f': {one.comment}' if one.comment else ''}"
        return ""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All as plain data."""
        return [asdict(one) for one in self._all]


def _silence_of(row: Any) -> Silence | None:
    """What was kept of a silence; None where that does not say what it is about, and until when."""
    if not isinstance(row, dict):
        return None
    number, until, created, comment = (row.get(name) for name in ("id", "until", "created", "comment"))
    rules, tags = _texts(row.get("rules")), _texts(row.get("tags"))
    if not isinstance(number, int) or not isinstance(until, int | float) or rules is None or tags is None:
        return None
    comment = comment if isinstance(comment, str) else ""
    return Silence(number, rules, tags, until, comment, created if isinstance(created, int | float) else 0.0)


def _texts(value: Any) -> tuple[str, ...] | None:
    sound = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    return tuple(value) if sound else None


def named(rule: str, wanted: str) -> bool:
    """Whether a rule is called so: by its name as it is, or by a pattern (`[` may be part of a name)."""
    return rule == wanted or fnmatchcase(rule, wanted)


def _fits(rules: Iterable[str], tags: Iterable[str], rule: str, labels: Mapping[str, str]) -> bool:
    if not any(named(rule, one) for one in rules):
        return False
    pairs = [tag.partition(":") for tag in tags]
    return all(named(labels[key], value or "*") if key in labels else False for key, _, value in pairs)
