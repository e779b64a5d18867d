"""Floor 2: agent.yaml: the agent's own options and its sinks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vedette.config.checkfile import load_plugin
from vedette.config.explain import Section, validate
from vedette.config.model import AgentConfig
from vedette.config.source import Entry, Hole, Mapping, Node, Scalar, Sequence
from vedette.config.values import absolute, harvest, localize

if TYPE_CHECKING:
    from vedette.config.checkfile import Document
    from vedette.config.problems import Report
    from vedette.plugins import Registry
    from vedette.secrets import Masker
    from vedette.sink import Sink, SinkConfig

Sinks = tuple[tuple["type[Sink[Any]]", "SinkConfig"], ...]
DEFAULT_SINK: Final = "console"


def read_agent(
    document: Document | None, report: Report, registry: Registry, masker: Masker, *, sinks: bool
) -> tuple[AgentConfig, Sinks]:
    """The agent's options and sinks; a missing or empty agent.yaml means the defaults and one console.

    Args:
        document: agent.yaml, if there is one.
        report: gets the problems.
        registry: knows the sinks.
        masker: learns the secrets.
        sinks: False leaves the sinks alone: a one-shot run of a check imports none.
    """
    root = Mapping({}, 1)
    if document is not None:
        if isinstance(document.root, Mapping):
            root = document.root
        elif not (isinstance(document.root, Scalar) and document.root.value is None):
            report.error(document.root.line, (), "must be a mapping of options")
    own = Mapping({key: entry for key, entry in root.entries.items() if key != "sinks"}, root.line)
    config = validate(Section(AgentConfig, own, (), root.line, extra_names=("secrets", "sinks")), report, masker)
    config = config or AgentConfig()
    harvest(config, masker.add)
    base = document.found.path.parent if document is not None else None
    if base is not None:
        config = localize(config, base)
    if config.state_directory and base is not None:
        config = config.model_copy(update={"state_directory": str(absolute(config.state_directory, base))})
    if not sinks:
        return config, ()
    return config, _sinks(root.entries.get("sinks"), base, report, registry, masker)


def without_secrets(document: Document) -> tuple[Document, Entry | None]:
    """agent.yaml without its `secrets:`, which must be read before anything else, and that entry."""
    root = document.root
    if not isinstance(root, Mapping) or "secrets" not in root.entries:
        return document, None
    own = {key: entry for key, entry in root.entries.items() if key != "secrets"}
    return replace(document, root=Mapping(own, root.line)), root.entries["secrets"]


def _sinks(entry: Entry | None, base: Path | None, report: Report, registry: Registry, masker: Masker) -> Sinks:
    items: tuple[Node, ...] = ()
    if entry is None or (isinstance(entry.node, Scalar) and entry.node.value is None):
        items = (Mapping({"type": Entry(Scalar(DEFAULT_SINK, 0, quoted=True), 0)}, 0),)
    elif isinstance(entry.node, Sequence):
        items = entry.node.items
    elif not isinstance(entry.node, Hole):
        report.error(entry.line, ("sinks",), "must be a list", "begin each sink with '- type: '")
    made: list[tuple[type[Sink[Any]], SinkConfig]] = []
    names: dict[str, int] = {}
    types: dict[str, int] = {}
    for index, item in enumerate(items):
        kind = _type(item, index, report)
        if kind is None or not isinstance(item, Mapping):
            continue
        types[kind] = types.get(kind, 0) + 1
        named = _named(item, kind, types[kind])
        if _taken(named, index, names, report):
            continue
        sink = _sink(kind, named, index, registry, report, masker)
        if sink is not None:
            made.append((sink[0], sink[1] if base is None else localize(sink[1], base)))
    return tuple(made)


def _type(item: Node, index: int, report: Report) -> str | None:
    """The word after `type:`, or None after reporting that there is none."""
    path = ("sinks", index)
    if isinstance(item, Hole):
        return None
    if not isinstance(item, Mapping):
        report.error(item.line, path, "must be a mapping of options", "such as {type: console}")
        return None
    entry = item.entries.get("type")
    if entry is None:
        report.error(item.line, (*path, "type"), "is required", "such as `type: console`")
        return None
    if isinstance(entry.node, Scalar) and isinstance(entry.node.value, str):
        return entry.node.value
    if not isinstance(entry.node, Hole):
        report.error(entry.line, (*path, "type"), "must be the name of a sink")
    return None


def _named(item: Mapping, kind: str, number: int) -> Mapping:
    """The sink's options with its name: the type, `-n` from the second of a type on, unless given."""
    entry = item.entries.get("name")
    if entry is not None and not (isinstance(entry.node, Scalar) and entry.node.value in (None, "")):
        return item
    name = kind if number == 1 else f"{kind}-{number}"
    return replace(item, entries={**item.entries, "name": Entry(Scalar(name, item.line, quoted=True), item.line)})


def _taken(item: Mapping, index: int, names: dict[str, int], report: Report) -> bool:
    entry = item.entries["name"]
    if not isinstance(entry.node, Scalar) or not isinstance(entry.node.value, str):
        return False  # for the model to judge
    first = names.setdefault(entry.node.value, index)
    if first != index:
        report.error(entry.line, ("sinks", index, "name"), f"the same name as sinks[{first}]")
    return first != index


def _sink(
    kind: str, item: Mapping, index: int, registry: Registry, report: Report, masker: Masker
) -> tuple[type[Sink[Any]], SinkConfig] | None:
    path = ("sinks", index)
    line = item.entries["type"].line
    plugin = load_plugin("sinks", kind, registry, report, line, (*path, "type"))
    if plugin is None:
        return None
    config = validate(Section(plugin.config_class, item, path, item.line), report, masker)
    if config is None:
        return None
    harvest(config, masker.add)
    return plugin, config
