"""Runs vedette as a user does: as a process, with its output caught."""

from __future__ import annotations

import atexit
import os
import queue
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.nursery import Forked, Nursery
from servers import Waited

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMAND = (sys.executable, "-m", "vedette")
_KEPT = ("PATH", "HOME", "LANG", "SYSTEMROOT")


def environ(state: Path, **more: str) -> dict[str, str]:
    """A small environment: nothing of the machine's Datadog or proxy settings gets in."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**kept, "STATE_DIRECTORY": str(state), "COLUMNS": "200", **more}


@cache
def nursery() -> Nursery:
    """This worker's, until it ends."""
    made = Nursery(environ(Path("/nowhere")))
    atexit.register(made.close)
    return made


def vedette(*arguments: str | Path, cwd: Path, timeout: float = 120, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return nursery().run([*map(str, arguments)], cwd=cwd, env=environ(cwd / "state", **more), timeout=timeout)


class Running:
    """A running agent; its standard error can be waited on line by line."""

    def __init__(self, *arguments: str | Path, cwd: Path, program: Sequence[str] = COMMAND, **more: str) -> None:
        self.lines: list[str] = []
        self.env = environ(cwd / "state", **more)
        self._news: queue.Queue[str | None] = queue.Queue()
        words = ["run", *map(str, arguments)]
        reading, writing = os.pipe()
        self.process: Forked | subprocess.Popen[bytes]
        if program is COMMAND:
            with Waited.counting():  # for all the imports, the first time
                self.process = nursery().start(words, cwd=cwd, env=self.env, out=writing, err=writing)
        else:
            self.process = subprocess.Popen([*program, *words], cwd=cwd, env=self.env, stdout=writing, stderr=writing)
        os.close(writing)
        self._output = os.fdopen(reading, encoding="utf-8")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._output:
            self._news.put(line.rstrip("\n"))
        self._news.put(None)

    def wait_for(self, text: str, timeout: float = 40) -> str:
        """The next line that holds this text."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self._news.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                break
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"no line with {text!r} in:\n" + "\n".join(self.lines))

    def end(self, number: int | None = None, timeout: float = 40) -> int:
        """Send a signal if one is given, wait for the end, keep the rest of the output; the exit status."""
        if number is not None:
            self.process.send_signal(number)
        status = self.process.wait(timeout)
        self._reader.join(timeout)
        while (line := self._news.get()) is not None:
            self.lines.append(line)
        self._output.close()
        return status

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.end()


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 40) -> Any:
    """Ask every 10 ms until the answer is true."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.01)
    raise AssertionError(f"timed out waiting for {what}")
