"""Rules whose names were not looked up yet, and what can be wrong between them: cycles, names that fit nothing."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from vedette.config.problems import suggest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from vedette.config.checkfile import Document
    from vedette.config.problems import Path
    from vedette.config.source import Mapping
    from vedette.rules.catalogue import Catalogue
    from vedette.rules.model import MaintenanceConfig, Rule, RuleConfig
    from vedette.rules.tree import Condition


class Draft:
    """A rule whose names were not looked up yet."""

    __slots__ = ("config", "document", "item", "path", "when")

    def __init__(self, document: Document, item: Mapping, path: Path, config: RuleConfig, when: Condition) -> None:
        self.document = document
        self.item = item
        self.path = path
        self.config = config
        self.when = when

    def line(self, key: str) -> int:
        """Where an option stands."""
        entry = self.item.entries.get(key)
        return entry.line if entry is not None else self.item.line

    @property
    def place(self) -> str:
        """File and line for people."""
        return f"{self.document.found.shown}:{self.item.line}"


def check_maintenance(
    windows: Iterable[tuple[Document, MaintenanceConfig, Mapping, Path]], names: Collection[str]
) -> None:
    """A pattern that fits no rule protects nobody."""
    for document, config, item, path in windows:
        for wanted in config.rules:
            if wanted != "*" and not any(name == wanted or fnmatchcase(name, wanted) for name in names):
                line = item.entries["rules"].line
                document.report.warning(line, (*path, "rules"), f"no rule is called {wanted}", suggest(wanted, names))


def check_dependencies(drafts: Iterable[tuple[Draft, str]], rules: Iterable[Rule], catalogue: Catalogue) -> None:
    """Say so where a rule depends on what there is not, or on what is not known on this agent."""
    good = {rule.name: rule for rule in rules}
    known = {*good, *(draft.config.name for draft, _ in drafts), *catalogue.instances}
    for draft, _ in drafts:
        line, path, report = draft.line("depends_on"), (*draft.path, "depends_on"), draft.document.report
        for wanted in draft.config.depends_on:
            if wanted not in known:
                message = f"no rule and no instance is called {wanted}"
                report.warning(line, path, message, suggest(wanted, known))
            elif elsewhere := _elsewhere(wanted, good, catalogue) - _sources(good.get(draft.config.name)):
                message = f"{min(elsewhere)} may run on another agent of the fleet, and how it is is not known here"
                report.warning(line, path, message, "depend on what runs on every node")


def _sources(rule: Rule | None) -> set[str]:
    return {one.instance for some in rule.sources.values() for one in some} if rule is not None else set()


def _elsewhere(wanted: str, rules: dict[str, Rule], catalogue: Catalogue) -> set[str]:
    """The instances of what is depended on that run on one agent of the fleet."""
    return (_sources(rules.get(wanted)) if wanted in rules else {wanted}) & catalogue.owned


def without_cycles(drafts: Iterable[tuple[Draft, str]], rules: Iterable[Rule]) -> list[Rule]:
    """Rules that depend on each other would mute each other for ever: they stay in force without that."""
    rules = list(rules)
    after = {rule.name: rule.config.depends_on for rule in rules}
    places = {draft.config.name: draft for draft, _ in drafts}
    return [_without_cycle(rule, places[rule.name], after) for rule in rules]


def _without_cycle(rule: Rule, draft: Draft, after: dict[str, tuple[str, ...]]) -> Rule:
    ways = {one: way for one in rule.config.depends_on if (way := _way(one, rule.name, after))}
    if not ways:
        return rule
    way = next(iter(ways.values()))
    message = "a rule cannot depend on itself"
    if len(way) > 1:
        message += f": {rule.name} depends on {', which depends on '.join(way)}"
    draft.document.report.error(draft.line("depends_on"), (*draft.path, "depends_on"), message)
    wanted = tuple(one for one in rule.config.depends_on if one not in ways)
    return replace(rule, config=rule.config.model_copy(update={"depends_on": wanted}))


def _way(start: str, end: str, after: dict[str, tuple[str, ...]]) -> list[str]:
    """From one rule along what it depends on to another; empty if none leads there."""
    ways, seen = [[start]], {start}
    for way in ways:
        if way[-1] == end:
            return way
        for one in after.get(way[-1], ()):
            if one not in seen:
                seen.add(one)
                ways.append([*way, one])
    return []
