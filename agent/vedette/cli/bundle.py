"""`vedette bundle`: a support archive."""

from __future__ import annotations

import io
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console

from vedette.cli import OK
from vedette.cli.common import conf_directory, leave_within, report_apart, run_loop
from vedette.cli.doctortables import print_cases
from vedette.config import load
from vedette.control import ControlError
from vedette.control.client import ask
from vedette.control.path import socket_paths
from vedette.doctor import examine
from vedette.doctor.bundle import make_bundle, write_archive
from vedette.logs import set_up
from vedette.plugins import Registry
from vedette.runner import GRACE

if TYPE_CHECKING:
    from argparse import Namespace

    from vedette.config import Configuration

_WIDE = 1_000


def bundle(options: Namespace) -> int:
    """Write the archive, and say what is in it; of a broken configuration too, which is when help is asked for."""
    configuration = load(conf_directory(options.conf), Registry(), thorough=True)
    set_up(configuration.agent.log.model_copy(update={"level": "error"}), configuration.masker)
    logging.getLogger("vedette").setLevel(logging.CRITICAL)
    path = options.output or Path(time.strftime("vedette-bundle-%Y%m%d-%H%M%S.tar.gz"))
    return run_loop(_write(configuration, path, options.log))


async def _write(configuration: Configuration, path: Path, log: Path | None) -> int:
    with report_apart():
        cases = await examine(configuration, configuration.instances)
    page = io.StringIO()
    print_cases(cases, Console(file=page, width=_WIDE))
    reports = {
        "doctor.txt": page.getvalue(),
        "validate.txt": "".join(f"{problem}\n" for problem in configuration.problems) or "no problems\n",
        "status.json": running_status(configuration),
    }
    made = make_bundle(configuration, reports, log)
    write_archive(path, made)
    print(f"{path}: {len(made)} files, secrets masked; look through it before you pass it on")
    for name in made:
        print(f"  {name}")
    leave_within(GRACE, OK)
    return OK


def running_status(configuration: Configuration) -> str:
    """What the running agent says of itself; empty if none answers."""
    try:
        answer = ask(socket_paths(configuration.agent, os.environ), {"op": "status", "instance": ""})
    except ControlError:
        return ""
    return msgspec.json.format(msgspec.json.encode(answer), indent=1).decode() + "\n"
