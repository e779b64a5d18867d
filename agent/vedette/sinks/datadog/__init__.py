"""Sink `datadog`: metrics, service checks, events and logs to Datadog's intake over HTTP, by way of a queue on disk.

Source: Datadog, API reference.
"""

from __future__ import annotations

import asyncio
import logging
import time
from fnmatch import translate
from pathlib import Path
from re import compile as compile_re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from vedette import Batch, Diagnosis, Sink, hookimpl
from vedette.kit import Batches, Deltas, Outcome
from vedette.sinks.datadog.config import DatadogConfig
from vedette.sinks.datadog.doctor import diagnose
from vedette.sinks.datadog.encode import Encoder
from vedette.sinks.datadog.errands import Errands
from vedette.sinks.datadog.handover import Handover
from vedette.sinks.datadog.lanes import LANES
from vedette.sinks.datadog.queue import Queue
from vedette.sinks.datadog.sender import Sender
from vedette.sinks.datadog.transport import Answer, Transport, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.kit import Entry
    from vedette.sinks.datadog.lanes import Lane

_MOST_IN_HAND = 8 * 1024 * 1024
"""Bytes of JSON after which a group is queued although its second is not over."""
_MANY_LOGS = 64 * 1024
"""Bytes of JSON of log lines that are queued at once: who hands them over waits, to read on in its files."""
_HOUSEKEEPING = 5.0
_MOST_OFFSET = 10.0
_DISK = "disk"
_KEY = "key"
_GROUP = 1.0
_REPEATS = 60.0
"""Seconds after the start in which sources may hand over once more what was queued just before."""


class DatadogSink(Sink[DatadogConfig]):
    """Sends metrics, service checks, events and logs to Datadog over HTTP, by way of a queue on disk.

    What came within a second is queued with one fsync; a worker for each endpoint sends from the queue.
    """

    name = "datadog"
    billed = True
    durable = True

    def __init__(self, config: DatadogConfig) -> None:
        super().__init__(config)
        self.durable = config.disk > 0
        late = compile_re("|".join(map(translate, config.late.metrics)) or "(?!)")
        self._encoder = Encoder(
            Deltas(),
            self.catalog,
            lambda name: late.match(name) is not None,
            distributions=config.histogram_as == "distribution",
        )
        self._queue: Queue
        self._senders: list[Sender] = []
        self._errands: Errands | None = None
        self._handover = Handover(self._lose)
        self._troubles: dict[str, str] = {}
        self._told: dict[str, float] = {}
        self._complained: set[str] = set()
        self._base_lost = self._base_sent = 0
        self._far_off = False

    def succeed(self, predecessor: Sink[Any]) -> None:
        """Go on from the totals that the predecessor saw last, and with what it has in memory only."""
        if isinstance(predecessor, DatadogSink):
            self._encoder.succeed(predecessor._encoder)
            self._handover.succeed(predecessor._handover)

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """The way to the intake, the key, the clock, the folder of the queue."""
        await diagnose(self.config, self._folder(), diagnosis)

    async def run(self, batches: Batches) -> None:
        """Queue and send until the agent stops; what cannot be sent by then stays on disk."""
        transport = Transport(self.config)
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._open()
            self._errands = Errands(self.config, self._folder(), transport, self)
            self._senders = [Sender(lane, self._queue, transport, self, self.config.flush) for lane in LANES]
            workers = [asyncio.create_task(sender.run()) for sender in self._senders]
            tasks = [*workers, asyncio.create_task(self._keep_house()), asyncio.create_task(self._errands.run())]
            await _first_failure(self._collect(batches), tasks)
            for sender in self._senders:
                sender.stop()
            await asyncio.gather(*workers)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await transport.close()
            self._handover.keep(self._queue.close())
            self.changed()
            self._say_what_stays(batches)

    def _folder(self) -> Path | None:
        if not self.config.disk:
            return None
        if self.config.spool is not None:
            return self.config.spool
        name = quote(self.config.name or self.name, safe="")
        return self.home.directory and self.home.directory / "spool" / (f"%2E{name[1:]}" if name[0] == "." else name)

    async def _open(self) -> None:
        self._handover.stop_waiting()
        config, folder = self.config, self._folder()
        self._queue = Queue(folder, config.disk, config.late.max_age, config.compression)
        await self._queue.open()
        for note in self._queue.notes:
            self.log.warning("%s", note)
        standing = self._queue.standing
        self._base_lost, self._base_sent = self.lost, self.sent or 0
        self._encoder.repeats = self._queue.repeats
        self._encoder.begin_after(self._queue.counts)
        self._repeats_until = time.monotonic() + _REPEATS
        self.changed()
        if standing.left:
            self.log.info("%d samples are on disk since the last time", standing.left)
        self._handover.taken_over(await self._queue.put(self._handover.carried))
        self.changed()

    def _say_what_stays(self, batches: Batches) -> None:
        volatile = self._queue.standing.volatile
        if batches.closed and not batches.goes_on:
            if volatile:
                self._lose(volatile)
        else:  # the next sink takes it over, or this one once it is started again
            self._handover.wait_for_an_heir(batches)
        on_disk = self._queue.standing.left - volatile
        if on_disk and batches.closed:
            self.log.info("%d samples stay on disk until the next start", on_disk)

    def _lose(self, number: int) -> None:
        self.held -= number
        self.lost += number
        self.log.warning("%d samples that were in memory only are lost", number)

    # In

    async def _collect(self, batches: Batches) -> None:
        """Take what comes, and queue it once the second is over, so that counts of one second are one point.

        Many log lines do not wait for that: nothing is added up in them.
        """
        due, holding = 0.0, False
        try:
            while holding or not batches.ended:
                taken = await batches.take(max(0.0, due - time.monotonic()) if holding else None)
                for batch in taken:
                    self._add(batch)
                if self._encoder.logs >= _MANY_LOGS:
                    await self._queue_up(batches, self._encoder.take_logs(), _is_of_logs)
                    await self._room(batches)
                if taken and not holding:
                    due, holding = time.monotonic() + _GROUP - time.time() % _GROUP, True
                full = self._encoder.size > _MOST_IN_HAND
                if holding and (not taken or full or batches.ended or time.monotonic() >= due):
                    holding = False
                    await self._commit(batches)
                    await self._room(batches)
        finally:
            if holding:
                await self._commit(batches)

    def _add(self, batch: Batch) -> None:
        """Translate a batch; one that cannot be must not end the sink, whose totals have moved on already."""
        try:
            self._encoder.add(batch)
        except Exception as error:
            self.failed(f"a batch of {batch.instance} cannot be translated ({type(error).__name__})", len(batch))
            self._base_lost += len(batch)
            self.log.debug("a batch cannot be translated", exc_info=error)

    async def _commit(self, batches: Batches) -> None:
        """Queue what was taken; what waits for it is settled once it is on disk, or sent."""
        await self._queue_up(batches, self._encoder.take())
        if self._encoder.repeats and time.monotonic() > self._repeats_until:
            self._encoder.repeats = frozenset()

    async def _queue_up(
        self, batches: Batches, entries: list[Entry], only: Callable[[Batch], bool] | None = None
    ) -> None:
        records = await self._queue.put(entries)
        self._handover.wait(records, batches.release(only))
        self.changed()
        for sender in self._senders:
            sender.look()

    async def _room(self, batches: Batches) -> None:
        """While the disk refuses and memory is full, take nothing: the agent's queue drops the oldest and counts."""
        while self._queue.standing.in_memory > self.config.memory and not batches.closed:
            await batches.closing(_GROUP)
            await self._queue.rescue()
            self.changed()

    def changed(self) -> None:
        """Take over how the queue stands now."""
        standing = self._queue.standing
        grown = {outcome: standing.tally[outcome] - standing.inherited[outcome] for outcome in Outcome}
        self.held = standing.left
        self.sent = self._base_sent + grown[Outcome.SENT]
        self.lost = self._base_lost + sum(number for outcome, number in grown.items() if outcome is not Outcome.SENT)
        self.figures["vedette.sink.disk"] = standing.size
        self.figures["vedette.sink.unrecoverable"] = standing.tally[Outcome.EXPIRED]
        self.figures["vedette.sink.refused"] = standing.tally[Outcome.REFUSED]
        self._trouble(_DISK, standing.trouble if self.config.disk else "")
        self._handover.settle()

    async def _keep_house(self) -> None:
        """Count what became too old, also while nothing comes and nobody answers."""
        while True:
            await asyncio.sleep(_HOUSEKEEPING)
            before = dict(self._queue.standing.tally)
            await self._queue.sweep()
            if self._queue.standing.trouble:
                await self._queue.rescue()
            self.changed()
            self._tell_losses(before)

    def _tell_losses(self, before: dict[Outcome, int]) -> None:
        tally = self._queue.standing.tally
        sayings = (
            (Outcome.EXPIRED, "%d points unrecoverable: too old for Datadog by now, %d in all"),
            (Outcome.REFUSED, "%d given up: their time is too far ahead for Datadog, %d refused in all"),
            (Outcome.EVICTED, "%d samples dropped, the oldest: the queue's `disk` is used up, %d in all"),
            (Outcome.DAMAGED, "%d samples lost to damage of the queue on disk, %d in all"),
        )
        for outcome, saying in sayings:
            told = self._told.get(outcome.name, self._queue.standing.inherited[outcome])
            if tally[outcome] > told and tally[outcome] == before.get(outcome, 0):  # it has come to a halt
                self._told[outcome.name] = tally[outcome]
                self.log.warning(saying, tally[outcome] - told, tally[outcome])

    # What workers say

    def answered(self, lane: Lane, answer: Answer) -> None:
        """A worker's request was answered, or was not."""
        self._note_clock(answer)
        if answer.verdict is Verdict.TAKEN:
            self._trouble(lane.name, "")
            self._trouble(_KEY, "")
            if answer.complaints:
                self.errors += 1
                text = "%s: the intake took a request, and names %d errors in what it holds"
                level = logging.DEBUG if lane.name in self._complained else logging.WARNING
                self._complained.add(lane.name)
                self.log.log(level, text, lane.name, answer.complaints)
        elif answer.verdict is Verdict.KEY:
            self.key_refused(answer)
        elif answer.verdict in (Verdict.AGAIN, Verdict.CODING):
            self._trouble(lane.name, f"{self.config.place}: {lane.name}: {answer.what}")

    def key_refused(self, answer: Answer) -> None:
        """The key is no good, or not any more: perhaps there is a newer one where it came from."""
        self._trouble(_KEY, f"{self.config.place}: {answer.what}: see api_key, and whether its account is on this site")
        self.home.renew()

    def key_accepted(self) -> None:
        """The key is good."""
        self._trouble(_KEY, "")

    def refused(self, lane: Lane, names: list[str], number: int) -> None:
        """An endpoint will never take these."""
        among = f", among them {', '.join(names)}" if names else ""
        self.errors += 1
        told = self._told.get(Outcome.REFUSED.name, self._queue.standing.inherited[Outcome.REFUSED])
        self._told[Outcome.REFUSED.name] = told + number  # not to be said once more with what the queue gives up
        self.log.warning("%s: %d given up, the intake refuses them%s", lane.name, number, among)

    def note_clock(self, answer: Answer) -> None:
        """An answer said what time it is there."""
        self._note_clock(answer)

    def _note_clock(self, answer: Answer) -> None:
        if answer.clock is None:
            return
        ahead, slack = answer.clock
        self._queue.clock.measured(ahead, slack)
        self.figures["vedette.sink.clock_offset"] = round(ahead, 3)
        far_off = abs(ahead) - slack > _MOST_OFFSET
        if far_off and not self._far_off:
            where = "behind" if ahead > 0 else "ahead of"
            self.log.warning(
                "this machine's clock is %.0f s %s the intake's: points get lost or misplaced; set it by NTP",
                abs(ahead),
                where,
            )
        self._far_off = far_off

    def _trouble(self, source: str, what: str) -> None:
        """Something is wrong with one part, or with an empty text is not any more."""
        if what:
            if source == _DISK and source in self._troubles:
                return
            self._troubles.setdefault(source, what)  # one outage has several reasons in turn: the first is said
            self.failed(next(iter(self._troubles.values())))
        elif self._troubles.pop(source, ""):
            if self._troubles:
                self.trouble = next(iter(self._troubles.values()))
            else:
                self.recovered()


def _is_of_logs(batch: Batch) -> bool:
    """Whether there is nothing but log lines in a batch."""
    return not (batch.samples or batch.statuses or batch.events or batch.closed)


async def _first_failure(work: Any, workers: list[asyncio.Task[None]]) -> None:
    """Do the work; a worker that fails meanwhile ends it, since nothing would be sent any more."""
    main = asyncio.create_task(work)
    try:
        await asyncio.wait([main, *workers], return_when=asyncio.FIRST_COMPLETED)
        for task in workers:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        await main
    finally:
        if not main.done():
            main.cancel()
            await asyncio.gather(main, return_exceptions=True)


@hookimpl
def register_sinks(register: Any) -> None:
    """Register the sink."""
    register(DatadogSink)
