"""Floor 2: imports the module of one entry point and takes the class that it registers, whatever the module does."""

from __future__ import annotations

import importlib
import re
import site
import threading
from importlib.metadata import EntryPoint
from pathlib import PurePath
from typing import Any, Literal

import pluggy

from vedette import hookspecs
from vedette.errors import MissingDriver, PluginError, VedetteError

API = "1.0"
"""Version of the plugin API: the first number grows with what breaks old plugins, the second with additions."""
_SPOKEN = "__vedette_api__"
Group = Literal["checks", "sinks", "discoveries", "engines", "notifiers", "secrets"]
_BASES: dict[Group, tuple[str, tuple[str, ...]]] = {
    "checks": ("vedette.check", ("Check", "Listener")),
    "sinks": ("vedette.sink", ("Sink",)),
    "discoveries": ("vedette.discovery", ("Discovery",)),
    "engines": ("vedette.engine", ("Engine",)),
    "notifiers": ("vedette.notifier", ("Notifier",)),
}
"""What a group's classes are subclasses of; a resolver of secrets need not be of any."""
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


def load_point(group: Group, point: EntryPoint) -> Any:
    """The class that the module of an entry point registers.

    The module is code of others: whatever it raises is its fault, `sys.exit` too, and ends neither the agent nor a
    command. Only Ctrl-C goes on, which arrives in the main thread alone.

    Raises:
        MissingDriver: the plugin needs a package that is not installed.
        PluginError: the plugin cannot be loaded, for a reason in its text.
    """
    try:
        return _only(group, point, _registered(group, point, _module(point)))
    except VedetteError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        raise PluginError(f"{_place(point)}: {_fault(error)}") from error


def _module(point: EntryPoint) -> Any:
    if not EntryPoint.pattern.match(point.value):
        raise PluginError(f"{point.name} (of {owner(point)}): '{point.value}' is not the name of a module")
    try:
        try:
            return point.load()
        except ModuleNotFoundError as error:
            if not _own(error.name or "", point) or not _newly_editable(point):
                raise
            return point.load()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        if isinstance(error, ModuleNotFoundError) and not _own(error.name or "", point):
            raise MissingDriver(_missing(point.name, error.name or "", point)) from error
        raise PluginError(f"{point.name}: {point.value} cannot be imported: {_fault(error)}") from error


def _newly_editable(point: EntryPoint) -> bool:
    """Look where a package is that `pip install -e` brought after this process began; whether there was such a thing.

    Python reads the .pth files, by which such a package is found, when it starts and never again.
    """
    importlib.invalidate_caches()
    files = (point.dist.files if point.dist else None) or ()
    found = [file for file in files if len(file.parts) == 1 and file.suffix == ".pth"]
    for file in found:
        where = PurePath(file.locate())
        site.addpackage(str(where.parent), where.name, None)
    return bool(found)


def _registered(group: Group, point: EntryPoint, module: Any) -> list[Any]:
    """What the module's hook registers."""
    _check_api(module, point)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    found: list[Any] = []
    manager.register(module)
    manager.check_pending()
    getattr(manager.hook, f"register_{group}")(register=found.append)
    return found


def _only(group: Group, point: EntryPoint, found: list[Any]) -> Any:
    """The class, which bears the entry point's name and is what its group needs."""
    if len(found) != 1:
        raise PluginError(f"{_place(point)} registered {len(found)} {group}; an entry point registers one")
    (plugin,) = found
    if not isinstance(plugin, type):
        raise PluginError(f"{_place(point)} registered {type(plugin).__name__} and no class")
    if group in _BASES:
        module, names = _BASES[group]
        bases = tuple(getattr(importlib.import_module(module), name) for name in names)
        if not issubclass(plugin, bases):
            needed = " or ".join(f"vedette.{name}" for name in names)
            raise PluginError(f"{_place(point)} registered '{plugin.__name__}', which is no subclass of {needed}")
    called = getattr(plugin, "name", None)
    if called != point.name:
        raise PluginError(f"{_place(point)} registered '{called}'; the entry point must have the same name")
    return plugin


def _check_api(module: Any, point: EntryPoint) -> None:
    """A plugin may say in `__vedette_api__` which version of the API it was written for; one that does not is let in.

    Raises:
        PluginError: this agent does not speak that version.
    """
    wanted = getattr(module, _SPOKEN, API)
    if not isinstance(wanted, str) or not re.fullmatch(r"[0-9]{1,4}\.[0-9]{1,4}", wanted):
        raise PluginError(f'{_place(point)} has {_SPOKEN} = {repr(wanted)[:40]}; it is a text such as "{API}"')
    theirs, ours = (tuple(map(int, version.split("."))) for version in (wanted, API))
    if theirs[0] == ours[0] and theirs <= ours:
        return
    what = "vedette" if theirs > ours else owner(point)
    raise PluginError(
        f"{point.name} (of {owner(point)}) was written for version {wanted} of the plugin API, "
        f"this agent speaks {API}: pip install -U {what}"
    )


def owner(point: EntryPoint) -> str:
    """The package that an entry point is of; its module if that is not known."""
    return point.dist.name if point.dist else point.value


def _place(point: EntryPoint) -> str:
    return f"{point.name}: {point.value}"


def _fault(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _own(module: str, point: EntryPoint) -> bool:
    """Whether a missing module is part of the plugin itself: a broken plugin, which no driver mends."""
    return module.partition(".")[0] == re.split("[.:]", point.value, maxsplit=1)[0]


def _missing(name: str, module: str, point: EntryPoint) -> str:
    driver = module.partition(".")[0]
    extra = _EXTRAS_OF.get((name, driver)) or _EXTRAS.get(driver)
    if extra and point.dist and name in (point.dist.metadata.get_all("Provides-Extra") or ()):
        extra = name  # several extras bring this driver: the plugin's own has the rest of what it needs too
    need = f"'vedette[{extra}]'" if extra else module or "the missing package"
    return f"{name} (of {owner(point)}) needs {module}, which is not installed: pip install {need}"
