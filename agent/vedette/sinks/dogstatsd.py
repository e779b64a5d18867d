"""Sink `dogstatsd`: samples as DogStatsD packets over UDP or a unix socket, through Datadog's own client.

Protocol: Datadog, "DogStatsD: datagram and shell usage".
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import anyio
from pydantic import Field, model_validator

from vedette import Batch, Diagnosis, Kind, Sample, Sink, SinkConfig, hookimpl
from vedette.kit import Deltas, Sketch, probe_dns, probe_unix


@contextmanager
def _without(*packages: str) -> Iterator[None]:
    """Let optional imports of these packages fail meanwhile, unless they are loaded already."""
    hidden = [name for name in packages if name not in sys.modules]
    absent: Any = dict.fromkeys(hidden)  # None is how the import system notes that there is no such module
    sys.modules.update(absent)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _without("requests", "urllib3"):  # 5 MB and 50 ms of the client's HTTP half, which this sink has no use for
    from datadog.dogstatsd.base import DogStatsd

_FLUSH_AFTER = 0.1  # seconds that a started packet waits for company: the wake-ups of many small runs are shared
_MOST_PACKETS = 8_192  # waiting for the sender thread; it is asked to take no more well before that
_ENOUGH_PACKETS = 1_024
_CALM = 10.0  # seconds without a loss before sending counts as working: UDP reports every other loss only
_PATIENCE = 2.0
_HURRY = 0.5
_MOST_CACHED = 50_000
_LONGEST_TEXT = 4_000
_LONGEST_TITLE = 500
_LONGEST_KEY = 100
_MOST_EVENT_TAGS = 3_000  # characters
_ALERT_TYPES = frozenset({"error", "warning", "info", "success"})
_BREAKS_NAME = re.compile(r"[:|\s]")
_BREAKS_TAG = re.compile(r"[^\w\d_\-:/\.]")  # the client's own rule: datadog.util.format.normalize_tags
_LIBRARY_LOG = logging.getLogger("datadog.dogstatsd")


class DogstatsdConfig(SinkConfig):
    """Options of the `dogstatsd` sink."""

    host: str = Field("127.0.0.1", min_length=1, description="Host of the Datadog agent or StatsD server.")
    port: int = Field(8125, ge=1, le=65535, description="Its UDP port.")
    socket: str = Field(
        "",
        description="Unix socket instead of host and port: a path, or `unixgram://` or `unixstream://` and a path.",
        examples=["/var/run/datadog/dsd.socket"],
    )
    max_packet: int = Field(
        0, ge=0, le=65507, description="Largest packet in bytes. Default: 1432 for UDP, 8192 for a unix socket."
    )
    histogram_as: Literal["h", "d"] = Field(
        "h", description="Send histograms as `h` (aggregated by the agent) or as `d` (distributions)."
    )

    @model_validator(mode="after")
    def _one_target(self) -> DogstatsdConfig:
        if self.socket and self.model_fields_set & {"host", "port"}:
            raise ValueError("give either socket or host and port, not both")
        if 0 < self.max_packet < 1432:
            raise ValueError("max_packet must be 0 or at least 1432")
        return self

    @property
    def target(self) -> str:
        """Where packets go, for people."""
        if self.socket:
            return self.socket
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class DogstatsdSink(Sink[DogstatsdConfig]):
    """Totals become deltas or per-second gauges here; the client's own thread sends, so the loop never waits."""

    name = "dogstatsd"
    billed = True

    def __init__(self, config: DogstatsdConfig) -> None:
        super().__init__(config)
        self._deltas = Deltas()
        self._machine = socket.gethostname()
        self._hosted: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
        self._stamped: dict[tuple[str, tuple[str, ...], int], Any] = {}
        self._client: Client
        self._timer: asyncio.TimerHandle | None = None
        self._seen_lost = 0
        self._sent_before = 0
        self._last_loss = -math.inf

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """Whether somebody listens, where that can be known without sending anything."""
        config = self.config
        if config.socket:
            scheme, separator, rest = config.socket.partition("://")
            path = Path(rest if separator else config.socket)
            await probe_unix(diagnosis, path, datagrams=scheme != "unixstream" or not separator)
            return
        if not await probe_dns(diagnosis, config.host):
            diagnosis.not_reached("UDP")
            return
        local = _listens_here(config.host, config.port)
        if local is None:
            diagnosis.info("UDP", f"whether anybody listens on {config.target} cannot be known without sending")
        elif local:
            diagnosis.ok("UDP", f"somebody listens on {config.target}")
        else:
            hint = "is the Datadog agent running, with dogstatsd_port set to this?"
            diagnosis.failed("UDP", f"nobody listens on {config.target}", hint)

    async def run(self, batches: AsyncIterator[Batch]) -> None:
        """Send every batch; returns when all packets have left, or two seconds after the last batch."""
        client = self._client = open_client(self.config)
        self._seen_lost = self._sent_before = 0
        patience = _HURRY
        try:
            async for batch in batches:
                await self._room(client)
                if batch.lease is not None:
                    client.terms.add(batch.lease.term)
                self._translate(client, batch)
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(_FLUSH_AFTER, self._flush)
            patience = _PATIENCE
        finally:
            await self._close(client, patience)

    def succeed(self, predecessor: Sink[Any]) -> None:
        """Go on from the totals that the predecessor saw last."""
        if isinstance(predecessor, DogstatsdSink):
            self._deltas = predecessor._deltas

    # Translation

    def _translate(self, client: Client, batch: Batch) -> None:
        host_tag = self._host_tag(batch.host)
        line = client.line
        for sample in batch.samples:
            number: Any = sample.value
            tags: Any = sample.tags if host_tag is None else self._with_host(sample.tags, host_tag)
            if sample.kind is Kind.GAUGE and sample.time is None:
                line(sample.name, "g", number if number.__class__ is not Decimal else _plain(number), tags)
            else:
                self._translate_other(client, batch, sample, tags)
        for (name, tags, stamp), total in self._stamped.items():
            client.line_at(name, "c", _plain(total), tags, stamp)
        self._stamped.clear()
        self._send_statuses(client, batch, host_tag)
        self._send_events(client, batch, host_tag)
        if batch.closed:
            self._deltas.forget(batch.instance)

    def _translate_other(self, client: Client, batch: Batch, sample: Sample, tags: Any) -> None:
        name, kind, value, own_tags, when = sample
        moment = batch.time if when is None else when
        if kind is Kind.GAUGE:
            self._gauge(client, name, value, when, tags)
        elif kind is Kind.COUNT:
            self._count(client, name, value, when, tags)
        elif kind is Kind.COUNTER:
            delta = self._deltas.delta(batch.instance, (name, own_tags), value, moment)
            if delta is not None:
                self._count(client, name, delta, when, tags)
        elif kind is Kind.RATE:
            rate = self._deltas.rate(batch.instance, (name, own_tags), value, moment)
            if rate is not None:
                self._gauge(client, name, rate, when, tags)
        elif kind is Kind.SET:
            client.line(name, "s", _one_line(str(value)), tags)
        else:
            letter = "d" if kind is Kind.DISTRIBUTION else self.config.histogram_as
            bins = value.bins if isinstance(value, Sketch) else ((value, 1),)
            for number, times in bins:
                client.line(name, letter, _plain(number), tags, _share(times))

    def _gauge(self, client: Client, name: str, value: Any, when: float | None, tags: Any) -> None:
        stamp = _stamp(when)
        if stamp:
            client.line_at(name, "g", _plain(value), tags, stamp)
        else:
            client.line(name, "g", _plain(value), tags)

    def _count(self, client: Client, name: str, value: Any, when: float | None, tags: Any) -> None:
        stamp = _stamp(when)
        if stamp:  # of points with one time the last wins at Datadog, so they are added up here
            key = (name, tags, stamp)
            self._stamped[key] = self._stamped[key] + value if key in self._stamped else value
        else:
            client.line(name, "c", _plain(value), tags)

    def _send_statuses(self, client: Client, batch: Batch, host_tag: str | None) -> None:
        for status in batch.statuses:
            tags: Any = self._with_host(status.tags, host_tag) if host_tag == "host:" else status.tags
            client.service_check(
                _metric_name(status.name),
                int(status.status),
                tags=tags,
                timestamp=int(batch.time if status.time is None else status.time),
                hostname=_hostname(status.tags, batch.host if host_tag else None),
                message=_one_field(status.message) or None,
            )

    def _send_events(self, client: Client, batch: Batch, host_tag: str | None) -> None:
        for event in batch.events:
            tags = self._with_host(event.tags, host_tag) if host_tag == "host:" else event.tags
            client.event(
                _encodable(event.title)[:_LONGEST_TITLE],
                _encodable(event.text)[:_LONGEST_TEXT],
                alert_type=event.alert_type if event.alert_type in _ALERT_TYPES else "info",
                aggregation_key=_one_line(event.aggregation_key)[:_LONGEST_KEY] or None,
                date_happened=int(batch.time if event.time is None else event.time),
                tags=_some(tags),
                hostname=_hostname(event.tags, batch.host if host_tag else None),
            )

    def _host_tag(self, host: str) -> str | None:
        """The tag that names another host than the receiver's own, `host:` for none, or None for its own."""
        return None if host == self._machine else f"host:{host}"

    def _with_host(self, tags: tuple[str, ...], host_tag: str) -> tuple[str, ...]:
        try:
            return self._hosted[host_tag, tags]
        except KeyError:
            if len(self._hosted) >= _MOST_CACHED:
                self._hosted.clear()
            named = any(tag.startswith("host:") for tag in tags)
            made = self._hosted[host_tag, tags] = tags if named else (*tags, host_tag)
            return made

    # Sending

    def _flush(self) -> None:
        self._timer = None
        self._client.flush()
        self._client.terms.clear()
        self._account(self._client)

    def _account(self, client: Client) -> None:
        now = time.monotonic()
        self.fenced += client.take_fenced()
        lost = client.lost - self._seen_lost
        if lost:
            self._seen_lost += lost
            self._sent_before = client.sent
            self._last_loss = now
            target = f"{self.config.target}: "  # one outage has several reasons in turn; the first is said
            self.failed(self.trouble if self.trouble.startswith(target) else target + client.trouble, lost)
        elif self.trouble and client.sent > self._sent_before and now - self._last_loss > _CALM:
            self.recovered()

    async def _room(self, client: Client) -> None:
        """Wait while the sender thread is far behind: the queue before this sink drops the oldest and counts."""
        while client.waiting > _ENOUGH_PACKETS:  # noqa: ASYNC110 - the library's queue has no event to wait for
            await asyncio.sleep(_FLUSH_AFTER)

    async def _close(self, client: Client, patience: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        client.flush()
        await client.close(patience)
        if (unsent := client.lines - client.sent - client.lost - client.fenced) > 0:
            client.lost += unsent
            client.trouble = client.trouble or "packets could not be sent before the stop"
        self._account(client)


class Client(DogStatsd):
    """Datadog's client; tags are cleaned and joined once per tag set, and lines are counted where they end.

    Attributes:
        lines: lines in all packets made so far.
        sent: lines in packets that the system took.
        lost: lines in packets that it refused or that waited too long.
        fenced: lines in packets that were not sent since a term had ended in which some of them were collected.
        terms: those terms, for the lines that wait for the next flush.
        trouble: why, in the system's words.
    """

    def __init__(self, **options: Any) -> None:
        self.lines = self.sent = self.lost = self.fenced = 0
        self.trouble = ""
        self.terms: set[Any] = set()
        self._told = 0
        self._names: dict[str, str] = {}
        self._suffixes: dict[Any, str] = {}
        self._hush = _Hush()
        super().__init__(**options)
        _LIBRARY_LOG.setLevel(logging.WARNING)  # the agent's log silences the library: its reasons are wanted here
        _LIBRARY_LOG.addFilter(self._hush)

    @property
    def waiting(self) -> int:
        """Packets that the sender thread has not taken yet."""
        queue = self._queue
        return queue.qsize() if queue is not None else 0

    def line(self, name: str, letter: str, value: Any, tags: tuple[str, ...], rate: str = "") -> None:
        """Queue one metric's line: what the library's own methods do, at half their cost.

        Args:
            name: dotted metric name.
            letter: `g`, `c`, `s`, `h` or `d`.
            value: a number or a set's member, ready to be written.
            tags: `key:value` strings.
            rate: empty, or `|@` and the share of all observations that this line stands for.
        """
        try:
            self._send(f"{self._names[name]}:{value}|{letter}{rate}{self._suffixes[tags]}")
        except KeyError:
            self._learn(name, tags)
            self._send(f"{self._names[name]}:{value}|{letter}{rate}{self._suffixes[tags]}")

    def line_at(self, name: str, letter: str, value: Any, tags: tuple[str, ...], stamp: int) -> None:
        """Queue the line of a gauge (`g`) or count (`c`) with its own time in Unix seconds."""
        send: Any = self.gauge_with_timestamp if letter == "g" else self.count_with_timestamp
        send(_metric_name(name), value, stamp, tags)

    async def close(self, patience: float) -> None:
        """Send what is queued, then end the sender thread and close the socket.

        A sender that hangs, in a name lookup perhaps, is left behind after `patience` seconds; it is a daemon.
        """
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def stop() -> None:
            with self._hush.here():
                self.stop()
            _LIBRARY_LOG.removeFilter(self._hush)
            with suppress(RuntimeError):  # nobody waits any more and the loop is closed
                loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=stop, name="dogstatsd_stop", daemon=True).start()
        with anyio.move_on_after(patience, shield=True):
            await ended.wait()

    def _learn(self, name: str, tags: tuple[str, ...]) -> None:
        for cache in (self._names, self._suffixes):
            if len(cache) >= _MOST_CACHED:
                cache.clear()
        self._names[name] = _metric_name(name)
        joined = ",".join(_BREAKS_TAG.sub("_", tag) for tag in tags)
        self._suffixes[tags] = f"|#{joined}" if joined else ""

    def _send_to_server(self, packet: str, *args: Any, **kwargs: Any) -> Any:
        self.lines += packet.count("\n") + 1
        if self.terms:
            packet = _InTerm(packet, frozenset(self.terms))
        return super()._send_to_server(packet, *args, **kwargs)

    def take_fenced(self) -> int:
        """How many lines became `fenced` since this was asked last."""
        news, self._told = self.fenced - self._told, self.fenced
        return news

    def _xmit_packet(self, packet: str, *args: Any, **kwargs: Any) -> Any:
        if isinstance(packet, _InTerm) and not packet.current:
            self.fenced += packet.count("\n")
            return False
        with self._hush.here():
            sent = super()._xmit_packet(packet, *args, **kwargs)
        if sent:
            self.sent += packet.count("\n")
        elif sent is not None:
            self._give_up(packet, self._hush.reason or "the receiver does not keep up")
        return sent

    def _account_dropped_queue_full(self, item: Any) -> None:
        self._give_up(getattr(item, "payload", item), "packets are made faster than they can be sent")

    def _account_dropped_expired(self, item: Any) -> None:
        self._give_up(getattr(item, "payload", item), "packets waited too long for being sent")

    def _give_up(self, packet: str, why: str) -> None:
        self.lost += packet.count("\n")
        self.trouble = why


class _InTerm(str):
    """A packet with lines that may be sent only while the fleet counts this agent among its members.

    A process that was stopped wakes up with packets in its queue; meanwhile others may have sent newer values.
    """

    terms: frozenset[Any]

    def __new__(cls, text: str, terms: frozenset[Any]) -> _InTerm:
        """A packet with the terms that must last."""
        made = super().__new__(cls, text)
        made.terms = terms
        return made

    def __add__(self, more: str) -> _InTerm:
        return _InTerm(str(self) + more, self.terms)

    @property
    def current(self) -> bool:
        """Whether all of them last."""
        return all(term.current for term in self.terms)


class _Hush(logging.Filter):
    """Keeps the library's line for each lost packet out of the log, and the reason it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.reason = ""
        self._threads: set[int] = set()

    @contextmanager
    def here(self) -> Iterator[None]:
        """Silence the calling thread."""
        self.reason = ""
        self._threads.add(threading.get_ident())
        try:
            yield
        finally:
            self._threads.discard(threading.get_ident())

    def filter(self, record: logging.LogRecord) -> bool:
        """Let only other threads' records pass."""
        if record.thread not in self._threads:
            return True
        for argument in record.args or ():
            if isinstance(argument, OSError):
                self.reason = argument.strerror or type(argument).__name__
        return False


def open_client(config: DogstatsdConfig) -> Client:
    """A client for these options. Nothing is resolved or connected yet: its sender thread does that."""
    target: dict[str, Any] = {"host": config.host, "port": config.port}
    if config.socket:
        target = {"socket_path": config.socket}
    with _no_environment():
        return Client(
            **target,
            max_buffer_len=config.max_packet,
            disable_buffering=False,
            flush_interval=0,  # this sink flushes; the library's own thread could not be stopped
            disable_telemetry=True,
            origin_detection_enabled=False,
            disable_background_sender=False,
            sender_queue_size=_MOST_PACKETS,
            track_instance=False,  # its fork hooks wait for the queue to drain
        )


def _listens_here(host: str, port: int) -> bool | None:
    """Whether a process of this machine listens on this UDP port; None for other machines, and where it cannot be seen.

    Source: proc_pid_net(5): the second column of /proc/net/udp is address and port in hexadecimal.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))  # only an address of this machine can be bound
        except OSError:
            return None
    try:
        tables = [
            Path(f"/proc/net/{name}").read_text() for name in ("udp", "udp6") if Path(f"/proc/net/{name}").exists()
        ]
    except OSError:
        return None
    lines = [line.split() for table in tables for line in table.splitlines()[1:]]
    return any(int(words[1].rpartition(":")[2], 16) == port for words in lines) if tables else None


@contextmanager
def _no_environment() -> Iterator[None]:
    """The process without `DD_*`, from which the client would take tags, target and switches of its own."""
    hidden = {name: value for name, value in os.environ.items() if name.startswith("DD_") or name == "DATADOG_TAGS"}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def _stamp(when: float | None) -> int:
    """Whole seconds for `|T`, or 0 for none: the protocol knows no times to come."""
    return int(when) if when is not None and 0 < when <= time.time() else 0


def _share(times: int) -> str:
    """The `|@` field of a line that stands for `times` observations; the receiver takes the whole part of 1/rate."""
    rate = 1 / times
    return "" if times == 1 else f"|@{rate if int(1 / rate) == times else math.nextafter(rate, 0)}"


def _plain(value: Any) -> Any:
    return f"{value:f}" if isinstance(value, Decimal) else value


def _hostname(tags: tuple[str, ...], otherwise: str | None) -> str | None:
    """The host that a status or event is of: the one that its tags name goes before the agent's."""
    return next((tag[5:] for tag in tags if tag.startswith("host:") and len(tag) > 5), otherwise)


def _some(tags: tuple[str, ...]) -> list[str]:
    """As many of an event's tags as fit: the client refuses more than 8 KB."""
    ends = accumulate(len(tag) + 1 for tag in tags)
    return [tag for tag, end in zip(tags, ends, strict=True) if end <= _MOST_EVENT_TAGS]


def _metric_name(name: str) -> str:
    return _encodable(_BREAKS_NAME.sub("_", name))


def _encodable(text: str) -> str:
    """The text without lone surrogates, of which one would cost the whole packet."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _one_field(text: str) -> str:
    """The text without what ends a field; the client itself escapes the newlines of messages."""
    return _encodable(text).replace("|", "¦")


def _one_line(text: str) -> str:
    return " ".join(_one_field(text).splitlines())


@hookimpl
def register_sinks(register: Any) -> None:
    """Register the sink."""
    register(DogstatsdSink)
