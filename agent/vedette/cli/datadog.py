"""`vedette datadog`: monitors and dashboards from YAML to Datadog, or to Grafana as JSON."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vedette.cli import BAD_CONFIGURATION, CRITICAL, OK, WARNING
from vedette.cli.common import conf_directory, print_problems, unknown_plugin
from vedette.config import load
from vedette.config.problems import printable
from vedette.datadog.api import Access, Account, Refused, Unreachable
from vedette.datadog.model import Dashboard, Head, Monitor
from vedette.datadog.reading import Definitions, files_of, library, read, ready_made, ready_made_text
from vedette.datadog.sync import perform, plan, survey
from vedette.errors import ConfigError, Problem
from vedette.plugins import Registry
from vedette.secrets import Masker

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence

    from vedette.datadog.sync import Step

_FOLDER = "datadog"
_SITE = "datadoghq.com"
_ENOUGH = 3  # refusals in a row: one may be of a single object that others restricted
_SIGNS = {"create": "+", "update": "~", "delete": "-", "stray": "?", "idle": "=", "fail": "!"}
_NOTES = {"stray": "  in no file: --prune removes it", "idle": "  Datadog keeps it as it was"}
_API_KEYS, _APP_KEYS = ("DD_API_KEY", "DATADOG_API_KEY"), ("DD_APP_KEY", "DATADOG_APP_KEY")


def datadog(options: Namespace) -> int:
    """The command that its action names."""
    if options.action == "list":
        return _list(options.name)
    directory = conf_directory(options.conf)
    if options.action == "export":
        return _export(options, directory)
    return _sync(options, directory)


def _definitions(given: Sequence[Path] | None, directory: Path) -> Definitions:
    """What the files that are named say, else those of the folder `datadog` beside conf.d."""
    paths = list(given) if given else [directory.parent / _FOLDER]
    files: list[Path] = []
    for path in paths:
        try:
            files += files_of(path)
        except OSError as error:
            hint = "" if given else "it is the place for them beside conf.d; --file names another"
            reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
            raise ConfigError([Problem(printable(str(path)), 0, "", reason, hint)]) from None
    if not files:
        raise ConfigError(
            [Problem(printable(str(paths[0])), 0, "", "holds no YAML file", "see `vedette datadog list`")]
        )
    return read(files)


def _sync(options: Namespace, directory: Path) -> int:
    wanted = _definitions(options.file, directory)
    print_problems(wanted.problems)
    if not wanted.sets:
        return BAD_CONFIGURATION
    if options.prune:
        _see_that_nobody_else_is_pruned(wanted, options.file or ())
    masker = Masker()
    access = _access(wanted, directory, masker, os.environ)
    try:
        with Account(access, masker) as account:
            steps = plan(wanted, survey(account), account, prune=options.prune)
            failed = [] if options.dry_run else _perform(steps, account, masker)
    except (Refused, Unreachable) as error:
        print(f"vedette datadog: {access.url}: {masker(str(error))}", file=sys.stderr)
        return CRITICAL
    if options.dry_run:
        for step in steps:
            _show(step, masker)
        failed = [step for step in steps if step.what == "fail"]
        _sum_up(steps, "would be", failed=len(failed))
        if options.prune and wanted.broken:
            print("nothing would be removed while a file has errors", file=sys.stderr)
    if failed:
        return CRITICAL
    if wanted.broken:
        return BAD_CONFIGURATION
    due = any(step.what in ("create", "update", "delete") for step in steps)
    return WARNING if options.dry_run and due else OK


def _see_that_nobody_else_is_pruned(wanted: Definitions, given: Sequence[Path]) -> None:
    """What no file says is removed from a set: so the set must have a name, and its files must all be there.

    Raises:
        ConfigError: something of others could be removed.
    """
    problems = [
        Problem(file, 0, "set", "has no name, so that it is anybody's", "--prune needs one, such as set: payments")
        for file in wanted.unnamed
    ]
    named = [path.resolve() for path in given]
    folders = {path.parent for path in named if path.is_file()} - {path for path in named if path.is_dir()}
    for path in sorted(one for folder in folders for one in files_of(folder)):
        if path.resolve() in named:
            continue
        for each in sorted(read([path]).sets & wanted.sets):
            hint = "--prune would remove what it says; give --file the folder, or each a set of its own"
            problems.append(
                Problem(printable(str(path)), 0, "set", f"is '{each}' too, and this file is left out", hint)
            )
    if problems:
        raise ConfigError(problems)


def _perform(steps: list[Step], account: Account, masker: Masker) -> list[Step]:
    """Do them, saying each; those that failed."""
    failed: list[Step] = []
    done: list[Step] = []
    idle = forbidden = 0
    for step in steps:
        if step.what in ("keep", "stray"):
            _show(step, masker)
            done.append(step)
            continue
        outcome = perform(step, account)
        forbidden = forbidden + 1 if outcome.forbidden else 0
        if outcome.failed:
            failed.append(step)
            where = f"{step.definition.file}:{step.definition.line}" if step.definition else "datadog"
            print(f"{where}: {step.kind} {step.key}: {masker(outcome.failed)}", file=sys.stderr)
            if forbidden == _ENOUGH:
                print("vedette datadog: the rest is not tried", file=sys.stderr)
                break
        elif outcome.idle:
            idle += 1
            _show(replace(step, what="idle"), masker)
        else:
            _show(step, masker)
            done.append(step)
    _sum_up(done, "are", failed=len(failed), idle=idle)
    return failed


def _show(step: Step, masker: Masker) -> None:
    if step.what == "keep":
        return
    own = f" (id {step.there['id']})" if step.there and step.there.get("id") else ""
    at = f"  {step.definition.file}:{step.definition.line}" if step.definition else ""
    note = _NOTES.get(step.what, "")
    print(masker(f"{_SIGNS[step.what]} {step.kind} {step.key}: {printable(step.title)}{own}{at}{note}"))
    for change in (*step.changes, *([str(step.error)] if step.error else [])):
        print(f"    {masker(change)}")


def _sum_up(steps: list[Step], are: str, failed: int = 0, idle: int = 0) -> None:
    def number(what: str) -> int:
        return sum(step.what == what for step in steps)

    words = [f"{number('create')} created", f"{number('update')} changed", f"{number('delete')} removed"]
    text = f"{', '.join(words)}, {number('keep')} as they should be"
    text += f", {idle} that Datadog keeps otherwise" if idle else ""
    text += f", {number('stray')} in no file" if number("stray") else ""
    text += f", {failed} failed" if failed else ""
    print(f"{'would be: ' if are == 'would be' else ''}{text}")


def _access(wanted: Definitions, directory: Path, masker: Masker, environ: Mapping[str, str]) -> Access:
    """Keys of the environment, else of the `datadog` sink in agent.yaml; the files' own address goes first.

    Raises:
        ConfigError: there are no keys, or agent.yaml is broken.
    """
    api_key = next((environ[name] for name in _API_KEYS if environ.get(name)), "")
    app_key = next((environ[name] for name in _APP_KEYS if environ.get(name)), "")
    site, base_url, ca_file, proxy = environ.get("DD_SITE", ""), "", "", ""
    keys = bool(api_key and app_key)
    placed = bool(wanted.base_url or wanted.site or site)
    if not (keys and placed) and directory.is_dir():
        configuration = load(directory, Registry(), only="\0", secrets="lazy" if keys else "resolve")
        if configuration.fatal and not keys:
            raise ConfigError([one for one in configuration.problems if one.severity == "error"])
        sink = next((config for plugin, config in configuration.sinks if plugin.name == "datadog"), None)
        if sink is not None:
            own_api, own_app = getattr(sink, "api_key", None), getattr(sink, "app_key", None)
            api_key = api_key or (own_api.reveal().strip() if own_api else "")
            app_key = app_key or (own_app.reveal().strip() if own_app else "")
            site = site or getattr(sink, "site", "")
            base_url = getattr(sink, "base_url", "")
            ca_file = str(getattr(sink, "ca_file", None) or "")
            secret = getattr(sink, "proxy", None)
            proxy = secret.reveal() if secret else ""
    for name, key in (("api_key", api_key), ("app_key", app_key)):
        if not key:
            where = f"set DD_{name.upper()}, or `{name}` of the datadog sink in {directory}/agent.yaml"
            raise ConfigError([Problem("vedette datadog", 0, "", f"there is no {name}", where)])
        if not (key.strip().isascii() and key.strip().isprintable()):
            raise ConfigError([Problem("vedette datadog", 0, "", f"{name} is not a key", "see how Datadog shows it")])
        masker.add(key.strip())
    url = wanted.base_url or (f"https://api.{wanted.site}" if wanted.site else "")
    url = url or base_url or f"https://api.{site or _SITE}"
    return Access(url, api_key.strip(), app_key.strip(), ca_file, proxy)


def _export(options: Namespace, directory: Path) -> int:
    """Write each dashboard as JSON for Grafana; all that are ready-made, where no file says otherwise."""
    from vedette.datadog.grafana import grafana_dashboard

    here = options.file or ((directory.parent / _FOLDER).is_dir() and None)
    wanted = Definitions(list(library(ready_made(), Head()))) if here is False else _definitions(here, directory)
    print_problems(wanted.problems)
    options.grafana.mkdir(parents=True, exist_ok=True)
    written = 0
    for one in wanted.items:
        if not isinstance(one.model, Dashboard):
            continue
        if not one.model.groups:
            print(f"{one.file}:{one.line}: {one.key}: has Datadog's own widgets, which Grafana lacks", file=sys.stderr)
            continue
        made = grafana_dashboard(one.model, honor_labels=options.honor_labels)
        path = options.grafana / f"{made['uid']}.json"
        path.write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{path}: {printable(one.title)}")
        written += 1
    if wanted.broken:
        return BAD_CONFIGURATION
    return OK if written else WARNING


def _list(name: str | None) -> int:
    names = ready_made()
    if name is not None:
        if name not in names:
            raise unknown_plugin(name, names, "ready-made set of monitors and dashboards")
        sys.stdout.write(ready_made_text(name))
        return OK
    for each in names:
        found = list(library([each], Head()))
        monitors = [one.model.id for one in found if isinstance(one.model, Monitor)]
        dashboards = [one.model.id for one in found if isinstance(one.model, Dashboard)]
        print(f"{each}: {len(dashboards)} dashboard{'s' if len(dashboards) != 1 else ''}, {len(monitors)} monitors")
        for own in [*dashboards, *monitors]:
            print(f"  {own}")
    return OK
