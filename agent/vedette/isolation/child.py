"""Floor 3: what runs in the child process of an isolated instance: one runner on a loop of its own.

The agent starts it as `python -m vedette.isolation.child` with two inherited descriptors: the pipe to speak through
and the leash, a pipe that nobody writes to. Options and secrets come through the pipe.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import fcntl
import json
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vedette.config.values import lend
from vedette.isolation.frames import (
    Answer,
    Done,
    FrameError,
    Handed,
    Hello,
    Lend,
    Logged,
    Ready,
    Refused,
    Relabel,
    Report,
    Room,
    Run,
    Save,
    Settled,
    Setup,
    Standing,
    Stop,
    encode,
    parts,
    read,
)
from vedette.isolation.warden import EXHAUSTED, exceeded
from vedette.lease import Lease, Term
from vedette.outbox import describe
from vedette.runner import CLOSE_TIMEOUT, Runner
from vedette.secrets import Masker, cut_text
from vedette.strays import guard
from vedette.vitals import State, Surroundings

if TYPE_CHECKING:
    from vedette.metrics import Batch

_PR_SET_PDEATHSIG = 1
_LONGEST_TEXT = 20_000
_BEFORE_THE_KILL = 0.1


def main() -> None:
    """Live until the agent says stop or is gone."""
    pair, leash, agent = map(int, sys.argv[1:4])
    _tie(leash, agent)
    os.set_inheritable(pair, False)
    os.set_inheritable(leash, False)
    faulthandler.enable()
    guard()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # systemd sends them to all; the agent decides
        signal.signal(number, _leave_it_to_the_agent)
    status = 0
    try:
        asyncio.new_event_loop().run_until_complete(_live(socket.socket(fileno=pair)))
    except MemoryError:
        status = EXHAUSTED
    except (EOFError, ConnectionError):
        _end_with_the_agent()
    os._exit(status)  # no waiting for threads and tasks that do not end


def _leave_it_to_the_agent(number: int, frame: object) -> None:
    """Not SIG_IGN, which programs that a check starts would inherit."""


def _tie(leash: int, agent: int) -> None:
    """Have the kernel kill this process, and its group too, as soon as the agent is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    fcntl.fcntl(leash, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(leash, fcntl.F_SETSIG, int(signal.SIGKILL))
    fcntl.fcntl(leash, fcntl.F_SETFL, fcntl.fcntl(leash, fcntl.F_GETFL) | os.O_ASYNC)
    if os.getppid() != agent:
        os._exit(0)


def _end_with_the_agent() -> None:
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)


async def _live(pair: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=pair)
    link = _Link(writer)
    os.register_at_fork(after_in_child=lambda: _cut_off(pair.fileno()))
    hello: Hello = await read(reader, trusting=True)
    sys.path[:] = hello.path
    try:
        setup: Setup = await read(reader, trusting=True)
        inmate = _Inmate(setup, link, hello.level)
        link.send(Ready(inmate.due()))
    except (Exception, SystemExit) as error:
        link.send(Refused(f"the child process cannot start the check: {describe(error.__cause__ or error)}"))
        await writer.drain()
        raise
    await inmate.obey(reader)
    await writer.drain()


def _cut_off(pair: int) -> None:
    """In a fork of this process: it is not the one that speaks to the agent."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, pair)
    os.close(null)


class _Link:
    """The way out; may be used from any thread."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def send(self, *messages: Any) -> None:
        """Send some messages, or none of them.

        Raises:
            FrameError: one of them cannot be sent.
        """
        data = b"".join(map(encode, messages))
        if threading.get_ident() == self._thread:
            self._writer.write(data)
        else:
            self._loop.call_soon_threadsafe(self._writer.write, data)


class _ToAgent(logging.Handler):
    """The child's log goes to the agent's."""

    def __init__(self, link: _Link, masker: Masker, *, debug: bool) -> None:
        super().__init__()
        self._link = link
        self._masker = masker
        self._debug = debug

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; what was raised goes with it as text."""
        try:
            text = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                error = record.exc_info[1]
                trace = logging.Formatter().formatException(record.exc_info) if self._debug else ""
                text = f"{text}\n{trace}" if trace else f"{text}: {type(error).__name__}: {error}"
            self._link.send(
                Logged(record.levelno, record.name, self._masker(cut_text(text, _LONGEST_TEXT, self._masker)))
            )
        except Exception as error:
            where = f"{record.pathname}:{record.lineno}"
            text = f"a line of the log cannot be sent ({type(error).__name__}): {where}"
            with suppress(Exception):
                self._link.send(Logged(logging.ERROR, record.name, text))


class _ChildRunner(Runner):
    """A runner that tells the agent instead of the log where it stands."""

    misbehaved = False
    exhausted = False

    def __init__(self, setup: Setup, surroundings: Surroundings, link: _Link) -> None:
        self._link = link
        self._lent = asyncio.Event()
        super().__init__(setup.instance, surroundings)
        self.lend(setup.until)

    def lend(self, until: float | None) -> None:
        """Begin nothing at or after this on `boottime`; with None there is no such limit."""
        if until is None:
            return
        term = Term()  # another one: what the agent says counts, also if it says so late
        term.until = until
        self.lease = Lease(term, self.instance.id, 0)
        self._lent.set()

    async def _until_it_may(self) -> None:
        while not self.may_run:
            self._lent.clear()
            await self._lent.wait()

    def _hand_on(self, batch: Batch) -> bool:
        """The agent alone decides about what was collected."""
        self._around.deliver(batch)
        return True

    def _misbehaved(self, state: State, message: str, hint: str) -> None:
        self.misbehaved = True
        super()._misbehaved(state, message, hint)

    def _explain(self, error: BaseException) -> tuple[str, str]:
        limit = self.instance.config.memory_limit
        if isinstance(error, MemoryError) and limit is not None:
            self.exhausted = True
            lost = exceeded(limit)
            return lost.message, lost.hint
        return super()._explain(error)

    def _conclude(self, state: State, message: str, hint: str) -> None:
        vitals = self.vitals
        vitals.state, vitals.message, vitals.hint = state, message, hint
        if self.listens:
            self._link.send(Standing(self.report()))

    def due(self) -> float | None:
        """When a check with a clock of its own wants to run."""
        return None if self.listens else self._next_due(time.time())

    def report(self) -> Report:
        """How things stand."""
        vitals = self.vitals
        return Report(
            vitals.state,
            vitals.message,
            vitals.hint,
            vitals.duration,
            vitals.runs,
            vitals.failures,
            self.misbehaved,
            self.exhausted,
            dict(vitals.dropped or {}),
        )


class _Inmate:
    """The instance in its process: does what the agent says and answers."""

    def __init__(self, setup: Setup, link: _Link, level: int) -> None:
        self._link = link
        self._state = setup.state
        self._asked: dict[int, asyncio.Future[bool]] = {}
        self._number = 0
        self._work: asyncio.Task[None] | None = None
        masker = Masker()
        if not setup.hides_cards:
            masker.spare_cards()
        if setup.salt:
            masker.give_pseudonyms_of(setup.salt)
        for secret in setup.secrets:
            masker.add(secret, certain=False)  # in tags the agent masks them: it knows which may be ordinary words
        lend(setup.instance.config, masker)
        handler = _ToAgent(link, masker, debug=level <= logging.DEBUG)
        logging.basicConfig(handlers=[handler], level=level, force=True)
        limit = setup.instance.config.memory_limit
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        self._around = Surroundings(
            self._deliver,
            self._room,
            setup.tags,
            setup.host,
            masker,
            lambda _: self._state,
            self._save,
            self._wait_for_the_disk,
        )
        self._runner = _ChildRunner(setup, self._around, link)
        self._longest = setup.instance.config.deadline + setup.instance.config.grace
        if self._runner.listens:
            self._work = asyncio.get_running_loop().create_task(self._runner.serve())

    def due(self) -> float | None:
        """See `Ready`."""
        return self._runner.due()

    async def obey(self, reader: asyncio.StreamReader) -> None:
        """Do what the agent says until it says stop."""
        while True:
            message = await read(reader, trusting=True)
            if isinstance(message, Run):
                self._work = asyncio.get_running_loop().create_task(self._run(message.until))
                self._work.add_done_callback(_end_at_a_fault)
            elif isinstance(message, Lend):
                self._runner.lend(message.until)
            elif isinstance(message, Answer):
                future = self._asked.pop(message.number)
                if not future.done():
                    future.set_result(message.good)
            elif isinstance(message, Relabel):
                self._around = replace(self._around, tags=message.tags, host=message.host)
                self._runner.relabel(self._around)
            elif isinstance(message, Stop):
                await self._stop()
                return

    async def _run(self, until: float | None) -> None:
        """One run. If it holds the loop until the agent kills this process, its stack is printed just before."""
        self._runner.misbehaved = False
        self._runner.lend(until)
        if not self._runner.may_run:  # both were stopped for a while: the agent will see it too
            self._deliver(self._runner.farewell())
            self._link.send(Done(self.due()))
            return
        faulthandler.dump_traceback_later(self._longest - _BEFORE_THE_KILL)
        try:
            await self._runner.run()
        finally:
            faulthandler.cancel_dump_traceback_later()
        self._link.send(Done(self.due()))

    async def _stop(self) -> None:
        if self._runner.lease is not None:
            self._runner.lease.revoke()
        if self._work is not None and not self._work.done():
            self._work.cancel()
            await asyncio.wait({self._work}, timeout=self._runner.instance.config.grace + CLOSE_TIMEOUT)
        await self._runner.stop()

    def _deliver(self, batch: Batch) -> None:
        kept = []
        for key, value in batch.commits:
            try:
                plain = json.loads(json.dumps(value, allow_nan=False))
            except (TypeError, ValueError):
                logging.getLogger("vedette.state").warning(
                    "%s committed a value under '%s' that JSON cannot hold", batch.instance, key
                )
                continue
            kept.append((key, plain))
        if kept != list(batch.commits):
            batch = replace(batch, commits=tuple(kept))
        self._state.update(kept)
        try:
            self._link.send(*parts(Handed(batch, self._runner.report())))
        except FrameError as error:
            self._link.send(Refused(f"the batch {error}"))

    async def _ask(self, make: Any) -> bool:
        self._number += 1
        future = self._asked[self._number] = asyncio.get_running_loop().create_future()
        self._link.send(make(self._number))
        good: bool = await future
        return good

    async def _room(self) -> None:
        await self._ask(Room)

    async def _wait_for_the_disk(self, instance: str) -> None:
        await self._ask(Settled)

    async def _save(self, instance: str, key: str, value: Any) -> bool:
        try:
            plain = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError):
            return False
        durable: bool = await self._ask(lambda number: Save(number, key, plain))
        self._state[key] = plain
        return durable


def _end_at_a_fault(task: asyncio.Task[None]) -> None:
    """The machinery itself failed: nothing would ever tell the agent, so this process ends."""
    error = None if task.cancelled() else task.exception()
    if error is None:
        return
    if isinstance(error, MemoryError):
        os._exit(EXHAUSTED)
    sys.excepthook(type(error), error, error.__traceback__)
    os._exit(1)


if __name__ == "__main__":
    main()
