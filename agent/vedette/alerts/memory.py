"""What outlasts a restart: incidents and silences at once, what was seen often enough that a kill costs no verdict.

The incidents of what one agent of the fleet runs are kept with that instance's state, and follow it. All times in the
store are by the clock; see `Steady`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from vedette.alerts.history import Window
from vedette.alerts.ringrows import RingRows
from vedette.alerts.rule import TIMES
from vedette.alerts.terms import MOST_GROUPS
from vedette.alerts.windowrows import EVERY, WindowRows
from vedette.rules.tree import Absent, walk
from vedette.state import BESIDE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vedette.alerts.book import Book
    from vedette.alerts.clock import Steady
    from vedette.alerts.rule import Case
    from vedette.alerts.runs import Runs
    from vedette.alerts.terms import Group
    from vedette.rules.model import Rule

log = logging.getLogger("vedette.alerts")

OWN: Final = "vedette/alerts"
"""Where the state store keeps what belongs to no instance."""
ALERT: Final = f"{BESIDE}alert:"
_SEEN: Final = f"{BESIDE}seen:"
_RINGS: Final = f"{BESIDE}rings"
_KINDS: Final = "kinds"
_BROUGHT: Final = "brought"
_EMITTERS: Final = "emitters"
_BEAT: Final = f"{BESIDE}beat"
_SLOWLY: Final = 20.0
_USELESS: Final = 3_600.0
"""Seconds after which what was kept for a rule that is not there is let go: its file may have had an error."""
_LEFT: Final = 86_400.0
"""Seconds after which it does not matter any more that an instance ran here."""
_MOST: Final = 5_000


@dataclass(frozen=True, slots=True)
class Keeper:
    """A place for small values, under an instance's name and a key. None deletes what is there.

    Attributes:
        view: what an instance has.
        keep: have a value from now on, on disk soon.
        follow: likewise, where the next owner of the instance will find it.
    """

    view: Callable[[str], Mapping[str, Any]]
    keep: Callable[[str, str, Any], None]
    follow: Callable[[str, str, Any], None]


class Memory:
    """Reads and writes what outlasts a restart.

    Args:
        keeper: where; None forgets all.
        clock: of the engine.
    """

    def __init__(self, keeper: Keeper | None, clock: Steady) -> None:
        self._keeper = keeper
        self._clock = clock
        own = dict(keeper.view(OWN)) if keeper is not None else {}
        self.silences: Any = own.get("silences") or ()
        self.windows = WindowRows(own, clock, self._keep)
        """What was seen by windows."""
        self._groups = {key.removeprefix(_SEEN): row for key, row in own.items() if key.startswith(_SEEN)}
        beat = _mapping(own.get(_BEAT))
        self.alive = _number(beat.get("at"))
        """When the agent was seen to be alive last, by the clock."""
        self.rings = RingRows(own.get(_RINGS), clock, self.alive)
        """How the last runs went."""
        self.statuses = beat.get("statuses")
        completed = _mapping(beat.get("completed"))
        self.completed = {one: _number(at) for one, at in completed.items() if 0 < _number(at) <= clock.now()}
        """When instances completed a run last: what they did not count then is 0."""
        self._held = {one: _number(at) for one, at in _mapping(beat.get("held")).items()}
        self._saved: dict[str, float] = {}
        self._saved_at = 0.0
        self._began = clock.now()
        self.kinds: dict[str, tuple[str, str]] = _kinds(own.get(_KINDS))
        """What the numbers of metrics mean that no configuration tells of, as far as they were seen."""
        self._kept_kinds = len(self.kinds)
        brought = _mapping(own.get(_BROUGHT))
        now = clock.now()
        rows = {key: _times(row) for key, row in brought.items()}
        self.brought = {key: (now, row) for key, row in rows.items() if 0 < max(row[:2], default=0.0) <= now}
        """Which samples came that brought their times, by their series: since now, as `Route.kept` has it."""
        self._kept_brought: dict[str, list[float]] = {}
        self.emitters = _emitters(own.get(_EMITTERS))
        """Who emitted what is counted and was not configured to: as `Book.emitters` has it."""
        self._kept_emitters: list[Any] = []

    # Incidents

    def incident(self, home: str, key: str) -> Any:
        """Where a case was left; None if nothing was wrong."""
        return self._read(self._keeper.view(home or OWN).get(ALERT + key)) if self._keeper is not None else None

    def incidents(self, home: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """All that were left here, or with an instance: key, and what was kept."""
        for key, row in list(self._keeper.view(home or OWN).items()) if self._keeper is not None else ():
            if key.startswith(ALERT) and isinstance(row, dict) and isinstance(row.get("rule"), str):
                yield key.removeprefix(ALERT), self._read(row)

    def _read(self, row: Any) -> Any:
        if not isinstance(row, dict):
            return None
        offset = self._clock.offset
        times = {name: row[name] + offset for name in (*TIMES, "at") if offset and _number(row.get(name))}
        return {**row, **times}

    def keep(self, case: Case, now: float) -> None:
        """Have where a case stands from now on."""
        row = case.incident.row
        if row is not None:
            config = case.rule.config
            for name in TIMES:
                row[name] = self._clock.wall(row[name])
            row |= {
                "rule": case.rule.name,
                "by": list(case.rule.when.by),
                "group": list(case.group),
                "severity": config.severity,
                "notify": list(config.notify),
                "labels": case.labels,
                "runbook": config.runbook,
                "condition": case.rule.written,
                "pace": case.pace,
                "at": self._clock.wall(now),
            }
        self.write(case.home, case.key, row)

    def write(self, home: str, key: str, row: dict[str, Any] | None) -> None:
        """Have this row from now on."""
        if self._keeper is not None:
            write = self._keeper.follow if home else self._keeper.keep
            write(home or OWN, ALERT + key, row)

    def keep_silences(self, rows: list[dict[str, Any]]) -> None:
        """Have these silences from now on."""
        if self._keeper is not None:
            self._keeper.keep(OWN, "silences", rows)

    # What was seen

    def leave(self, instance: str) -> None:
        """An instance under a lease ends here: a stop is that, too."""
        self._held[instance] = self._clock.wall(self._clock.now())

    def held_before(self, instance: str) -> float:
        """When the say about an instance was here last, also before a restart; 0 if it was not. Asked for once."""
        at = self._held.pop(instance, 0.0)
        return at + self._clock.offset if at else 0.0

    def groups(self, rule: Rule, now: float) -> list[tuple[Group, float]]:
        """The groups of a rule that were known, and when each was seen last, as if no time had passed since."""
        row = self._groups.pop(rule.name, None)
        if not isinstance(row, dict) or row.get("by") != list(rule.when.by) or not isinstance(row.get("groups"), list):
            return []
        saved, found = _number(row.get("saved")), []
        for one in row["groups"][:MOST_GROUPS]:
            group, seen = one if isinstance(one, list) and len(one) == 2 else (None, None)
            if not isinstance(group, list) or len(group) != len(rule.when.by) or not isinstance(seen, int | float):
                continue
            if all(isinstance(word, str) for word in group):
                found.append((tuple(group), now - max(0.0, saved - seen) if seen else 0.0))
        return found

    # Keeping it

    def save(self, book: Book, runs: Runs, held: Iterable[str], now: float, *, everything: bool = False) -> None:
        """Keep what is due: a tenth of the windows each second, how the last runs went whenever that is another.

        Args:
            book: the rules in force.
            runs: how the instances' runs went.
            held: the instances under a lease of which this agent has the say.
            now: steady seconds.
            everything: whether or not it is due.
        """
        if self._keeper is None:
            return
        self.windows.save(book.windows(), now, everything=everything)
        rings = self.rings.changed(book, runs, now)
        if rings is not None:
            self._keep(_RINGS, rings)
        if not everything and 0 <= now - self._saved_at < EVERY:
            return
        self._saved_at = now
        if len(self.kinds) != self._kept_kinds:
            self._kept_kinds = len(self.kinds)
            self._keep(_KINDS, {name: kind for name, (kind, _) in self.kinds.items()})
        self._save_brought(book)
        self._save_emitters(book, runs, now)
        self._let_groups_go(book, now)
        for rule in book.rules.values():
            if _waits(rule, book):
                self._save_groups(rule, book, now, everything=everything)
        wanted = {one for rule in book.rules.values() for one in rule.config.depends_on}
        self.alive = self._clock.wall(now)
        beat = {"at": self.alive, "statuses": runs.kept(wanted), "held": self._held_by(held)}
        self._keeper.keep(OWN, _BEAT, {**beat, "completed": self._completed(book, runs, now)})

    def _save_brought(self, book: Book) -> None:
        offset = self._clock.offset
        some = islice(book.router.kept, _MOST)
        rows = {key: [newest - offset, counted - offset, *ages] for key, (newest, counted, *ages) in some}
        if rows != self._kept_brought:
            self._kept_brought = rows
            self._keep(_BROUGHT, rows)

    def _completed(self, book: Book, runs: Runs, now: float) -> dict[str, float]:
        if not any(term.counted for term in book.terms.values()):
            return {}
        late = now - _LEFT
        some = [one for one in runs.completed.items() if one[0] in book.counting or one[1] > late]
        return {one: self._clock.wall(at) for one, at in some[:_MOST]}

    def _save_emitters(self, book: Book, runs: Runs, now: float) -> None:
        ran = {one for one, at in runs.completed.items() if now - at < _LEFT}
        rows = [
            [term.text, term.by, group, sorted(found)]
            for term in book.terms.values()
            if term.counted
            for group in term.heard.keys() | term.before.keys()
            if (
                found := (term.emitters(group) | term.before.get(group, set()))
                & ran - {one.instance for one in term.sources}
            )
        ]
        rows = sorted(rows[:_MOST])
        if rows != self._kept_emitters:
            self._kept_emitters = rows
            self._keep(_EMITTERS, rows or None)

    def _held_by(self, held: Iterable[str]) -> dict[str, float]:
        """When this agent had the say last about what is or was under a lease: the next start may come before it is."""
        self._held = {one: at for one, at in self._held.items() if abs(self.alive - at) < _LEFT}
        return {**self._held, **dict.fromkeys(held, self.alive)}

    def _let_groups_go(self, book: Book, now: float) -> None:
        """Delete the groups of rules that wait for none any more."""
        for key in [one for one in self._saved if one.startswith(_SEEN)]:
            rule = book.rules.get(key.removeprefix(_SEEN))
            if rule is None or not _waits(rule, book):
                del self._saved[key]
                self._keep(key, None)
        wall = self._clock.wall(now)
        asked = now - self._began > _USELESS
        for name in [one for one, row in self._groups.items() if asked and _age(row, wall) > _USELESS]:
            del self._groups[name]
            if _SEEN + name not in self._saved:
                self._keep(_SEEN + name, None)

    def _save_groups(self, rule: Rule, book: Book, now: float, *, everything: bool) -> None:
        name = _SEEN + rule.name
        if not everything and now - self._saved.get(name, 0.0) < _SLOWLY:
            return
        self._saved[name] = now
        groups = [[list(group), self._clock.wall(_seen(case))] for group, case in book.cases[rule.name].items()]
        self._keep(name, {"by": list(rule.when.by), "saved": self._clock.wall(now), "groups": groups})

    def _keep(self, key: str, value: Any) -> None:
        assert self._keeper is not None  # noqa: S101 - for type checkers
        self._keeper.keep(OWN, key, value)


def _waits(rule: Rule, book: Book) -> bool:
    """Whether nothing coming would mean something for it: what it knew must be known after a restart."""
    if any(isinstance(node, Absent) for node in walk(rule.when.test)):
        return True
    return bool(rule.when.by) and any(term.counted for term in book.terms_of(rule))


def _seen(case: Case) -> float:
    """When what it waits for came last; 0 if it did not."""
    stores = case.compiler.stores
    return max((store.at for store in stores if not isinstance(store, Window)), default=0.0)


def _age(row: Any, wall: float) -> float:
    return abs(wall - _number(_mapping(row).get("saved")))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _times(row: Any) -> tuple[float, ...]:
    """A row of `Route.kept`; an older version had but the first two. Empty if it is none."""
    if not isinstance(row, list) or len(row) < 2 or not all(isinstance(one, int | float) for one in row):
        return ()
    newest, counted, *ages = map(float, row)
    return newest, counted, *sorted(ages or [0.0], reverse=True)


def _emitters(rows: Any) -> dict[tuple[str, tuple[str, ...]], dict[Group, set[str]]]:
    found: dict[tuple[str, tuple[str, ...]], dict[Group, set[str]]] = {}
    for row in rows if isinstance(rows, list) else ():
        match row:
            case [str(text), list(by), list(group), list(names)] if all(isinstance(one, str) for one in by + group):
                found.setdefault((text, tuple(by)), {})[tuple(group)] = {one for one in names if isinstance(one, str)}
            case _:
                pass
    return found


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _kinds(kept: Any) -> dict[str, tuple[str, str]]:
    return {name: (kind, "") for name, kind in kept.items() if isinstance(kind, str)} if isinstance(kept, dict) else {}
