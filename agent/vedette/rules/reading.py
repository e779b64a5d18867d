"""`alerts:` of check files and conf.d/alerts.yaml: rules, maintenance and heartbeat, or every problem with its line."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from vedette.config.explain import Section, validate
from vedette.config.problems import suggest
from vedette.config.source import Hole, Mapping, Scalar, Sequence
from vedette.rules.catalogue import in_its_units
from vedette.rules.drafts import Draft, check_dependencies, check_maintenance, without_cycles
from vedette.rules.grammar import parse
from vedette.rules.model import HeartbeatConfig, MaintenanceConfig, Rule, Rulebook, RuleConfig
from vedette.rules.scanner import ConditionError
from vedette.rules.tree import Absent, Both, Condition, Not, walk

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pydantic import BaseModel

    from vedette.config.checkfile import Document
    from vedette.config.problems import Path, Report
    from vedette.config.source import Entry
    from vedette.rules.catalogue import Catalogue, Findings
    from vedette.rules.tree import Test
    from vedette.secrets import Masker

KEYS: Final = ("alerts", "maintenance", "heartbeat")
_HELP: Final = "docs/alerts.md has the options"
_OF_WHAT: Final = ("no data of what?", "say it: no data(metric) for 10m, or no data(check/instance) for 10m")
_DECLARES: Final = "`notifiers:` of agent.yaml declares them"


def read_rules(
    documents: Iterable[tuple[Document, str]],
    catalogue: Catalogue,
    masker: Masker,
    notifiers: Collection[str] | None = None,
) -> Rulebook:
    """What is to be alerted on; what is wrong goes to the reports of the files, and a rule with an error is left out.

    Args:
        documents: parsed files, each with the check that it is for; empty for alerts.yaml.
        catalogue: what the instances can emit.
        masker: knows the secrets.
        notifiers: what a rule may name; None where that is not known.
    """
    drafts: list[tuple[Draft, str]] = []
    maintenance: list[MaintenanceConfig] = []
    spared: list[tuple[Document, MaintenanceConfig, Mapping, Path]] = []
    heartbeat: HeartbeatConfig | None = None
    for document, check in documents:
        root = document.root
        if not check:
            _top_level(document)
        if not isinstance(root, Mapping):
            continue
        drafts += [(draft, check) for draft in _drafts(document, root, check, masker)]
        if not check:
            windows = _options(MaintenanceConfig, "maintenance", document, root, masker)
            maintenance += [one for one, _, _ in windows]
            spared += [(document, *one) for one in windows]
            heartbeat = _heartbeat(document, root, masker, notifiers) or heartbeat
    rules = [_looked_up(draft, check, catalogue) for draft, check in _once(drafts)]
    good = [rule for rule in rules if rule is not None]
    check_dependencies(drafts, good, catalogue)
    good = without_cycles(drafts, good)
    check_maintenance(spared, {draft.config.name for draft, _ in drafts})
    if notifiers is not None:
        _check_addressees(drafts, notifiers)
    return Rulebook(tuple(good), tuple(maintenance), heartbeat, complete=catalogue.complete)


def _check_addressees(drafts: Iterable[tuple[Draft, str]], notifiers: Collection[str]) -> None:
    """A rule that names nobody who is there stays in force: the log and the status tell of it."""
    for draft, _ in drafts:
        for name in draft.config.notify:
            if name not in notifiers:
                hint = suggest(name, notifiers) or _DECLARES
                path = (*draft.path, "notify")
                draft.document.report.error(draft.line("notify"), path, f"no notifier is called {name}", hint)


def _top_level(document: Document) -> None:
    root, report = document.root, document.report
    if isinstance(root, Scalar) and root.value is None:
        return
    if not isinstance(root, Mapping):
        report.error(root.line, (), "must be a mapping with `alerts:`")
        return
    for key, entry in root.entries.items():
        if key not in KEYS:
            hint = suggest(key, KEYS) or f"alerts.yaml has {', '.join(KEYS)}"
            report.error(entry.line, (key,), "unknown key", hint)


def _items(key: str, root: Mapping, report: Report) -> Iterator[tuple[Mapping, Path]]:
    entry = root.entries.get(key)
    if entry is None or _is_nothing(entry) or isinstance(entry.node, Hole):
        return
    if not isinstance(entry.node, Sequence):
        report.error(entry.line, (key,), "must be a list", "begin each entry with '- name: '")
        return
    for index, item in enumerate(entry.node.items):
        if isinstance(item, Mapping):
            yield item, (key, index)
        elif not isinstance(item, Hole):
            report.error(item.line, (key, index), "must be a mapping of options", "begin it with '- name: '")


def _is_nothing(entry: Entry) -> bool:
    return isinstance(entry.node, Scalar) and entry.node.value is None


def _options(
    model: type[BaseModel], key: str, document: Document, root: Mapping, masker: Masker
) -> list[tuple[Any, Mapping, Path]]:
    report = document.report
    items = _items(key, root, report)
    made = [
        (validate(Section(model, item, path, item.line, help=_HELP), report, masker), item, path)
        for item, path in items
    ]
    return [one for one in made if one[0] is not None]


def _heartbeat(
    document: Document, root: Mapping, masker: Masker, notifiers: Collection[str] | None
) -> HeartbeatConfig | None:
    entry = root.entries.get("heartbeat")
    if entry is None or _is_nothing(entry) or isinstance(entry.node, Hole):
        return None
    if not isinstance(entry.node, Mapping):
        hint = "such as {url: https://…, every: 1m}"
        document.report.error(entry.line, ("heartbeat",), "must be a mapping of options", hint)
        return None
    section = Section(HeartbeatConfig, entry.node, ("heartbeat",), entry.line, help=_HELP)
    made: HeartbeatConfig | None = validate(section, document.report, masker)
    if made is not None and made.url:
        masker.add(made.url.reveal())
    if made is not None and made.notifier and notifiers is not None and made.notifier not in notifiers:
        line = entry.node.entries["notifier"].line
        hint = suggest(made.notifier, notifiers) or _DECLARES
        document.report.error(line, ("heartbeat", "notifier"), f"no notifier is called {made.notifier}", hint)
    return made


def _drafts(document: Document, root: Mapping, check: str, masker: Masker) -> Iterator[Draft]:
    for item, path in _items("alerts", root, document.report):
        config = validate(Section(RuleConfig, item, path, item.line, help=_HELP), document.report, masker)
        if config is None:
            continue
        when = _parsed(config.when, "when", item, path, document.report)
        if when is None:
            continue
        when = _about(when, check)
        if _is_bare(when):
            document.report.error(item.entries["when"].line, (*path, "when"), *_OF_WHAT)
            continue
        yield Draft(document, item, path, config, when)


def _parsed(text: str, key: str, item: Mapping, path: Path, report: Report) -> Condition | None:
    try:
        return parse(text)
    except ConditionError as error:
        report.error(item.entries[key].line, (*path, key), error.message, error.hint)
        return None


def _is_bare(condition: Condition) -> bool:
    """Whether it has an absence that does not say of what."""
    return any(isinstance(node, Absent) and node.target is None for node in walk(condition.test))


def _about(when: Condition, check: str) -> Condition:
    """In a check's file `no data for 10m` is about each of its instances."""
    if not check or not _is_bare(when):
        return when
    return Condition(_named(when.test, f"{check}/*"), when.by or ("instance",))


def _named(test: Test, target: str) -> Test:
    match test:
        case Absent(target=None):
            return Absent(target, test.seconds)
        case Not():
            return Not(_named(test.test, target))
        case Both():
            return Both(test.word, tuple(_named(one, target) for one in test.tests))
        case _:
            return test


def _once(drafts: Iterable[tuple[Draft, str]]) -> Iterator[tuple[Draft, str]]:
    first: dict[str, Draft] = {}
    for draft, check in drafts:
        earlier = first.setdefault(draft.config.name, draft)
        if earlier is draft:
            yield draft, check
        else:
            message = f"the same name as the rule at {earlier.place}"
            draft.document.report.error(draft.line("name"), (*draft.path, "name"), message)


def _looked_up(draft: Draft, check: str, catalogue: Catalogue) -> Rule | None:
    config, report = draft.config, draft.document.report
    keep = None
    if config.keep_seconds is None:
        keep = _kept(draft, check)
        if keep is None:
            return None
    found = catalogue.look_up(draft.when)
    _report(draft, "when", found)
    sound = not found.errors
    if keep is not None:
        more = catalogue.look_up(keep)
        _report(draft, "keep", more)
        sound = sound and not more.errors
        found.sources.update(more.sources)
        found.kinds.update(more.kinds)
    if not sound:
        return None
    rule = Rule(
        config,
        draft.when,
        written=str(draft.when),
        sources=found.sources,
        kinds=found.kinds,
        check=check,
        file=draft.document.found.shown,
        line=draft.item.line,
    )
    _warn_of_spread(draft, rule)
    try:
        return replace(
            rule,
            when=in_its_units(draft.when, found.kinds),
            keep=in_its_units(keep, found.kinds) if keep is not None else None,
        )
    except ConditionError as error:
        hint = error.hint if catalogue.complete else f"{error.hint}; where a file with an error declares it mend that"
        report.error(draft.line("when"), (*draft.path, "when"), error.message, hint)
        return None


def _kept(draft: Draft, check: str) -> Condition | None:
    """The condition of `keep:`, which looks at the same groups as that of `when:`."""
    report, line, path = draft.document.report, draft.line("keep"), (*draft.path, "keep")
    keep = _parsed(str(draft.config.keep), "keep", draft.item, draft.path, report)
    if keep is None:
        return None
    if keep.by:
        report.error(line, path, "takes no `by`", "it is grouped as `when` is")
        return None
    keep = Condition(_named(keep.test, f"{check}/*") if check else keep.test, draft.when.by)
    if _is_bare(keep):
        report.error(line, path, *_OF_WHAT)
        return None
    return keep


def _report(draft: Draft, key: str, found: Findings) -> None:
    line, path = draft.line(key), (*draft.path, key)
    for message, hint in dict.fromkeys(found.errors):
        draft.document.report.error(line, path, message, hint)
    for message, hint in dict.fromkeys(found.warnings):
        draft.document.report.warning(line, path, message, hint)


def _warn_of_spread(draft: Draft, rule: Rule) -> None:
    """Say so where what a rule looks at may be on several agents of the fleet: none of them sees all of it."""
    owned = {one.instance for some in rule.sources.values() for one in some if one.owned}
    if len(owned) > 1 and "instance" not in rule.when.by:
        message = "its instances may run on different agents of the fleet, and each sees only its own"
        draft.document.report.warning(draft.line("when"), (*draft.path, "when"), message, "group it: `by (instance)`")
