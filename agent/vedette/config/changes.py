"""Floor 2: what differs between two configurations, instance by instance, and what of the old one stays in force."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from vedette.check import CheckConfig
from vedette.errors import Problem
from vedette.secrets import Secret
from vedette.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import BaseModel

    from vedette.config.model import Configuration, Instance
    from vedette.config.template import Template
    from vedette.rules.model import Rule, Rulebook
    from vedette.secrets import Masker

_OWN_CLOCK: Final = ("interval", "schedule", "timezone", "timeout")
"""Options that say nothing of the target: its series go on where only these differ."""
_LONGEST: Final = 40


@dataclass(frozen=True, slots=True)
class Change:
    """One instance or sink that is configured differently.

    Attributes:
        name: instance id, `sink <name>`, `discovery <name>`, `fleet` or `agent.yaml`.
        what: the options that differ, such as `interval 30s → 15s`; names only where a value may be secret.
        same_series: whether its series go on as before.
    """

    name: str
    what: tuple[str, ...] = ()
    same_series: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload did, or would do.

    Attributes:
        added: ids of new instances.
        changed: instances that start anew because something of theirs differs.
        removed: ids of instances that end.
        same: how many instances are left alone.
        agent: what differs in agent.yaml, sinks and discoveries included.
        problems: everything that is wrong in the configuration now, warnings included.
    """

    added: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()
    removed: tuple[str, ...] = ()
    same: int = 0
    agent: tuple[Change, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.added or self.changed or self.removed or self.agent)

    def __str__(self) -> str:
        """`+1 ~1 (interval 30s → 15s) -0 =12`."""
        what = "; ".join(dict.fromkeys(text for change in self.changed for text in change.what))
        detail = f" ({what})" if what else ""
        return f"+{len(self.added)} ~{len(self.changed)}{detail} -{len(self.removed)} ={self.same}"


def compare(old: Configuration, new: Configuration) -> Changes:
    """What a running `old` has to do to become `new`. An instance is its content: moving it to another line is none."""
    before = {instance.id: instance for instance in old.instances}
    after = {instance.id: instance for instance in new.instances}
    changed = [
        _change(before[name], instance, new.masker)
        for name, instance in after.items()
        if name in before and not _equal(before[name], instance)
    ]
    return Changes(
        added=tuple(name for name in after if name not in before),
        changed=tuple(changed),
        removed=tuple(name for name in before if name not in after),
        same=sum(name in before for name in after) - len(changed),
        agent=_agent_changes(old, new),
        problems=new.problems,
    )


def in_force(old: Configuration, new: Configuration) -> Configuration:
    """The new configuration, with the last good instances of every file that has an error now.

    While a file has an error, nothing of it changes; a file that was not there before gives its good instances, as
    at a start. A broken agent.yaml keeps the old options and sinks. Where the folder itself cannot be read
    everything stays.
    """
    broken = {problem.file for problem in new.problems if problem.severity == "error"}
    if new.fatal and not new.instances and str(new.directory) in broken:
        return replace(old, problems=new.problems)
    files = {*(one.file for one in old.instances), *(one.file for one in old.templates)}
    staying = {file for file in files if _is_broken(file, broken)}
    taken = {instance.id for instance in new.instances if instance.file not in staying}
    kept = [one for one in old.instances if one.file in staying and one.id not in taken]
    waiting = [one for one in old.templates if one.file in staying]
    instances = [one for one in new.instances if one.file not in staying] + kept
    templates = [one for one in new.templates if one.file not in staying] + waiting
    problems = [*new.problems, *_notes(kept, waiting)]
    return replace(
        new,
        agent=old.agent if new.fatal else new.agent,
        sinks=old.sinks if new.fatal else new.sinks,
        discoveries=old.discoveries if new.fatal else new.discoveries,
        fleet=old.fleet if new.fatal else new.fleet,
        notifiers=old.notifiers if new.fatal else new.notifiers,
        rulebook=_rulebook(old, new, staying, broken, {one.id for one in kept}),
        instances=tuple(sorted(instances, key=lambda one: (one.file, one.line))),
        templates=tuple(sorted(templates, key=lambda one: (one.file, one.line))),
        problems=tuple(sorted(problems, key=lambda problem: (problem.file, problem.line))),
        fatal=False,
    )


def _rulebook(
    old: Configuration, new: Configuration, staying: set[str], broken: set[str], going_on: set[str]
) -> Rulebook | None:
    """The new rules, with the last good ones of files that have an error now."""
    before, after = old.rulebook, new.rulebook
    if before is None or after is None:
        return after if before is None or not broken else before
    files = {rule.file for rule in before.rules}
    kept = [rule for rule in before.rules if rule.file in staying or _is_broken(rule.file, broken)]
    names = {rule.name for rule in kept}
    mine = [rule for rule in after.rules if rule.name not in names and not (rule.file in files and rule.file in broken)]
    if going_on:
        known = {rule.name: rule for rule in before.rules}
        mine = [_knowing(rule, known.get(rule.name), going_on) for rule in mine]
    whole = not any(file.rpartition("/")[2].startswith("alerts.") for file in broken)
    return replace(after if whole else before, rules=(*kept, *mine))


def _knowing(rule: Rule, before: Rule | None, going_on: set[str]) -> Rule:
    """The rule with what it knew of instances that go on although their file has an error: they were not asked now."""
    if before is None or (before.config.when, before.config.keep) != (rule.config.when, rule.config.keep):
        return rule
    sources = {
        text: tuple(dict.fromkeys((*some, *(one for one in before.sources.get(text, ()) if one.instance in going_on))))
        for text, some in rule.sources.items()
    }
    if before.kinds.keys() <= rule.kinds.keys():
        return replace(rule, sources=sources)
    kinds = {**rule.kinds, **before.kinds}
    return replace(rule, sources=sources, kinds=kinds, when=before.when, keep=before.keep)


def _is_broken(file: str, broken: set[str]) -> bool:
    return file in broken or file.rpartition("/")[0] in broken  # or its folder cannot be listed


def _notes(kept: Iterable[Instance], waiting: Iterable[Template]) -> list[Problem]:
    """What to say of files whose last good instances and templates go on."""
    names: dict[str, list[str]] = {}
    for instance in kept:
        names.setdefault(instance.file, []).append(instance.id)
    for template in waiting:
        names.setdefault(template.file, []).append(f"the template on line {template.line}")
    return [
        Problem(file, 0, "", f"goes on as it was before the error: {_some(ids)}", "", "warning")
        for file, ids in names.items()
    ]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _equal(one: Instance, other: Instance) -> bool:
    same = one.plugin is other.plugin and one.run_on == other.run_on
    return same and one.content == other.content and one.config == other.config


def _change(old: Instance, new: Instance, masker: Masker) -> Change:
    names = [name for name in {**old.content, **new.content} if old.content.get(name) != new.content.get(name)]
    what = [_option(name, old.content, new.content, new.config, masker) for name in names]
    if not what:
        what = [_beside_its_options(old, new)]
    clock_only = bool(names) and set(names) <= set(_OWN_CLOCK)
    return Change(new.id, tuple(what), same_series=clock_only)


def _beside_its_options(old: Instance, new: Instance) -> str:
    if old.run_on != new.run_on:
        return f"runs on {old.run_on} → {new.run_on}"
    return "the check itself" if old.plugin is not new.plugin else "its folder"


def _option(name: str, old: dict[str, Any], new: dict[str, Any], model: BaseModel, masker: Masker) -> str:
    """`interval 30s → 15s`; only the name where a value is long, nested or may be secret."""
    values = [_shown(name, side.get(name), model, masker) if name in side else "default" for side in (old, new)]
    if any(value is None for value in values):
        return name
    return f"{name} {values[0]} → {values[1]}"


def _shown(name: str, value: Any, model: BaseModel, masker: Masker) -> str | None:
    if isinstance(getattr(model, name, None), Secret) or not isinstance(value, str | int | float | bool):
        return None
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if name in CheckConfig.model_fields and name in ("interval", "timeout") and isinstance(value, int | float):
        text = format_duration(value)
    if len(text) > _LONGEST or not text.isprintable() or masker(text) != text or "://" in text:
        return None
    return text


def _agent_changes(old: Configuration, new: Configuration) -> tuple[Change, ...]:
    made: list[Change] = []
    fields = type(new.agent).model_fields
    differing = [name for name in fields if getattr(old.agent, name) != getattr(new.agent, name)]
    if differing:
        made.append(Change("agent.yaml", tuple(differing)))
    made += _plugin_changes("sink", old.sinks, new.sinks)
    made += _plugin_changes("discovery", old.discoveries, new.discoveries)
    made += _plugin_changes("notifier", old.notifiers, new.notifiers)
    if old.fleet != new.fleet:
        made.append(Change("fleet", ("added" if old.fleet is None else "removed" if new.fleet is None else "changed",)))
    made += _rule_changes(old.rulebook, new.rulebook)
    return tuple(made)


def _rule_changes(old: Rulebook | None, new: Rulebook | None) -> Iterator[Change]:
    before = {rule.name: rule for rule in old.rules} if old is not None else {}
    after = {rule.name: rule for rule in new.rules} if new is not None else {}
    for name in {**before, **after}:
        if name not in after or name not in before:
            yield Change(f"rule {name}", ("removed" if name not in after else "added",))
        elif before[name] != after[name]:
            yield Change(f"rule {name}", ("changed",))
    parts = [(book.maintenance, book.heartbeat) if book is not None else ((), None) for book in (old, new)]
    if parts[0] != parts[1]:
        yield Change("alerts.yaml", ("maintenance or heartbeat",))


def _plugin_changes(word: str, old: Iterable[tuple[Any, Any]], new: Iterable[tuple[Any, Any]]) -> Iterator[Change]:
    before = {config.name: (plugin, config) for plugin, config in old}
    after = {config.name: (plugin, config) for plugin, config in new}
    for name in {**before, **after}:
        if name not in after:
            yield Change(f"{word} {name}", ("removed",))
        elif name not in before:
            yield Change(f"{word} {name}", ("added",))
        elif before[name] != after[name]:
            yield Change(f"{word} {name}", ("changed",))
