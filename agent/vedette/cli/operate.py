"""`vedette status`, `reload`, `run-now`, `mute` and `unmute`: what a person asks of the running agent."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from vedette.cli import BAD_CONFIGURATION, CRITICAL, OK, USAGE
from vedette.cli.common import conf_directory
from vedette.config import load
from vedette.control.client import NoAgentError, ask
from vedette.control.path import socket_paths
from vedette.control.wire import DEFAULT_MUTE, snapshot_of
from vedette.errors import Problem
from vedette.plugins import Registry
from vedette.units import format_duration, parse_duration

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

_NOTHING = "\0"  # no file's text holds it, so that agent.yaml alone is read
_RELOAD_PATIENCE = 110.0


def status(options: Namespace) -> int:
    """How the agent is: 0 all is well, 1 a warning, 2 something fails or no agent answers."""
    return with_agent(options, {"op": "status", "instance": options.instance or ""}, _show_status)


def reload(options: Namespace) -> int:
    """Have the configuration read again; 3 if something in it is wrong."""
    return with_agent(options, {"op": "reload", "check": options.check}, _show_changes, _RELOAD_PATIENCE)


def run_now(options: Namespace) -> int:
    """Have an instance run at once."""
    return with_agent(options, {"op": "run-now", "instance": options.instance}, _say("{instance} runs now"))


def mute(options: Namespace) -> int:
    """Mute an instance for a while."""
    try:
        seconds = parse_duration(options.duration) if options.duration else DEFAULT_MUTE
    except ValueError as error:
        print(f"vedette mute: --for {error}", file=sys.stderr)
        return USAGE
    request = {"op": "mute", "instance": options.instance, "for": seconds}
    return with_agent(options, request, _say(f"{{instance}} is muted for {format_duration(seconds)}"))


def unmute(options: Namespace) -> int:
    """End an instance's mute."""
    return with_agent(options, {"op": "unmute", "instance": options.instance}, _say("{instance} is not muted"))


def with_agent(options: Namespace, request: dict[str, Any], show: Any, patience: float = 10.0) -> int:
    """Ask the running agent, and show what it answers; 2 if there is none.

    Args:
        options: with `conf`.
        request: what to ask.
        show: called with the options and the answer; returns the exit status.
        patience: seconds to wait.
    """
    try:
        answer = ask(_paths(options.conf), request, patience=patience)
    except NoAgentError as error:
        print(f"vedette: {error}", file=sys.stderr)
        return CRITICAL
    return int(show(options, answer))


def _paths(conf: Path | None) -> list[Path]:
    """Where the agent of this configuration may listen; a broken agent.yaml counts as an empty one."""
    agent = load(conf_directory(conf), Registry(), secrets="lazy", only=_NOTHING, sinks=False).agent
    return socket_paths(agent, os.environ)


def _show_status(options: Namespace, answer: dict[str, Any]) -> int:
    from vedette.control import overall

    snapshot = snapshot_of(answer)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    else:
        from vedette.cli.tables import print_status

        print_status(snapshot, single=bool(options.instance))
    return overall(snapshot)


def _show_changes(options: Namespace, answer: dict[str, Any]) -> int:
    print(answer["summary"])
    for mark, names in (("+", answer["added"]), ("-", answer["removed"])):
        for name in names:
            print(f"{mark} {name}")
    for change in answer["changed"]:
        print(f"~ {change['name']}" + (f": {', '.join(change['what'])}" if change["what"] else ""))
    problems = [Problem(**row) for row in answer["problems"]]
    for problem in problems:
        print(problem, file=sys.stderr)
    return BAD_CONFIGURATION if any(problem.severity == "error" for problem in problems) else OK


def _say(sentence: str) -> Any:
    def show(_: Namespace, answer: dict[str, Any]) -> int:
        print(sentence.format(instance=answer["instance"]))
        return OK

    return show
