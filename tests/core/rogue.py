"""Checks that misbehave in every way we know of, as a package that a child process can import too."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from vedette import (
    Check,
    CheckConfig,
    CheckError,
    Diagnosis,
    Emit,
    Estimate,
    Kind,
    Listener,
    Metric,
    Secret,
    Status,
    hookimpl,
)


class Options(CheckConfig):
    how: str = "well"
    file: Path | None = None
    secret: Secret | None = None
    seconds: float = 600.0

    @property
    def grace(self) -> float:
        """Room for a machine that stops, where the run is to end by itself."""
        return 20.0 if self.how == "hangs" else 2.0


class Rogue(Check[Options]):
    """Behaves as `how` says."""

    name = "rogue"
    metrics = (Metric("rogue.value", Kind.GAUGE), Metric("rogue.pid", Kind.GAUGE))
    statuses = ("rogue.ok",)

    async def run(self, emit: Emit) -> None:
        emit.gauge("rogue.pid", os.getpid())
        await getattr(self, "_" + self.config.how)(emit)

    async def estimate(self) -> tuple[Estimate, ...]:
        return (Estimate("process", os.getpid()),)

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        if self.config.how == "segfaults":
            ctypes.string_at(0)
        diagnosis.ok("process", str(os.getpid()))

    async def close(self) -> None:
        if self.config.how == "raises_in_close":
            raise RuntimeError("close")
        if self.config.how == "closes_well" and self.config.file is not None:
            self.config.file.write_text("closed")

    async def _well(self, emit: Emit) -> None:
        emit.gauge("rogue.value", 1)
        emit.status("rogue.ok", Status.OK)

    _closes_well = _well

    async def _many(self, emit: Emit) -> None:
        for number in range(5_000):
            emit.gauge("rogue.value", number, tags=(f"n:{number}",))

    async def _finds(self, emit: Emit) -> None:
        raise CheckError("refused by https://u:pw@h", hint="start it")

    async def _remembers(self, emit: Emit) -> None:
        seen = self.state.get("seen", 0)
        assert await emit.save("saved", seen) is True
        assert self.state["saved"] == seen
        emit.commit("seen", seen + 1)
        emit.gauge("rogue.value", seen)

    async def _undeclared(self, emit: Emit) -> None:
        emit.gauge("rogue.other", 1)

    async def _spins(self, emit: Emit) -> None:
        end = time.thread_time() + self.config.seconds
        while time.thread_time() < end:
            pass

    async def _sleeps_in_c(self, emit: Emit) -> None:
        time.sleep(self.config.seconds)  # noqa: ASYNC251 - that is what it is for

    async def _holds_the_lock(self, emit: Emit) -> None:
        ctypes.PyDLL(None).usleep(int(self.config.seconds * 1e6))

    async def _swallows(self, emit: Emit) -> None:
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                continue

    async def _task_spins(self, emit: Emit) -> None:
        async def inner() -> None:
            time.sleep(self.config.seconds)  # noqa: ASYNC251 - that is what it is for

        await asyncio.create_task(inner())

    async def _hangs(self, emit: Emit) -> None:
        await asyncio.Event().wait()

    async def _leaks(self, emit: Emit) -> None:
        self.kept: list[bytes] = getattr(self, "kept", [])
        while True:
            self.kept.append(bytearray(8 << 20))
            await asyncio.sleep(0)

    async def _forks(self, emit: Emit) -> None:
        if os.fork() == 0:
            time.sleep(600)  # noqa: ASYNC251
            os._exit(0)
        emit.gauge("rogue.value", 1)

    async def _forks_and_spins(self, emit: Emit) -> None:
        pid = os.fork()
        if pid == 0:
            time.sleep(600)  # noqa: ASYNC251
            os._exit(0)
        assert self.config.file is not None
        self.config.file.write_text(str(pid))
        await self._spins(emit)

    async def _segfaults(self, emit: Emit) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.string_at(0)

    async def _segfaults_in_a_thread(self, emit: Emit) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        await asyncio.to_thread(self._read_at_zero)

    def _read_at_zero(self) -> None:
        ctypes.string_at(0)

    async def _fork_segfaults(self, emit: Emit) -> None:
        pid = os.fork()
        if pid == 0:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            ctypes.string_at(0)
        emit.gauge("rogue.value", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))  # noqa: ASYNC222 - it ends at once

    async def _aborts(self, emit: Emit) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.abort()

    async def _prints(self, emit: Emit) -> None:
        os.write(1, b"to descriptor 1\n")
        os.write(2, b"to descriptor 2: hunter2secret\n\x1b[31m")
        print("to stdout", "x" * 5_000)
        emit.gauge("rogue.value", 1)

    async def _floods(self, emit: Emit) -> None:
        for _ in range(self.floods()):
            os.write(1, b"x" * 65_536)

    def floods(self) -> int:
        return 40

    async def _logs(self, emit: Emit) -> None:
        self.log.warning("a warning with %s", "hunter2secret")
        self.log.info("an information")
        emit.gauge("rogue.value", 1)

    async def _ignores_signals(self, emit: Emit) -> None:
        for number in range(1, 32):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_IGN)
        await self._swallows(emit)

    async def _exits(self, emit: Emit) -> None:
        os._exit(0)

    async def _sys_exits(self, emit: Emit) -> None:
        sys.exit(5)

    async def _raises(self, emit: Emit) -> None:
        raise RuntimeError("token=hunter2secret")

    async def _raises_in_close(self, emit: Emit) -> None:
        raise RuntimeError("run")

    async def _closes_descriptors(self, emit: Emit) -> None:
        os.closerange(3, 100)
        await asyncio.sleep(600)

    async def _writes_garbage(self, emit: Emit) -> None:
        for descriptor in _sockets():
            os.write(descriptor, b"\0\0\0\x04junk" * 10)
        await asyncio.sleep(600)

    async def _foreign(self, emit: Emit) -> None:
        emit.logs(["with an object"], ["info"], [None], [{"what": Options()}])

    async def _huge(self, emit: Emit) -> None:
        emit.logs(["x" * (20 << 20)], ["info"], [None], [{}])

    async def _dies_later(self, emit: Emit) -> None:
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGKILL)

    async def _once_bad(self, emit: Emit) -> None:
        assert self.config.file is not None
        if not self.config.file.exists():
            self.config.file.touch()
            os._exit(3)
        emit.gauge("rogue.value", 1)


class Unmakable(Check[Options]):
    name = "unmakable"

    def __init__(self, config: Options, state: Any = None) -> None:
        raise RuntimeError("no object of this")


class Clocked(Check[Options]):
    """Has a clock of its own: every 300 ms, by what it committed."""

    name = "clocked"
    metrics = (Metric("clocked.value", Kind.GAUGE),)

    async def run(self, emit: Emit) -> None:
        emit.gauge("clocked.value", self.state.get("mark", 0))
        emit.commit("mark", self.state.get("mark", 0) + 1)

    def next_due(self, after: float) -> float | None:
        return after + 0.3


class Port(Listener[Options]):
    """Emits and flushes three times, then behaves as `how` says."""

    name = "port"
    open_names = True

    async def serve(self, emit: Emit) -> None:
        for number in range(3):
            emit.count("port.value", number)
            emit.commit("seen", number)
            await emit.flush()
        if self.config.how == "goes_on":
            await self._follow(emit)
        if self.config.how == "dies":
            os._exit(4)
        if self.config.how == "raises":
            raise OSError(98, "Address already in use")
        await asyncio.Event().wait()

    async def _follow(self, emit: Emit) -> None:
        while True:
            emit.gauge("port.pid", os.getpid())
            await emit.flush()
            await asyncio.sleep(0.01)


def _sockets() -> list[int]:
    found = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return [int(path.name) for path in found if str(path.readlink()).startswith("socket:")]


@hookimpl
def register_checks(register: Any) -> None:
    register(Rogue)
