"""Floor 3: a child process as the agent holds it: started, spoken to, listened to, ended with all that it started."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from vedette.errors import VedetteError
from vedette.isolation.frames import FrameError, Ready, Stop, encode, read
from vedette.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.secrets import Masker

T = TypeVar("T")

WHERE = "log: {level: debug} shows where"
EXHAUSTED = 71
"""Exit status of a child that could not even say that it has no memory left."""
_LAST_BREATH = 0.5
_END_TIMEOUT = 2.0
_MOST_LINES = 100
_PER = 10.0
_LONGEST_LINE = 1_000
_CHUNK = 1 << 16
_BREATH = 0.02
_NATIVE = {"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGTRAP", "SIGSYS"}


class ChildLost(VedetteError):
    """A child process is of no more use; the text says why."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Child:
    """A child process as the agent holds it: spoken to, listened to, ended with all that it started."""

    ready: asyncio.Future[Ready]
    """Done once the check's object is made."""
    lost: asyncio.Future[ChildLost]
    """Done once the process is of no more use."""
    ending = False
    """Whether the agent wants it to end."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], masker: Masker, limit: int | None) -> None:
        loop = asyncio.get_running_loop()
        self.ready, self.lost = loop.create_future(), loop.create_future()
        self._log = logging.LoggerAdapter(logging.getLogger(f"vedette.{name}"), {"instance": name})
        self._process = process
        self._masker = masker
        self._limit = limit
        self._dead: asyncio.Future[int] = loop.create_future()
        self._reason: ChildLost | None = None
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._lines, self._since = 0, 0.0

    @classmethod
    async def start(
        cls, name: str, hear: Callable[[Child, Any], None], masker: Masker, limit: int | None = None
    ) -> Child:
        """Start a process and listen to it.

        Args:
            name: instance id.
            hear: called with every message.
            masker: blots out secrets.
            limit: the memory limit it will set itself, bytes.

        Raises:
            ChildLost: the system does not let us.
        """
        mine, theirs = socket.socketpair()
        leash, held = os.pipe()
        output, their_output = os.pipe()
        try:
            process = _spawn(name, theirs.fileno(), leash, their_output)
        except OSError as error:
            mine.close()
            os.close(held)
            os.close(output)
            raise ChildLost(f"no child process can be started: {error.strerror}") from error
        finally:
            theirs.close()
            os.close(leash)
            os.close(their_output)
        child = cls(name, process, masker, limit)
        await child._attend(name, mine, held, output, hear)
        return child

    async def _attend(
        self, name: str, mine: socket.socket, leash: int, output: int, hear: Callable[[Child, Any], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        self._leash = leash
        self._pidfd = os.pidfd_open(self._process.pid)
        loop.add_reader(self._pidfd, self._buried)
        mine.setblocking(False)
        reader, self._writer = await asyncio.open_unix_connection(sock=mine)
        lines = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(output, "rb", buffering=0)
        )
        self._output = transport
        self._tasks = (
            loop.create_task(self._listen(reader, hear), name=name),
            loop.create_task(self._print(lines), name=name),
        )

    def send(self, *messages: Any) -> None:
        """Say something; who is not there any more hears nothing.

        Raises:
            FrameError: it cannot be said.
        """
        data = b"".join(map(encode, messages))
        if not self.lost.done():
            self._writer.write(data)

    async def wait(self, future: asyncio.Future[T], timeout: float) -> T:
        """Wait for an answer.

        Raises:
            ChildLost: the process ended.
            TimeoutError: neither happened in time.
        """
        either: list[asyncio.Future[Any]] = [future, self.lost]
        await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        if self.lost.done():
            raise self.lost.result()
        raise TimeoutError

    def may_log(self) -> bool:
        """Whether one more line may go to the log: a flood is cut off."""
        now = time.monotonic()
        if now - self._since > _PER:
            if self._lines > _MOST_LINES:
                self._log.debug("%d lines of its output were left out", self._lines - _MOST_LINES)
            self._lines, self._since = 0, now
        self._lines += 1
        return self._lines <= _MOST_LINES

    def stop(self) -> None:
        """Ask it to end."""
        if not self.ending:
            self.ending = True
            self.send(Stop())

    def lose(self, reason: ChildLost) -> None:
        """Kill it for this reason."""
        self._reason = self._reason or reason
        self._kill()

    async def end(self) -> None:
        """Kill it and its group, if it has not ended, and let go of it."""
        self.ending = True
        self._kill()
        await asyncio.wait({self.lost}, timeout=_END_TIMEOUT)
        if not self.lost.done():
            self._log.warning("the child process %d cannot be killed", self._process.pid)
            self.lost.set_result(ChildLost("the child process cannot be killed"))
            self._let_go()

    def _kill(self) -> None:
        if not self._dead.done():  # else its number may be another's by now
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _buried(self) -> None:
        """The process has ended: end its group too, while the number of the group is still its own."""
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._kill()
        self._dead.set_result(self._process.wait())

    async def _listen(self, reader: asyncio.StreamReader, hear: Callable[[Child, Any], None]) -> None:
        reading = asyncio.get_running_loop().create_task(self._read(reader, hear), name="vedette/child")
        either: list[asyncio.Future[Any]] = [reading, self._dead]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({reading}, timeout=_LAST_BREATH)  # what it said before it ended
        await asyncio.wait({self._dead}, timeout=_LAST_BREATH)  # the pipe closes a moment before the process is gone
        reading.cancel()
        if not self._dead.done():
            self._reason = self._reason or ChildLost("the child process closed its connection to the agent")
            self._kill()
        code = await self._dead
        await asyncio.wait({self._tasks[1]}, timeout=_LAST_BREATH)
        if not self.lost.done():
            self.lost.set_result(self._reason or explain(code, self._limit))
        self._let_go()

    async def _read(self, reader: asyncio.StreamReader, hear: Callable[[Child, Any], None]) -> None:
        try:
            while True:
                hear(self, await read(reader))
                await asyncio.sleep(0)  # however much it says, others get their turn
        except FrameError as error:
            self.lose(ChildLost(f"the child process {error}"))
        except (EOFError, OSError):
            return

    async def _print(self, lines: asyncio.StreamReader) -> None:
        """Log what the check prints, at level debug; one that prints without end is slowed down, then cut off."""
        rest, torn = b"", False
        while chunk := await lines.read(_CHUNK):
            if self._log.isEnabledFor(logging.DEBUG):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole[torn:]:
                    self._print_line(line)
                torn = torn and not whole
                if len(rest) > _CHUNK:  # what follows would begin anywhere, such as in the middle of a secret
                    if not torn:
                        self._print_line(rest)
                    rest, torn = b"", True
            if len(chunk) > _CHUNK // 4:
                await asyncio.sleep(_BREATH)
        if not torn:
            self._print_line(rest)

    def _print_line(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text and self.may_log():
            shown = self._masker.cut(text, _LONGEST_LINE)
            self._log.debug("output: %s", "".join(sign if sign.isprintable() else "�" for sign in shown))

    def _let_go(self) -> None:
        self._writer.close()
        self._output.close()
        if self._leash >= 0:
            os.close(self._leash)
            self._leash = -1


def _spawn(name: str, pair: int, leash: int, output: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-Pu", "-m", "vedette.isolation.child", str(pair), str(leash), str(os.getpid()), name],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=(pair, leash),
        start_new_session=True,
    )


def explain(code: int, limit: int | None) -> ChildLost:
    """What the exit status of a child process means, for people.

    Args:
        code: as `Popen.returncode` has it: negative for a signal.
        limit: its memory limit in bytes.
    """
    if code == EXHAUSTED and limit is not None:
        return exceeded(limit)
    if code >= 0:
        return ChildLost(f"the child process ended with status {code}", f"the check must not end its process; {WHERE}")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    message = f"the child process was killed by {name}"
    if name in _NATIVE:
        within = f", or its memory_limit ({format_size(limit)}) is too low" if limit is not None else ""
        return ChildLost(message, f"a fault in native code{within}; {WHERE}")
    if name == "SIGKILL":
        return ChildLost(message, "the system may have run out of memory: memory_limit bounds it")
    return ChildLost(message)


def exceeded(limit: int) -> ChildLost:
    """A child that wanted more memory than it may have."""
    return ChildLost(f"exceeded memory_limit ({format_size(limit)})", "raise memory_limit, or see what the check keeps")
