"""The rules in force: their terms, shared where they look at the same, and a case for each group that was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vedette.alerts.compiled import Compiler
from vedette.alerts.history import Latest, Window, tolerated
from vedette.alerts.rule import Case, key_of
from vedette.alerts.terms import Router, Term, Worst, counted
from vedette.rules.tree import Absent, Change, Selector, StatusIs, Value, span, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vedette.alerts.terms import Group, Store
    from vedette.rules.model import Rule, Source

    Looked = Value | StatusIs | Absent | Change


class Book:
    """Rules with their cases.

    Args:
        completed: when each instance completed a run last.
        runs: how many runs each has completed.
        alive: whether an instance runs here.
        restore: fills a window with what was kept of it; called with its name.
        born: called with each new case.
    """

    def __init__(
        self,
        completed: dict[str, float],
        runs: dict[str, int],
        alive: Callable[[Source], bool],
        restore: Callable[[str, Window], None],
        born: Callable[[Case], None],
    ) -> None:
        self.router = Router()
        self.router.born = self._new_group
        self.router.full = self.prune
        self.rules: dict[str, Rule] = {}
        self.cases: dict[str, dict[Group, Case]] = {}
        self.counting: dict[str, list[dict[Group, Case]]] = {}
        """By instance: cases that a run without samples says something to."""
        self.terms: dict[tuple[str, tuple[str, ...]], Term] = {}
        self._completed = completed
        self._runs = runs
        self._alive = alive
        self._restore = restore
        self._born = born
        self._started: dict[str, float] = {}

    def __iter__(self) -> Iterator[Case]:
        for cases in self.cases.values():
            yield from cases.values()

    def change(self, rules: Iterable[Rule], now: float) -> list[Case]:
        """Have just these rules; those that did not change keep what they saw, and so do terms that go on.

        Returns:
            The cases that are gone.
        """
        before, self.rules = self.rules, {rule.name: rule for rule in rules}
        same = {name for name, rule in self.rules.items() if name in before and before[name] == rule}
        old_cases, self.cases = self.cases, {}
        old_terms, self.terms = self.terms, {}
        for name, rule in self.rules.items():
            if name not in same:
                self._started[name] = now
            self._add(rule, old_terms, now)
        self._watch()
        gone: list[Case] = []
        for name, cases in old_cases.items():
            if name in same:
                self.cases[name] = cases
                self.rules[name] = self._moved(self.rules[name], cases)
            else:
                gone += cases.values()
        for name, rule in self.rules.items():
            if name not in same:
                self._begin(rule)
        self._connect()
        return gone

    @staticmethod
    def _moved(rule: Rule, cases: dict[Group, Case]) -> Rule:
        for case in cases.values():
            case.rule = rule
        return rule

    # Terms

    def _add(self, rule: Rule, before: dict[tuple[str, tuple[str, ...]], Term], now: float) -> None:
        for condition in (rule.when, rule.keep):
            for node in walk(condition.test) if condition is not None else ():
                if isinstance(node, Value | StatusIs | Absent | Change):
                    self._have(node, rule, before, now)

    def _have(self, node: Looked, rule: Rule, before: dict[tuple[str, tuple[str, ...]], Term], now: float) -> None:
        key = (name_of(node), rule.when.by)
        if key in self.terms:
            return
        made = _term(key, node, rule, self, now)
        old = before.get(key)
        if old is not None and (old.sources, old.counted) == (made.sources, made.counted):
            old.rules.clear()
            made = old
        self.terms[key] = made

    def make(self, term: Term, node: Looked, now: float) -> Callable[[Group], Store]:
        """What makes the store of a group of a term."""
        match node:
            case Value(over=float() as over):
                return lambda group: self._window(term, group, over, 0.0, now)
            case Change(value=Value(over=float() as over), ago=ago):
                return lambda group: self._window(term, group, over, ago, now)
            case StatusIs() | Absent(target=str()):
                return lambda _: Worst()
            case _:
                return lambda _: Latest()

    def _window(self, term: Term, group: Group, over: float, ago: float, now: float) -> Window:
        window = Window(over, now + over + ago, ago)
        if term.counted:
            names, completed = [one.instance for one in sources_of(term, group)], self._completed
            window.is_zero = lambda at: any(completed.get(name, 0.0) > at - over - ago for name in names)
        self._restore(window_name(term, group), window)
        return window

    def _watch(self) -> None:
        metrics = [term for term in self.terms.values() if term.selector is not None and term.text[0] != "s"]
        statuses = [(term.text.split(" ", 2)[1], term) for term in self.terms.values() if term.text[0] == "s"]
        self.router.watch(metrics, statuses)

    # Cases

    def _begin(self, rule: Rule) -> None:
        self.cases[rule.name] = {}
        terms = self._terms_of(rule)
        groups = {()} if not rule.when.by else {group for term in terms for group in term.stores if group}
        for group in groups:
            self._case(rule, group)

    def _terms_of(self, rule: Rule) -> list[Term]:
        return [
            self.terms[name_of(node), rule.when.by]
            for condition in (rule.when, rule.keep)
            for node in (walk(condition.test) if condition is not None else ())
            if isinstance(node, Value | StatusIs | Absent | Change)
        ]

    def _new_group(self, term: Term, group: Group) -> None:
        for rule in term.rules:
            if rule.when.by and group and group not in self.cases[rule.name]:
                self._case(rule, group)
            elif rule.when.by and not group:  # series without the tags: every group looks at them
                for known in list(self.cases[rule.name]):
                    if any(store is not term.store(()) for store in self.cases[rule.name][known].compiler.stores):
                        self._case(rule, known)

    def _case(self, rule: Rule, group: Group) -> None:
        before = self.cases[rule.name].get(group)
        compiler = Compiler(self._finder(rule), group, self._runs_of, self._is_alive, self._started[rule.name])
        verdict = compiler.test(rule.when.test)
        shown = list(compiler.leaves)
        keep = compiler.test(rule.keep.test) if rule.keep is not None else None
        compiler.leaves = shown
        labels = dict(zip(rule.when.by, group, strict=True)) if group else {}
        case = Case(rule, group, key_of(rule.name, labels), {**rule.config.labels, **labels}, verdict, keep, compiler)
        case.watches_silence = any(isinstance(node, Absent) for node in walk(rule.when.test))
        if before is not None:
            case.incident = before.incident
        self.cases[rule.name][group] = case
        for store in compiler.stores:
            if before is not None and before in store.users:
                store.users.remove(before)
            if case not in store.users:
                store.users.append(case)
        self._born(case)

    def _finder(self, rule: Rule) -> Callable[[Looked], Term]:
        return lambda node: self.terms[name_of(node), rule.when.by]

    def _runs_of(self, term: Term) -> int:
        return sum(self._runs.get(one.instance, 0) for one in term.sources)

    def _is_alive(self, term: Term, group: Group) -> bool:
        return any(self._alive(one) for one in sources_of(term, group)) or not term.sources

    def _connect(self) -> None:
        """Note which cases each store and each run concern."""
        for term in self.terms.values():
            term.rules = []
            for store in term.stores.values():
                store.users = []
        self.counting = {}
        for rule in self.rules.values():
            cases = self.cases[rule.name]
            for term in self._terms_of(rule):
                if rule not in term.rules:
                    term.rules.append(rule)
                for source in term.sources if term.counted else ():
                    some = self.counting.setdefault(source.instance, [])
                    if not any(one is cases for one in some):
                        some.append(cases)
            for case in cases.values():
                for store in case.compiler.stores:
                    if case not in store.users:
                        store.users.append(case)

    def begin_anew(self, instance: str, seen: float, now: float) -> None:
        """What an instance emits was not seen here for a while: its windows have no verdict until they are full again.

        Args:
            instance: its id.
            seen: when it was seen last.
            now: Unix seconds.
        """
        for term in self.terms.values():
            if any(one.instance == instance for one in term.sources):
                for store in term.stores.values():
                    if isinstance(store, Window) and now - seen > tolerated(store.over):
                        store.ready = max(store.ready, now + store.over + store.ago)

    def prune(self, term: Term, now: float) -> None:
        """Let go the groups of a term of which nothing is left in their windows and that have no alert."""
        idle = {group: store for group, store in term.stores.items() if group and is_empty(store, now)}
        for rule in term.rules:
            cases = self.cases[rule.name]
            for group in [one for one in idle if one in cases]:
                if cases[group].incident.stage != "ok" or cases[group].watches_silence:
                    del idle[group]
        for group, store in idle.items():
            del term.stores[group]
            for rule in term.rules:
                case = self.cases[rule.name].pop(group, None)
                for other in case.compiler.stores if case is not None else ():
                    if case in other.users:
                        other.users.remove(case)
            self.router.drop(store)

    def terms_of(self, rule: Rule) -> list[Term]:
        """What its conditions look at."""
        return self._terms_of(rule)

    def adopt(self, rule: Rule, group: Group) -> Case:
        """The case of a group that is known from before, made if nothing of it was seen yet."""
        if group not in self.cases[rule.name]:
            self._case(rule, group)
        return self.cases[rule.name][group]

    def drop(self, case: Case) -> None:
        """A group will not come again: let go what was seen of it, unless another rule looks at it."""
        self.cases[case.rule.name].pop(case.group, None)
        for store in case.compiler.stores:
            if case in store.users:
                store.users.remove(case)
        for term in self._terms_of(case.rule):
            store_of = term.stores.get(case.group)
            if case.group and store_of is not None and not store_of.users:
                del term.stores[case.group]
                self.router.drop(store_of)

    def windows(self) -> Iterator[tuple[str, Window]]:
        """Every window with its name."""
        for term in self.terms.values():
            for group, store in term.stores.items():
                if isinstance(store, Window):
                    yield window_name(term, group), store


def is_empty(store: Store, now: float) -> bool:
    """Whether nothing that was seen counts any more."""
    if isinstance(store, Window):
        store.trim(now)
        return not store.points and not store.waiting
    return isinstance(store, Latest) and store.until < now


def name_of(node: Looked) -> str:
    """What a term is called: all that look at the same samples have one."""
    match node:
        case Value(over=None) | Absent(target=Selector()):
            return f"l {node.selector if isinstance(node, Value) else node.target}"
        case Value():
            return f"w {node.selector} {span(node.over or 0.0)}"
        case Change():
            return f"w {node.value.selector} {span(node.value.over or 0.0)} {span(node.ago)}"
        case StatusIs(of_instance=False):
            return f"s {node.target} {','.join(map(str, node.tags))}"
        case StatusIs() | Absent():
            return f"s {node.target} "


def window_name(term: Term, group: Group) -> str:
    """What a group's window is called where it is kept."""
    return "|".join((term.text, *term.by, *group))


def sources_of(term: Term, group: Group) -> list[Source]:
    """Who may emit it in this group."""
    if "instance" in term.by and group:
        name = group[term.by.index("instance")]
        return [one for one in term.sources if one.instance.partition("/")[2] == name]
    return list(term.sources)


def _term(key: tuple[str, tuple[str, ...]], node: Looked, rule: Rule, book: Book, now: float) -> Term:
    selector: Any = None
    match node:
        case Value():
            selector = node.selector
        case Change():
            selector = node.value.selector
        case Absent(target=Selector() as target):
            selector = target
        case StatusIs() if not node.of_instance:
            selector = Selector(node.target, node.tags)
        case _:
            pass
    source_key = node.target if isinstance(node, StatusIs | Absent) and isinstance(node.target, str) else str(selector)
    term = Term(key[0], key[1], lambda _: Latest(), selector, rule.sources.get(source_key, ()))
    term.counted = selector is not None and counted(rule.kinds, selector) and not isinstance(node, StatusIs | Absent)
    term.make = book.make(term, node, now)
    return term
