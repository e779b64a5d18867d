"""The commands that only show something: validate, plugins, example, schema."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, Final

from vedette.cli import BAD_CONFIGURATION, OK
from vedette.cli.common import conf_directory, nothing_to_run, print_problems, unknown_plugin
from vedette.errors import MissingDriver, PluginError
from vedette.plugins import Registry

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping
    from importlib.metadata import EntryPoint

    from vedette.plugins import Group


def validate(options: Namespace) -> int:
    """Print every problem; 3 if there is an error among them, or nothing to run."""
    from vedette.config import load

    directory = conf_directory(options.conf)
    configuration = load(directory, Registry(), secrets="resolve" if options.secrets else "lazy", thorough=True)
    print_problems(configuration.problems)
    if configuration.fatal or any(problem.severity == "error" for problem in configuration.problems):
        return BAD_CONFIGURATION
    number, templates = len(configuration.instances), len(configuration.templates)
    if not number and not templates and not configuration.discoveries:
        if not configuration.problems:
            raise nothing_to_run(directory)
        return BAD_CONFIGURATION
    more = f", {templates} template{'' if templates == 1 else 's'}" if templates else ""
    owned = sum(one.owned for one in configuration.instances)
    one_each = f" ({owned} of them on one agent of the fleet)" if owned else ""
    if (book := configuration.rulebook) is not None and (rules := len(book.rules)):
        more += f", {rules} alert rule{'' if rules == 1 else 's'}"
    print(f"{directory}: {number} instance{'' if number == 1 else 's'}{one_each}{more}, no errors")
    return OK


def plugins(options: Namespace) -> int:
    """A table of everything installed, with the package it comes from or the reason it does not load."""
    from vedette.cli.tables import print_plugins

    registry = Registry()
    groups: tuple[Group, ...] = ("checks", "sinks", "discoveries", "engines", "notifiers", "secrets")
    with redirect_stdout(sys.stderr):  # a module that prints when it is imported
        rows = [row for group in groups for name in registry.names(group) for row in _rows(registry, group, name)]
    print_plugins(rows)
    return OK


def _rows(registry: Registry, group: Group, name: str) -> Iterator[tuple[str, str, str, str]]:
    """One for each package that has a plugin of this name."""
    first, *others = registry.entries(group, name)
    unused = registry.passed_over(group, name)
    try:
        text = (registry.load(group, name).__doc__ or "").strip().partition("\n")[0]
    except (MissingDriver, PluginError) as error:
        text = str(error)
    yield group, name, _package(first), text
    for point in others:
        yield group, name, _package(point), unused or text


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"


def example(options: Namespace) -> int:
    """Print the example file of a check or sink."""
    from vedette.render import example_yaml

    sys.stdout.write(example_yaml(_plugin(options.name)))
    return OK


def schema(options: Namespace) -> int:
    """Print the JSON Schema of a check's file or a sink's options."""
    import msgspec

    from vedette.render import json_schema

    text = msgspec.json.format(msgspec.json.encode(json_schema(_plugin(options.name))), indent=2)
    print(text.decode())
    return OK


def _plugin(name: str) -> Any:
    registry = Registry()
    known: dict[str, Group] = {}
    groups: tuple[Group, ...] = ("discoveries", "notifiers", "sinks", "checks")
    for group in groups:
        known.update(dict.fromkeys(registry.names(group), group))
    for prefix, group in _PREFIXES.items():  # a check may have the same name
        known.update({f"{prefix}/{one}": group for one in registry.names(group)})
    if name not in known:
        raise unknown_plugin(name, known, "check, sink, notifier, discovery or engine")
    prefix, _, rest = name.partition("/")
    with redirect_stdout(sys.stderr):  # a module that prints when it is imported
        return registry.load(known[name], rest if prefix in _PREFIXES else name)


_PREFIXES: Final[Mapping[str, Group]] = {"discovery": "discoveries", "engine": "engines"}
