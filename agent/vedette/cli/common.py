"""What several commands need: the configuration folder, the configuration, an event loop."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import threading
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vedette.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Iterator

T = TypeVar("T")


def conf_directory(given: Path | None) -> Path:
    """The folder named on the command line, else ./conf.d, else /etc/vedette/conf.d."""
    if given is not None:
        return given
    here = Path("conf.d")
    return here if here.is_dir() else Path("/etc/vedette/conf.d")


def print_problems(problems: Iterable[Problem]) -> None:
    """Each problem as a line on standard error."""
    for problem in problems:
        print(problem, file=sys.stderr)


def nothing_to_run(directory: Path) -> ConfigError:
    """The error of a configuration without a single valid instance."""
    return ConfigError(
        [Problem(str(directory), 0, "", "no valid instance to run", "see `vedette example NAME` for a first file")]
    )


def unknown_plugin(name: str, known: Iterable[str], kind: str) -> ConfigError:
    """The error of a name on the command line that no plugin has."""
    near = get_close_matches(name, list(known), 1)
    hint = f"did you mean '{near[0]}'?" if near else "`vedette plugins` lists what is installed"
    return ConfigError([Problem("vedette", 0, "", f"no {kind} is called '{name}'", hint)])


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop where it is installed, else on asyncio's own loop."""
    factory = None
    if find_spec("uvloop") is not None:
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


@contextmanager
def report_apart() -> Iterator[None]:
    """Send to standard error what checks print meanwhile, in Python or in C: standard output is the report's."""
    if sys.__stdout__ is None or sys.__stderr__ is None:  # closed: their descriptors may be somebody else's
        yield
        return
    _flush_output()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        _flush_output()
        os.dup2(kept, 1)
        os.close(kept)


def _flush_output() -> None:
    sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)


def leave_within(seconds: float, status: int) -> None:
    """End the process with this status after so long at the latest, orderly or not.

    Python waits at its exit for every thread, and a loop that is closed for every task; one of a check's that does
    not end would hold up the stop for ever.
    """
    timer = threading.Timer(seconds, _leave, (status,))
    timer.daemon = True
    timer.start()


def _leave(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
