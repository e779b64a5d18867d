"""Runs a program: what it printed, how it ended, and nothing of it is left afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vedette import CheckError
from vedette_checks.ending import Trace, end_all

_LINGER = 0.2
"""Seconds that output may still come after the program has ended, through what it left behind."""
_MOST_ERRORS = 8_192
"""Bytes of the standard error that are kept."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended.

    Attributes:
        status: its exit status; minus the signal that ended it.
        output: its standard output.
        errors: the beginning of its standard error.
        left: processes that it left running, which were ended.
    """

    status: int
    output: bytes
    errors: bytes
    left: int = 0

    @property
    def signal_name(self) -> str:
        """Such as `SIGSEGV`; empty if it ended by itself."""
        with suppress(ValueError):
            return signal.Signals(-self.status).name if self.status < 0 else ""
        return f"signal {-self.status}"


class _Catch(asyncio.Protocol):
    """Keeps what comes through a pipe, up to a size; says when more came, and when the pipe was closed."""

    def __init__(self, most: int) -> None:
        self.data = bytearray()
        self.more: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._most = most

    def data_received(self, data: bytes) -> None:
        """Keep it, if there is room."""
        room = self._most - len(self.data)
        self.data += data[:room]
        if len(data) > room and not self.more.done():
            self.more.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The last one who could write has gone."""
        if not self.closed.done():
            self.closed.set_result(None)


async def run_program(
    command: Sequence[str], environment: Mapping[str, str], directory: Path | None, most: int
) -> Ended:
    """Run a program to its end, without a shell, in a session of its own, with an empty standard input.

    Whatever happens, the program and all that it started are gone afterwards, also what moved to a session of its own.
    Cancelling this ends them: SIGTERM, and SIGKILL after a second.

    Args:
        command: program and arguments.
        environment: all of it, but the mark by which what the program leaves behind is found.
        directory: where to run; None is `/`.
        most: bytes of standard output; a program that prints more is ended.

    Raises:
        CheckError: it cannot be started, or printed too much.
    """
    output, errors, left = _Catch(most), _Catch(_MOST_ERRORS), 0
    async with _Pipe(output) as out, _Pipe(errors) as err:
        trace = Trace()
        process = await _start(command, {**environment, **trace.environment}, directory, out.end, err.end)
        out.hand_over()
        err.hand_over()
        ending: asyncio.Future[int] = asyncio.ensure_future(process.wait())
        ends: set[asyncio.Future[Any]] = {ending, output.more}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if output.more.done():
                raise CheckError(f"{command[0]} printed more than {most:,} bytes", hint="raise max_output, or see why")
            await asyncio.wait({output.closed, errors.closed}, timeout=_LINGER)
        finally:
            left = await end_all(process.pid, ending, trace=trace)
        return Ended(ending.result(), bytes(output.data), bytes(errors.data), left)


class _Pipe:
    """A pipe whose one end a program gets, and whose other end fills a `_Catch`."""

    def __init__(self, catch: _Catch) -> None:
        self._catch = catch

    async def __aenter__(self) -> _Pipe:
        reading, self.end = os.pipe()
        self._open = True
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: self._catch, os.fdopen(reading, "rb", 0)
        )
        return self

    def hand_over(self) -> None:
        """The program has its end now: here it is closed."""
        if self._open:
            self._open = False
            os.close(self.end)

    async def __aexit__(self, *_: Any) -> None:
        self.hand_over()
        self._transport.close()
        await self._catch.closed


async def _start(
    command: Sequence[str], environment: Mapping[str, str], directory: Path | None, out: int, err: int
) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=directory or "/",
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise CheckError(
            f"{command[0]} cannot be started in {directory or '/'}: {error.strerror}",
            hint="`vedette doctor` says whether the program and the folder are there, and may be used",
        ) from error
