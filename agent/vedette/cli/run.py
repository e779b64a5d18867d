"""`vedette run`: the agent itself. Imports no check, driver or pretty-printer that is not configured."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from vedette.agent import Agent
from vedette.cli import BAD_CONFIGURATION, OK, TRY_AGAIN, USAGE
from vedette.cli.common import conf_directory, leave_within, nothing_to_run, print_problems, run_loop
from vedette.config import load
from vedette.logs import set_up
from vedette.plugins import Registry
from vedette.runner import GRACE
from vedette.servicemanager import ServiceManager
from vedette.state import StateStore, state_directory
from vedette.units import parse_duration
from vedette.watch import fingerprint
from vedette.watchdog import Limits

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from vedette.config import Configuration
    from vedette.watch import Fingerprint


def run(options: Namespace) -> int:
    """Run until stopped; 3 if agent.yaml is broken or nothing is valid, 75 if files of secrets may be why."""
    try:
        duration = parse_duration(options.duration) if options.duration else None
    except ValueError as error:
        print(f"vedette run: --for {error}", file=sys.stderr)
        return USAGE
    directory = conf_directory(options.conf)
    read = fingerprint(directory)
    configuration = load(directory, Registry())
    print_problems(configuration.problems)
    late = [] if options.once else _late(configuration)
    if configuration.fatal:
        return TRY_AGAIN if late else BAD_CONFIGURATION
    waits = configuration.vault.waiting and configuration.agent.reload.watch and not options.once
    if not configuration.instances and not configuration.discoveries and not waits:
        if late:
            print("vedette run: no valid instance to run before those files can be read", file=sys.stderr)
            return TRY_AGAIN
        raise nothing_to_run(directory)
    return _run(configuration, read, options, duration)


def _late(configuration: Configuration) -> list[Path]:
    """Files of secrets that cannot be read: at a boot whoever brings them may come after the agent."""
    return [path for path in configuration.secret_files if not os.access(path, os.R_OK)]


def _run(configuration: Configuration, read: Fingerprint, options: Namespace, duration: float | None) -> int:
    given = {"level": options.log_level, "format": options.log_format}
    overrides = {key: value for key, value in given.items() if value}

    def log_as(configured: Configuration) -> None:
        set_up(configured.agent.log.model_copy(update=overrides), configured.masker)

    log_as(configuration)
    state = StateStore(state_directory(configuration.agent.state_directory, os.environ))
    manager = ServiceManager.of(os.environ)
    agent = Agent(configuration, state, reconfigure=log_as, limits=Limits(), manager=manager, read=read)
    run_loop(_main(agent, once=options.once, duration=duration))
    return OK


async def _main(agent: Agent, *, once: bool, duration: float | None) -> None:
    await agent.run(once=once, duration=duration)
    leave_within(GRACE, OK)
