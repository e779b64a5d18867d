"""Sink `console`: prints what the checks say, as lines for people or as JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import anyio.to_thread
import msgspec
from pydantic import Field

from vedette import Batch, Metric, Sink, SinkConfig, hookimpl
from vedette.kit import Sketch, json_objects


class ConsoleConfig(SinkConfig):
    """Options of the `console` sink."""

    format: Literal["text", "jsonl"] = Field("text", description="Lines for people, or one JSON object a line.")


class ConsoleSink(Sink[ConsoleConfig]):
    """Prints to the standard output; a thread does, since a paused pager would stop the agent."""

    name = "console"

    async def run(self, batches: AsyncIterator[Batch]) -> None:
        """Print every batch; once the reader has gone (`vedette run | head`) batches are dropped in silence."""
        encode = msgspec.json.Encoder(decimal_format="number", enc_hook=str).encode
        gone = False
        async for batch in batches:
            if gone or not len(batch):
                continue
            if self.config.format == "jsonl":
                text = "".join(f"{encode(item).decode()}\n" for item in json_objects(batch))
            else:
                text = "".join(f"{line}\n" for line in text_lines(batch, self.catalog))
            try:
                await anyio.to_thread.run_sync(_print, text, abandon_on_cancel=True)
            except BrokenPipeError:
                gone = True
                _mute()


def text_lines(batch: Batch, catalog: dict[str, Metric]) -> Iterator[str]:
    """One line for each thing in a batch: time, instance, name, value, unit and tags.

    Args:
        batch: what to show.
        catalog: declared metrics by name, for the units.
    """
    for sample in batch.samples:
        metric = catalog.get(sample.name)
        yield _line(batch, sample.time, sample.name, f"{_value(sample.value)}{_unit(metric)}", sample.tags)
    for status in batch.statuses:
        message = f" ({status.message})" if status.message else ""
        yield _line(batch, status.time, status.name, f"{status.status.name}{message}", status.tags)
    for event in batch.events:
        text = f": {event.text}" if event.text else ""
        yield _line(batch, event.time, f"event {event.alert_type}", f"{event.title}{text}", event.tags)
    for log in batch.logs:
        yield _line(batch, log.time, f"log {log.level}", log.message, log.tags)


def _line(batch: Batch, time: float | None, name: str, what: str, tags: tuple[str, ...]) -> str:
    moment = datetime.fromtimestamp(batch.time if time is None else time, UTC)
    shown = " ".join(tag for tag in tags if not tag.startswith("instance:"))
    line = f"{moment:%Y-%m-%dT%H:%M:%SZ} {batch.instance} {name} {what}"
    return " ".join(f"{line}  {shown}".splitlines()).rstrip()


def _value(value: Any) -> str:
    if isinstance(value, Sketch):
        return f"n={value.count} sum={value.sum:.6g} min={value.min:.6g} max={value.max:.6g}"
    if isinstance(value, Decimal):
        return f"{value:f}"
    return f"{value:.6g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)


def _unit(metric: Metric | None) -> str:
    if metric is None or not metric.unit:
        return ""
    return f" {metric.unit}/{metric.per}" if metric.per else f" {metric.unit}"


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _mute() -> None:
    """Point the standard output at nothing, or the interpreter complains about the lost reader as it exits."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)


@hookimpl
def register_sinks(register: Any) -> None:
    """Register the sink."""
    register(ConsoleSink)
