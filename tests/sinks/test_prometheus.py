from __future__ import annotations

import asyncio
import base64
import logging
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import trustme
from prometheus_client import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from pydantic import ValidationError

from sinks.parts import START, batch, running, sample, until
from vedette import Kind, Metric, Secret, Status
from vedette.kit import Sketch
from vedette.listen import split_address
from vedette.metrics import ServiceCheck
from vedette.sinks.prometheus import PrometheusConfig, PrometheusSink
from vedette.sinks.prometheus import server as listener
from vedette.sinks.prometheus.store import Store

pytestmark = pytest.mark.anyio
GAUGE, COUNT, COUNTER, RATE = Kind.GAUGE, Kind.COUNT, Kind.COUNTER, Kind.RATE
HISTOGRAM, DISTRIBUTION, SET = Kind.HISTOGRAM, Kind.DISTRIBUTION, Kind.SET


class Page:
    """A store with a clock in hand."""

    def __init__(self, catalog: dict[str, Metric] | None = None) -> None:
        self.now = 1000.0
        self.complaints: list[str] = []
        self.store = Store((1, 5, 10), 60.0, catalog or {}, self.complaints.append, lambda: self.now)

    def add(self, *samples: Any, **rest: Any) -> int:
        return self.store.add(batch(*samples, **rest))

    @property
    def text(self) -> str:
        return generate_latest(self.store).decode()

    @property
    def lines(self) -> list[str]:
        return [line for line in self.text.splitlines() if not line.startswith("#")]


# Translation


def test_every_kind_becomes_its_type() -> None:
    page = Page({"redis.mem.used": Metric("redis.mem.used", GAUGE, unit="byte", help="Memory in use.")})
    page.add(
        sample("redis.mem.used", GAUGE, 1_048_576, "instance:main", "bare", "port:1"),
        sample("revenue", GAUGE, Decimal("12.50")),
        sample("requests", COUNT, 3),
        sample("total", COUNTER, 100),
        sample("bytes.total", RATE, 2.5),
        sample("latency", HISTOGRAM, 5),
        sample("spread", DISTRIBUTION, 7.5),
        sample("users", SET, "anna"),
        statuses=(ServiceCheck("redis.can_connect", Status.CRITICAL, "no", ("instance:main",)),),
    )
    assert page.text.splitlines() == [
        "# HELP bytes_total bytes.total.",
        "# TYPE bytes_total counter",
        "bytes_total 2.5",
        "# HELP latency latency.",
        "# TYPE latency histogram",
        'latency_bucket{le="1.0"} 0.0',
        'latency_bucket{le="5.0"} 1.0',
        'latency_bucket{le="10.0"} 1.0',
        'latency_bucket{le="+Inf"} 1.0',
        "latency_count 1.0",
        "latency_sum 5.0",
        "# HELP redis_can_connect Status of redis.can_connect: 0 OK, 1 warning, 2 critical, 3 unknown.",
        "# TYPE redis_can_connect gauge",
        'redis_can_connect{instance="main"} 2.0',
        "# HELP redis_mem_used Memory in use. Unit: byte.",
        "# TYPE redis_mem_used gauge",
        'redis_mem_used{bare="true",instance="main",port="1"} 1.048576e+06',
        "# HELP requests_total requests.",
        "# TYPE requests_total counter",
        "requests_total 3.0",
        "# HELP revenue revenue.",
        "# TYPE revenue gauge",
        "revenue 12.5",
        "# HELP spread spread.",
        "# TYPE spread histogram",
        'spread_bucket{le="1.0"} 0.0',
        'spread_bucket{le="5.0"} 0.0',
        'spread_bucket{le="10.0"} 1.0',
        'spread_bucket{le="+Inf"} 1.0',
        "spread_count 1.0",
        "spread_sum 7.5",
        "# HELP total_total total.",
        "# TYPE total_total counter",
        "total_total 100.0",
        "# HELP users users.",
        "# TYPE users gauge",
        "users 1.0",
    ]
    assert page.complaints == []


def test_counts_add_up_and_totals_are_shown_as_they_are() -> None:
    page = Page()
    for n, (count, total) in enumerate([(3, 100), (Decimal("0.5"), 130), (0, 7)]):
        page.add(sample("c", COUNT, count), sample("t", COUNTER, total), sample("r", RATE, total), at=START + n)
    assert page.lines == ["c_total 3.5", "r_total 7.0", "t_total 7.0"]


def test_a_negative_count_is_refused() -> None:
    page = Page()
    assert [page.add(sample("c", COUNT, value)) for value in (5, -2, -2)] == [0, 1, 1]
    assert page.lines == ["c_total 5.0"]
    assert page.complaints == ["c: a negative count cannot be shown: counters only grow"]


def test_histograms_accumulate_observations_and_sketches() -> None:
    page = Page()
    sketch = Sketch(bins=((0.5, 2), (1.0, 1), (10.0, 3), (99.0, 4)), sum=427.5, min=0.5, max=99.0)
    page.add(sample("h", HISTOGRAM, sketch, "le:x"), sample("h", HISTOGRAM, Decimal("1.5"), "le:x"))
    page.add(sample("h", HISTOGRAM, 1000, "le:x"))
    assert page.lines == [
        'h_bucket{le="1.0",tag_le="x"} 3.0',
        'h_bucket{le="5.0",tag_le="x"} 4.0',
        'h_bucket{le="10.0",tag_le="x"} 7.0',
        'h_bucket{le="+Inf",tag_le="x"} 12.0',
        'h_count{tag_le="x"} 12.0',
        'h_sum{tag_le="x"} 1429.0',
    ]


def test_a_set_counts_the_members_of_the_last_minute() -> None:
    page = Page()
    page.add(sample("users", SET, "anna"), sample("users", SET, "bob"), sample("users", SET, "anna"))
    assert page.lines == ["users 2.0"]
    page.now += 40
    page.add(sample("users", SET, "anna"), sample("users", SET, "eve"))
    assert page.lines == ["users 3.0"]
    page.now += 21
    page.add(sample("users", SET, "eve"))
    assert page.lines == ["users 2.0"]  # bob was last seen 61 s ago


def test_a_late_point_does_not_replace_a_newer_one() -> None:
    page = Page()
    page.add(sample("g", GAUGE, 3, at=START + 30), sample("g", GAUGE, 1, at=START + 10), at=START + 60)
    assert page.lines == ["g 3.0"]
    page.add(sample("g", GAUGE, 5), at=START + 60)
    assert page.lines == ["g 5.0"]


def test_tags_become_labels() -> None:
    page = Page()
    page.add(sample("g", GAUGE, 1, "__name__:x", "a-b:c:d", "key:one", "key:two", 'quote:"\\', "9:x"))
    assert page.lines == [
        'g{_9="x",a_b="c:d",key="one,two",quote="\\"\\\\",tag__name__="x"} 1.0',
    ]
    (family,) = parse_text(page.text)
    assert family.samples[0].labels["quote"] == '"\\'


# Names in conflict


def test_the_first_kind_of_a_name_wins() -> None:
    page = Page()
    page.add(sample("x", GAUGE, 1, "a:1"))
    assert page.add(sample("x", COUNT, 2, "a:2"), sample("x", RATE, 3, "a:1"), sample("x", GAUGE, 4, "a:1")) == 2
    assert page.add(sample("x", COUNT, 2, "a:2")) == 1
    assert page.lines == ['x{a="1"} 4.0']
    assert page.complaints == [
        "x: not shown as count: the name is already used for something else",
        "x: not shown as rate: the name is already used for something else",
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("a.b", GAUGE), ("a_b", GAUGE)),
        (("a.total", COUNT), ("a", COUNT)),
        (("a", COUNT), ("a.total", GAUGE)),
        (("a", COUNT), ("a", HISTOGRAM)),
        (("a.count", GAUGE), ("a", HISTOGRAM)),
        (("a", HISTOGRAM), ("a.sum", GAUGE)),
        (("a", HISTOGRAM), ("a.bucket", COUNT)),
    ],
)
def test_names_that_would_meet_on_the_page(first: tuple[str, Kind], second: tuple[str, Kind]) -> None:
    page = Page()
    assert page.add(sample(*first, 1)) == 0
    alone = page.text
    assert page.add(sample(*second, 1)) == 1
    assert page.text == alone
    assert len(page.complaints) == 1
    page.store.add(batch(closed=True))
    assert page.add(sample(*second, 1)) == 0  # the names are free again
    assert page.text != ""


def test_two_series_never_have_the_same_labels() -> None:
    page = Page()
    page.add(sample("g", GAUGE, 1, "a-b:1"))
    assert page.add(sample("g", GAUGE, 2, "a_b:1")) == 1
    assert page.add(sample("g", GAUGE, 2, "a-b:1"), instance="redis/other") == 1
    assert page.lines == ['g{a_b="1"} 1.0']


# The life of a series


@pytest.mark.parametrize(("interval", "lifetime"), [(10.0, 30.0), (0.0, 300.0)])
def test_a_series_goes_three_intervals_after_its_last_sample(interval: float, lifetime: float) -> None:
    page = Page()
    page.add(sample("stays", GAUGE, 1), sample("goes", GAUGE, 2), sample("c", COUNT, 3), interval=interval)
    page.now += lifetime - 1
    page.add(sample("stays", GAUGE, 1), interval=interval)
    assert page.lines == ["c_total 3.0", "goes 2.0", "stays 1.0"]
    page.now += 2
    assert page.lines == ["stays 1.0"]
    page.add(sample("c", COUNT, 1), interval=interval)
    assert page.lines == ["c_total 1.0", "stays 1.0"]
    page.now += lifetime + 1
    assert page.text == ""


def test_a_series_goes_even_if_nobody_scrapes() -> None:
    page = Page()
    for n in range(100):
        page.add(sample("g", GAUGE, n, f"job:{n}"), interval=10.0)
        page.now += 10
    (instance,) = page.store._instances.values()
    assert len(instance.series) <= 6
    assert len(page.store._taken) == len(instance.series)


def test_a_closed_instance_takes_its_series_along() -> None:
    page = Page()
    page.add(sample("g", GAUGE, 1, "instance:main"), statuses=(ServiceCheck("ok", Status.OK),))
    page.add(sample("g", GAUGE, 2, "instance:other"), instance="redis/other")
    page.store.add(batch(closed=True))
    assert page.lines == ['g{instance="other"} 2.0']
    page.store.add(batch(closed=True, instance="redis/other"))
    page.store.add(batch(closed=True, instance="redis/other"))
    assert page.text == ""
    assert (page.store._taken, page.store._names, page.store._claimed) == (set(), {}, {})


def test_scrapes_and_batches_at_once_see_whole_histograms() -> None:
    page = Page()
    done = threading.Event()
    fed = 0

    def feed() -> None:
        nonlocal fed
        while not done.is_set():
            twos = (sample("h", HISTOGRAM, 2, f"job:{fed % 3}", f"part:{part}") for part in range(10))
            assert page.add(*twos, instance=f"a/{fed % 3}") == 0
            if fed % 50 == 49:
                page.store.add(batch(closed=True, instance=f"a/{fed % 3}"))
            fed += 1

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        seen = 0
        while seen < 500:
            for family in page.store.collect():
                values = {(s.name, s.labels["job"], s.labels["part"]): s.value for s in family.samples}
                for (name, job, part), value in values.items():
                    if name == "h_count":
                        assert values["h_sum", job, part] == 2 * value
                        seen += 1
    finally:
        done.set()
        feeder.join()
    assert fed > 50
    assert page.complaints == []


def test_a_snapshot_is_not_changed_by_later_batches() -> None:
    page = Page()
    page.add(sample("h", HISTOGRAM, 2), sample("s", SET, "anna"))
    before = page.store._snapshot("redis/main")
    page.add(sample("h", HISTOGRAM, 2), sample("s", SET, "bob"))
    (_, _, histogram), (_, _, members) = before
    assert (histogram.counts, histogram.sum, members) == ([0, 1, 0, 0], 2.0, 1.0)


# The page


def make(**options: Any) -> PrometheusSink:
    return PrometheusSink(PrometheusConfig(type="prometheus", **{"listen": "127.0.0.1:0", **options}))


@asynccontextmanager
async def served(sink: PrometheusSink, *samples: Any, **rest: Any) -> Any:
    async with running(sink) as outbox:
        await until(lambda: bool(sink.url), "the page")
        outbox.put(batch(*samples, **rest))
        await until(lambda: outbox.waiting == 0, "the sink to take it")
        yield sink.url


async def get(url: str, **options: Any) -> httpx.Response:
    verify = options.pop("verify", True)
    async with httpx.AsyncClient(verify=verify, trust_env=False) as client:
        return await client.get(url, **options)


ALL = (
    sample("level", GAUGE, 1.5, "instance:main", 'text:ü"\\'),
    sample("level", GAUGE, 2, "instance:other"),
    sample("requests", COUNT, 3),
    sample("net.total", RATE, 4),
    sample("latency", HISTOGRAM, 12),
    sample("users", SET, "anna"),
)


async def test_prometheus_own_parsers_read_both_formats() -> None:
    async with served(make(buckets=[10, 20]), *ALL, statuses=(ServiceCheck("ok", Status.WARNING),)) as url:
        text = await get(url)
        openmetrics = await get(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.text.endswith("# EOF\n")
    for families in (list(parse_text(text.text)), list(parse_openmetrics(openmetrics.text))):  # type: ignore[no-untyped-call]
        assert {family.name: family.type for family in families} == {
            "latency": "histogram", "level": "gauge", "net": "counter", "ok": "gauge", "requests": "counter",
            "users": "gauge",
        }  # fmt: skip
        values = {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}
        assert values == {
            ("latency_bucket", ("le", "10.0")): 0, ("latency_bucket", ("le", "20.0")): 1,
            ("latency_bucket", ("le", "+Inf")): 1, ("latency_count",): 1, ("latency_sum",): 12,
            ("level", ("instance", "main"), ("text", "ü\"\\")): 1.5, ("level", ("instance", "other")): 2,
            ("net_total",): 4, ("ok",): 1, ("requests_total",): 3, ("users",): 1,
        }  # fmt: skip
        assert all(s.timestamp is None for family in families for s in family.samples)


async def test_the_page_compresses_selects_and_refuses_other_methods() -> None:
    async with served(make(), *ALL) as url:
        packed = await get(url, headers={"Accept-Encoding": "gzip"})
        some = await get(url, params={"name[]": ["level", "requests_total"]})
        async with httpx.AsyncClient(trust_env=False) as client:
            posted = await client.post(url, content=b"x")
    assert packed.headers["content-encoding"] == "gzip"
    assert "requests_total 3.0" in packed.text
    assert [line.split()[2] for line in some.text.splitlines() if line.startswith("# TYPE")] == [
        "level",
        "requests_total",
    ]
    assert posted.status_code == 405


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
async def test_ipv6() -> None:
    async with served(make(listen="[::1]:0"), *ALL) as url:
        assert url.startswith("http://[::1]:")
        assert (await get(url)).status_code == 200


async def test_tls_and_password(tmp_path: Path) -> None:
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    own.cert_chain_pems[0].write_to_path(str(cert))
    own.private_key_pem.write_to_path(str(key))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    sink = make(tls_cert=cert, tls_key=key, username="prom", password=Secret("s3cret:ü"))
    async with served(sink, *ALL) as url:
        assert url.startswith("https://127.0.0.1:")
        right = await get(url, verify=context, auth=("prom", "s3cret:ü"))
        assert (right.status_code, "requests_total 3.0" in right.text) == (200, True)
        wrong = ["Basic " + base64.b64encode(b"prom:wrong").decode(), "Basic ???", "Bearer s3cret:", ""]
        for header in wrong:
            refused = await get(url, verify=context, headers={"Authorization": header})
            assert refused.status_code == 401
            assert "requests" not in refused.text
        with pytest.raises(httpx.RemoteProtocolError):
            await get(url.replace("https", "http"))
        assert (await get(url, verify=context, auth=("prom", "s3cret:ü"))).status_code == 200


async def test_a_renewed_certificate_is_served_and_a_broken_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"

    def issue(name: str) -> tuple[ssl.SSLContext, Path, Path]:
        authority = trustme.CA()
        own = authority.issue_cert("127.0.0.1")
        own.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.crt"))
        own.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context, tmp_path / f"{name}.crt", tmp_path / f"{name}.key"

    (former, *old), (renewed, *new) = issue("old"), issue("new")
    old[0].rename(cert)
    old[1].rename(key)
    async with served(make(tls_cert=cert, tls_key=key), *ALL) as url:
        assert (await get(url, verify=former)).status_code == 200
        new[0].rename(cert)  # with the former key still: half of a renewal
        assert (await get(url, verify=former)).status_code == 200
        assert (await get(url, verify=former)).status_code == 200
        assert [one.message for one in caplog.records if one.levelname == "WARNING"] == [
            f"the former certificate is kept: {cert}: no certificate with its key"
        ]
        new[1].rename(key)
        assert (await get(url, verify=renewed)).status_code == 200
        with pytest.raises(httpx.ConnectError):
            await get(url, verify=former)
        key.unlink()
        assert (await get(url, verify=renewed)).status_code == 200


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener._Handler, "timeout", 0.2)


@pytest.mark.usefixtures("impatient")
async def test_a_silent_scraper_is_cut_off_and_holds_up_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    async with served(make(), *ALL) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
        await until_served(url)  # which is cut off as well where the machine stands still for a moment
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("impatient")
async def test_a_scraper_that_stops_reading_is_cut_off(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    serving, setup = list[threading.Thread](), listener._Handler.setup

    def noted(one: Any) -> None:
        serving.append(threading.current_thread())
        setup(one)

    monkeypatch.setattr(listener._Handler, "setup", noted)
    large = [sample("level", GAUGE, n, f"number:{n}", "padding:" + "x" * 1000) for n in range(10_000)]
    async with served(make(), *large) as url:
        with socket.socket() as scraper:
            scraper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            scraper.connect(("127.0.0.1", httpx.URL(url).port))
            scraper.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            await until(lambda: bool(serving), "the scrape")
            await until(lambda: not serving[0].is_alive(), "its end")
    assert capfd.readouterr().err == ""


def scrapes() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "process_request" in thread.name]


async def test_too_many_scrapers_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_MOST_SCRAPERS", 2)
    async with served(make(), *ALL) as url:
        port = httpx.URL(url).port
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b""
        for _, other in [*silent, (reader, writer)]:
            other.close()
        await until_served(url)


async def until_served(url: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                assert (await get(url)).status_code == 200
            except httpx.HTTPError:
                await asyncio.sleep(0.01)
            else:
                return


async def test_stopping_frees_the_port_and_cuts_off_whoever_is_connected() -> None:
    before = set(threading.enumerate())
    async with served(make(), *ALL) as url:
        port = httpx.URL(url).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: bool(scrapes()), "the scrape")
    async with asyncio.timeout(30):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert {t.name for t in set(threading.enumerate()) - before if "AnyIO" not in t.name} == set()
    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_an_address_in_use_is_said_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vedette.outbox._FIRST_PAUSE", 0.02)
    caplog.set_level(logging.INFO)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        sink = make(listen=listen)
        async with running(sink) as outbox:
            outbox.put(batch(sample("c", COUNT, 3)))
            await until(lambda: sink.errors >= 2, "two attempts")
            assert sink.trouble == f"cannot listen on {listen}: Address already in use"
            taken.close()
            await until(lambda: bool(sink.url), "the page")
            outbox.put(batch(sample("c", COUNT, 4)))
            await until(lambda: outbox.waiting == 0, "the sink to take it")
            assert "c_total 7.0" in (await get(sink.url)).text
    assert sink.url == ""
    assert sink.lost == 0
    assert [record.getMessage() for record in caplog.records if record.name == "vedette.sink.prometheus"] == [
        f"cannot listen on {listen}: Address already in use",
        f"serving http://{listen}/metrics",
        "sending again",
    ]


async def test_a_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    nothing = tmp_path / "cert.pem"
    nothing.write_text("not a certificate")
    gone = tmp_path / "gone.pem"
    for cert, reason in ((nothing, "no certificate with its key"), (gone, "No such file or directory")):
        sink = make(tls_cert=cert)
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:0: {cert}: {reason}"):
            await sink.run(None)  # type: ignore[arg-type]


async def test_a_fault_is_a_500_and_a_line_without_traceback(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    sink = make()
    async with served(sink, *ALL) as url:
        sink._store._bounds = None  # type: ignore[assignment]
        answer = await get(url)
    assert (answer.status_code, answer.text) == (500, "the page cannot be made; the agent's log says why\n")
    assert [m for m in caplog.messages if "scrape" in m] == [
        "a scrape failed: TypeError: Value after * must be an iterable, not NoneType"
    ]
    assert capfd.readouterr().err == ""


async def test_refused_samples_are_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    sink = make()
    async with served(sink, sample("a", GAUGE, 1), sample("a", COUNT, 1)):
        pass
    assert (sink.lost, sink.errors) == (1, 0)
    assert caplog.messages == ["a: not shown as count: the name is already used for something else"]


def allowed_warnings() -> Iterator[str]:
    for line in (Path(__file__).parent / "promtool-allowed.txt").read_text().splitlines():
        text = line.partition("#")[0].strip()
        if text:
            yield text


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_promtool_has_nothing_new_to_say() -> None:
    datadogs = ("system.mem.total", "a.queue.count", "redis.info.latency_ms", "dashboard.latency.milliseconds")
    odd = [sample(name, GAUGE, 1) for name in datadogs]
    async with served(make(), *ALL, *odd, statuses=(ServiceCheck("redis.can_connect", Status.OK),)) as url:
        page = (await get(url)).content
    checked = await anyio.run_process(["promtool", "check", "metrics"], input=page, check=False)
    allowed = tuple(allowed_warnings())
    complaints = checked.stderr.decode().splitlines() + checked.stdout.decode().splitlines()
    assert checked.returncode in (0, 3)  # 3: it has remarks
    assert [line for line in complaints if line and not any(text in line for text in allowed)] == []


# Options


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("[::]:80", ("::", 80)),
        (":0", ("0.0.0.0", 0)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_addresses(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"listen": ""}, "must be an address and a port"),
        ({"listen": "9464"}, "must be an address and a port"),
        ({"listen": "a:b"}, "must be an address and a port"),
        ({"listen": "::1:80"}, "must be an address and a port"),
        ({"listen": "a:70000"}, "must be an address and a port"),
        ({"buckets": []}, "at least 1 item"),
        ({"buckets": [2, 1]}, "must be ascending and finite"),
        ({"buckets": [1, float("inf")]}, "must be ascending and finite"),
        ({"set_window": 0}, "greater than 0"),
        ({"username": "prom"}, "give both username and password"),
        ({"password": "x"}, "give both username and password"),
        ({"tls_key": "key.pem"}, "tls_key needs tls_cert"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        PrometheusConfig(type="prometheus", **options)


@pytest.mark.parametrize("listen", ["0.0.0.0:9464", "[::]:9464", ":9464", "10.1.2.3:9464", "node-7.example:9464"])
def test_beyond_this_machine_it_takes_tls_and_a_password(listen: str, tmp_path: Path) -> None:
    bare: dict[str, Any] = {"type": "prometheus", "listen": listen}
    tls = {"tls_cert": tmp_path / "page.pem"}
    who = {"username": "prom", "password": "x"}
    for options in (bare, {**bare, **tls}, {**bare, **who}, {**bare, **tls, **who, "password": ""}):
        with pytest.raises(ValidationError, match="listens beyond this machine: give tls_cert, username and password"):
            PrometheusConfig(**options)
    assert PrometheusConfig(**bare, **tls, **who).listen == listen


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.8.8.8:1", "[::1]:9464", "localhost:9464"])
def test_on_this_machine_it_takes_nothing(listen: str) -> None:
    assert PrometheusConfig(type="prometheus", listen=listen).tls() is None
