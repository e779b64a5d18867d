"""`vedette plan`: what a configuration will emit and cost."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec

from vedette.cli import BAD_CONFIGURATION, CRITICAL, OK, WARNING
from vedette.cli.common import conf_directory, leave_within, nothing_to_run, print_problems, report_apart, run_loop
from vedette.config import load
from vedette.logs import set_up
from vedette.plan import make_plan
from vedette.plugins import Registry
from vedette.runner import GRACE

if TYPE_CHECKING:
    from argparse import Namespace

    from vedette.config import Configuration
    from vedette.plan import Line, Plan


def plan(options: Namespace) -> int:
    """Print the plan; 1 if it exceeds a budget, 2 if something could not be measured."""
    directory = conf_directory(options.conf)
    configuration = load(directory, Registry())
    print_problems(configuration.problems)
    if configuration.fatal:
        return BAD_CONFIGURATION
    if number := len(configuration.templates):
        plural = "" if number == 1 else "s"
        print(f"not in this plan: {number} template{plural}, which cost what is found for them", file=sys.stderr)
    if owned := sum(one.owned for one in configuration.instances):
        text = "run on one agent of the fleet, so that their cost counts once for all agents"
        print(f"{owned} of {len(configuration.instances)} instances {text}", file=sys.stderr)
    if (book := configuration.rulebook) is not None and (rules := len(book.rules)):
        plural = "" if rules == 1 else "s"
        print(f"{rules} alert rule{plural}: evaluated in the agent, they send no series of their own", file=sys.stderr)
    if not configuration.instances:
        raise nothing_to_run(directory)
    set_up(configuration.agent.log.model_copy(update={"level": "error"}), configuration.masker)
    logging.getLogger("vedette").setLevel(logging.CRITICAL)  # the plan says itself what is wrong
    return run_loop(_plan_and_print(configuration, options))


async def _plan_and_print(configuration: Configuration, options: Namespace) -> int:
    with report_apart():
        made = await make_plan(configuration, options.runs, acting=options.acting)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(as_json(made)), indent=2).decode())
    else:
        from vedette.cli.plantables import print_plan

        print_plan(made)
    status = WARNING if made.exceeded else CRITICAL if made.unmeasured else OK
    leave_within(GRACE, status)
    return status


def as_json(made: Plan) -> dict[str, Any]:
    """The plan as plain data."""
    return {
        "instances": [_line(line) for line in made.instances],
        "agent": [_line(line) for line in made.agent],
        "total": asdict(made.total),
        "sinks": [asdict(sink) for sink in made.sinks],
        "usd_per_month_if_billed": made.if_billed,
        "exceeded": made.exceeded,
    }


def _line(line: Line) -> dict[str, Any]:
    return {**asdict(line), "exceeded": line.exceeded}
