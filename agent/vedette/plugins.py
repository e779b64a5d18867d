"""Floor 2: finds checks, sinks, discoveries and so on by entry point, and imports only what is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any

from vedette.errors import PluginError
from vedette.loading import API as API
from vedette.loading import Group as Group
from vedette.loading import load_point, owner

_OURS = "vedette"
"""The distribution whose plugins nobody else's replace."""


class Registry:
    """What is installed, by group and name. Loading a name imports its module and no other.

    Where several packages have a plugin of the same name, vedette's own is the one; among others none is, since which
    of them would be found first is an accident.

    Args:
        find: returns the entry points of a group; the installed ones by default.
    """

    def __init__(self, find: Callable[[str], Iterable[EntryPoint]] | None = None) -> None:
        self._find = find or _Installed().of
        self._points: dict[Group, dict[str, list[EntryPoint]]] = {}
        self._loaded: dict[tuple[Group, str], Any] = {}

    def names(self, group: Group) -> list[str]:
        """The names of a group, sorted; nothing is imported."""
        return sorted(self._group(group))

    def entry(self, group: Group, name: str) -> EntryPoint:
        """The entry point of a name, for showing where it comes from."""
        return self._group(group)[name][0]

    def entries(self, group: Group, name: str) -> list[EntryPoint]:
        """All that have this name, vedette's own first."""
        return list(self._group(group)[name])

    def passed_over(self, group: Group, name: str) -> str:
        """Who else has a plugin with the name of one of vedette's own, in a sentence; empty if nobody has."""
        first, *others = self._group(group)[name]
        if not others or not _is_ours(first):
            return ""
        return f"'{name}' is vedette's own; the one of {' and '.join(map(owner, others))} needs another name"

    def load(self, group: Group, name: str) -> Any:
        """The class behind a name.

        Raises:
            KeyError: no plugin has this name.
            MissingDriver: the plugin needs a package that is not installed.
            PluginError: the plugin cannot be loaded, for a reason in its text.
        """
        if (group, name) not in self._loaded:
            first, *others = self._group(group)[name]
            if others and not _is_ours(first):
                owners = " and ".join(map(owner, (first, *others)))
                raise PluginError(f"{name}: {owners} each have one of this name: pip uninstall all but one")
            self._loaded[group, name] = load_point(group, first)
        return self._loaded[group, name]

    def _group(self, group: Group) -> dict[str, list[EntryPoint]]:
        if group not in self._points:
            points: dict[str, list[EntryPoint]] = {}
            for point in _ours_first(self._find(f"vedette.{group}")):
                points.setdefault(point.name, []).append(point)
            self._points[group] = points
        return self._points[group]


class _Installed:
    """What all packages offer, read at the first question and only once: that is a file of each of them."""

    def __init__(self) -> None:
        self._select: Callable[..., EntryPoints] | None = None

    def of(self, group: str) -> EntryPoints:
        if self._select is None:
            self._select = entry_points().select
        return self._select(group=group)


def _ours_first(points: Iterable[EntryPoint]) -> list[EntryPoint]:
    """In order of their packages; each name is asked for once, since for it all of a package's metadata is read."""
    names: dict[int, str] = {}

    def place(point: EntryPoint) -> tuple[bool, str]:
        name = names.get(id(point.dist)) or owner(point)
        if point.dist is not None:
            names[id(point.dist)] = name
        return point.dist is None or name != _OURS, name

    return sorted(points, key=place)


def _is_ours(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == _OURS
