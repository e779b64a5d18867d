"""`vedette check NAME`: one check, now, for a person or a script."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import msgspec

from vedette.agent import agent_tags
from vedette.cli import BAD_CONFIGURATION, CRITICAL, OK, WARNING
from vedette.cli.common import conf_directory, leave_within, print_problems, run_loop, unknown_plugin
from vedette.config import Instance, load
from vedette.dry import anywhere
from vedette.errors import ConfigError, Problem
from vedette.kit import json_objects
from vedette.logs import set_up
from vedette.plugins import Registry
from vedette.runner import GRACE, Runner, State, Surroundings
from vedette.state import StateStore, state_directory

if TYPE_CHECKING:
    from argparse import Namespace

    from vedette.config import Configuration
    from vedette.metrics import Batch

_BETWEEN_RUNS = 1.0
_OWNED = "one agent of the fleet runs this; here it is run beside it, without the state that the fleet keeps"
_EXITS = {State.OK: OK, State.WARNING: WARNING}


def check(options: Namespace) -> int:
    """Run the instances of one check and print what they found; reads state, keeps what is new to itself."""
    with redirect_stdout(sys.stderr):  # a module that prints when it is imported
        configuration, instances = _find(options, Registry())
    if not instances:
        return BAD_CONFIGURATION
    if any(one.owned for one in instances):
        print(_OWNED, file=sys.stderr)
    set_up(configuration.agent.log.model_copy(update={"level": "warning"}), configuration.masker)
    state = StateStore(state_directory(configuration.agent.state_directory, os.environ), writable=False)
    return run_loop(_run_and_print(configuration, instances, state, options))


def _find(options: Namespace, registry: Registry) -> tuple[Configuration, list[Instance]]:
    directory = conf_directory(options.conf)
    if options.name not in registry.names("checks"):
        raise unknown_plugin(options.name, registry.names("checks"), "check")
    configuration = load(directory, registry, only=options.name, sinks=False)
    instances = [one for one in configuration.instances if one.check == options.name]
    if options.conf is None and not directory.is_dir():
        return configuration, [_default_instance(options.name, registry)]
    print_problems(configuration.problems)
    if any(problem.severity == "error" for problem in configuration.problems):
        return configuration, _chosen(options, instances)
    if not instances:
        only = any(one.check == options.name for one in configuration.templates)
        why = "has only templates" if only else "is not configured"
        print(f"{options.name} {why} in {directory}: running it with its defaults", file=sys.stderr)
        instances = [_default_instance(options.name, registry)]
    return configuration, _chosen(options, instances)


def _chosen(options: Namespace, instances: list[Instance]) -> list[Instance]:
    if options.instance is None:
        return instances
    chosen = [one for one in instances if one.config.name == options.instance]
    if not chosen:
        names = ", ".join(one.config.name for one in instances) or "none"
        print(f"{options.name} has no valid instance '{options.instance}'; it has: {names}", file=sys.stderr)
    return chosen


def _default_instance(name: str, registry: Registry) -> Instance:
    plugin = registry.load("checks", name)
    try:
        config = plugin.config_class.model_validate({"name": name})
    except ValueError:  # pydantic's text would print values; here it can only be that required options are missing
        hint = f"`vedette example {name}` shows a complete file"
        raise ConfigError(
            [Problem(name, 0, "", "has options without a default, so it needs a YAML file", hint)]
        ) from None
    return Instance(f"{name}/{name}", name, plugin, config, name, 0, {"name": name})


async def _run_and_print(
    configuration: Configuration, instances: list[Instance], state: StateStore, asked: Namespace
) -> int:
    runs = await _run_all(configuration, instances, state, asked.runs)
    if asked.json:
        _print_json([batch for _, batches in runs for batch in batches])
    else:
        from vedette.cli.tables import print_run

        for runner, batches in runs:
            print_run(runner, batches)
    status = max(_EXITS.get(runner.vitals.state, CRITICAL) for runner, _ in runs)
    leave_within(GRACE, status)
    return status


async def _run_all(
    configuration: Configuration, instances: list[Instance], state: StateStore, runs: int
) -> list[tuple[Runner, list[Batch]]]:
    options = configuration.agent
    surroundings = Surroundings(
        deliver=lambda batch: state.apply(batch.instance, batch.commits),  # in memory: the next run sees it
        room=_no_wait,
        tags=agent_tags(options.tags, os.environ),
        host=options.hostname or socket.gethostname(),
        masker=configuration.masker,
        state=state.own,
        save=state.save,
    )
    return list(await asyncio.gather(*(_run_one(Runner(anywhere(one), surroundings), runs) for one in instances)))


async def _run_one(runner: Runner, runs: int) -> tuple[Runner, list[Batch]]:
    batches = []
    for number in range(runs):
        if number:
            await asyncio.sleep(_BETWEEN_RUNS)
        if not runner.abandoned:
            batches.append(await runner.run())
    state = runner.vitals.state
    await runner.stop()
    runner.vitals.state = state
    return runner, batches


async def _no_wait() -> None:
    """Nobody is behind `vedette check` whose room could be waited for."""


def _print_json(batches: list[Batch]) -> None:
    encoder = msgspec.json.Encoder(decimal_format="number")
    rows = [encoder.encode(row).decode() for batch in batches for row in json_objects(batch)]
    print("[" + ",\n ".join(rows) + "]")
