"""The rules in force: their terms, shared where they look at the same, and a case for each group that was seen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vedette.alerts.compiled import Compiler, Seen, ends_after
from vedette.alerts.history import Window, tolerated
from vedette.alerts.latest import Each, Latest, Worst
from vedette.alerts.nodes import SEEN, name_of, selector_of, store_of, window_name
from vedette.alerts.router import Router
from vedette.alerts.rule import Case, key_of
from vedette.alerts.terms import Term, is_empty, sources_of
from vedette.rules.catalogue import is_counted
from vedette.rules.tree import Absent, Change, StatusIs, Value, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vedette.alerts.nodes import Looked
    from vedette.alerts.terms import Group, Store
    from vedette.alerts.verdicts import Verdict
    from vedette.rules.model import Rule, Source

    Terms = dict[tuple[str, tuple[str, ...]], Term]

_HOLE: Final = 60.0


class Book:
    """Rules with their cases.

    Args:
        completed: when each instance completed a run last.
        runs: how many runs each has completed.
        alive: whether an instance runs here.
        restore: fills a window with what was kept of it.
        born: called with each new case.
        kinds: what was seen before of metrics that no configuration tells of.
    """

    def __init__(
        self,
        completed: dict[str, float],
        runs: dict[str, int],
        alive: Callable[[Source], bool],
        restore: Callable[[Window], None],
        born: Callable[[Case], None],
        kinds: dict[str, tuple[str, str]] | None = None,
    ) -> None:
        self.router = Router()
        self.router.born = self._new_group
        self.router.full = self.prune
        self.router.learn = self._learned
        self.router.heard = self._emits
        self.router.ended = self._forget
        self.router.begins = self._begins
        self.rules: dict[str, Rule] = {}
        self.cases: dict[str, dict[Group, Case]] = {}
        self.counting: dict[str, list[dict[Group, Case]]] = {}
        """By instance: cases that a run without samples says something to."""
        self.terms: Terms = {}
        self.completed = completed
        self.runs = runs
        self._alive = alive
        self._restore = restore
        self._born = born
        self._started: dict[str, float] = {}
        self._kinds = kinds if kinds is not None else {}
        self.emitters: dict[tuple[str, tuple[str, ...]], dict[Group, set[str]]] = {}
        """By the name and tags of terms that there may be: who emitted something before the start, by group."""
        self._seen = Seen(self._runs_of, self._is_alive, lambda: self.router.source, lambda: self.router.pace)

    def __iter__(self) -> Iterator[Case]:
        for cases in self.cases.values():
            yield from cases.values()

    def unasked(self, late: float) -> list[Case]:
        """Those that were not judged since then."""
        return [case for cases in self.cases.values() for case in cases.values() if case.judged < late]

    def change(self, rules: Iterable[Rule], now: float) -> list[Case]:
        """Have just these rules; those that look at the same as before keep what they saw, and so do terms that go on.

        Returns:
            The cases that are gone.
        """
        before, self.rules = self.rules, {rule.name: self._knowing(rule) for rule in rules}
        old_cases, self.cases = self.cases, {}
        old_terms, self.terms = self.terms, {}
        for name, rule in self.rules.items():
            if name not in before or before[name].when != rule.when:
                self._started[name] = now
            self._add(rule, old_terms, now)
        self._watch()
        for name, rule in self.rules.items():
            old = before.get(name)
            if old is not None and (old.when, old.keep, old.kinds) == (rule.when, rule.keep, rule.kinds):
                self._go_on(old, rule, old_cases[name], now)
            else:
                earlier = old_cases.get(name, {}) if old is not None and old.when.by == rule.when.by else {}
                self._begin(rule, earlier, now)
        self._connect()
        for case in self:
            for ring in case.compiler.rings:
                ring.resume()
        kept = {(case.rule.name, case.group) for case in self}
        before_these = [case for cases in old_cases.values() for case in cases.values()]
        return [case for case in before_these if (case.rule.name, case.group) not in kept]

    def _go_on(self, old: Rule, rule: Rule, cases: dict[Group, Case], now: float) -> None:
        """Another runbook or another instance changes nothing of what was seen."""
        gone = _names(old) - _names(rule) if "instance" in rule.when.by else set()
        place = rule.when.by.index("instance") if gone else 0
        self.cases[rule.name] = {group: one for group, one in cases.items() if not group or group[place] not in gone}
        for case in self.cases[rule.name].values():
            labels = dict(zip(rule.when.by, case.group, strict=True)) if case.group else {}
            case.rule, case.labels = rule, {**rule.config.labels, **labels}
        terms = self._terms_of(rule) if rule.when.by else []
        found = {
            group for term in terms for group, heard in term.heard.items() if group and heard
        }  # those with room now
        for group in found - self.cases[rule.name].keys():
            if not gone or group[place] not in gone:
                self._case(rule, group, since=now)
        for group in self._configured(rule) - self.cases[rule.name].keys():
            self._clear(rule, group)
            self._case(rule, group, since=now)

    def _knowing(self, rule: Rule) -> Rule:
        """The rule with the kinds of metrics that no configuration tells, as far as they were seen."""
        more = {name: self._kinds[name] for name in _metrics(rule) if name not in rule.kinds and name in self._kinds}
        return replace(rule, kinds={**rule.kinds, **more}) if more else rule

    def _learned(self, kinds: dict[str, str]) -> None:
        """The first samples of metrics say what their numbers mean."""
        self._kinds.update((name, (kind, "")) for name, kind in kinds.items())
        self.change(list(self.rules.values()), self.router.now)

    # Terms

    def _add(self, rule: Rule, before: Terms, now: float) -> None:
        for node in looked_at(rule):
            key = (name_of(node, rule.kinds), rule.when.by)
            if key in self.terms:
                continue
            term = before.get(key)
            if term is None:
                emitters = self.emitters.pop(key, {})
                term = Term(*key, lambda _: Worst(), before=emitters, here=self.router.paces)
            term.selector = selector_of(node)
            target = node.target if isinstance(node, StatusIs | Absent) and isinstance(node.target, str) else None
            term.sources = rule.sources.get(target or str(term.selector), ())
            if term.selector is not None and not isinstance(node, StatusIs | Absent):
                term.kind = rule.kinds.get(term.selector.metric, ("", ""))[0]
                term.counted = is_counted(term.kind)
            term.rules.clear()
            term.make = store_of(term, node, self, now)
            self.terms[key] = term

    def restored(self, window: Window, term: Term, group: Group, tags: Group = ()) -> None:
        """Name a new window, and fill it with what was kept of it."""
        window.name = window_name(term, group, tags)
        self._restore(window)

    def _watch(self) -> None:
        metrics = [term for term in self.terms.values() if term.selector is not None and term.text[0] != "s"]
        statuses = [(term.text.split(" ", 2)[1], term) for term in self.terms.values() if term.text[0] == "s"]
        names = {term.selector.metric for term in metrics if not term.kind and term.text[0] != SEEN and term.selector}
        self.router.unknown = names - self._kinds.keys()
        self.router.watch(metrics, statuses)

    # Cases

    def _begin(self, rule: Rule, before: dict[Group, Case], now: float) -> None:
        self.cases[rule.name] = {}
        terms = self._terms_of(rule)
        groups = {()} if not rule.when.by else {group for term in terms for group in term.stores if group}
        for group in groups | self._configured(rule) | before.keys():
            self._case(rule, group, before.get(group), since=now)

    def _clear(self, rule: Rule, group: Group) -> None:
        """An instance is added: what one of its name left that was removed before is not its own."""
        for term in self._terms_of(rule):
            store = term.stores.get(group)
            if store is not None and not store.users:
                self.router.drop([store])
                _free(term, group)

    @staticmethod
    def _configured(rule: Rule) -> set[Group]:
        """The groups that are missed although nothing came of them yet: each configured instance."""
        if rule.when.by != ("instance",) or not any(isinstance(node, Absent) for node in walk(rule.when.test)):
            return set()
        return {(name,) for name in _names(rule)}

    def _terms_of(self, rule: Rule) -> list[Term]:
        return [self.terms[name_of(node, rule.kinds), rule.when.by] for node in looked_at(rule)]

    def _new_group(self, term: Term, group: Group) -> None:
        for rule in term.rules:
            cases = self.cases[rule.name]
            if rule.when.by and group and group not in cases:
                self._case(rule, group, since=self.router.now)
            elif rule.when.by and not group:  # series without the tags: every group looks at them
                for known, case in list(cases.items()):
                    if any(store is not term.store(()) for store in case.compiler.stores):
                        self._case(rule, known, case)

    def _case(self, rule: Rule, group: Group, before: Case | None = None, since: float = 0.0) -> None:
        since = before.compiler.started if before is not None else since
        compiler = Compiler(self._finder(rule), group, self._seen, max(since, self._started[rule.name]))
        verdict = compiler.test(rule.when.test)
        shown = list(compiler.leaves)
        begins = compiler.begins = list(compiler.rings)
        keep = compiler.test(rule.keep.test) if rule.keep is not None else None
        compiler.leaves = shown
        if keep is not None and len(compiler.rings) > len(begins):
            verdict = _both_asked(verdict, keep)
        labels = dict(zip(rule.when.by, group, strict=True)) if group else {}
        case = Case(rule, group, key_of(rule.name, labels), {**rule.config.labels, **labels}, verdict, keep, compiler)
        case.watches_silence = any(isinstance(node, Absent) for node in walk(rule.when.test))
        if before is not None:
            _carry_over(before, case)
        self.cases[rule.name][group] = case
        for store in compiler.stores:
            if before is not None and before in store.users:
                store.users.remove(before)
            if case not in store.users:
                store.users.append(case)
        self._born(case)

    def _finder(self, rule: Rule) -> Callable[[Looked], Term]:
        return lambda node: self.terms[name_of(node, rule.kinds), rule.when.by]

    def _runs_of(self, term: Term, group: Group) -> int:
        return sum(self.runs.get(one, 0) for one in term.emitters(group))

    def _is_alive(self, term: Term, group: Group) -> bool:
        alive = self._alive
        for one in sources_of(term, group):
            if alive(one):
                return True
        return not term.sources

    def _connect(self) -> None:
        """Note which cases each store and each run concern."""
        for term in self.terms.values():
            term.rules = []
            for store in term.stores.values():
                store.users.clear()
        self.counting = {}
        for rule in self.rules.values():
            cases = self.cases[rule.name]
            for term in self._terms_of(rule):
                if rule not in term.rules:
                    term.rules.append(rule)
                if term.counted:
                    configured = {one.instance for one in term.sources}
                    for instance in configured.union(*term.heard.values(), *term.before.values()):
                        self._count(instance, cases)
            for case in cases.values():
                for store in case.compiler.stores:
                    if case not in store.users:
                        store.users.append(case)

    def _count(self, instance: str, cases: dict[Group, Case]) -> None:
        some = self.counting.setdefault(instance, [])
        if not any(one is cases for one in some):
            some.append(cases)

    def _emits(self, term: Term, _: Group, instance: str) -> None:
        """An instance emits something that it need not have been configured to."""
        for rule in term.rules if term.counted else ():
            self._count(instance, self.cases[rule.name])

    def _forget(self, instance: str) -> None:
        """An instance ended."""
        self.counting.pop(instance, None)
        for term in self.terms.values():
            for heard in (*term.heard.values(), *term.before.values()):
                heard.discard(instance)
        for case in self:
            for ring in case.compiler.rings:
                ring.forget(instance)
                ring.resume()

    def begin_anew(self, instance: str, seen: float, now: float) -> None:
        """What an instance emits was not seen here for a while: its windows have no verdict until they are full again,
        and what is absent is missed from now on.

        Args:
            instance: its id.
            seen: when it was seen last.
            now: Unix seconds.
        """
        for term in self.terms.values():
            if any(one.instance == instance for one in term.sources):
                for window in self._windows_of(term):
                    if now - seen > tolerated(window.over):
                        window.ready = max(window.ready, now + window.reach)
                if now - seen > _HOLE:
                    self._miss_anew(term, instance, now)

    @staticmethod
    def _miss_anew(term: Term, instance: str, now: float) -> None:
        """Nobody here knows when something came last of these groups; those that are taken to be gone stay so."""
        gone = max((_gone_after(rule) for rule in term.rules), default=0.0)
        for group, store in term.stores.items():
            mine = "instance" not in term.by or any(one.instance == instance for one in sources_of(term, group))
            if mine and isinstance(store, Latest | Worst) and (not group or now - store.at < gone):
                store.at = now

    def _begins(self, instance: str, now: float) -> None:
        """A batch came; after a long time without a completed run a window of counts knows too little of that time."""
        before = self.completed.get(instance, now)
        if now - before <= max(_HOLE, self.router.paces.get(instance, 0.0)):
            return
        for term in self.terms.values():
            if term.counted and any(instance in term.emitters(group) for group in term.stores):
                for window in self._windows_of(term):
                    if not window.means(now) and now - before > window.over and not window.is_zero(now):
                        window.ready = max(window.ready, now + window.reach)

    def prune(self, term: Term, now: float) -> None:
        """Let go the groups of a term of which nothing is left anywhere and that have no alert."""
        if not term.rules:
            return
        living = self.router.living
        stores = term.stores.items()
        idle = [group for group, one in stores if group and id(one) not in living and is_empty(one, now)]
        gone: list[Store] = []
        for group in idle:
            cases = [case for rule in term.rules if (case := self.cases[rule.name].get(group)) is not None]
            if all(_is_over(case, now) for case in cases):
                for case in cases:
                    self._let_go(case)
                for one in [term, *(one for rule in term.rules for one in self._terms_of(rule))]:
                    store = one.stores.get(group)
                    if store is not None and id(store) not in living and is_empty(store, now):
                        gone.append(store)
                        _free(one, group)
        if gone:
            self.router.drop(gone)

    def _let_go(self, case: Case) -> None:
        del self.cases[case.rule.name][case.group]
        for store in case.compiler.stores:
            if case in store.users:
                store.users.remove(case)

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
            left = term.stores.get(case.group)
            if case.group and left is not None:
                self.router.drop([left])
                _free(term, case.group)

    def windows(self) -> Iterator[Window]:
        """Every window."""
        for term in self.terms.values():
            yield from self._windows_of(term)

    @staticmethod
    def _windows_of(term: Term) -> Iterator[Window]:
        for store in term.stores.values():
            if isinstance(store, Window):
                yield store
            elif isinstance(store, Each) and store.over:
                yield from (one for one in store.members.values() if isinstance(one, Window))


def looked_at(rule: Rule) -> Iterator[Looked]:
    """The values and statuses in a rule."""
    for condition in (rule.when, rule.keep):
        for node in walk(condition.test) if condition is not None else ():
            if isinstance(node, Value | StatusIs | Absent | Change):
                yield node


def _free(term: Term, group: Group) -> None:
    """Should the group come again it is a new one; what was seen of it stays where another rule looks at it."""
    term.heard.pop(group, None)
    term.before.pop(group, None)
    for case in term.stores[group].users:
        for ring in case.compiler.rings:
            ring.resume()
    if not term.stores[group].users:
        del term.stores[group]


def _metrics(rule: Rule) -> set[str]:
    return {one.metric for node in looked_at(rule) if (one := selector_of(node)) is not None}


def _names(rule: Rule) -> set[str]:
    """The names of the instances that a rule is about, as far as the configuration tells."""
    return {one.instance.partition("/")[2] for some in rule.sources.values() for one in some}


def _both_asked(verdict: Verdict, keep: Verdict) -> Verdict:
    """The verdict; a condition of `keep` that counts runs sees each, also those after which nobody asks for it."""

    def asked(now: float) -> bool | None:
        keep(now)
        return verdict(now)

    return asked


def _carry_over(before: Case, case: Case) -> None:
    """The case goes on where another one was."""
    case.incident, case.home, case.quiet = before.incident, before.home, before.quiet
    case.down, case.pulse, case.blame = before.down, before.pulse, before.blame
    for ring, old in zip(case.compiler.rings, before.compiler.rings, strict=False):
        if ring.size == old.size:
            ring.follow(old)


def _is_over(case: Case, now: float) -> bool:
    """Whether nothing is left of what a case looks at, and nothing is wrong."""
    if case.incident.stage != "ok" or not all(is_empty(store, now) for store in case.compiler.stores):
        return False
    gone = _gone_after(case.rule)
    return all(now - store.at >= gone for store in case.compiler.stores if isinstance(store, Latest | Worst))


def _gone_after(rule: Rule) -> float:
    """How long what a rule misses may not come until it is taken to be gone; 0 if it misses nothing."""
    missed = [ends_after(node.seconds) for node in walk(rule.when.test) if isinstance(node, Absent)]
    return max(missed, default=0.0)
