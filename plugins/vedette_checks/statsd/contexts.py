"""The series that are alive: found by the raw bytes of a line, made by the rules, limited by budgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vedette import Kind
from vedette_checks.statsd.budgets import Budgets
from vedette_checks.statsd.cells import CELLS, Cell, Owner
from vedette_checks.statsd.mapping import Mapper
from vedette_checks.statsd.protocol import MalformedError, MetricLine, Origin, numbers

if TYPE_CHECKING:
    from vedette_checks.statsd.config import StatsdConfig

OVERFLOW = ("overflow:true",)
"""The tags of what is beyond a budget."""

PARTS = 48
"""Calls of `fold_some` that take over what lies in all slots."""

_IDLE = 6  # intervals after which a series is forgotten
_MOST_TIMED = 50_000  # values with a time of their own in one interval
_MORE_SLOTS = 10_000
_ONE = b"1"
_IN_NUMBERS = b"0123456789.:eE+-"
_LOW, _SOME, _ALL = ("low", "orchestrator", "high"), ("orchestrator", "high"), ("high",)


@dataclass(slots=True, eq=False)
class Slot:
    """Where the values of one spelling of a series are put until there is time for them.

    Attributes:
        name: first part of the line, up to the colon.
        tail: last part of the line, after the bar.
        cell: what they are for; None if they are dropped.
        kind: what the numbers mean.
        why: why they are dropped.
        rate: the share that was sent.
        refused_by: whose budget they are beyond, or None.
        raw: the values as they came.
        idle: intervals without any.
    """

    name: bytes
    tail: bytes
    kind: Kind
    cell: Cell | None = None
    why: str = "mapping"
    rate: float = 1.0
    refused_by: Owner | None = None
    raw: list[bytes] = field(default_factory=list)
    idle: int = 0


class Contexts:
    """All series of one instance.

    Args:
        config: the instance's options.
        complain: called with each line that turns out to be malformed, and why.
    """

    def __init__(self, config: StatsdConfig, complain: Callable[[bytes, str], None]) -> None:
        self._config = config
        self._complain = complain
        self._map = Mapper(config.mappings)
        self._drop_tags = frozenset(config.drop_tags)
        self._slots: list[Slot] = []
        self._next = 0
        self._most_slots = config.most_contexts + config.max_contexts + _MORE_SLOTS
        self._cells: dict[tuple[Kind, str, tuple[str, ...]], Cell] = {}
        self._timed: dict[tuple[Kind, str, tuple[str, ...], int], Cell] = {}
        self.budgets = Budgets(config.max_contexts, config.most_contexts)
        self.known: dict[bytes, dict[bytes, Callable[[bytes], None]]] = {}
        """What takes the value of a line: by its last part, then its first. Only `intake` looks."""
        self.values = 0
        """Values taken over since the last `turn`."""
        self.dropped = {"mapping": 0, "overflow": 0, "set_members": 0, "timed": 0}
        """Values dropped since they were last told, by reason."""

    def __len__(self) -> int:
        return len(self._cells)

    def meet(self, line: MetricLine, name: bytes, tail: bytes, sender: str) -> None:
        """Take over a line whose spelling is not known, and know it from now on.

        Args:
            line: the line taken apart.
            name: its first part as it came.
            tail: its last part as it came.
            sender: its origin, if it tells none itself.
        """
        slot = Slot(name, tail, line.kind, rate=line.rate, raw=[line.values])
        mapped = self._map(line.name)
        if mapped is not None:
            self._assign(slot, line, *mapped, sender)
        if line.time is None and len(self._slots) < self._most_slots:
            self._slots.append(slot)
            self.known.setdefault(tail, {})[name] = slot.raw.append
        else:
            self._fold(slot)

    def _assign(self, slot: Slot, line: MetricLine, name: str, more: tuple[str, ...], sender: str) -> None:
        tags = self._tags(line, more)
        cell = self._cells.get((line.kind, name, tags))
        if cell is None:
            owner = self.budgets.owner(line.origin, sender)
            if self.budgets.is_full(owner):
                slot.refused_by, slot.cell, slot.why = owner, self._overflow(owner, line.kind, name), "overflow"
                return
            cell = self._cells[line.kind, name, tags] = CELLS[line.kind](line.kind, name, tags)
            self.budgets.charge(owner, cell)
        cell.idle = 0
        slot.cell, slot.why = cell if line.time is None else self._at(cell, line.time), "timed"

    def _tags(self, line: MetricLine, more: tuple[str, ...]) -> tuple[str, ...]:
        tags = line.tags
        if self._drop_tags:
            tags = tuple(tag for tag in tags if tag.partition(":")[0] not in self._drop_tags)
        if self._config.origin_tags:
            more = (*more, *origin_tags(line.origin))
        return tuple(sorted({*tags, *more})) if more else tags

    def _overflow(self, owner: Owner, kind: Kind, name: str) -> Cell | None:
        """What collects the values beyond a budget under their name; a gauge of many series would say nothing."""
        if kind is Kind.GAUGE:
            return None
        cell = self._cells.get((kind, name, OVERFLOW))
        if cell is None and self.budgets.may_spill(owner):
            cell = self._cells[kind, name, OVERFLOW] = CELLS[kind](kind, name, OVERFLOW)
            cell.beyond = True
            self.budgets.charge(owner, cell)
        return cell

    def _at(self, cell: Cell, time: int) -> Cell | None:
        key = (cell.kind, cell.name, cell.tags, time)
        found = self._timed.get(key)
        if found is None and len(self._timed) < _MOST_TIMED:
            found = self._timed[key] = CELLS[cell.kind](cell.kind, cell.name, cell.tags, time)
        return found

    # Taking values over

    def fold_some(self) -> None:
        """Take over what lies in the next part of the slots: little at a time, and much of each slot at once."""
        if self._next >= len(self._slots):
            self._next = 0
        end = self._next + len(self._slots) // PARTS + 1
        self._fold_all(self._slots[self._next : end])
        self._next = end

    def _fold_all(self, slots: list[Slot]) -> None:
        for slot in slots:
            if slot.raw:
                self._fold(slot)

    def _fold(self, slot: Slot) -> None:
        raw, cell, slot.idle = slot.raw, slot.cell, 0
        number = len(raw)
        self.values += number
        if slot.refused_by is not None:
            slot.refused_by.refused += number
        if cell is None:
            self.dropped[slot.why] += number
        elif cell.kind is Kind.COUNT and raw.count(_ONE) == number:
            cell.add((number,), slot.rate)
        elif cell.kind is Kind.SET:
            self._join(slot, cell)
        elif values := read(raw):
            cell.add(values, slot.rate)
        else:
            self._one_by_one(slot, cell)
        raw.clear()

    def _join(self, slot: Slot, cell: Cell) -> None:
        for _ in range(slot.raw.count(b"")):
            self._complain(_line(slot, b""), "it has no name and value")
        self.dropped["set_members"] += cell.join([member for member in slot.raw if member])

    def _one_by_one(self, slot: Slot, cell: Cell) -> None:
        for values in slot.raw:
            try:
                cell.add(numbers(values), slot.rate)
            except MalformedError as error:
                self._complain(_line(slot, values), str(error))

    # The end of an interval

    def turn(self) -> list[Cell]:
        """Take over what lies in the slots and forget what has been idle for long.

        Returns:
            The series to emit, those with a time of their own last.
        """
        self._fold_all(self._slots)
        touched = [cell for cell in self._cells.values() if cell.touched]
        touched += self._timed.values()
        self._timed = {}
        self._forget_cells()
        self._forget_slots()
        self.budgets.forget({slot.refused_by for slot in self._slots})
        return touched

    def _forget_cells(self) -> None:
        gone = []
        for key, cell in self._cells.items():
            cell.idle = 0 if cell.touched else cell.idle + 1
            if cell.idle > _IDLE:
                gone.append(key)
        for key in gone:
            cell = self._cells.pop(key)
            cell.gone = True
            self.budgets.give_back(cell)

    def _forget_slots(self) -> None:
        kept = []
        for slot in self._slots:
            slot.idle += 1
            if slot.idle <= _IDLE and not self._is_stale(slot):
                kept.append(slot)
                continue
            names = self.known[slot.tail]
            del names[slot.name]
            if not names:
                del self.known[slot.tail]
        self._slots = kept

    def _is_stale(self, slot: Slot) -> bool:
        """Whether it must come by the careful way again: its series was forgotten, or was refused and has room now.

        A series is forgotten before its slot where it gets values that are malformed.
        """
        cell, owner = slot.cell, slot.refused_by
        if cell is not None and cell.gone:
            return True
        if owner is None:
            return False
        unheard = cell is None and slot.kind is not Kind.GAUGE
        return not self.budgets.is_full(owner) or (unheard and self.budgets.may_spill(owner))


def read(raw: Sequence[bytes]) -> list[float]:
    """The numbers of many values at once, packed ones among them; empty if one of them is not as it should be."""
    joined = b":".join(raw)
    if joined.translate(None, _IN_NUMBERS):  # `float` would take blanks, underscores and `nan`
        return []
    try:
        values = list(map(float, joined.split(b":")))
    except ValueError:
        return []
    spread = sum(values)
    return values if spread - spread == 0 else []  # infinite minus infinite is no number


def origin_tags(origin: Origin) -> list[str]:
    """Tags for what a client told of its container, as many as its cardinality allows."""
    level = origin.cardinality or "low"
    tags = []
    if origin.container_name and level in _LOW:
        tags.append(f"kube_container_name:{origin.container_name}")
    if origin.pod and level in _SOME:
        tags.append(f"pod_uid:{origin.pod}")
    if origin.container and level in _ALL:
        tags.append(f"container_id:{origin.container}")
    return tags


def _line(slot: Slot, values: bytes) -> bytes:
    return b"%b:%b|%b" % (slot.name, values, slot.tail)
