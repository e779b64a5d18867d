"""Runs `vedette` as a process without starting Python anew: one that has imported everything forks for each command.

A command is a process all the same, with its own arguments, folder, environment, output and end; what is saved is the
half second of imports. Where Python or the loader would read something at the start, the fork starts Python after all.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import iter_modules
from tempfile import TemporaryFile
from typing import Any, NamedTuple

_MOST = 1 << 20  # bytes of a command
_READ_AT_START = ("PYTHON", "LD_")
_WARM = {
    "checks": ("host", "postgres", "redis", "synthetic"),
    "sinks": ("console", "datadog", "file", "prometheus"),
    "notifiers": ("webhook",),
}
"""What most commands of the tests load; SDKs that take half a second are left to the few that need them."""


class Forked:
    """A process that the nursery forked, as `subprocess.Popen` shows one.

    Attributes:
        pid: its id.
        stdout: what it writes, standard error too.
        returncode: once it has ended.
    """

    def __init__(self, line: socket.socket, job: Mapping[str, Any], out: int, err: int) -> None:
        self._life, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(line, [json.dumps(job).encode()], [out, err, theirs.fileno()])
        self.pid = int(self._life.recv(64))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, if it has ended."""
        with suppress(TimeoutError):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit status, once it has ended.

        Raises:
            TimeoutError: it has not.
        """
        if self.returncode is None:
            if not select.select([self._life], (), (), timeout)[0]:
                raise TimeoutError(f"process {self.pid} has not ended after {timeout} s")
            self.returncode = os.waitstatus_to_exitcode(int(self._life.recv(64)))
            self._life.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """At once."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process that forks, as seen from the tests."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=dict(environment),
            )

    def start(self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], out: int, err: int) -> Forked:
        """Begin a command that writes to these descriptors, which stay open here."""
        job = {"arguments": [*arguments], "cwd": str(cwd), "environment": dict(env)}
        return Forked(self._line, job, out, err)

    def run(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` with what is written caught.

        Raises:
            TimeoutError: it has not ended; it was killed.
        """
        with TemporaryFile() as out, TemporaryFile() as err:
            process = self.start(arguments, cwd=cwd, env=env, out=out.fileno(), err=err.fileno())
            try:
                status = process.wait(timeout)
            finally:
                process.kill()
            written = []
            for file in (out, err):
                file.seek(0)
                written.append(file.read().decode())
        return subprocess.CompletedProcess(arguments, status, *written)

    def close(self) -> None:
        """No more commands."""
        self._line.close()
        self._process.wait(20)


# The other side


class _Job(NamedTuple):
    arguments: list[str]
    cwd: str
    environment: dict[str, str]
    ends: list[int]


def _serve(line: socket.socket) -> _Job | None:
    """Fork for each command; returns its job in the child, and nothing at the end of the tests in the parent."""
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    lives: dict[int, int] = {}
    while True:
        ready = select.select([line, woken], (), ())[0]
        if woken in ready:
            os.read(woken, 1 << 10)
            _tell_ends(lives)
        if line not in ready:
            continue
        text, ends, _, _ = socket.recv_fds(line, _MOST, 3)
        if not text:
            return None
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in (line.detach(), woken, wake, *lives.values()):
                os.close(end)
            return _Job(**json.loads(text), ends=ends)
        os.write(ends[2], str(pid).encode())
        lives[pid] = ends[2]
        os.close(ends[0])
        os.close(ends[1])


def _tell_ends(lives: dict[int, int]) -> None:
    while lives:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        end = lives.pop(pid)
        os.write(end, str(status).encode())
        os.close(end)


def _needs_a_start(environment: Mapping[str, str], path: Sequence[Path]) -> bool:
    """Whether something is read before the first import, or would be imported instead of what is already."""
    if any(name.startswith(_READ_AT_START) for name in environment if name != "PYTHONPATH"):
        return True
    names = {one.stem for folder in path if folder.is_dir() for one in folder.iterdir()}
    return not names.isdisjoint({*sys.modules, "sitecustomize", "usercustomize"})


def _become(job: _Job) -> None:
    os.dup2(job.ends[0], 1)
    os.dup2(job.ends[1], 2)
    for end in job.ends:
        os.close(end)
    os.chdir(job.cwd)
    os.environ.clear()
    os.environ.update(job.environment)
    time.tzset()
    path = [Path(one) for one in job.environment.get("PYTHONPATH", "").split(os.pathsep) if one]
    if _needs_a_start(job.environment, path):
        os.execve(sys.executable, [sys.executable, "-m", "vedette", *job.arguments], job.environment)
    sys.path[1:1] = map(str, path)
    sys.argv = ["vedette", *job.arguments]
    runpy.run_module("vedette", run_name="__main__", alter_sys=True)


def main() -> None:
    """Import what commands import, and wait for them."""
    import vedette.cli

    sys.path[0] = ""  # as `python -m` has it
    for module in iter_modules(vedette.cli.__path__, "vedette.cli."):
        import_module(module.name)
    for group, names in _WARM.items():
        for name in names:
            entry_points(group=f"vedette.{group}")[name].load()
    gc.freeze()
    job = _serve(socket.socket(fileno=int(sys.argv[1])))
    if job is not None:
        _become(job)


if __name__ == "__main__":
    main()
