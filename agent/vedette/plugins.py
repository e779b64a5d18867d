"""Floor 2: finds checks, sinks, discoveries and so on by entry point, and imports only what is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

import pluggy

from vedette import hookspecs
from vedette.errors import MissingDriver, PluginError

API = "1.0"
"""Version of the plugin API: the first number grows with what breaks old plugins, the second with additions."""
_SPOKEN = "__vedette_api__"
Group = Literal["checks", "sinks", "discoveries", "engines", "notifiers", "secrets"]
_EXTRAS = {
    "aioboto3": "aws",
    "aiobotocore": "aws",
    "aiosmtplib": "email",
    "aiosqlite": "sql",
    "aiohttp": "k8s",
    "asyncpg": "postgres",
    "cryptography": "tls",
    "dns": "dns",
    "boto3": "aws",
    "botocore": "aws",
    "httpx": "synthetic",
    "jmespath": "synthetic",
    "kubernetes_asyncio": "k8s",
    "re2": "synthetic",
    "redis": "redis",
    "sqlalchemy": "sql",
}
"""Import names of drivers that an extra of vedette brings."""
_EXTRAS_OF = {
    ("log_file", "re2"): "logs",
    ("openmetrics", "httpx"): "openmetrics",
    ("rabbitmq", "httpx"): "rabbitmq",
    **{(one, "httpx"): "notify" for one in ("alertmanager", "pagerduty", "slack", "webhook")},
}
"""Where it is another extra for one of the plugins."""


class Registry:
    """What is installed, by group and name. Loading a name imports its module and no other.

    Args:
        find: returns the entry points of a group; the installed ones by default.
    """

    def __init__(self, find: Callable[[str], Any] = lambda group: entry_points(group=group)) -> None:
        self._find = find
        self._points: dict[Group, dict[str, EntryPoint]] = {}
        self._loaded: dict[tuple[Group, str], Any] = {}

    def names(self, group: Group) -> list[str]:
        """The names of a group, sorted; nothing is imported."""
        return sorted(self._group(group))

    def entry(self, group: Group, name: str) -> EntryPoint:
        """The entry point of a name, for showing where it comes from."""
        return self._group(group)[name]

    def load(self, group: Group, name: str) -> Any:
        """The class behind a name.

        Raises:
            KeyError: no plugin has this name.
            MissingDriver: the plugin needs a package that is not installed.
            PluginError: the plugin cannot be loaded, for a reason in its text.
        """
        if (group, name) not in self._loaded:
            self._loaded[group, name] = self._load(group, name, self._group(group)[name])
        return self._loaded[group, name]

    def _group(self, group: Group) -> dict[str, EntryPoint]:
        if group not in self._points:
            self._points[group] = {point.name: point for point in self._find(f"vedette.{group}")}
        return self._points[group]

    def _load(self, group: Group, name: str, point: EntryPoint) -> Any:
        try:
            module = point.load()
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and not _own(error.name or "", point):
                raise MissingDriver(_missing(name, error.name or "", point)) from error
            raise PluginError(f"{name}: {point.value} cannot be imported: {type(error).__name__}: {error}") from error
        _check_api(name, module, point)
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        found: list[Any] = []
        try:
            manager.register(module)
            manager.check_pending()
            getattr(manager.hook, f"register_{group}")(register=found.append)
        except Exception as error:
            raise PluginError(f"{name}: {point.value}: {error}") from error
        return _only(group, name, point, found)


def _check_api(name: str, module: Any, point: EntryPoint) -> None:
    """A plugin may say in `__vedette_api__` which version of the API it was written for; one that does not is let in.

    Raises:
        PluginError: this agent does not speak that version.
    """
    wanted = getattr(module, _SPOKEN, API)
    if not isinstance(wanted, str) or not re.fullmatch(r"\d+\.\d+", wanted):
        raise PluginError(f'{name}: {point.value} has {_SPOKEN} = {wanted!r}; it is a text such as "{API}"')
    theirs, ours = (tuple(map(int, version.split("."))) for version in (wanted, API))
    if theirs[0] == ours[0] and theirs <= ours:
        return
    owner = point.dist.name if point.dist else point.value
    what = "vedette" if theirs > ours else owner
    raise PluginError(
        f"{name} (of {owner}) was written for version {wanted} of the plugin API, this agent speaks {API}: "
        f"pip install -U {what}"
    )


def _own(module: str, point: EntryPoint) -> bool:
    """Whether a missing module is part of the plugin itself: a broken plugin, which no driver mends."""
    return module.partition(".")[0] == re.split("[.:]", point.value, maxsplit=1)[0]


def _missing(name: str, module: str, point: EntryPoint) -> str:
    driver = module.partition(".")[0]
    extra = _EXTRAS_OF.get((name, driver)) or _EXTRAS.get(driver)
    if extra and point.dist and name in (point.dist.metadata.get_all("Provides-Extra") or ()):
        extra = name  # several extras bring this driver: the plugin's own has the rest of what it needs too
    need = f"'vedette[{extra}]'" if extra else module or "the missing package"
    owner = point.dist.name if point.dist else point.value
    return f"{name} (of {owner}) needs {module}, which is not installed: pip install {need}"


def _only(group: Group, name: str, point: EntryPoint, found: list[Any]) -> Any:
    if len(found) != 1:
        raise PluginError(f"{name}: {point.value} registered {len(found)} {group}; an entry point registers one")
    if found[0].name != name:
        raise PluginError(
            f"{name}: {point.value} registered '{found[0].name}'; the entry point must have the same name"
        )
    return found[0]
