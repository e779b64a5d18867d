"""Floor 2: one check's file: its instances with `defaults` merged in, their names, their validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vedette.config.explain import Section, validate
from vedette.config.model import Instance
from vedette.config.problems import one_line, show_path, suggest
from vedette.config.source import Entry, Hole, Mapping, Node, Scalar, Sequence, plain
from vedette.config.strangers import HINT, foreign_check, foreign_key
from vedette.config.values import harvest, lend, localize
from vedette.errors import VedetteError

if TYPE_CHECKING:
    from collections.abc import Collection

    from vedette.check import Check, CheckConfig, Listener
    from vedette.config.files import Found
    from vedette.config.problems import Path, Report
    from vedette.plugins import Group, Registry
    from vedette.secrets import Masker

KEYS: Final = ("check", "defaults", "instances", "alerts")
_KINDS: Final = {
    "checks": ("check", "checks"),
    "discoveries": ("discovery", "discoveries"),
    "notifiers": ("notifier", "notifiers"),
    "engines": ("engine", "engines"),
}
_NO_INSTANCES: Final = "a check that needs no options runs with `instances: [{}]`"


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed YAML file and where its problems go."""

    found: Found
    root: Node
    report: Report


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance before its validation.

    Attributes:
        document: its file.
        check: the check's name.
        plugin: the check's class.
        index: its position in `instances`.
        name: given, or made from the file's name.
        given: whether the file names it.
        own: its options as written, with `defaults` merged in and `name` filled.
        line: where it stands.
        match: its `match:`, which makes it a template.
        within: where the list stands that it is in.
    """

    document: Document
    check: str
    plugin: type[Check[Any]] | type[Listener[Any]]
    index: int
    name: str
    given: bool
    own: Mapping
    line: int
    match: Entry | None = None
    within: Path = ("instances",)

    @property
    def path(self) -> Path:
        """Where it stands in its document."""
        return (*self.within, self.index)

    @property
    def place(self) -> str:
        """File and line for people."""
        return f"{self.document.found.shown}:{self.line}"


@dataclass(frozen=True, slots=True)
class Manner:
    """How instances are made of candidates.

    Attributes:
        fleet: whether the agent belongs to a fleet, where an instance may run on one agent only.
        thorough: ask each check's `examine` too, which may cost time and memory.
        variables: those of the configured discoveries, for templates; None if they are not known.
    """

    fleet: bool
    thorough: bool = False
    variables: Collection[str] | None = None


def check_name(document: Document) -> str | None:
    """The check that a file is for: `check:`, else its folder, else its stem; None if `check:` is no word."""
    if isinstance(document.root, Mapping) and "check" in document.root.entries:
        node = document.root.entries["check"].node
        return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else None
    return document.found.folder or document.found.stem


def candidates(document: Document, registry: Registry) -> list[Candidate]:
    """The instances of a file that are worth validating; everything else goes to the file's report."""
    root, report = document.root, document.report
    if isinstance(root, Scalar) and root.value is None and not root.quoted:
        report.error(0, (), "is empty", _NO_INSTANCES)
        return []
    if not isinstance(root, Mapping):
        report.error(root.line, (), "must be a mapping with `instances:`")
        return []
    if (key := foreign_key(root)) is not None:  # what else there is to say of it would only lead astray
        report.error(root.entries[key].line, (key,), "unknown key", HINT)
        return []
    plugin, name = _plugin(document, root, registry)
    _top_level(root, plugin, report)
    defaults = _defaults(root, report)
    items = _items(root, report)
    if plugin is None or name is None:
        return []
    several = len(items) > 1
    made = (_candidate(document, name, plugin, i, item, defaults, several) for i, item in enumerate(items))
    return [candidate for candidate in made if candidate is not None]


def _plugin(document: Document, root: Mapping, registry: Registry) -> tuple[Any, str | None]:
    name = check_name(document)
    line = root.entries["check"].line if "check" in root.entries else 0
    path: Path = ("check",) if line else ()
    if name is None:
        if not isinstance(root.entries["check"].node, Hole):
            document.report.error(line, path, "must be the name of a check")
        return None, None
    return load_plugin("checks", name, registry, document.report, line, path), name


def load_plugin(group: Group, name: str, registry: Registry, report: Report, line: int, path: Path) -> Any:
    """The class behind a name, or None after reporting why there is none; never repeats an unknown name."""
    kind, kinds = _KINDS.get(group, ("sink", "sinks"))
    try:
        plugin = registry.load(group, name)
    except KeyError:
        what = f"unknown {kind}" if path else f"the file's name is no known {kind}"
        install = f"`vedette plugins` lists the installed {kinds}, pip install brings more"
        report.error(line, path, what, foreign_check(name) or suggest(name, registry.names(group)) or install)
    except VedetteError as error:
        report.error(line, path, one_line(str(error)))
    except Exception as error:
        report.error(line, path, f"this {kind} cannot be loaded ({type(error).__name__})")
    else:
        if remark := registry.passed_over(group, name):
            report.warning_once(line, path, remark)
        return plugin
    return None


def _top_level(root: Mapping, plugin: Any, report: Report) -> None:
    for key, entry in root.entries.items():
        if key in KEYS:
            continue
        if plugin is not None and key in plugin.config_class.model_fields:
            hint = "an instance's options go under `instances:`"
        else:
            hint = suggest(key, KEYS) or f"a check's file has {', '.join(KEYS)}"
        report.error(entry.line, (key,), "unknown key", hint)


def _defaults(root: Mapping, report: Report) -> Mapping:
    entry = root.entries.get("defaults")
    if entry is None or (isinstance(entry.node, Scalar) and entry.node.value is None):
        return Mapping({}, 0)
    if not isinstance(entry.node, Mapping):
        if not isinstance(entry.node, Hole):
            report.error(entry.line, ("defaults",), "must be a mapping of options")
        return Mapping({}, 0)
    if "name" in entry.node.entries:
        report.error(entry.node.entries["name"].line, ("defaults", "name"), "a name belongs to one instance")
        return Mapping({k: e for k, e in entry.node.entries.items() if k != "name"}, entry.node.line)
    return entry.node


def _items(root: Mapping, report: Report) -> tuple[Node, ...]:
    entry = root.entries.get("instances")
    if entry is None:
        if set(root.entries) <= set(KEYS):  # else the unknown key is most likely the reason
            report.error(0, (), "has no `instances:`", _NO_INSTANCES)
    elif isinstance(entry.node, Sequence):
        if not entry.node.items:
            report.warning(entry.line, ("instances",), "is an empty list: nothing runs")
        return entry.node.items
    elif isinstance(entry.node, Mapping):
        report.error(entry.line, ("instances",), "must be a list", "begin each instance with '- '")
    elif isinstance(entry.node, Scalar) and entry.node.value is None:
        report.error(entry.line, ("instances",), "is empty", _NO_INSTANCES)
    elif isinstance(entry.node, Scalar):
        report.error(entry.line, ("instances",), "must be a list of instances")
    return ()


def _candidate(
    document: Document, check: str, plugin: Any, index: int, item: Node, defaults: Mapping, several: bool
) -> Candidate | None:
    report, path = document.report, ("instances", index)
    if isinstance(item, Hole):
        return None
    if isinstance(item, Scalar) and item.value is None:
        report.error(item.line, path, "is empty", "write {} for an instance without options of its own")
        return None
    if not isinstance(item, Mapping):
        colon = isinstance(item, Scalar) and ":" in str(item.value)
        report.error(item.line, path, "must be a mapping of options", "put a space after ':'" if colon else "")
        return None
    entry = item.entries.get("name")
    given = entry is not None and not (isinstance(entry.node, Scalar) and entry.node.value in (None, ""))
    if not given and several and plugin.keeps_state:
        report.error(item.line, path, "needs a `name:`, since this check keeps state for each instance")
        return None
    own = merge(defaults, item)
    match = _match(own, plugin)
    name = _default_name("" if match is not None else document.found.stem, index)
    if given and entry is not None:
        value = plain(entry.node)
        if isinstance(value, str):
            name = value
        if isinstance(value, str) and not value.isprintable():
            report.error(entry.line, (*path, "name"), "must be one line of printable characters")
            return None
    if not given and not name.isprintable():
        report.error(item.line, path, "needs a `name:`, since the file's own has characters that cannot be shown")
        return None
    if not given:
        own.entries["name"] = Entry(Scalar(name, item.line, quoted=True), item.line)
    return Candidate(document, check, plugin, index, name, given, own, item.line, match)


def _match(own: Mapping, plugin: Any) -> Entry | None:
    """What makes the instance a template; taken out of its options."""
    if "match" in plugin.config_class.model_fields:
        return None
    entry = own.entries.pop("match", None)
    return None if entry is None or (isinstance(entry.node, Scalar) and entry.node.value is None) else entry


def _default_name(stem: str, index: int) -> str:
    return stem if index == 0 else f"{stem}-{index + 1}".removeprefix("-")


def merge(defaults: Mapping, own: Mapping, *, top: bool = True) -> Mapping:
    """An instance's options with those of `defaults` under them.

    An option of the instance replaces the default, lists such as `tags` too; where both are mappings
    (`metrics:`), they merge key by key. `schedule` and `interval` exclude each other, so either one of the
    instance also displaces the other one's default.
    """
    entries = dict(own.entries)
    for key, entry in defaults.entries.items():
        mine = own.entries.get(key)
        if mine is None:
            other = {"interval": "schedule", "schedule": "interval"}.get(key) if top else None
            if other is None or other not in own.entries:
                entries[key] = Entry(entry.node, entry.line, inherited=True)
        elif isinstance(mine.node, Mapping) and isinstance(entry.node, Mapping):
            entries[key] = Entry(merge(entry.node, mine.node, top=False), mine.line)
    return Mapping(entries, own.line)


def report_twins(found: list[Candidate]) -> None:
    """Report every candidate whose name an earlier one of the same check has."""
    first: dict[tuple[str, str, bool], Candidate] = {}
    for candidate in found:
        if isinstance(candidate.own.entries["name"].node, Hole):
            continue
        earlier = first.setdefault((candidate.check, candidate.name, candidate.match is None), candidate)
        if earlier is not candidate:
            _report_twin(candidate, earlier)


def _report_twin(candidate: Candidate, earlier: Candidate) -> None:
    path: Path = ("instances", candidate.index)
    report = candidate.document.report
    if candidate.given:
        line = candidate.own.entries["name"].line
        report.error(line, (*path, "name"), f"the same name as {_where(earlier, candidate)}")
    else:
        report.error(candidate.line, path, f"has the same name as {_where(earlier, candidate)}", "give it a `name:`")


def _where(earlier: Candidate, candidate: Candidate) -> str:
    if earlier.document is candidate.document:
        return f"{show_path(('instances', earlier.index))} on line {earlier.line}"
    return f"the instance at {earlier.place}"


def build(candidate: Candidate, masker: Masker, manner: Manner) -> Instance | None:
    """The validated instance, or None after reporting why there is none; the masker learns its secrets."""
    report, path = candidate.document.report, candidate.path
    section = Section(
        candidate.plugin.config_class,
        candidate.own,
        path,
        candidate.line,
        help=f"`vedette example {candidate.check}` shows the options",
    )
    config = validate(section, report, masker)
    if config is None or not _can_be_placed(candidate, config, fleet=manner.fleet):
        return None
    config = localize(config, candidate.document.found.path.parent)
    harvest(config, masker.add)
    lend(config, masker)
    if not _ask_plugin(candidate, config, masker) or (manner.thorough and not _examine(candidate, config, masker)):
        return None
    return Instance(
        id=f"{candidate.check}/{candidate.name}",
        check=candidate.check,
        plugin=candidate.plugin,
        config=config,
        file=candidate.document.found.shown,
        line=candidate.line,
        content=plain(candidate.own),
        run_on=config.run_on if manner.fleet else "every_node",
    )


def _can_be_placed(candidate: Candidate, config: CheckConfig, *, fleet: bool) -> bool:
    """Whether the instance can run where it asks to: on one agent of a fleet only if there is a fleet.

    One whose check merely implies it runs on every agent meanwhile, as long as there is one agent only.
    """
    if config.run_on == "every_node" or fleet:
        return True
    report, entry = candidate.document.report, candidate.own.entries.get("run_on")
    if "run_on" not in config.model_fields_set:
        report.warning(candidate.line, candidate.path, _ON_EACH, _ON_PURPOSE)
        return True
    line, inherited = (entry.line, entry.inherited) if entry else (candidate.line, False)
    path: Path = ("defaults", "run_on") if inherited else (*candidate.path, "run_on")
    report.error(line, path, "needs `fleet:` in agent.yaml", _WITHOUT_FLEET)
    return False


_ON_EACH: Final = "every agent that has this file runs it, and sends the same series, since agent.yaml has no `fleet:`"
_ON_PURPOSE: Final = "`run_on: every_node` says that it is meant so"
_WITHOUT_FLEET: Final = "docs/fleet.md shows how; without it, `run_on: every_node` has each agent run it"


def _ask_plugin(candidate: Candidate, config: Any, masker: Masker) -> bool:
    """Run the plugin's `lint` and `declare`, which must not fail for a valid configuration."""
    report, path, line = candidate.document.report, candidate.path, candidate.line
    try:
        for text in candidate.plugin.lint(config):
            report.warning(line, path, one_line(masker(str(text))))
    except Exception as error:
        report.warning(line, path, f"the check's own `lint` failed ({type(error).__name__})")
    try:
        list(candidate.plugin.declare(config))
    except Exception as error:
        report.error(line, path, f"the check's own `declare` failed ({type(error).__name__})")
        return False
    return True


def _examine(candidate: Candidate, config: Any, masker: Masker) -> bool:
    """Report what the plugin's `examine` finds; False if an error is among it."""
    report, sound = candidate.document.report, True
    try:
        for remark in candidate.plugin.examine(config):
            line, path = _place(candidate, remark.path)
            say = report.error if remark.severity == "error" else report.warning
            say(line, path, one_line(masker(remark.message)), one_line(masker(remark.hint)))
            sound = sound and remark.severity != "error"
    except Exception as error:
        message = f"the check's own `examine` failed ({type(error).__name__})"
        report.warning(candidate.line, candidate.path, message)
    return sound


def _place(candidate: Candidate, path: Path) -> tuple[int, Path]:
    """Path and line of an option; one that the file leaves out has the line of what it would stand in."""
    node: Node = candidate.own
    line, inherited = candidate.line, False
    for part in path:
        if isinstance(node, Mapping) and part in node.entries:
            entry = node.entries[str(part)]
            node, line, inherited = entry.node, entry.line, inherited or entry.inherited
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            line = node.line
        else:
            break
    start: Path = ("defaults",) if inherited else candidate.path
    return line, (*start, *path)
