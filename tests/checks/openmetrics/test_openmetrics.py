"""What a real Prometheus and a real node exporter expose, sample by sample; logins, limits, misbehaviour."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from checks.exposed import Series, by_other_means, types
from core.parts import Recorder, instance
from servers import Certificates, Server, http_server
from vedette import Diagnosis, Kind, Status
from vedette.runner import Runner
from vedette.testing import CheckRun, assert_declared, run_check
from vedette_checks import openmetrics
from vedette_checks.exposition import Exposed, Exposition
from vedette_checks.openmetrics import OpenMetrics, OpenMetricsConfig
from vedette_checks.openmetrics.scrape import Page

pytestmark = pytest.mark.anyio
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
PROGRAMS = {"prometheus": shutil.which("prometheus"), "node_exporter": shutil.which("prometheus-node-exporter")}


class Exporter(Server):
    """A real Prometheus, or a real node exporter."""

    program = ""

    def command_line(self) -> list[str]:
        if self.program == "node_exporter":
            return [str(PROGRAMS[self.program]), f"--web.listen-address=127.0.0.1:{self.port}"]
        target = f"{{targets: ['127.0.0.1:{self.port}']}}"
        (self.directory / "prometheus.yml").write_text(
            f"scrape_configs: [{{job_name: self, scrape_interval: 100ms, static_configs: [{target}]}}]"
        )
        return [
            str(PROGRAMS[self.program]), "--config.file=prometheus.yml", "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]  # fmt: skip

    def ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


@dataclass
class Endpoint:
    """Answers what it is given, and keeps what it was asked."""

    body: bytes = b""
    type: str = TEXT
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    hang: bool = False

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.headers))
        if self.hang:
            await asyncio.Event().wait()
        return web.Response(status=self.status, body=self.body, headers={"Content-Type": self.type, **self.headers})


@asynccontextmanager
async def serving(tls: Any = None) -> AsyncIterator[Endpoint]:
    made = Endpoint()
    async with http_server("GET", "/metrics", made.answer, tls=tls) as address:
        made.url = f"{address}/metrics"
        yield made


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with serving() as made:
        yield made


async def scrape(endpoint: Endpoint, **options: Any) -> CheckRun:
    return await run_check(OpenMetrics, {"name": "x", "url": endpoint.url, "timeout": "10s", **options})


def canonical(label: str, value: str) -> str:
    return str(float(value) or 0) if label in ("le", "quantile") else value.strip()


def seen(run: CheckRun) -> Series:
    """Its samples under the names of the exposition."""
    ours = ("openmetrics.", "health_check.")
    found: Series = {}
    for one in run.batch.samples:
        if not one.name.startswith(ours):
            labels = (tag.partition(":")[::2] for tag in one.tags if tag != "instance:x")
            pairs = frozenset(("le" if key == "upper_bound" else key, value) for key, value in labels)
            name = one.name
            for ending, whole in ((".count", "_total"), (".bucket", "_bucket"), (".sum", "_sum"), (".quantile", "")):
                if name.endswith(ending) and one.kind is (Kind.GAUGE if ending == ".quantile" else Kind.COUNTER):
                    name = name.removesuffix(ending) + whole
            assert isinstance(one.value, int | float)
            found[name, pairs] = one.value
    return found


@pytest.fixture(scope="module", params=["prometheus", "node_exporter"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[bytes]:
    """One answer of a real exporter."""
    if PROGRAMS[request.param] is None:
        pytest.skip(f"{request.param} is not installed: apt, prometheus and prometheus-node-exporter")
    server = Exporter(tmp_path_factory.mktemp(request.param))
    server.program = request.param
    server.start()
    try:
        yield httpx.get(f"http://127.0.0.1:{server.port}/metrics", trust_env=False).content
    finally:
        server.stop()


async def test_a_real_exporters_samples_are_exact(page: bytes, endpoint: Endpoint) -> None:
    endpoint.body = gzip.compress(page)
    endpoint.headers["Content-Encoding"] = "gzip"
    run = await scrape(endpoint)
    text = page.decode()
    what, expected = types(text), by_other_means(text)
    families = {name.removesuffix("_total"): kind for name, kind in what.items()}
    totals = {name for name, kind in families.items() if kind in ("histogram", "summary")}
    expected = {
        (f"{name[:-6]}_total" if name.endswith("_count") and name[:-6] in totals else name, labels): value
        for (name, labels), value in expected.items()
    }
    expected = {
        (f"{name}_total" if what.get(name) == "counter" and not name.endswith("_total") else name, labels): value
        for (name, labels), value in expected.items()
    }
    got = seen(run)
    assert len(expected) > 150
    assert got == {
        (name.replace(":", "_"), frozenset((key, canonical(key, value)) for key, value in labels)): value
        for (name, labels), value in expected.items()
    }
    kinds = {one.name: one.kind for one in run.batch.samples}
    for name, family in families.items():
        if family == "counter" and any(key.startswith(name) for key, _ in expected):
            assert kinds[f"{name}.count"] is Kind.COUNTER
        elif family == "histogram" and f"{name}.sum" in kinds:
            assert {kinds[f"{name}.{part}"] for part in ("bucket", "sum", "count")} == {Kind.COUNTER}
    assert (run.status("openmetrics.health"), run.value("openmetrics.samples")) == (Status.OK, len(expected))
    assert run.value("openmetrics.bytes") == len(page)
    assert endpoint.asked[0]["Accept"].startswith("application/openmetrics-text;version=1.0.0;q=1,text/plain")
    assert_declared(run)


PAGE = b"""# TYPE shop_orders_total counter
shop_orders_total{shop="a",pod="x"} 3 1700000000000
# TYPE shop_wait histogram
shop_wait_bucket{le="0.5"} 1
shop_wait_bucket{le="+Inf"} 2
shop_wait_sum 2.5
shop_wait_count 2
# TYPE up gauge
up 1
"""


async def test_openmetrics_is_read_by_its_own_rules(endpoint: Endpoint) -> None:
    endpoint.type = OPENMETRICS
    endpoint.body = (
        b"# TYPE shop_orders counter\n"
        b'shop_orders_total{shop="a"} 3.0 1700000000.5 # {trace_id="x"} 1.0\n'
        b'shop_orders_created{shop="a"} 1.6e9 1700000000.5\n'
        b'# TYPE build info\nbuild_info{v="1"} 1\n# TYPE mode stateset\nmode{mode="on"} 1\nmode{mode="off"} 0\n'
        b'# TYPE size gaugehistogram\nsize_bucket{le="+Inf"} 2\nsize_gsum 5\nsize_gcount 2\n# EOF\n'
    )
    run = await scrape(endpoint)
    got = {
        (one.name, one.kind, one.value, one.time, *(tag for tag in one.tags if tag != "instance:x"))
        for one in run.batch.samples
        if not one.name.startswith(("openmetrics.", "health_check."))
    }
    assert got == {
        ("shop_orders.count", Kind.COUNTER, 3, 1700000000.5, "shop:a"),
        ("build_info", Kind.GAUGE, 1, None, "v:1"),
        ("mode", Kind.GAUGE, 1, None, "mode:on"),
        ("mode", Kind.GAUGE, 0, None, "mode:off"),
        ("size.bucket", Kind.GAUGE, 2, None, "upper_bound:inf"),
        ("size.sum", Kind.GAUGE, 5, None),
        ("size.count", Kind.GAUGE, 2, None),
    }


async def test_bounds_and_infos_are_the_same_in_both_formats(endpoint: Endpoint) -> None:
    bounds = b"""# TYPE h histogram
h_bucket{le="ZERO"} 0
h_bucket{le="ONE"} 1
h_bucket{le="1e+06"} 2
h_bucket{le="+Inf"} 2
h_count 2
h_sum 3
# TYPE s summary
s{quantile="ONE"} 4
s_count 2
s_sum 3
"""
    whole = bounds.replace(b"ZERO", b"0").replace(b"ONE", b"1")
    endpoint.body = whole + b'# TYPE build_info gauge\nbuild_info{v="1"} 1\n'
    text = await scrape(endpoint, metrics={"include": ["h.bucket", "s.quantile", "build_info"]})
    endpoint.type = OPENMETRICS
    broken = bounds.replace(b"ZERO", b"0.0").replace(b"ONE", b"1.0")
    endpoint.body = broken + b'# TYPE build info\nbuild_info{v="1"} 1\n# EOF\n'
    other = await scrape(endpoint, metrics={"include": ["h.bucket", "s.quantile", "build_info"]})
    wanted = {
        ("h.bucket", frozenset({("le", "0")})): 0,
        ("h.bucket", frozenset({("le", "1.0")})): 1,
        ("h.bucket", frozenset({("le", "1000000.0")})): 2,
        ("h.bucket", frozenset({("le", "inf")})): 2,
        ("s.quantile", frozenset({("quantile", "1.0")})): 4,
        ("build_info", frozenset({("v", "1")})): 1,
    }
    renamed = {
        (name.replace(".bucket", "_bucket").replace(".quantile", ""), tags): n for (name, tags), n in wanted.items()
    }
    assert seen(text) == seen(other) == renamed


@pytest.mark.parametrize("form", [TEXT, OPENMETRICS])
async def test_beyond_max_samples_nothing_is_read_but_a_histogram_to_its_end(
    form: str, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    series = "".join(
        f'h_bucket{{a="{n}",le="1"}} 1\nh_bucket{{a="{n}",le="+Inf"}} 2\nh_count{{a="{n}"}} 2\nh_sum{{a="{n}"}} 3\n'
        for n in range(300)
    )
    endpoint.body, endpoint.type = f"# TYPE h histogram\n{series}# TYPE g gauge\ng 1\n# EOF\n".encode(), form
    run = await scrape(endpoint, max_samples=602)
    got = seen(run)
    assert len(got) == run.value("openmetrics.samples") == 604
    assert {tag for one in run.batch.samples for tag in one.tags if tag.startswith("a:")} == {
        f"a:{n}" for n in range(151)
    }
    assert (run.value("openmetrics.cut"), run.status("openmetrics.health")) == (1_201 - 604, Status.OK)
    assert "the answer has 597 samples beyond max_samples: they are cut" in caplog.text
    run = await scrape(endpoint, max_samples=1_201)
    assert run.value("openmetrics.samples") == 1_201
    assert "openmetrics.cut" not in {one.name for one in run.batch.samples}


async def test_others_have_the_loop_while_many_samples_are_emitted(endpoint: Endpoint) -> None:
    endpoint.body = b"".join(b'g{n="%d"} 1\n' % number for number in range(3_000))
    turns: list[int] = []

    class Counting(list[Exposed]):
        """Notes at each sample how many turns the loop has had."""

        def __iter__(self) -> Iterator[Exposed]:
            for one in super().__iter__():
                turns.append(passed)
                yield one

    passed = 0

    async def turn() -> None:
        nonlocal passed
        while True:
            passed += 1
            await asyncio.sleep(0)

    async def read(page: Page, most: int) -> Exposition:
        found = await real(page, most)
        return found._replace(samples=Counting(found.samples))

    real = openmetrics._read
    other = asyncio.create_task(turn())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openmetrics, "_read", read)
        run = await scrape(endpoint)
    other.cancel()
    assert run.value("openmetrics.samples") == len(turns) == 3_000
    assert max(map(turns.count, set(turns))) <= 500


async def test_an_empty_answer_is_a_warning(endpoint: Endpoint) -> None:
    run = await scrape(endpoint)
    assert (run.status("openmetrics.health"), run.message("openmetrics.health")) == (
        Status.WARNING, "the answer is empty"
    )  # fmt: skip
    assert run.value("openmetrics.samples") == 0


async def test_names_labels_buckets_and_times(endpoint: Endpoint) -> None:
    endpoint.body = PAGE
    run = await scrape(
        endpoint, namespace="my", buckets=False, exclude_labels=["pod"], rename_labels={"shop": "store"},
        timestamps=False, metrics={"exclude": ["my.up"], "rename": {"my.shop_wait.sum": "my.waited"}},
    )  # fmt: skip
    got = {
        (one.name, one.value, one.time, *(tag for tag in one.tags if tag != "instance:x"))
        for one in run.batch.samples
        if one.name.startswith("my.")
    }
    assert got == {
        ("my.shop_orders.count", 3, None, "store:a"), ("my.waited", 2.5, None), ("my.shop_wait.count", 2, None)
    }  # fmt: skip
    run = await scrape(endpoint)
    (orders,) = [one for one in run.batch.samples if one.name == "shop_orders.count"]
    assert (orders.time, set(orders.tags)) == (1.7e9, {"shop:a", "pod:x", "instance:x"})


async def test_logins(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.body = PAGE
    token = tmp_path / "token"
    token.write_text("first\n")
    await scrape(endpoint, username="u", password="p")
    await scrape(endpoint, token="t0ken", headers={"X-Scope-OrgID": "pay"})
    await scrape(endpoint, token_file=str(token))
    token.write_text("second\n")
    await scrape(endpoint, token_file=str(token))
    assert [one.get("Authorization") for one in endpoint.asked] == [
        "Basic dTpw", "Bearer t0ken", "Bearer first", "Bearer second"
    ]  # fmt: skip
    assert endpoint.asked[1]["X-Scope-OrgID"] == "pay"
    run = await scrape(endpoint, token_file=str(tmp_path / "absent"))
    assert run.error is not None
    assert run.error.message == f"token_file: {tmp_path}/absent: No such file or directory"


async def test_certificates(tmp_path: Path) -> None:
    files = Certificates.make(tmp_path)
    async with serving(files.server_side(ask_client=True)) as endpoint:
        endpoint.body = PAGE
        mine = {"cert_file": str(files.cert), "key_file": str(files.key)}
        run = await scrape(endpoint, ca_file=str(files.ca), **mine)
        assert run.value("shop_wait.sum") == 2.5
        run = await scrape(endpoint, **mine)
        assert run.error is not None
        assert run.error.message.startswith(f"the certificate of {endpoint.url[8:-8]} is not valid: ")
        assert run.status("openmetrics.health") is Status.CRITICAL
        assert (await scrape(endpoint, verify=False, **mine)).value("up") == 1


@pytest.mark.parametrize(
    ("changes", "says", "hint"),
    [
        ({"status": 404}, "the endpoint answered 404", "is this the path of the metrics?"),
        ({"status": 401}, "the endpoint answered 401", "see username and password, token or token_file"),
        ({"status": 500}, "the endpoint answered 500", ""),
        (
            {"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}},
            "the endpoint answered 302",
            "redirects are not followed: give the address itself",
        ),
        ({"body": b"<html>hello</html>"}, "the answer is no exposition of metrics: ", "is this the path?"),
        ({"body": b"up 1\n", "type": OPENMETRICS}, "the answer is no exposition of metrics: ", "is this the path?"),
        ({"body": b"up 1\n" * 400_000}, "the answer is longer than 1,048,576 bytes", "raise max_body, or see why"),
        (
            {"body": gzip.compress(b"u" * 50_000_000), "headers": {"Content-Encoding": "gzip"}},
            "the answer is longer than 1,048,576 bytes",
            "raise max_body, or see why",
        ),
        ({"headers": {"Content-Encoding": "gzip"}, "body": b"no gzip"}, "the answer of 127.0.0.1:", ""),
        ({"headers": {"Content-Encoding": "gzip"}, "body": gzip.compress(PAGE)[:-9]}, "the answer of 127.0.0.1:", ""),
        (
            {"headers": {"Content-Encoding": "br"}, "body": b"x"},
            "the answer of 127.0.0.1:",
            "only gzip is understood, which it was told",
        ),
        (
            {"body": b"up" + b" " * 70_000 + b"1\n"},
            "the answer is no exposition of metrics: line 1 is longer than 65,5",
            "is this the path?",
        ),
    ],
)
async def test_endpoints_that_misbehave(changes: dict[str, Any], says: str, hint: str, endpoint: Endpoint) -> None:
    endpoint.body = PAGE
    for name, value in changes.items():
        setattr(endpoint, name, value)
    run = await scrape(endpoint, max_body="1MB")
    assert run.error is not None
    assert run.error.message.startswith(says)
    assert run.error.hint == hint
    assert (run.status("openmetrics.health"), run.message("openmetrics.health")) == (Status.CRITICAL, run.error.message)
    assert seen(run) == {}


async def test_one_that_hangs_or_is_not_there(endpoint: Endpoint, closed_port: int) -> None:
    endpoint.hang = True
    runner = Runner(instance(OpenMetrics, url=endpoint.url, timeout="300ms"), Recorder().surroundings)
    batch = await runner.run()
    await runner.stop()
    (said,) = batch.statuses
    assert (said.name, said.status, said.message) == (
        "openmetrics.health", Status.CRITICAL, "the endpoint does not answer in time"
    )  # fmt: skip
    run = await run_check(OpenMetrics, {"name": "x", "url": f"http://127.0.0.1:{closed_port}/metrics"})
    assert run.error is not None
    assert run.error.message == f"nothing accepts connections on 127.0.0.1:{closed_port}"
    run = await scrape(Endpoint(url="http://nobody.invalid:9100/metrics"))
    assert run.error is not None
    assert run.error.message == "nobody.invalid has no address"
    run = await scrape(Endpoint(url=endpoint.url.replace("http", "https")))
    assert run.error is not None
    assert run.error.message.endswith(" does not speak TLS as it should: wrong version number")
    assert run.error.hint == "is it http instead of https?"


async def test_a_ca_file_that_is_none_is_a_finding_too(endpoint: Endpoint) -> None:
    run = await scrape(endpoint, ca_file="/nowhere/ca.pem")
    assert run.error is not None
    assert run.error.message.startswith("the certificate files cannot be used: ")
    assert (run.status("openmetrics.health"), run.message("openmetrics.health")) == (Status.CRITICAL, run.error.message)


async def test_a_gzip_bomb_takes_no_more_memory_than_max_body(endpoint: Endpoint) -> None:
    packer = zlib.compressobj(9, wbits=31)
    block = b"a" * (1 << 20)
    endpoint.body = b"".join([*(packer.compress(block) for _ in range(60)), packer.flush()])  # one read of a socket
    endpoint.headers["Content-Encoding"] = "gzip"
    tracemalloc.start()
    try:
        run = await scrape(endpoint, max_body="1MB")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert run.error is not None
    assert run.error.message == "the answer is longer than 1,048,576 bytes"
    assert most < 20 << 20


async def test_members_of_gzip_are_one_answer(endpoint: Endpoint) -> None:
    endpoint.body = gzip.compress(b"a 1\n") + gzip.compress(b"b 2\n")
    endpoint.headers["Content-Encoding"] = "gzip"
    run = await scrape(endpoint)
    assert seen(run) == {("a", frozenset()): 1, ("b", frozenset()): 2}


async def test_what_doctor_says(endpoint: Endpoint, closed_port: int) -> None:
    async def said(url: str) -> list[tuple[str, str, str]]:
        diagnosis = Diagnosis()
        await OpenMetrics(OpenMetricsConfig(name="x", url=url)).diagnose(diagnosis)
        return [(one.what, str(one.grade), one.seen) for one in diagnosis.symptoms]

    endpoint.body = PAGE
    assert (await said(endpoint.url))[-1] == ("metrics", "ok", f"6 samples, {len(PAGE)} bytes, text format")
    endpoint.status = 403
    assert (await said(endpoint.url))[-1] == ("metrics", "failed", "the endpoint answered 403")
    assert (await said(f"http://127.0.0.1:{closed_port}/"))[-1][:2] == ("metrics", "not reached")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": "localhost:9100"}, "url: is an address such as http://127.0.0.1:9100/metrics"),
        ({"url": "http://u:p@h/metrics"}, "url: holds a login: give `username` and `password` instead"),
        ({"url": "http://h/a b"}, "url: is an address such as http://127.0.0.1:9100/metrics"),
        ({"url": "http://h/", "token": "tok\u20ac"}, "token: holds a line break or another character that HTTP"),
        ({"url": "http://h/", "headers": {"X-A": "a\nb"}}, "headers: X-A holds a line break or another character"),
        ({"url": "http://h/", "headers": {"X A": "a"}}, "headers: has 'X A', which is no name of a header"),
        ({"url": "http://h/", "token": "a", "token_file": "/b"}, "give only one of token and token_file"),
        ({"url": "http://h/", "username": "a"}, "username and password go together"),
        ({"url": "http://h/", "namespace": "a b"}, "namespace\n"),
    ],
)
def test_mistakes(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says.partition(": ")[2] or says):
        OpenMetricsConfig(name="x", **options)


def test_what_a_pod_may_ask_for() -> None:
    def reaches(**options: Any) -> list[str]:
        return list(
            OpenMetrics.reaches(OpenMetricsConfig(name="x", url="http://10.0.0.1:9100/metrics", **options)) or ()
        )

    assert reaches() == ["10.0.0.1"]
    with pytest.raises(ValueError, match="only the operator may set token"):
        reaches(token="x")
