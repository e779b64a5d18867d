"""`vedette run`: the agent itself. Imports no check, driver or pretty-printer that is not configured."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from vedette.agent import Agent
from vedette.cli import BAD_CONFIGURATION, OK, USAGE
from vedette.cli.common import conf_directory, leave_within, nothing_to_run, print_problems, run_loop
from vedette.config import load
from vedette.logs import set_up
from vedette.plugins import Registry
from vedette.runner import GRACE
from vedette.servicemanager import ServiceManager
from vedette.state import StateStore, state_directory
from vedette.units import parse_duration
from vedette.watchdog import Limits

if TYPE_CHECKING:
    from argparse import Namespace

    from vedette.config import Configuration


def run(options: Namespace) -> int:
    """Run until stopped; 3 if agent.yaml is broken or nothing is valid."""
    try:
        duration = parse_duration(options.duration) if options.duration else None
    except ValueError as error:
        print(f"vedette run: --for {error}", file=sys.stderr)
        return USAGE
    directory = conf_directory(options.conf)
    configuration = load(directory, Registry())
    print_problems(configuration.problems)
    if configuration.fatal:
        return BAD_CONFIGURATION
    waits = configuration.vault.waiting and configuration.agent.reload.watch and not options.once
    if not configuration.instances and not configuration.discoveries and not waits:
        raise nothing_to_run(directory)
    return _run(configuration, options, duration)


def _run(configuration: Configuration, options: Namespace, duration: float | None) -> int:
    given = {"level": options.log_level, "format": options.log_format}
    overrides = {key: value for key, value in given.items() if value}

    def log_as(configured: Configuration) -> None:
        set_up(configured.agent.log.model_copy(update=overrides), configured.masker)

    log_as(configuration)
    state = StateStore(state_directory(configuration.agent.state_directory, os.environ))
    manager = ServiceManager.of(os.environ)
    agent = Agent(configuration, state, reconfigure=log_as, limits=Limits(), manager=manager)
    run_loop(_main(agent, once=options.once, duration=duration))
    return OK


async def _main(agent: Agent, *, once: bool, duration: float | None) -> None:
    await agent.run(once=once, duration=duration)
    leave_within(GRACE, OK)
