"""Fixtures that every test may use, and what no test may do: block the event loop."""

from __future__ import annotations

import asyncio
import logging
import selectors
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from servers import Waited
from vedette import logs

pytest_plugins = ["vedette.testing"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in a shell's background: children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONGEST = ("test_readme.py", "test_watchdog.py", "test_money_path.py", "test_new_plugin.py")
"""Files with tests of many seconds: begun first, so that no worker is left with one of them at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Rewriting all asserts takes 12 s on a fresh clone: each worker begins elsewhere, and reads what others wrote."""
    me = getattr(session.config, "workerinput", None)
    if me is None or sys.dont_write_bytecode or session.config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    here = Path(__file__).parent
    files = [path for path in sorted(here.rglob("test_*.py")) if path.with_name("__init__.py").exists()]
    for path in files[int(me["workerid"].removeprefix("gw")) :: me["workercount"]]:
        with suppress(Exception, pytest.skip.Exception):  # pytest says it, when it comes to this file
            import_module(".".join(path.relative_to(here).with_suffix("").parts))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


LONGEST_STEP = 6.0  # seconds: no step takes that, a full collection and a machine that stops for a while included


class WatchedSelector(selectors.DefaultSelector):
    """Notes how long the event loop was busy between two waits, a test's own waiting for servers left out."""

    busy: list[float] = []

    def __init__(self) -> None:
        super().__init__()
        self._returned: float | None = None

    def select(self, timeout: float | None = None) -> Any:
        if self._returned is not None:
            self.busy.append(time.monotonic() - Waited.seconds - self._returned)
        try:
            return super().select(timeout)
        finally:
            self._returned = time.monotonic() - Waited.seconds


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": lambda: asyncio.SelectorEventLoop(WatchedSelector())}


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """A command that a test runs in this process sets up logging for all: the next test must not notice."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    for handler in [one for one in root.handlers if type(one) is logging.StreamHandler and one not in handlers]:
        root.removeHandler(handler)
    for name in (*logs._NOISY, *logs._INDISCREET, "vedette"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test whose own part (not its fixtures) blocks the loop fails."""
    WatchedSelector.busy.clear()
    yield
    longest = max(WatchedSelector.busy, default=0.0)
    if longest > LONGEST_STEP:
        pytest.fail(f"the event loop was blocked for {longest:.1f} s")


def pytest_sessionfinish() -> None:
    """The data directories of PostgreSQL servers go at the very end: tests of many files are copies of one."""
    if (servers := sys.modules.get("postgres_servers")) is not None:
        servers.remove_folders()
