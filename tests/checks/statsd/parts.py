"""What the tests of the statsd listener share: what was meant, line by line, and what came of it all."""

from __future__ import annotations

import ast
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vedette.emit import canonical_tags
from vedette.kit import Sketch
from vedette.metrics import Batch
from vedette.testing import Serving, serve_check
from vedette_checks.statsd import Statsd

OWN = "vedette.statsd."
_MEANT = re.compile(r"(\w+) (.+?) = (.*?)(?: \[([^\]]*)\])?(?: @(\d+))?", re.DOTALL)
_EVENT = re.compile(r"event (.+) \| (.*) \| (\w+) \| (\w*)(?: ?\[([^\]]*)\])?(?: @(\d+))?", re.DOTALL)

Key = tuple[str, str, tuple[str, ...], float | None]
"""Kind, name, tags without the instance's, time."""


@dataclass(slots=True)
class Came:
    """What a listener handed on, all intervals together.

    Attributes:
        metrics: a count's sum, a gauge's last value, a set's members, how often each value of a histogram came.
        events: (title, text, type, key, tags, time).
        statuses: (name, status, message, tags, time).
        own: sums of the listener's own counts, by name and tags.
        malformed: reasons expected; what came has only a number in `own`.
    """

    metrics: dict[Key, Any] = field(default_factory=dict)
    events: list[Any] = field(default_factory=list)
    statuses: list[Any] = field(default_factory=list)
    own: Counter[str] = field(default_factory=Counter)
    malformed: list[str] = field(default_factory=list)

    def add(self, kind: str, name: str, value: Any, tags: Iterable[str] = (), time: float | None = None) -> None:
        """Put one sample to those that are there."""
        key = (kind, name, tuple(sorted(tags)), time)
        if kind == "count":
            self.metrics[key] = self.metrics.get(key, 0) + value
        elif kind == "gauge":
            self.metrics[key] = value
        elif kind == "set":
            self.metrics.setdefault(key, set()).add(value)
        else:
            times = Counter(dict(value.bins)) if isinstance(value, Sketch) else value
            self.metrics[key] = self.metrics.get(key, Counter()) + times

    def value(self, name: str) -> Any:
        """The value of the one metric of this name."""
        (found,) = [value for key, value in self.metrics.items() if key[1] == name]
        return found

    def names(self) -> list[str]:
        """All names of metrics, sorted."""
        return sorted({key[1] for key in self.metrics})


def came(batches: Iterable[Batch]) -> Came:
    """Everything in these batches, without the instance's tag."""
    found = Came()
    for batch in batches:
        for sample in batch.samples:
            tags = [tag for tag in sample.tags if not tag.startswith("instance:")]
            if sample.name.startswith(OWN):
                if sample.kind == "count":
                    found.own[" ".join([sample.name.removeprefix(OWN), *tags])] += sample.value  # type: ignore[assignment]
            else:
                found.add(sample.kind.value, sample.name, sample.value, tags, sample.time)
        for event in batch.events:
            tags_ = _without_instance(event.tags)
            found.events.append((event.title, event.text, event.alert_type, event.aggregation_key, tags_, event.time))
        for status in batch.statuses:
            tags_ = _without_instance(status.tags)
            found.statuses.append((status.name, int(status.status), status.message, tags_, status.time))
    return found


def _without_instance(tags: Iterable[str]) -> tuple[str, ...]:
    return tuple(tag for tag in tags if not tag.startswith("instance:"))


# The conformance file


def conformance() -> list[tuple[bytes, str]]:
    """Its lines: what is sent, and what it means."""
    text = (Path(__file__).parent / "conformance.txt").read_text(encoding="utf-8")
    pairs = [line.rpartition("=> ") for line in text.split("\n") if "=>" in line and not line.startswith("#")]
    return [(_bytes(packet[:-1]), _text(meaning)) for packet, _, meaning in pairs]


def _text(text: str) -> str:
    return text.replace("\\n", "\n")


def _bytes(text: str) -> bytes:
    """The line with its escapes resolved; all other characters are UTF-8."""
    quoted = "".join(
        character if character.isascii() else "".join(f"\\x{byte:02x}" for byte in character.encode())
        for character in text.replace("'", "\\'")
    )
    found = ast.literal_eval(f"b'{quoted}'")
    assert isinstance(found, bytes)
    return found


def meant(pairs: Iterable[tuple[bytes, str]]) -> Came:
    """What these lines mean together."""
    found = Came()
    for _, meaning in pairs:
        if meaning.startswith("malformed: "):
            found.malformed.append(meaning.removeprefix("malformed: "))
        elif meaning.startswith("event "):
            match = _EVENT.fullmatch(meaning)
            assert match, meaning
            title, text, kind, key, tags, time = match.groups()
            found.events.append((title, text, kind, key, _tags(tags), int(time) if time else None))
        elif meaning != "nothing":
            match = _MEANT.fullmatch(meaning)
            assert match, meaning
            kind, name, value, tags, time = match.groups()
            if kind == "status":
                number, _, message = value.partition(" | ")
                found.statuses.append((name, int(number), message, _tags(tags), int(time) if time else None))
            else:
                found.add(kind, name, _value(kind, value), _tags(tags), int(time) if time else None)
    return found


def _tags(text: str | None) -> tuple[str, ...]:
    return canonical_tags((text or "").split(","))


def _value(kind: str, text: str) -> Any:
    if kind == "set":
        return text
    if kind in ("count", "gauge"):
        return float(text)
    pairs = (one.split("x") for one in text.split())
    return Counter({float(value): int(times) for value, times in pairs})


# A listener at work


class Line:
    """A listener that is served, and a socket to send to its UDP port."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.sent = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send(self, *packets: bytes) -> None:
        """Send datagrams."""
        for packet in packets:
            self._socket.sendto(packet, ("127.0.0.1", self.serving.check.port))
            self.sent += 1

    async def all(self, packets: int | None = None) -> Came:
        """What came of all packets sent so far, once it has been handed on."""
        wanted = self.sent if packets is None else packets
        await self.serving.wait_for(lambda _: self._packets() >= wanted, 20)
        hand_overs = self._hand_overs()
        await self.serving.wait_for(lambda _: self._hand_overs() > hand_overs, 20)
        return came(self.serving.batches)

    def _packets(self) -> float:
        return sum(value for key, value in came(self.serving.batches).own.items() if key.startswith("packets "))

    def _hand_overs(self) -> int:
        return len(self.serving.values(f"{OWN}contexts"))

    def close(self) -> None:
        self._socket.close()


@asynccontextmanager
async def listening(**options: Any) -> AsyncIterator[Line]:
    """A listener on a free port that hands on ten times a second."""
    async with serve_check(Statsd, {"listen": "127.0.0.1:0", "interval": "100ms", **options}) as serving:
        line = Line(serving)
        try:
            yield line
        finally:
            line.close()
