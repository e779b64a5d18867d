"""`vedette doctor`: what each part of a configuration needs and lacks."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec

from vedette.advice import Grade
from vedette.cli import BAD_CONFIGURATION, CRITICAL, OK, WARNING
from vedette.cli.common import conf_directory, leave_within, nothing_to_run, print_problems, report_apart, run_loop
from vedette.config import load
from vedette.doctor import examine
from vedette.logs import set_up
from vedette.plugins import Registry
from vedette.runner import GRACE

if TYPE_CHECKING:
    from argparse import Namespace

    from vedette.config import Configuration, Instance
    from vedette.doctor import Case

_EXITS = {Grade.OK: OK, Grade.INFO: OK, Grade.WARNING: WARNING}


def doctor(options: Namespace) -> int:
    """Print what was found; 1 if there are warnings, 2 if something lacks."""
    directory = conf_directory(options.conf)
    configuration = load(directory, Registry())
    print_problems(configuration.problems)
    if configuration.fatal and not configuration.resolvers:
        return BAD_CONFIGURATION
    instances = _chosen(configuration, options.instance)
    more = options.instance is None and (configuration.discoveries or configuration.resolvers)
    if not instances and not more:
        if options.instance is None:
            raise nothing_to_run(directory)
        return BAD_CONFIGURATION
    set_up(configuration.agent.log.model_copy(update={"level": "error"}), configuration.masker)
    logging.getLogger("vedette").setLevel(logging.CRITICAL)  # the diagnosis says itself what is wrong
    return run_loop(_examine_and_print(configuration, instances, json=options.json, only=options.instance is not None))


def _chosen(configuration: Configuration, wanted: str | None) -> list[Instance]:
    if wanted is None:
        return list(configuration.instances)
    chosen = [one for one in configuration.instances if wanted in (one.id, one.check, one.config.name)]
    if not chosen:
        names = ", ".join(one.id for one in configuration.instances) or "none"
        print(f"no valid instance is called '{wanted}'; there are: {names}", file=sys.stderr)
    return chosen


async def _examine_and_print(configuration: Configuration, instances: list[Instance], *, json: bool, only: bool) -> int:
    with report_apart():
        cases = await examine(configuration, instances, all_of_it=not only)
    if json:
        rows = [{"name": case.name, "worst": case.worst, "symptoms": [asdict(one) for one in case.symptoms]}
                for case in cases]  # fmt: skip
        print(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
    else:
        from vedette.cli.doctortables import print_cases

        print_cases(cases)
    status = exit_status(cases)
    broken = any(problem.severity == "error" for problem in configuration.problems)
    if configuration.fatal or (status == OK and broken):
        status = BAD_CONFIGURATION
    leave_within(GRACE, status)
    return status


def exit_status(cases: list[Case]) -> int:
    """The status for the worst of these."""
    return max((_EXITS.get(case.worst, CRITICAL) for case in cases), default=OK)
