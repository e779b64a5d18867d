"""Sink `prometheus`: a page for Prometheus to scrape, served by this agent itself.

Formats: Prometheus text exposition 0.0.4 and OpenMetrics 1.0, written and negotiated by `prometheus_client`.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import hmac
import io
import logging
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import anyio
import anyio.to_thread
from prometheus_client.exposition import make_wsgi_app
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.utils import floatToGoString
from pydantic import Field, field_validator, model_validator

from vedette import Batch, Duration, Kind, Metric, Sample, Secret, Sink, SinkConfig, hookimpl
from vedette.kit import PromNames, Sketch

_SILENCE = 10.0  # seconds that a scraper may stay silent
_MOST_SCRAPERS = 32
_LIFETIMES = 3  # intervals that a series stays unseen
_LIFETIME = 300.0  # seconds, for instances without an interval
_SWEEP = 15.0
_MOST_MEMBERS = 100_000
_STATUS = "status"
_BUCKETS = (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000)


class PrometheusConfig(SinkConfig):
    """Options of the `prometheus` sink."""

    listen: str = Field(
        "127.0.0.1:9464",
        description="Address and port of the page; port 0 takes a free one.",
        examples=["0.0.0.0:9464", "[::]:9464"],
    )
    buckets: tuple[float, ...] = Field(
        _BUCKETS,
        min_length=1,
        description="Upper bounds of the buckets of histograms and distributions, in the metric's own unit.",
    )
    set_window: Duration = Field(60.0, gt=0, description="Time over which the distinct members of a set are counted.")
    tls_cert: Path | None = Field(None, description="Certificate chain (PEM): serve https.")
    tls_key: Path | None = Field(None, description="Its private key (PEM), if it is not in `tls_cert`.")
    username: str = Field("", description="Ask scrapers for this user name (basic authentication).")
    password: Secret | None = Field(None, description="And for this password.")

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        split_address(value)
        return value

    @field_validator("buckets")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(low >= high for low, high in pairwise(value)) or value[-1] == float("inf"):
            raise ValueError("must be ascending and finite")
        return value

    @model_validator(mode="after")
    def _pairs(self) -> PrometheusConfig:
        if bool(self.username) != (self.password is not None):
            raise ValueError("give both username and password, or neither")
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("tls_key needs tls_cert")
        return self


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:9464`, `[::]:9464` or `:9464` (every IPv4 address).

    Raises:
        ValueError: the text is none of these.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535 or (":" in host and not bracketed):
        raise ValueError("must be an address and a port, such as 127.0.0.1:9464 or [::]:9464")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - only if the user leaves the host out


class PrometheusSink(Sink[PrometheusConfig]):
    """Keeps the newest state of every series; scrapes read it from a thread of their own."""

    name = "prometheus"

    def __init__(self, config: PrometheusConfig) -> None:
        super().__init__(config)
        self.url = ""
        """Where the page is while it is served."""
        self._store = Store(config.buckets, config.set_window, self.catalog, self.log.warning)

    async def run(self, batches: AsyncIterator[Batch]) -> None:
        """Serve the page until the agent stops.

        Raises:
            OSError: the address cannot be had; the text names it.
        """
        server = await anyio.to_thread.run_sync(self._serve)
        self.url = server.url
        self.log.info("serving %s", self.url)
        self.recovered()
        try:
            async for batch in batches:
                self.lost += self._store.add(batch)
        finally:
            self.url = ""
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(server.stop)

    def _serve(self) -> Server:
        config = self.config
        app = _safely(make_wsgi_app(self._store), self.log)
        if config.password is not None:
            app = with_password(app, config.username, config.password.reveal())
        try:
            return Server(config.listen, app, _tls(config), self.log)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {config.listen}: {error.strerror or error}") from None


def _tls(config: PrometheusConfig) -> ssl.SSLContext | None:
    if config.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except OSError as error:
        why = "no certificate with its key" if isinstance(error, ssl.SSLError) else error.strerror
        raise OSError(error.errno, f"{config.tls_cert}: {why}") from None
    return context


# Series


@dataclass(frozen=True, slots=True)
class _Name:
    """A metric as Prometheus sees it: one dotted name and kind, whose first series claimed the page's names.

    Attributes:
        dotted: the name in vedette.
        kind: the kind of its samples, or `status`.
        family: the Prometheus name, for counters without `_total`.
        type: counter, gauge or histogram.
        claims: every name that its lines may bear in one of the formats.
    """

    dotted: str
    kind: str
    family: str
    type: str
    claims: tuple[str, ...]


@dataclass(slots=True)
class _Series:
    """The state of one series. `value` is a float, a histogram's counts and sum, or a set's members and times."""

    name: _Name
    kind: str
    labels: dict[str, str]
    identity: tuple[str, tuple[tuple[str, str], ...]]
    value: Any
    when: float = float("-inf")
    seen: float = 0.0


@dataclass(slots=True)
class _Instance:
    """The series of one instance."""

    lifetime: float
    next_sweep: float
    series: dict[tuple[str, tuple[str, ...]], _Series] = field(default_factory=dict)


@dataclass(slots=True)
class _Observed:
    """What a classic histogram is made of: observations per bucket (the last is beyond all bounds) and their sum."""

    counts: list[int]
    sum: float = 0.0


class Store:
    """The newest state of every series, written by the agent's loop and read by scrapers' threads.

    It is what `prometheus_client` calls a registry: it has `collect` and `restricted_registry`.

    Args:
        buckets: ascending upper bounds of histogram buckets.
        set_window: seconds over which a set's members are counted.
        catalog: declared metrics by name, for help texts; may grow.
        complain: called once for each name that cannot be shown.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        buckets: Iterable[float],
        set_window: float,
        catalog: Mapping[str, Metric],
        complain: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bounds = tuple(float(bound) for bound in buckets)
        self._window = set_window
        self._catalog = catalog
        self._complain = complain
        self._clock = clock
        self._lock = threading.Lock()  # held for one instance at a time, so that neither side waits long
        self._instances: dict[str, _Instance] = {}
        self._names: dict[str, tuple[_Name, int]] = {}
        self._claimed: dict[str, str] = {}
        self._taken: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
        self._complained: set[str] = set()
        self._prom = PromNames()

    def add(self, batch: Batch) -> int:
        """Take a batch over; returns how many samples could not be shown."""
        now = self._clock()
        with self._lock:
            if batch.closed:
                self._drop(batch.instance)
                return 0
            instance = self._instances.get(batch.instance)
            if instance is None:
                instance = self._instances[batch.instance] = _Instance(0.0, now + _SWEEP)
            instance.lifetime = _LIFETIMES * batch.interval if batch.interval else _LIFETIME
            lost = 0
            for sample in batch.samples:
                if not self._take(instance, sample, sample.kind, batch.time, now):
                    lost += 1
            for status in batch.statuses:
                as_sample = Sample(status.name, Kind.GAUGE, int(status.status), status.tags, status.time)
                self._take(instance, as_sample, _STATUS, batch.time, now)
            if now >= instance.next_sweep:
                self._sweep(instance, now)
            return lost

    def _take(self, instance: _Instance, sample: Sample, kind: str, batch_time: float, now: float) -> bool:
        key = (sample.name, sample.tags)
        series = instance.series.get(key)
        if series is None or series.kind is not kind:
            if series is not None or (series := self._admit(sample.name, kind, sample.tags)) is None:
                self._complain_once(f"{sample.name}: not shown as {kind}: the name is already used for something else")
                return False
            instance.series[key] = series
        series.seen = now
        when = batch_time if sample.time is None else sample.time
        number: Any = sample.value
        if kind in _LEVELS:
            if when >= series.when:  # a late point must not replace a newer one
                series.when = when
                series.value = number if number.__class__ is float else float(number)
            return True
        return self._accumulate(series, number, now)

    def _accumulate(self, series: _Series, number: Any, now: float) -> bool:
        if series.kind == Kind.COUNT:
            if number < 0:
                self._complain_once(f"{series.name.dotted}: a negative count cannot be shown: counters only grow")
                return False
            series.value += float(number)
        elif series.kind == Kind.SET:
            members: dict[str, float] = series.value
            if number not in members and len(members) >= _MOST_MEMBERS:
                self._complain_once(f"{series.name.dotted}: counts no more than {_MOST_MEMBERS} members")
                return False
            members.pop(number, None)
            members[number] = now  # at the end: members stay in the order of their time
        else:
            observed: _Observed = series.value
            bins = number.bins if isinstance(number, Sketch) else ((number, 1),)
            for value, times in bins:
                observed.counts[bisect.bisect_left(self._bounds, value)] += times
            observed.sum += number.sum if isinstance(number, Sketch) else float(number)
        return True

    # Names

    def _admit(self, dotted: str, kind: str, tags: tuple[str, ...]) -> _Series | None:
        """A new series, or None where its name or its labels are already used for another."""
        name, users = self._names.get(dotted) or (_name(dotted, kind), 0)
        if name.kind != kind:
            return None
        if not users and any(claim in self._claimed for claim in name.claims):
            return None
        pairs = self._prom.labels(tags)
        identity = (name.family, pairs)
        if identity in self._taken:
            return None
        if not users:
            self._claimed.update(dict.fromkeys(name.claims, dotted))
        self._names[dotted] = (name, users + 1)
        self._taken.add(identity)
        labels = {f"tag_{key}" if key == "le" else key: value for key, value in pairs}
        return _Series(name, kind, labels, identity, self._empty(kind))

    def _empty(self, kind: str) -> Any:
        if kind == Kind.SET:
            return {}
        if kind in (Kind.HISTOGRAM, Kind.DISTRIBUTION):
            return _Observed([0] * (len(self._bounds) + 1))
        return 0.0

    def _release(self, series: _Series) -> None:
        self._taken.discard(series.identity)
        name, users = self._names[series.name.dotted]
        if users > 1:
            self._names[name.dotted] = (name, users - 1)
            return
        del self._names[name.dotted]
        for claim in name.claims:
            del self._claimed[claim]

    def _drop(self, instance: str) -> None:
        gone = self._instances.pop(instance, None)
        if gone is not None:
            for series in gone.series.values():
                self._release(series)

    def _sweep(self, instance: _Instance, now: float) -> None:
        """Remove the series that were not seen for too long, and members out of the window."""
        instance.next_sweep = now + _SWEEP
        oldest = now - instance.lifetime
        for key in [key for key, series in instance.series.items() if series.seen < oldest]:
            self._release(instance.series.pop(key))
        for series in instance.series.values():
            if series.kind == Kind.SET:
                _forget_members(series.value, now - self._window)

    def _complain_once(self, what: str) -> None:
        if what not in self._complained and len(self._complained) < 1_000:
            self._complained.add(what)
            self._complain(what)

    # Reading, by scrapers' threads

    def collect(self) -> Iterator[Family]:
        """The page's families, sorted by name; called by `prometheus_client`."""
        families: dict[str, Family] = {}
        with self._lock:
            instances = list(self._instances)
        for instance in instances:
            with self._lock:
                rows = self._snapshot(instance)
            for name, labels, value in rows:
                family = families.get(name.family)
                if family is None:
                    family = families[name.family] = Family(name.family, self._help(name), name.type)
                self._write(family, labels, value)
        yield from (families[name] for name in sorted(families))

    def restricted_registry(self, names: Iterable[str]) -> _Some:
        """The same with only the families that have one of these names; serves `?name[]=`."""
        return _Some(self, frozenset(names))

    def _snapshot(self, name: str) -> list[tuple[_Name, dict[str, str], Any]]:
        instance = self._instances.get(name)
        if instance is None:
            return []
        self._sweep(instance, self._clock())
        if not instance.series:
            del self._instances[name]
        return [(series.name, series.labels, _copy(series.value)) for series in instance.series.values()]

    def _help(self, name: _Name) -> str:
        if name.kind == _STATUS:
            return f"Status of {name.dotted}: 0 OK, 1 warning, 2 critical, 3 unknown."
        metric = self._catalog.get(name.dotted)
        text = (metric.help if metric else "") or f"{name.dotted}."
        if metric is None or not metric.unit:
            return text
        return f"{text} Unit: {metric.unit}{f' per {metric.per}' if metric.per else ''}."

    def _write(self, family: Family, labels: dict[str, str], value: Any) -> None:
        if isinstance(value, float):
            family.add_sample(f"{family.name}_total" if family.type == "counter" else family.name, labels, value)
            return
        so_far = 0
        for bound, count in zip((*self._bounds, float("inf")), value.counts, strict=True):
            so_far += count
            le = floatToGoString(bound)  # type: ignore[no-untyped-call]
            family.add_sample(f"{family.name}_bucket", {**labels, "le": le}, so_far)
        family.add_sample(f"{family.name}_count", labels, so_far)
        family.add_sample(f"{family.name}_sum", labels, value.sum)


_LEVELS = frozenset({Kind.GAUGE, Kind.COUNTER, Kind.RATE, _STATUS})
"""Kinds of which the newest value is all that counts: totals are shown as they are."""


@dataclass(frozen=True, slots=True)
class _Some:
    """Part of a store."""

    store: Store
    names: frozenset[str]

    def collect(self) -> Iterator[Family]:
        """The families asked for."""
        for family in self.store.collect():
            if self.names & {family.name, *(sample.name for sample in family.samples)}:
                yield family


def _name(dotted: str, kind: str) -> _Name:
    name = PromNames.metric(dotted)
    if kind in (Kind.COUNT, Kind.COUNTER, Kind.RATE):
        name = name.removesuffix("_total") or name
        return _Name(dotted, kind, name, "counter", (name, f"{name}_total", f"{name}_created"))
    if kind in (Kind.HISTOGRAM, Kind.DISTRIBUTION):
        parts = ("", "_bucket", "_sum", "_count", "_created")
        return _Name(dotted, kind, name, "histogram", tuple(f"{name}{part}" for part in parts))
    return _Name(dotted, kind, name, "gauge", (name,))


def _copy(value: Any) -> Any:
    if isinstance(value, _Observed):
        return _Observed(value.counts.copy(), value.sum)
    return float(len(value)) if isinstance(value, dict) else value


def _forget_members(members: dict[str, float], oldest: float) -> None:
    while members:
        first = next(iter(members))
        if members[first] >= oldest:
            return
        del members[first]


# Serving

_App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def _safely(app: Any, log: logging.Logger) -> _App:
    """The application, whose faults become a 500 and one line instead of a traceback."""

    def safe(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            answer: Iterable[bytes] = app(environ, start_response)
        except Exception as error:
            log.error("a scrape failed: %s: %s", type(error).__name__, error)
            log.debug("a scrape failed", exc_info=True)
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"the page cannot be made; the agent's log says why\n"]
        return answer

    return safe


def with_password(app: Any, username: str, password: str) -> _App:
    """The WSGI application behind basic authentication (RFC 7617)."""
    expected = f"{username}:{password}".encode()

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        try:
            credentials = base64.b64decode(given, validate=True) if scheme.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            credentials = b""
        if hmac.compare_digest(credentials, expected):
            answer: Iterable[bytes] = app(environ, start_response)
            return answer
        start_response("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="vedette"')])
        return [b"user name and password, please\n"]

    return guarded


class _Handler(WSGIRequestHandler):
    """One scrape. A scraper that stays silent is cut off."""

    timeout = _SILENCE

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: scrapes are no news."""

    def get_stderr(self) -> Any:
        """Where wsgiref would print the traceback of a scraper that stopped reading."""
        return io.StringIO()


class Server(ThreadingMixIn, WSGIServer):
    """Listens from construction to `stop`; each scrape has a thread.

    Args:
        listen: `host:port`.
        app: the WSGI application.
        tls: serve https with this context.
        log: told about faults in the application.

    Raises:
        OSError: the address cannot be had.
    """

    daemon_threads = False  # so that `stop` waits for them; it closes their connections first
    request_queue_size = 16

    def __init__(self, listen: str, app: Any, tls: ssl.SSLContext | None, log: logging.Logger) -> None:
        self._tls = tls
        self._log = log
        self._open: set[Any] = set()
        self._open_lock = threading.Lock()
        host, port = split_address(listen)
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self.address_family = family
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]
        self.set_app(app)
        self._thread = threading.Thread(target=self.serve_forever, name="prometheus_sink", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the page is, with the real port."""
        host, port = self.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else host
        return f"{'https' if self._tls else 'http'}://{shown!s}:{port}/metrics"

    def stop(self) -> None:
        """Stop listening, cut off whoever is connected, and wait for all threads."""
        self.shutdown()
        self._thread.join()
        with self._open_lock:
            for connection in self._open:
                _cut(connection)
        self.server_close()

    def server_bind(self) -> None:
        """Bind without the reverse look-up of the own name that HTTPServer makes."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def get_request(self) -> tuple[Any, Any]:
        """Accept; the TLS handshake happens in the scrape's own thread, at its first read."""
        connection, address = super().get_request()
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the scrape's thread, unless too many are at it."""
        with self._open_lock:
            crowded = len(self._open) >= _MOST_SCRAPERS
            if not crowded:
                self._open.add(request)
        if crowded:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close the connection at the end of its scrape."""
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that went away, stays silent or speaks no TLS is not worth a line."""
        self._log.debug("a scrape broke off", exc_info=True)


def _cut(connection: Any) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


@hookimpl
def register_sinks(register: Any) -> None:
    """Register the sink."""
    register(PrometheusSink)
