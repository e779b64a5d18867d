"""Floor 2: options that a file gives under old names, and such as are to be given no more."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from vedette.config.source import Mapping, Node, Sequence
from vedette.renamed import Renamed, goes_away

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic.fields import FieldInfo

    from vedette.config.problems import Path, Report

    Inside = Callable[[Any, str | int], Iterator[Any]]
    """What values a type takes at a key."""


def settle(model: type[BaseModel], tree: Mapping, path: Path, report: Report, inside: Inside) -> bool:
    """Warn of old names, once for each in a file, and see to it that each option has one name only.

    Where an instance and its `defaults` call an option by different names, the instance's counts.

    Args:
        model: the options' model.
        tree: the options as written; defaults that an instance overrides by another name are taken out of it.
        path: where they stand.
        report: of the file.
        inside: what values a type takes at a key.

    Returns:
        False if an option was given twice, which is reported.
    """
    return not _has_old(model) or _Look(path, report, inside).at([model], tree, (), inherited=False)


@lru_cache(maxsize=256)
def _has_old(model: type[BaseModel]) -> bool:
    """Whether there is anything to look for: most models never had another name for anything."""
    return any(isinstance(field.validation_alias, Renamed) or field.deprecated for _, field in options_within(model))


def options_within(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The options of a model and of all models that stand in it, with their attributes' names."""
    seen: set[type] = set()
    waiting: list[Any] = [model]
    while waiting:
        one = waiting.pop()
        if not (isinstance(one, type) and issubclass(one, BaseModel)):
            waiting += get_args(one)
        elif one not in seen:
            seen.add(one)
            yield from one.model_fields.items()
            waiting += [field.annotation for field in one.model_fields.values()]


class _Look:
    def __init__(self, path: Path, report: Report, inside: Inside) -> None:
        self._path = path
        self._report = report
        self._inside = inside

    def at(self, types: list[Any], node: Node, keys: Path, *, inherited: bool) -> bool:
        """Look at a value of one of these types, and at all within."""
        good = True
        if isinstance(node, Mapping):
            for each in types:
                for name, field in getattr(each, "model_fields", {}).items():
                    good = self._option(name, field, node, keys, inherited=inherited) and good
            for key, entry in node.entries.items():
                theirs = inherited or entry.inherited
                good = self.at(self._types(types, key), entry.node, (*keys, key), inherited=theirs) and good
        elif isinstance(node, Sequence):
            for number, item in enumerate(node.items):
                good = self.at(self._types(types, number), item, (*keys, number), inherited=inherited) and good
        return good

    def _types(self, types: list[Any], key: str | int) -> list[Any]:
        return [inner for each in types for inner in self._inside(each, key)]

    def _option(self, attribute: str, field: FieldInfo, node: Mapping, keys: Path, *, inherited: bool) -> bool:
        names = field.validation_alias
        if not isinstance(names, Renamed):
            if field.deprecated and attribute in node.entries:
                self._warn(node, attribute, keys, goes_away(field), inherited=inherited)
            return True
        given = [name for name in (names.name, *names.old) if name in node.entries]
        for name in given:
            if name in names.old:
                self._warn(node, name, keys, names.notice(name), inherited=inherited)
        own = [name for name in given if not node.entries[name].inherited]
        if len(own) == 1:
            for name in given:
                if name != own[0]:
                    del node.entries[name]
        if len(given) < 2 or len(own) == 1:
            return True
        first, second = (own or given)[:2]
        entry = node.entries[second]
        place = self._place(keys, inherited=inherited or entry.inherited)
        self._report.error(entry.line, (*place, second), f"is the same option as {first}", f"keep {names.name} alone")
        return False

    def _warn(self, node: Mapping, name: str, keys: Path, message: str, *, inherited: bool) -> None:
        entry = node.entries[name]
        place = self._place(keys, inherited=inherited or entry.inherited)
        self._report.warning_once(entry.line, (*place, name), message)

    def _place(self, keys: Path, *, inherited: bool) -> Path:
        return (*(("defaults",) if inherited else self._path), *keys)
