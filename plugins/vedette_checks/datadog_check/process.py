"""The process in which a Datadog check runs, as the agent holds it: started, spoken to, ended with all that it left."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vedette import CheckError
from vedette.kit import cut_text
from vedette_checks.datadog_check.bridge import EXHAUSTED
from vedette_checks.ending import end_all

_BRIDGE: Final = Path(__file__).with_name("bridge.py")
_LONGEST_LINE: Final = 16 << 20
_LAST_BREATH: Final = 1.0
"""Seconds between the end of the connection and that of the process, and for a check's own `cancel`."""
_MOST_LINES: Final = 100
"""Lines of what it prints that go to the log in one run."""
_LONGEST_TEXT: Final = 1_000

Take = Callable[[list[Any]], None]
"""Takes over what the check submitted."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The check's object is made: by which Python, with which version of the base, and what its class is called."""

    python: str
    base: str
    check: str


@dataclass(frozen=True, slots=True)
class Done:
    """How a run of the check ended.

    Attributes:
        error: in one line, empty if there was none.
        warnings: what it said with `self.warning`.
        lost: submissions that were too many.
        running: processes that it left running.
    """

    error: str
    warnings: tuple[str, ...]
    lost: int
    running: int


class Refused(CheckError):
    """The check cannot be made in this way, now or later."""


class _Output(asyncio.Protocol):
    """What the check prints: logged at level debug, of a flood the beginning."""

    def __init__(self, log: logging.Logger) -> None:
        self.lines = 0
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._log = log
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """Log its lines."""
        if not self._log.isEnabledFor(logging.DEBUG) or self.lines >= _MOST_LINES:
            self._rest = b""
            return
        *whole, rest = (self._rest + data).split(b"\n")
        for line in whole[: _MOST_LINES - self.lines]:
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                self.lines += 1
                self._log.debug("output: %s", cut_text(text, _LONGEST_TEXT))
        self._rest = rest if len(rest) < _LONGEST_LINE // 256 else b""

    def connection_lost(self, exc: Exception | None) -> None:
        """The last one who could print has gone, or nobody listens any more."""
        if not self.closed.done():
            self.closed.set_result(None)


class Process:
    """One check in its process."""

    def __init__(self, process: asyncio.subprocess.Process, log: logging.Logger, limit: int | None) -> None:
        self._process = process
        self._log = log
        self._limit = limit
        self._ending: asyncio.Future[int] = asyncio.ensure_future(process.wait())
        self._leash = -1
        self._output = _Output(log)

    @classmethod
    async def start(
        cls, python: Path | None, environment: Mapping[str, str], log: logging.Logger, limit: int | None
    ) -> Process:
        """Start the interpreter.

        Raises:
            CheckError: it cannot be started.
        """
        mine, theirs = socket.socketpair()
        leash, held = os.pipe()
        reading, writing = os.pipe()
        command = [os.fspath(python or sys.executable), "-u", os.fspath(_BRIDGE)]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                *(str(theirs.fileno()), str(leash), str(os.getpid())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                cwd="/",
                env=environment,
                pass_fds=(theirs.fileno(), leash),
                start_new_session=True,
            )
        except BaseException as error:
            mine.close()
            os.close(held)
            os.close(reading)
            if isinstance(error, OSError):
                hint = "`python` names the interpreter that has the check"
                raise Refused(f"{command[0]} cannot be started: {error.strerror}", hint=hint) from error
            raise
        finally:
            theirs.close()
            os.close(leash)
            os.close(writing)
        made = cls(process, log, limit)
        await made._attend(mine, held, reading)
        return made

    async def _attend(self, mine: socket.socket, held: int, reading: int) -> None:
        self._leash = held
        mine.setblocking(False)
        self._reader, self._writer = await asyncio.open_unix_connection(sock=mine, limit=_LONGEST_LINE)
        self._printed, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: self._output, os.fdopen(reading, "rb", 0)
        )

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return not self._ending.done()

    async def make(self, hello: Mapping[str, Any]) -> Ready:
        """Have it make the check's object.

        Raises:
            Refused: that cannot be done.
            CheckError: the process ended.
        """
        self._send(hello)
        word = await self._hear()
        try:
            if "refused" in word:
                refused = word["refused"]
                if refused["trace"]:
                    self._log.debug("%s", refused["trace"])
                raise Refused(_line(refused["message"]), hint=_line(refused["hint"]))
            return Ready(**{key: _line(word["ready"][key]) for key in ("python", "base", "check")})
        except (KeyError, TypeError) as error:
            raise _nonsense() from error

    async def run(self, take: Take) -> Done:
        """Have the check run once.

        Raises:
            CheckError: the process ended, or said something that is no message.
        """
        self._output.lines = 0
        self._send({"run": True})
        while True:
            word = await self._hear()
            try:
                if "said" in word:
                    take(word["said"])
                    await asyncio.sleep(0)  # however much it says, others get their turn
                    continue
                done = word["done"]
                if done["trace"]:
                    self._log.debug("%s", done["trace"])
                warnings = tuple(map(_line, done["warnings"]))
                return Done(_line(done["error"]), warnings, int(done["lost"]), int(done["running"]))
            except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
                raise _nonsense() from error

    async def end(self, *, gently: bool = False) -> None:
        """End it with all that it started; gently it may say goodbye before."""
        if gently and self.alive:
            self._send({"stop": True})
            with suppress(asyncio.CancelledError):
                await asyncio.wait({self._ending}, timeout=_LAST_BREATH)
        await end_all(self._process.pid, self._ending, gently=False)
        self._writer.close()
        self._printed.close()
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.wait({self._output.closed}, timeout=_LAST_BREATH)
            await self._writer.wait_closed()
        if self._leash >= 0:
            os.close(self._leash)
            self._leash = -1

    def _send(self, word: Mapping[str, Any]) -> None:
        self._writer.write(json.dumps(word).encode("ascii") + b"\n")

    async def _hear(self) -> dict[str, Any]:
        reading = asyncio.ensure_future(self._reader.readline())
        try:
            either: set[asyncio.Future[Any]] = {reading, self._ending}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():  # what it said before it ended
                await asyncio.wait({reading}, timeout=_LAST_BREATH)
            if not reading.done():
                raise await self._explained()
            line = reading.result()
        except (ValueError, ConnectionError) as error:
            raise (_nonsense() if isinstance(error, ValueError) else await self._explained()) from error
        finally:
            reading.cancel()
        if not line.endswith(b"\n"):
            raise await self._explained()
        try:
            word = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _nonsense() from error
        if not isinstance(word, dict):
            raise _nonsense()
        return word

    async def _explained(self) -> CheckError:
        """How it ended, for people."""
        await asyncio.wait({self._ending}, timeout=_LAST_BREATH)
        if not self._ending.done():
            return CheckError("the check closed its connection to the agent")
        code = self._ending.result()
        if code == EXHAUSTED and self._limit is not None:
            return exhausted()
        if code >= 0:
            hint = "a check must not end its process; log: {level: debug} shows what it printed"
            return CheckError(f"the check ended its process with status {code}", hint=hint)
        with suppress(ValueError):
            return CheckError(f"the check's process was killed by {signal.Signals(-code).name}")
        return CheckError(f"the check's process was killed by signal {-code}")


def exhausted() -> CheckError:
    """A check that wanted more memory than it may have."""
    return CheckError("the check exceeded memory_limit", hint="raise memory_limit, or see what the check keeps")


def _nonsense() -> CheckError:
    return CheckError("the check's process said something that is no message", hint="does the check write to sockets?")


def _line(value: Any) -> str:
    """Any text of the process in one line that everybody can print."""
    return cut_text(" ".join(str(value).encode("utf-8", "replace").decode().split()), _LONGEST_TEXT)
