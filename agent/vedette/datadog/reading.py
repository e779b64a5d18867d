"""YAML files to definitions, or to every problem in them with its line. What is wrong with one keeps none other out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from vedette.config.explain import Section, validate
from vedette.config.files import read as read_bytes
from vedette.config.problems import Report, printable, suggest
from vedette.config.source import Entry, Mapping, Scalar, Sequence, parse
from vedette.datadog.model import Dashboard, Head, Monitor, Use
from vedette.datadog.payloads import dashboard_payload, identity, monitor_payload
from vedette.secrets import Masker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from vedette.config.source import Node
    from vedette.errors import Problem

_LISTS: Final = ("use", "monitors", "dashboards")
_SUFFIXES: Final = (".yaml", ".yml")
_MODELS: Final[dict[str, type[Monitor] | type[Dashboard]]] = {"monitor": Monitor, "dashboard": Dashboard}


@dataclass(frozen=True, slots=True)
class Definition:
    """A monitor or dashboard that shall stand at Datadog.

    Attributes:
        kind: `monitor` or `dashboard`.
        key: its `<set>/<id>`.
        title: its name for people.
        model: what was written.
        head: of its file.
        file: as the user named it.
        line: where it stands.
    """

    kind: str
    key: str
    title: str
    model: Monitor | Dashboard
    head: Head
    file: str
    line: int

    @property
    def body(self) -> dict[str, Any]:
        """What Datadog's API takes."""
        if isinstance(self.model, Monitor):
            return monitor_payload(self.model, self.head)
        return dashboard_payload(self.model, self.head)


@dataclass(slots=True)
class Definitions:
    """What all files hold.

    Attributes:
        items: what is good, by file and place.
        sets: whose these are, of every file that could be read.
        unnamed: files that do not say whose they are.
        site: the site that a file names, or nothing.
        base_url: likewise the address.
        problems: what is not.
    """

    items: list[Definition] = field(default_factory=list)
    sets: set[str] = field(default_factory=set)
    unnamed: list[str] = field(default_factory=list)
    site: str = ""
    base_url: str = ""
    problems: list[Problem] = field(default_factory=list)

    @property
    def broken(self) -> bool:
        """Whether something that was written is missing from `items`."""
        return any(problem.severity == "error" for problem in self.problems)


def files_of(path: Path) -> list[Path]:
    """A file itself, or the YAML files of a folder, sorted.

    Raises:
        OSError: there is no such file or folder.
    """
    if not path.is_dir():
        path.stat()
        return [path]
    return sorted(one for one in path.iterdir() if one.suffix in _SUFFIXES and not one.name.startswith("."))


def ready_made() -> list[str]:
    """What `use:` may name."""
    folder = resources.files("vedette.datadog").joinpath("library")
    return sorted(one.name.removesuffix(".yaml") for one in folder.iterdir() if one.name.endswith(".yaml"))


def ready_made_text(name: str) -> str:
    """The YAML of one of them."""
    return resources.files("vedette.datadog").joinpath("library", f"{name}.yaml").read_text(encoding="utf-8")


def read(paths: Iterable[Path]) -> Definitions:
    """The definitions of these files."""
    found = Definitions()
    for path in paths:
        report = Report(printable(path.as_posix()))
        data = read_bytes(path, report)
        root = parse(data, report) if data is not None else None
        if isinstance(root, Mapping):
            _File(root, report, found).take()
        elif root is not None:
            report.error(root.line, (), "must be a mapping with use, monitors or dashboards")
        found.problems += report.problems
    return found


def library(names: Iterable[str], head: Head) -> Iterator[Definition]:
    """Ready-made definitions as they are."""
    for name in names:
        for kind, tree in _shelf(name):
            model = _MODELS[kind].model_validate(_plain(tree))
            yield _definition(kind, model, head, f"library/{name}.yaml", tree.line)


def _shelf(name: str) -> Iterator[tuple[str, Mapping]]:
    root = parse(ready_made_text(name).encode(), Report(name))
    assert isinstance(root, Mapping)  # noqa: S101 - a file of our own, which the tests read
    for key, kind in (("monitors", "monitor"), ("dashboards", "dashboard")):
        entry = root.entries.get(key)
        if entry is not None and isinstance(entry.node, Sequence):
            yield from ((kind, item) for item in entry.node.items if isinstance(item, Mapping))


def _plain(tree: Mapping) -> Any:
    from vedette.config.source import plain

    return plain(tree)


def _definition(kind: str, model: Monitor | Dashboard, head: Head, file: str, line: int) -> Definition:
    title = model.name if isinstance(model, Monitor) else model.title
    return Definition(kind, identity(head, model.id), title, model, head, file, line)


class _File:
    """One file on its way into the definitions."""

    def __init__(self, root: Mapping, report: Report, found: Definitions) -> None:
        self._root = root
        self._report = report
        self._found = found
        self._masker = Masker()
        self._head = Head()

    def take(self) -> None:
        """Take over all that is good."""
        own = Mapping({key: one for key, one in self._root.entries.items() if key not in _LISTS}, self._root.line)
        head = validate(Section(Head, own, (), self._root.line, extra_names=_LISTS), self._report, self._masker)
        if head is None:
            return
        self._head = head
        self._found.sets.add(head.set)
        if "set" not in head.model_fields_set:
            self._found.unnamed.append(self._report.file)
        self._place("site", own)
        self._place("base_url", own)
        for index, item in self._items("use"):
            self._use(index, item)
        for key, kind in (("monitors", "monitor"), ("dashboards", "dashboard")):
            for index, item in self._items(key):
                if not isinstance(item, Mapping):
                    self._report.error(item.line, (key, index), "must be a mapping of options")
                    continue
                self._add(kind, item, (key, index), item.line)
        if not (head.notify.critical or head.notify.warning) and self._tells_nobody():
            line = own.entries["notify"].line if "notify" in own.entries else self._root.line
            hint = "notify: {critical: ['@pagerduty-…', '@sns-…'], warning: ['@slack-…']}"
            self._report.warning(line, ("notify",), "these monitors tell nobody", hint)

    def _tells_nobody(self) -> bool:
        mine = (one for one in self._found.items if one.head is self._head and isinstance(one.model, Monitor))
        return any(not one.model.notify and "@" not in one.model.message for one in mine)  # type: ignore[union-attr]

    def _place(self, key: str, own: Mapping) -> None:
        said, before = getattr(self._head, key), getattr(self._found, key)
        if said and before and said != before:
            self._report.error(own.entries[key].line, (key,), "another file names another one", "run one after another")
        elif said:
            setattr(self._found, key, said)

    def _items(self, key: str) -> Iterator[tuple[int, Node]]:
        entry = self._root.entries.get(key)
        if entry is None or (isinstance(entry.node, Scalar) and entry.node.value is None):
            return
        if not isinstance(entry.node, Sequence):
            self._report.error(entry.line, (key,), "must be a list", "begin each item with '- '")
            return
        yield from enumerate(entry.node.items)

    def _add(self, kind: str, tree: Mapping, path: tuple[str | int, ...], line: int, use: Use | None = None) -> None:
        model = validate(Section(_MODELS[kind], tree, path, line), self._report, self._masker)
        if model is None:
            return
        if use is not None and use.where:
            model = _scoped(model, use.where)
        made = _definition(kind, model, self._head, self._report.file, line)
        twin = next((one for one in self._found.items if (one.kind, one.key) == (kind, made.key)), None)
        if twin is not None:
            where = f"the first is at {twin.file}:{twin.line}"
            self._report.error(line, (*path, "id") if use is None else path, f"a second {kind} of this id", where)
            return
        self._found.items.append(made)

    def _use(self, index: int, item: Node) -> None:
        path: tuple[str | int, ...] = ("use", index)
        if isinstance(item, Scalar) and isinstance(item.value, str):
            use, changes = Use(name=item.value), Mapping({}, item.line)
        elif isinstance(item, Mapping):
            use = validate(Section(Use, item, path, item.line), self._report, self._masker)
            entry = item.entries.get("change")
            changes = entry.node if entry is not None and isinstance(entry.node, Mapping) else Mapping({}, item.line)
            if use is None:
                return
        else:
            self._report.error(item.line, path, "must be the name of something ready-made", "such as redis")
            return
        names = ready_made()
        if use.name != "*" and use.name not in names:
            hint = suggest(use.name, names) or "`vedette datadog list` shows what there is"
            self._report.error(item.line, path, "there is nothing ready-made of this name", hint)
            return
        self._take_ready_made(use, names if use.name == "*" else [use.name], changes, path, item.line)

    def _take_ready_made(
        self, use: Use, names: list[str], changes: Mapping, path: tuple[str | int, ...], line: int
    ) -> None:
        known: set[str] = set()
        for kind, tree in [one for name in names for one in _shelf(name)]:
            own = str(getattr(tree.entries["id"].node, "value", ""))
            known.add(own)
            if own in use.without or not (use.monitors if kind == "monitor" else use.dashboards):
                continue
            change = changes.entries.get(own)
            if change is not None and isinstance(change.node, Mapping):
                merged = Mapping({**tree.entries, **_placed(change.node)}, change.line)
                self._add(kind, merged, (*path, "change", own), change.line, use)
            else:
                self._add(kind, tree, path, line, use)
        for own in [*use.without, *changes.entries]:
            if own not in known:
                hint = suggest(own, known) or "`vedette datadog list` shows the ids"
                self._report.error(line, path, "names an id that is not among these", hint)


def _placed(change: Mapping) -> dict[str, Entry]:
    """Changed options; one of a threshold's two sides replaces what the ready-made monitor says about recovery."""
    return {key: replace(entry, inherited=False) for key, entry in change.entries.items()}


def _scoped(model: Any, where: dict[str, str]) -> Any:
    """The same about series that also have these tags."""
    if isinstance(model, Dashboard):
        groups = tuple(
            group.model_copy(update={"widgets": tuple(_scoped(widget, where) for widget in group.widgets)})
            for group in model.groups
        )
        return model.model_copy(update={"groups": groups})
    of = {name: one.model_copy(update={"where": {**one.where, **where}}) for name, one in model.of.items()}
    return model.model_copy(update={"where": {**model.where, **where}, "of": of})
