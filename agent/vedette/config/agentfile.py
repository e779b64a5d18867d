"""Floor 2: agent.yaml: the agent's own options, its sinks, its discoveries and its fleet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vedette.config.checkfile import load_plugin
from vedette.config.explain import Section, validate
from vedette.config.model import AgentConfig
from vedette.config.source import Entry, Hole, Mapping, Node, Scalar, Sequence
from vedette.config.untrusted import is_open
from vedette.config.values import absolute, harvest, lend, localize

if TYPE_CHECKING:
    from vedette.config.checkfile import Document
    from vedette.config.problems import Path as Path_
    from vedette.config.problems import Report
    from vedette.discovery import Discovery, DiscoveryConfig
    from vedette.engine import Engine, EngineConfig
    from vedette.notifier import Notifier, NotifierConfig
    from vedette.plugins import Group, Registry
    from vedette.secrets import Masker
    from vedette.sink import Sink, SinkConfig

Sinks = tuple[tuple["type[Sink[Any]]", "SinkConfig"], ...]
Discoveries = tuple[tuple["type[Discovery[Any]]", "DiscoveryConfig"], ...]
Notifiers = tuple[tuple["type[Notifier[Any]]", "NotifierConfig"], ...]
ConfiguredEngine = tuple["type[Engine[Any]]", "EngineConfig"]
DEFAULT_SINK: Final = "console"


class AgentFile(NamedTuple):
    """What stands in agent.yaml.

    Attributes:
        options: the agent's own.
        sinks: sink classes with their options.
        discoveries: likewise.
        fleet: the coordination engine with its options; None without a fleet, where it is broken or not asked for.
        has_fleet: whether there is a `fleet:`, valid or not.
        notifiers: notifier classes with their options.
    """

    options: AgentConfig
    sinks: Sinks = ()
    discoveries: Discoveries = ()
    fleet: ConfiguredEngine | None = None
    has_fleet: bool = False
    notifiers: Notifiers = ()


@dataclass(frozen=True, slots=True)
class _List:
    """A list of plugins with their options.

    Attributes:
        key: its key in agent.yaml.
        group: where the plugins are registered.
        word: what one of them is called.
        example: a type.
    """

    key: str
    group: Group
    word: str
    example: str


_SINKS: Final = _List("sinks", "sinks", "sink", "console")
_DISCOVERIES: Final = _List("autodiscovery", "discoveries", "discovery", "k8s")
_NOTIFIERS: Final = _List("notifiers", "notifiers", "notifier", "slack")
_FLEET: Final = "fleet"
_PLUGINS: Final = (_SINKS.key, _DISCOVERIES.key, _FLEET, _NOTIFIERS.key)
"""Keys whose options belong to plugins."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What reading plugins' options takes: where paths start; who knows the plugins, gets the problems, the secrets."""

    base: Path | None
    registry: Registry
    report: Report
    masker: Masker


def read_agent(
    document: Document | None, report: Report, registry: Registry, masker: Masker, *, sinks: bool
) -> AgentFile:
    """The agent's options and its plugins'; a missing or empty agent.yaml means the defaults and one console.

    Args:
        document: agent.yaml, if there is one.
        report: gets the problems.
        registry: knows the plugins.
        masker: learns the secrets.
        sinks: False leaves the plugins alone: a one-shot run of a check imports none.
    """
    root = Mapping({}, 1)
    if document is not None:
        if isinstance(document.root, Mapping):
            root = document.root
        elif not (isinstance(document.root, Scalar) and document.root.value is None):
            report.error(document.root.line, (), "must be a mapping of options")
    own = Mapping({key: entry for key, entry in root.entries.items() if key not in _PLUGINS}, root.line)
    config = validate(Section(AgentConfig, own, (), root.line, extra_names=("secrets", *_PLUGINS)), report, masker)
    config = config or AgentConfig()
    harvest(config, masker.add)
    base = document.found.path.parent if document is not None else None
    if base is not None:
        config = localize(config, base)
    if config.state_directory and base is not None:
        config = config.model_copy(update={"state_directory": str(absolute(config.state_directory, base))})
    fleet = root.entries.get(_FLEET)
    has_fleet = fleet is not None and not _is_nothing(fleet)
    if not sinks:
        return AgentFile(config, has_fleet=has_fleet)
    reading = _Reading(base, registry, report, masker)
    entry = root.entries.get(_SINKS.key)
    if entry is None or _is_nothing(entry):
        console = Mapping({"type": Entry(Scalar(DEFAULT_SINK, 0, quoted=True), 0)}, 0)
        entry = Entry(Sequence((console,), 0), 0)
    found = root.entries.get(_DISCOVERIES.key)
    discoveries = () if found is None or _is_nothing(found) else tuple(_plugins(_DISCOVERIES, found, reading))
    _check_allowed(discoveries, found, reading)
    engine = _engine(fleet, reading) if fleet is not None and has_fleet else None
    told = root.entries.get(_NOTIFIERS.key)
    notifiers = () if told is None or _is_nothing(told) else tuple(_plugins(_NOTIFIERS, told, reading))
    _check_routes(_names_in(told), root.entries.get("routes"), report)
    return AgentFile(config, tuple(_plugins(_SINKS, entry, reading)), discoveries, engine, has_fleet, notifiers)


def _names_in(entry: Entry | None) -> list[str] | None:
    """The names of all notifiers, the broken ones too; None where one cannot be known."""
    items = entry.node.items if entry is not None and isinstance(entry.node, Sequence) else ()
    names: list[str] = []
    types: dict[str, int] = {}
    for item in items:
        kind = item.entries.get("type") if isinstance(item, Mapping) else None
        if not isinstance(item, Mapping) or kind is None or not isinstance(kind.node, Scalar):
            return None
        types[str(kind.node.value)] = number = types.get(str(kind.node.value), 0) + 1
        named = _named(item, str(kind.node.value), number).entries["name"].node
        if not isinstance(named, Scalar):
            return None
        names.append(str(named.value))
    return names


def _check_routes(names: list[str] | None, entry: Entry | None, report: Report) -> None:
    """Report what stands in `notify:` of a route and is no notifier."""
    if names is None or entry is None or not isinstance(entry.node, Sequence):
        return
    for index, item in enumerate(entry.node.items):
        named = item.entries.get("name") if isinstance(item, Mapping) else None
        if named is not None and isinstance(named.node, Scalar) and named.node.value in names:
            report.error(named.line, ("routes", index, "name"), "is the name of a notifier too")
        told = item.entries.get("notify") if isinstance(item, Mapping) else None
        if told is None or not isinstance(told.node, Sequence):
            continue
        for place, node in enumerate(told.node.items):
            if isinstance(node, Scalar) and isinstance(node.value, str) and node.value not in names:
                near = get_close_matches(node.value, names, 1)
                known = f"there are: {', '.join(names)}" if names else "there are none: see `notifiers:`"
                hint = f"did you mean '{near[0]}'?" if near else known
                report.error(node.line, ("routes", index, "notify", place), "is no notifier of this file", hint)


def _engine(entry: Entry, reading: _Reading) -> ConfiguredEngine | None:
    """The coordination engine with its options, or None after reporting what is wrong."""
    node, path, report = entry.node, (_FLEET,), reading.report
    if isinstance(node, Hole):
        return None
    if not isinstance(node, Mapping):
        report.error(entry.line, path, "must be a mapping of options", "such as {backend: redis}")
        return None
    named = node.entries.get("backend")
    if named is None:
        names = ", ".join(reading.registry.names("engines"))
        report.error(entry.line, (*path, "backend"), "is required", f"there are: {names}")
        return None
    if not isinstance(named.node, Scalar) or not isinstance(named.node.value, str):
        if not isinstance(named.node, Hole):
            report.error(named.line, (*path, "backend"), "must be the name of an engine")
        return None
    return _validated("engines", named.node.value, named.line, (*path, "backend"), node, path, reading)


def without_secrets(document: Document) -> tuple[Document, Entry | None]:
    """agent.yaml without its `secrets:`, which must be read before anything else, and that entry."""
    root = document.root
    if not isinstance(root, Mapping) or "secrets" not in root.entries:
        return document, None
    own = {key: entry for key, entry in root.entries.items() if key != "secrets"}
    return replace(document, root=Mapping(own, root.line)), root.entries["secrets"]


def _is_nothing(entry: Entry) -> bool:
    return isinstance(entry.node, Scalar) and entry.node.value is None


def _plugins(listed: _List, entry: Entry, reading: _Reading) -> list[tuple[Any, Any]]:
    items: tuple[Node, ...] = ()
    if isinstance(entry.node, Sequence):
        items = entry.node.items
    elif not isinstance(entry.node, Hole):
        reading.report.error(entry.line, (listed.key,), "must be a list", f"begin each {listed.word} with '- type: '")
    made: list[tuple[Any, Any]] = []
    names: dict[str, int] = {}
    types: dict[str, int] = {}
    for index, item in enumerate(items):
        path = (listed.key, index)
        kind = _type(item, path, listed, reading.report)
        if kind is None or not isinstance(item, Mapping):
            continue
        types[kind] = types.get(kind, 0) + 1
        named = _named(item, kind, types[kind])
        if _taken(named, path, names, reading.report):
            continue
        plugin = _plugin(kind, named, path, listed, reading)
        if plugin is not None:
            made.append(plugin)
    return made


def _type(item: Node, path: tuple[str, int], listed: _List, report: Report) -> str | None:
    """The word after `type:`, or None after reporting that there is none."""
    if isinstance(item, Hole):
        return None
    if not isinstance(item, Mapping):
        report.error(item.line, path, "must be a mapping of options", f"such as {{type: {listed.example}}}")
        return None
    entry = item.entries.get("type")
    if entry is None:
        report.error(item.line, (*path, "type"), "is required", f"such as `type: {listed.example}`")
        return None
    if isinstance(entry.node, Scalar) and isinstance(entry.node.value, str):
        return entry.node.value
    if not isinstance(entry.node, Hole):
        report.error(entry.line, (*path, "type"), f"must be the name of a {listed.word}")
    return None


def _named(item: Mapping, kind: str, number: int) -> Mapping:
    """The plugin's options with its name: the type, `-n` from the second of a type on, unless given."""
    entry = item.entries.get("name")
    if entry is not None and not (isinstance(entry.node, Scalar) and entry.node.value in (None, "")):
        return item
    name = kind if number == 1 else f"{kind}-{number}"
    return replace(item, entries={**item.entries, "name": Entry(Scalar(name, item.line, quoted=True), item.line)})


def _taken(item: Mapping, path: tuple[str, int], names: dict[str, int], report: Report) -> bool:
    entry = item.entries["name"]
    if not isinstance(entry.node, Scalar) or not isinstance(entry.node.value, str):
        return False  # for the model to judge
    first = names.setdefault(entry.node.value, path[1])
    if first != path[1]:
        report.error(entry.line, (*path, "name"), f"the same name as {path[0]}[{first}]")
    return first != path[1]


def _plugin(
    kind: str, item: Mapping, path: tuple[str, int], listed: _List, reading: _Reading
) -> tuple[Any, Any] | None:
    return _validated(listed.group, kind, item.entries["type"].line, (*path, "type"), item, path, reading)


def _validated(
    group: Group, name: str, line: int, named_at: Path_, options: Mapping, path: Path_, reading: _Reading
) -> tuple[Any, Any] | None:
    """A plugin with its validated options, or None after reporting why there is none.

    Args:
        group: where it is registered.
        name: its name, which stands on this line at `named_at`.
        line: see `name`.
        named_at: see `name`.
        options: its options as written.
        path: where they stand.
        reading: what it takes.
    """
    plugin = load_plugin(group, name, reading.registry, reading.report, line, named_at)
    if plugin is None:
        return None
    config = validate(Section(plugin.config_class, options, path, options.line), reading.report, reading.masker)
    if config is None:
        return None
    harvest(config, reading.masker.add)
    lend(config, reading.masker)
    return plugin, config if reading.base is None else localize(config, reading.base)


def _check_allowed(discoveries: Discoveries, entry: Entry | None, reading: _Reading) -> None:
    """Report what stands in `allow:` and is no check that others than the operator may configure."""
    if entry is None or not isinstance(entry.node, Sequence):
        return
    names = {config.name for _, config in discoveries}
    for index, item in enumerate(entry.node.items):
        allow = item.entries.get("allow") if isinstance(item, Mapping) else None
        if allow is None or not isinstance(allow.node, Sequence) or not names:
            continue
        for place, node in enumerate(allow.node.items):
            if isinstance(node, Scalar) and isinstance(node.value, str):
                path = (_DISCOVERIES.key, index, "allow", place)
                plugin = load_plugin("checks", node.value, reading.registry, reading.report, node.line, path)
                if plugin is not None and not is_open(plugin):
                    reading.report.error(node.line, path, "only the operator may configure this check", _TEMPLATE)


_TEMPLATE: Final = "a file of conf.d with `match:` runs it for the targets that you choose"
