"""The listener: reads what is new in its files, hands it on in batches, and goes on where it was."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import ceil, inf
from typing import Any, TypeVar

from vedette import Diagnosis, Emit, Estimate, Listener, Remark, Status
from vedette_checks.log_file.budget import Allowance
from vedette_checks.log_file.config import LogFileConfig
from vedette_checks.log_file.files import SOURCES, Files
from vedette_checks.log_file.lines import Splitter, Taken
from vedette_checks.log_file.names import CAN_READ, METRICS
from vedette_checks.log_file.records import Records, TooManyError
from vedette_checks.log_file.tail import ChangedError, Tail

_BLOCK = 256 << 10  # bytes read at once, at most
_LEAST_BLOCK = 512
_USUAL_BLOCK = 4 << 10
_AMPLE = 1.5  # blocks are so much longer than the lines that are wanted of them, as lines differ
_MOST_BLOCK = 16 << 20  # for what is one event, however long
_MOST_LINES = 1_000  # of a batch
_MOST_BYTES = 1 << 20
_QUIET = 5.0  # seconds after which a part of a container's line is all there is
_LAST_LINE = 5.0  # seconds after which the last line of a rotated file needs no end
_MOST_SHOWN = 1_000  # lines for `vedette check`

T = TypeVar("T")


class LogFile(Listener[LogFileConfig]):
    """Follows files through rotations and restarts, and hands on their lines without credentials and card numbers."""

    name = "log_file"
    metrics = METRICS
    statuses = (CAN_READ,)
    keeps_state = True

    def __init__(self, config: LogFileConfig, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        self._records = Records(config)
        self._splitter = Splitter(config.max_line, config.multiline)
        self._files: Files | None = None
        self._predecessor: Files | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._lines = Allowance(config.max_lines_per_second)
        self._bytes = Allowance(config.max_bytes_per_second)
        self._counts: Counter[str] = Counter()
        self._quiet = config.multiline.timeout if config.multiline is not None else _QUIET
        self._stored_sources: frozenset[str] = frozenset()
        self._batch_lines = self._batch_bytes = 0
        self._line_size = 200.0

    @classmethod
    def lint(cls, config: LogFileConfig) -> Iterable[str]:
        """What was switched off that is on for a reason."""
        if not config.card_numbers:
            yield "card_numbers: card numbers in the lines reach every sink"
        if not config.credentials:
            yield "credentials: passwords, tokens and keys in the lines reach every sink"

    @classmethod
    def examine(cls, config: LogFileConfig) -> Iterable[Remark]:
        """Paths that match nothing here, and files that may not be read."""
        from vedette_checks.log_file.doctor import remarks

        return remarks(config)

    async def estimate(self) -> Iterable[Estimate]:
        """How much the files grow."""
        from vedette_checks.log_file.costs import estimates

        return await asyncio.to_thread(estimates, self.config)

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """Which files there are, and whether they can be read."""
        from vedette_checks.log_file.doctor import diagnose

        await asyncio.to_thread(diagnose, self.config, diagnosis)

    def succeed(self, predecessor: Listener[Any]) -> None:
        """Take over the open files: one that was deleted cannot be opened again."""
        if isinstance(predecessor, LogFile):
            self._predecessor, predecessor._files = predecessor._files, None

    async def close(self) -> None:
        """Close the files."""
        files, self._files = self._files, None
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None
        if files is not None:
            files.close()

    # Serving

    async def serve(self, emit: Emit) -> None:
        """Read, hand on, wait for more; what is not handed on is read again by the next start."""
        files = await self._begin(emit)
        if emit.rehearses:
            await self._show(emit, files)
        else:
            await self._follow(emit, files, asyncio.get_running_loop().time())

    async def _show(self, emit: Emit, files: Files) -> None:
        """For `vedette check`: what is there, until it is enough or the time is up."""
        try:
            await self._follow(emit, files, float("inf"))
        finally:
            self._say(emit, files)

    async def _follow(self, emit: Emit, files: Files, say: float) -> None:
        loop = asyncio.get_running_loop()
        discover = loop.time()
        while True:
            if loop.time() >= discover:
                await self._io(files.discover)
                discover = loop.time() + self.config.discover
            await self._io(files.look)
            if self._owes(files):
                await self._hand_on(emit, files)
            while await self._round(emit, files) and loop.time() < min(discover, say):
                pass
            if loop.time() >= say:
                self._say(emit, files)
                await self._hand_on(emit, files)
                say = loop.time() + self.config.interval
            if self._is_idle(emit, files):
                await asyncio.sleep(self.config.poll)

    async def _begin(self, emit: Emit) -> Files:
        if self._files is not None:
            self._files.close()
        self._records.redactor.known = emit.known
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix=f"vedette-log_file-{self.config.name}")
        files = self._files = Files(self.config, self.state, shows=emit.rehearses, written=self._records.redactor.name)
        self._stored_sources = frozenset(files.known)
        self._batch_lines = self._batch_bytes = 0
        if self._predecessor is not None:
            files.inherit(self._predecessor.tails)
            self._predecessor = None
        await self._io(files.restore)
        for path in files.missing:
            name = self._records.redactor.name(path)
            self.log.warning("%s was rotated and is gone: what was not read of it is lost", name)
        return files

    async def _io(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do something with files in a thread of our own: a disk that hangs must not hold the agent."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _is_idle(self, emit: Emit, files: Files) -> bool:
        """Whether nothing can be read now."""
        has_more = files.hurries or any(map(self._has_more, files.tails))
        if self._spent:
            self._counts["waited"] += has_more
            return True
        return self._has_shown_enough(emit) or not has_more

    def _has_shown_enough(self, emit: Emit) -> bool:
        return emit.rehearses and self._counts["lines"] >= _MOST_SHOWN

    @property
    def _spent(self) -> bool:
        """Whether the budget says to wait."""
        return self.config.over_budget == "wait" and (self._lines.left <= 0 or self._bytes.left <= 0)

    def _has_more(self, tail: Tail) -> bool:
        """Whether there is something to read in a file, or something in it is complete by now."""
        if tail.content is None or (tail.finished and tail.packed):
            return False
        if tail.size > max(tail.offset, tail.ended):
            return True
        if tail.waits:
            return (self._is_quiet(tail) and not tail.quiet) or (self._is_last(tail) and not tail.last)
        return tail.moved and not tail.finished

    def _is_quiet(self, tail: Tail) -> bool:
        """Whether what is there is complete, as nothing has followed for long enough."""
        joins = tail.container or self.config.multiline is not None
        return joins and time.monotonic() - tail.grown >= self._quiet

    @staticmethod
    def _is_last(tail: Tail) -> bool:
        """Whether what is there is all there will be."""
        return tail.packed or (tail.moved and time.monotonic() - tail.grown >= _LAST_LINE)

    async def _round(self, emit: Emit, files: Files) -> bool:
        """One block of each file that has something; returns whether there was any."""
        found = False
        for tail in list(files.tails):
            if self._has_shown_enough(emit) or self._spent:
                break
            if self._has_more(tail):
                if self._batch_lines == 0:
                    await emit.flush()  # nothing is there yet: the batch's time is now
                found = await self._read(emit, files, tail) or found
                if self._batch_lines >= _MOST_LINES or self._batch_bytes >= _MOST_BYTES:
                    await self._hand_on(emit, files)
        if self._batch_lines or self._batch_bytes:
            await self._hand_on(emit, files)
        return found

    # A block

    async def _read(self, emit: Emit, files: Files, tail: Tail) -> bool:
        """Read a block of a file and emit what is complete in it; returns whether anything was."""
        most = self._most_lines()
        size = self._block_size(most) + tail.wants
        tail.quiet, tail.last = self._is_quiet(tail), self._is_last(tail)
        try:
            data = await self._io(self._data, files, tail, size)
        except OSError as error:
            files.trouble[tail.path] = error.strerror or str(error)
            tail.ended, tail.waits, tail.finished = tail.size, False, tail.moved
            return False
        if data is None:
            return False
        for counts in (len(data) > most * self._line_size / _AMPLE, True):  # counting costs: mostly one knows
            taken = self._splitter.take(
                data,
                tail.codec,
                most=most,
                container=tail.container,
                skipping=tail.skipping,
                at_end=len(data) < size or size > _MOST_BLOCK,
                quiet=tail.quiet or size > _MOST_BLOCK,
                final=tail.last,
                counts=counts,
            )
            with suppress(TooManyError):
                self._emit(emit, tail, taken, inf if counts else most)
                break
        tail.skipping = taken.skipping
        tail.advance(data, taken.consumed)
        self._note(files, tail, taken, len(data), size)
        return taken.consumed > 0 or taken.wants

    def _most_lines(self) -> int:
        """How many lines may be read: what the batch has room for, and the budget."""
        room = max(1, _MOST_LINES - self._batch_lines)
        return room if self.config.over_budget == "drop" else max(1, ceil(min(room, self._lines.left)))

    def _block_size(self, most: int) -> int:
        """Less than usual where so many lines are likely less, or the budget has less left."""
        size = max(_USUAL_BLOCK, most * self._line_size * _AMPLE)
        if self.config.over_budget == "wait":
            size = min(size, self._bytes.left)
        return int(max(_LEAST_BLOCK, min(_BLOCK, size)))

    @staticmethod
    def _data(files: Files, tail: Tail, size: int) -> bytes | None:
        """In the thread: the next bytes of a file, or None if it is not to be read now."""
        if tail.content is None or (tail.fresh and files.is_copy(tail)):
            return None
        try:
            return tail.read(size)
        except ChangedError:
            files.truncated(tail)
            return None

    def _note(self, files: Files, tail: Tail, taken: Taken, got: int, size: int) -> None:
        """Remember where a file stands after a block."""
        at_end = got < size and not taken.more
        rest = got - taken.consumed
        tail.wants = min(_MOST_BLOCK, size * 2) if taken.wants else 0
        if at_end and rest < self.config.max_line:
            tail.ended = max(tail.size, tail.offset + rest)
            tail.waits = rest > 0
            if tail.moved and not rest:
                files.finish(tail)
        else:
            tail.ended, tail.waits = 0, False

    def _emit(self, emit: Emit, tail: Tail, taken: Taken, most: float) -> None:
        left_out = self._records.left_out
        rows, tail.key_lines = self._records.rows(taken, tail.key_lines, tail.service, most)
        self._counts["bytes"] += taken.consumed
        self._counts["truncated"] += taken.truncated
        self._batch_bytes += taken.consumed
        number = len(rows.messages)
        if lines := number + self._records.left_out - left_out:
            self._line_size += 0.2 * (taken.consumed / lines - self._line_size)
        room = self._room(number, taken.consumed)
        emit.logs(rows.messages[:room], rows.levels, rows.times, rows.attributes, tail.tags)
        self._counts["lines"] += room
        self._batch_lines += room

    def _room(self, number: int, size: int) -> int:
        """How many of so many lines may be handed on, which use up the budget."""
        room = number
        if self.config.over_budget == "drop":
            room = 0 if self._bytes.left <= 0 else int(min(number, max(0.0, self._lines.left)))
            self._counts["over_budget"] += number - room
        self._lines.use(room)
        self._bytes.use(size if room else 0)
        return room

    # Handing on

    def _owes(self, files: Files) -> bool:
        """Whether the state is not what it should be."""
        return bool(files.freed) or files.known != self._stored_sources or any(tail.changed for tail in files.tails)

    async def _hand_on(self, emit: Emit, files: Files) -> None:
        """Flush with the positions, and wait until they are durable: so a kill repeats one batch at most."""
        for slot in files.freed:
            emit.commit(slot, None)
        files.freed = set()
        for tail in files.tails:
            if tail.changed:
                emit.commit(tail.slot, tail.position().stored())
                tail.changed = False
        if files.known != self._stored_sources:
            emit.commit(SOURCES, sorted(files.known))
            self._stored_sources = frozenset(files.known)
        self._batch_lines = self._batch_bytes = 0
        await emit.flush()
        await emit.settled()

    def _say(self, emit: Emit, files: Files) -> None:
        counts, redactor = self._counts, self._records.redactor
        emit.count("log_file.lines", counts["lines"])
        emit.count("log_file.bytes", counts["bytes"])
        emit.count("log_file.dropped", self._records.left_out, ("reason:rule",))
        emit.count("log_file.dropped", counts["over_budget"], ("reason:budget",))
        emit.count("log_file.dropped", self._records.failed, ("reason:error",))
        for rule, number in redactor.counts.items():
            emit.count("log_file.redacted", number, (f"rule:{rule}",))
        emit.count("log_file.truncated", counts["truncated"])
        emit.count("log_file.lost", files.lost)
        emit.count("log_file.copies", files.copies.count)
        for how, number in files.rotations.items():
            emit.count("log_file.rotations", number, (f"how:{how}",))
        emit.count("log_file.over_budget", counts["waited"] * self.config.poll)
        emit.gauge("log_file.lag", files.lag)
        emit.gauge("log_file.files", len(files.tails))
        emit.gauge("log_file.files.over_budget", files.over)
        self._say_status(emit, files)
        self._warn(files)
        counts.clear()
        redactor.counts.clear()
        files.rotations.clear()
        self._records.left_out = self._records.failed = files.lost = files.copies.count = 0

    def _say_status(self, emit: Emit, files: Files) -> None:
        if files.trouble:
            path, why = min(files.trouble.items())
            more = f", and {len(files.trouble) - 1} more" if len(files.trouble) > 1 else ""
            emit.status(CAN_READ, Status.CRITICAL, f"{self._records.redactor.name(path)}: {why}{more}")
        elif not files.matched:
            emit.status(CAN_READ, Status.WARNING, "no file matches paths")
        else:
            emit.status(CAN_READ, Status.OK)

    def _warn(self, files: Files) -> None:
        counts = self._counts
        if counts["over_budget"]:
            self.log.warning("%d lines dropped: more than the budget", counts["over_budget"])
        elif counts["waited"]:
            self.log.warning("more lines than the budget: reading later, %d bytes behind", files.lag)
        if self._records.failed:
            self.log.warning("%d lines could not be treated and were left out", self._records.failed)
        if files.lost:
            self.log.warning("%d bytes were cut off a file, or went with it, before they were read", files.lost)
        if files.over:
            self.log.warning("%d files more than max_files are not followed", files.over)
