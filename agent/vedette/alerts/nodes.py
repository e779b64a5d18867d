"""The values, statuses and absences of a condition: what each is called, and what holds what was seen of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vedette.alerts.history import Past, Window
from vedette.alerts.latest import Each, Latest, LatestCount, Noticed, Worst
from vedette.rules.catalogue import is_counted
from vedette.rules.tree import Absent, Change, Selector, StatusIs, Value, span

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.alerts.book import Book
    from vedette.alerts.terms import Group, Store, Term
    from vedette.metrics import Tags

    Looked = Value | StatusIs | Absent | Change
    Kinds = dict[str, tuple[str, str]]

SEEN: Final = "n"
"""How the name of a term begins that only notes when something came."""


def name_of(node: Looked, kinds: Kinds) -> str:
    """What a term is called: all that look at the same samples have one.

    Args:
        node: what is looked at.
        kinds: kind and unit of metrics.
    """
    match node:
        case Absent(target=Selector()):
            return f"{SEEN} {node.target}"
        case Value(over=None):
            return f"l {node.selector}"
        case Value():
            return f"{_letter(node, kinds)} {node.selector} {span(node.over or 0.0)}"
        case Change():
            value = node.value
            return f"{_letter(value, kinds)} {value.selector} {span(value.over or 0.0)} {span(node.ago)}"
        case StatusIs(of_instance=False):
            return f"s {node.target} {','.join(map(str, node.tags))}"
        case StatusIs() | Absent():
            return f"s {node.target} "


def _letter(value: Value, kinds: Kinds) -> str:
    """Whether the samples of all series make one window (w), or those of each (e): a line goes through one series."""
    counted = is_counted(kinds.get(value.selector.metric, ("", ""))[0])
    return "e" if value.function in ("last", "days_left") or (value.function == "rate" and not counted) else "w"


def selector_of(node: Looked) -> Selector | None:
    """The series that are looked at; None where it is the status of instances."""
    match node:
        case Value():
            return node.selector
        case Change():
            return node.value.selector
        case Absent(target=Selector() as target):
            return target
        case StatusIs() if not node.of_instance:
            return Selector(node.target, node.tags)
        case _:
            return None


def window_name(term: Term, group: Group, tags: Group = ()) -> str:
    """What a group's window is called where it is kept, or that of one of its series."""
    return "|".join((term.text, *term.by, *group, *tags))


def store_of(term: Term, node: Looked, book: Book, now: float) -> Callable[[Group], Store]:
    """What makes the store of a group of a term."""
    match node:
        case StatusIs() | Absent(target=str()):
            return lambda _: Worst()
        case Absent():
            return lambda _: Noticed()
        case Value(over=float() as over):
            return lambda group: _windows(term, group, (over, 0.0), book, now)
        case Change(value=Value(over=float() as over), ago=ago):
            return lambda group: _windows(term, group, (over, ago), book, now)
        case _:
            return lambda group: _latest(term, group, book)


def _latest(term: Term, group: Group, book: Book) -> Each:
    runs = book.runs

    def make(_: Tags, instance: str) -> Latest:
        return LatestCount(lambda: runs.get(instance, 0)) if term.counted else Latest()

    each = Each(make)
    each.adds_up = term.counted
    completed, paces = book.completed, book.router.paces
    each.is_zero = lambda now: any(now - completed.get(one, 0.0) <= paces.get(one, 0.0) for one in term.emitters(group))
    return each


def _windows(term: Term, group: Group, length: tuple[float, float], book: Book, now: float) -> Window | Each:
    """One window, or one for each series."""
    over, ago = length

    def is_zero(at: float) -> bool:
        completed = book.completed
        return term.counted and any(completed.get(one, 0.0) > at - over - ago for one in term.emitters(group))

    def make(tags: Tags) -> Window:
        begins = max(now, book.router.now) if group else now
        ready = begins + over + ago
        window = Past(over, ready, ago) if ago else Window(over, ready)
        window.early = now + over + ago
        window.is_zero = is_zero
        book.restored(window, term, group, tags)
        return window

    if term.text[0] == "w":
        return make(())
    each = Each(lambda tags, _: make(tags), over)
    each.adds_up = False
    each.is_zero = is_zero
    return each
