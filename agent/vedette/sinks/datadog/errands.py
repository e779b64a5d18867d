"""What is done beside sending: the key is checked, metrics get their units and help texts, the host its tags."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import anyio.to_thread

from vedette import Kind, Metric
from vedette.sinks.datadog.encode import metric_name
from vedette.sinks.datadog.lanes import HOST_TAGS, METADATA
from vedette.sinks.datadog.transport import Answer, Transport, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vedette.sinks.datadog.config import DatadogConfig

_HOURLY = 3600.0
_ROUND = 300.0
_FIRST_ROUND = 30.0
"""Seconds: Datadog knows a metric only some time after its first point."""
_BETWEEN = 0.2
_FILE = "metadata.json"
_TYPES = {Kind.GAUGE: "gauge", Kind.RATE: "gauge", Kind.SET: "gauge", Kind.COUNT: "count", Kind.COUNTER: "count"}


class Office(Protocol):
    """The sink, as far as errands go."""

    home: Any
    catalog: dict[str, Metric]

    def key_refused(self, answer: Answer) -> None:
        """The API key is no good."""

    def key_accepted(self) -> None:
        """The API key is good."""

    def note_clock(self, answer: Answer) -> None:
        """An answer said what time it is there."""


class Errands:
    """Runs beside the workers; nothing here holds up what is sent.

    Args:
        config: the sink's options.
        folder: where it is remembered what was pushed; None has it pushed anew by each process.
        transport: sends.
        office: the sink.
    """

    def __init__(self, config: DatadogConfig, folder: Path | None, transport: Transport, office: Office) -> None:
        self.pushed: dict[str, str] = {}
        """What Datadog was told already, each with a digest of what it was."""
        self._config = config
        self._file = folder / _FILE if folder is not None else None
        self._transport = transport
        self._office = office

    async def run(self) -> None:
        """Work until cancelled."""
        if self._config.app_key is None:
            await self._check_key_hourly()
        else:
            await asyncio.gather(self._check_key_hourly(), self._push_regularly())

    async def _check_key_hourly(self) -> None:
        while True:
            await self.check_key()
            await asyncio.sleep(_HOURLY)

    async def check_key(self) -> None:
        """Ask whether the key is good; where that cannot be found out it counts as good."""
        answer = await self._transport.validate()
        self._office.note_clock(answer)
        if answer.verdict is Verdict.KEY:
            self._office.key_refused(answer)
        elif answer.verdict is Verdict.TAKEN:
            self._office.key_accepted()

    async def _push_regularly(self) -> None:
        self.pushed = await anyio.to_thread.run_sync(self._load)
        await asyncio.sleep(_FIRST_ROUND)
        while True:
            await self.push()
            await asyncio.sleep(_ROUND)

    async def push(self) -> None:
        """Tell Datadog what it does not know yet of metrics and of the host; the rest is for the next round."""
        before = dict(self.pushed)
        if await self._push_host_tags():
            await self._push_metrics()
        if self.pushed != before:
            await anyio.to_thread.run_sync(self._save)

    async def _push_host_tags(self) -> bool:
        tags, host = sorted(self._config.host_tags), self._office.home.host
        if not tags or not host:
            return True
        body = json.dumps({"host": host, "tags": tags}).encode()
        return await self._tell(f"host:{host}", "POST", f"{HOST_TAGS}/{quote(host, safe='')}", body)

    async def _push_metrics(self) -> None:
        for metric in list(self._office.catalog.values()):
            body = metadata(metric)
            if body is not None:
                path = f"{METADATA}/{quote(metric_name(metric.name), safe='')}"
                if not await self._tell(metric.name, "PUT", path, body):
                    return

    async def _tell(self, what: str, method: str, path: str, body: bytes) -> bool:
        """Push one thing unless it was pushed as it is; returns whether to go on with the next."""
        digest = blake2b(body, digest_size=8).hexdigest()
        if self.pushed.get(what) == digest:
            return True
        answer = await self._transport.manage(method, path, body)
        if answer.verdict is Verdict.TAKEN or answer.verdict is Verdict.REFUSED:  # what it refuses it refuses again
            self.pushed[what] = digest
        elif answer.status != 404:  # 404: no point has arrived yet
            return False
        await asyncio.sleep(max(_BETWEEN, answer.asked or 0.0))
        return True

    def _load(self) -> dict[str, str]:
        if self._file is not None:
            with suppress(OSError, ValueError):
                known = json.loads(self._file.read_bytes())
                if isinstance(known, dict):
                    return {str(name): str(digest) for name, digest in known.items()}
        return {}

    def _save(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # it is pushed once more then
                draft = self._file.with_suffix(".new")
                draft.write_text(json.dumps(self.pushed))
                draft.replace(self._file)


def metadata(metric: Metric) -> bytes | None:
    """The body that describes a metric; None where there is nothing to say, or no single name to say it of.

    Source: Datadog, API reference, "Edit metric metadata".
    """
    type_ = _TYPES.get(metric.kind)
    if type_ is None or not (metric.unit or metric.help):
        return None
    body: Mapping[str, str] = {
        "type": type_,
        **({"description": metric.help} if metric.help else {}),
        **({"unit": metric.unit} if metric.unit else {}),
        **({"per_unit": metric.per} if metric.per else {}),
    }
    return json.dumps(body).encode()
