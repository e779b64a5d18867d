"""Floor 4: the sinks at work, each with its queue; swapped one by one when their configuration changes."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vedette.outbox import Outbox, supervise
from vedette.report import AGENT_METRICS, SinkVitals
from vedette.sink import Home

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vedette.config import Instance
    from vedette.metrics import Batch, Metric
    from vedette.outbox import Receipt
    from vedette.sink import Sink, SinkConfig

    Configured = tuple[type[Sink[Any]], SinkConfig]

log = logging.getLogger("vedette.agent")


@dataclass(slots=True)
class _Outlet:
    """A sink at work: its queue and the task that supervises it."""

    sink: Sink[Any]
    outbox: Outbox
    task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return str(self.sink.config.name or self.sink.name)

    @property
    def vitals(self) -> SinkVitals:
        sink, outbox = self.sink, self.outbox
        return SinkVitals(
            name=self.name,
            sent=max(0, outbox.delivered - sink.lost) if sink.sent is None else sink.sent,
            dropped=outbox.dropped + sink.lost,
            errors=sink.errors,
            fenced=outbox.fenced + sink.fenced,
            queued=outbox.queued + sink.held,
            trouble=sink.trouble,
            figures=dict(sink.figures),
        )

    def is_still(self, configured: Configured) -> bool:
        """Whether this is what is configured now."""
        plugin, config = configured
        return type(self.sink) is plugin and self.sink.config == config


class Outlets:
    """Hands batches to every sink's queue.

    Args:
        configured: sink classes with their options, in order.
        home: what sinks may know of the agent.
    """

    def __init__(self, configured: Iterable[Configured], home: Home | None = None) -> None:
        self._home = home or Home()
        self._outlets = [_made(one, self._home) for one in configured]

    @property
    def vitals(self) -> list[SinkVitals]:
        """Where each sink stands."""
        return [outlet.vitals for outlet in self._outlets]

    @property
    def durable(self) -> int:
        """How many of them will settle a receipt."""
        return sum(outlet.outbox.durable for outlet in self._outlets)

    def __len__(self) -> int:
        return len(self._outlets)

    def move(self, home: Home) -> None:
        """Tell every sink what it may know of the agent from now on."""
        self._home = home
        for outlet in self._outlets:
            outlet.sink.home = home

    def put(self, batch: Batch, receipt: Receipt | None = None, *, all_settle: bool = False) -> None:
        """Queue a batch for every sink; never waits. Durable ones settle the receipt, with `all_settle` all of them."""
        for outlet in self._outlets:
            outlet.outbox.put(batch, receipt if all_settle or outlet.outbox.durable else None)

    async def room(self) -> None:
        """Wait until every queue has room, at the same moment."""
        while full := [outlet for outlet in self._outlets if not outlet.outbox.has_room]:
            await full[0].outbox.room()

    def start(self) -> None:
        """Start those that are not running."""
        loop = asyncio.get_running_loop()
        for outlet in self._outlets:
            if outlet.task is None:
                outlet.task = loop.create_task(supervise(outlet.sink, outlet.outbox), name=f"sink {outlet.name}")

    def catalogue(self, instances: Iterable[Instance]) -> None:
        """Tell every sink the units and help texts of what may come."""
        declared: dict[str, Metric] = {metric.name: metric for metric in AGENT_METRICS}
        for instance in instances:
            rename = instance.config.metrics.rename
            for metric in instance.plugin.declare(instance.config):
                declared[rename.get(metric.name, metric.name)] = metric
        for outlet in self._outlets:
            outlet.sink.catalog.clear()
            outlet.sink.catalog.update(outlet.outbox.as_sent(declared))

    async def swap(self, configured: Sequence[Configured], timeout: float) -> None:
        """Have just these sinks. Those that are the same go on; a new one's queue fills while its predecessor flushes.

        Args:
            configured: sink classes with their options, in order.
            timeout: seconds that those which end may take to send what they have.
        """
        before = self._outlets
        kept = {outlet.name: outlet for outlet in before if any(outlet.is_still(one) for one in configured)}
        self._outlets = [
            kept.get(config.name or plugin.name) or _made((plugin, config), self._home) for plugin, config in configured
        ]
        ended = [outlet for outlet in before if outlet.name not in kept]
        await _flush(ended, timeout, goes_on=True)
        predecessors = {outlet.name: outlet.sink for outlet in ended}
        for outlet in self._outlets:
            predecessor = predecessors.get(outlet.name)
            if outlet.task is None and predecessor is not None and type(predecessor) is type(outlet.sink):
                outlet.sink.succeed(predecessor)
        self.start()

    async def close(self, timeout: float) -> None:
        """Let every sink send what it has, within so many seconds, and end."""
        await _flush(self._outlets, timeout)


def _made(configured: Configured, home: Home) -> _Outlet:
    plugin, config = configured
    names = config.metrics.compile() if config.metrics else None
    sink = plugin(config)
    sink.home = home
    return _Outlet(sink, Outbox(config.queue, names, durable=sink.durable))


async def _flush(outlets: Sequence[_Outlet], timeout: float, *, goes_on: bool = False) -> None:
    tasks = {outlet.task for outlet in outlets if outlet.task is not None}
    for outlet in outlets:
        outlet.outbox.close(goes_on=goes_on)
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=timeout)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=1.0)
    for outlet in outlets:
        before = outlet.vitals.dropped
        outlet.outbox.abandon()
        if lost := outlet.vitals.dropped - before:
            log.warning("sink %s: %d samples were not sent before it ended", outlet.name, lost)
