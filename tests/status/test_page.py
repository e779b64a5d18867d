"""The page over real HTTP: what it shows, to whom, and what it refuses."""

from __future__ import annotations

import base64
import json
import logging
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from servers import Certificates, until
from status.parts import NOW, TOKEN, Actor, Served, batch, failing, served, vitals, wave
from vedette.config import HttpConfig
from vedette.errors import Problem
from vedette.report import SinkVitals
from vedette.runner import State

BEARER = {"authorization": f"Bearer {TOKEN}"}
HOSTILE = '"><script>document.title="taken"</script><img src=x onerror=alert(1)>&amp;\''
SINK = SinkVitals("file", sent=1234567, dropped=3, errors=2, queued=4, trouble="No space left on device")
PROBLEM = Problem("conf.d/redis.yaml", 7, "instances[1].prot", "unknown option", "did you mean 'port'?")


def get(page: Served, path: str = "/", **headers: str) -> httpx.Response:
    return httpx.get(f"{page.url}{path}", headers=headers, trust_env=False, timeout=40)


def post(page: Served, path: str, **headers: Any) -> httpx.Response:
    return httpx.post(f"{page.url}{path}", headers=headers, trust_env=False, timeout=40)


# What it shows


def test_the_first_page_says_what_is_wrong_before_anything_else() -> None:
    actor = Actor(vitals("host/host"), failing(), sinks=(SINK,), problems=(PROBLEM,))
    with served(actor) as page:
        text = get(page).text
    order = [text.index(part) for part in ("1 of 2 instances failing", "nothing listens", "is the server", "<table>")]
    assert order == sorted(order)
    since = time.strftime("%H:%M:%S", time.localtime(NOW - 600))
    assert f"since {since}" in text
    for part in ("1,234,567", "No space left on device", "conf.d/redis.yaml:7", "did you mean &#39;port&#39;?"):
        assert part in text
    assert "style=" not in text


def test_an_instance_has_a_page_with_its_figures_and_sparklines() -> None:
    actor = Actor(vitals("redis/cache", file="conf.d/redis.yaml", line=3, backoff=4, dropped={"undeclared": 2}))
    with served(actor) as page:
        page.remember(*(batch("redis/cache", NOW + n, wave("redis.mem.used", n, db="0")) for n in range(9)))
        answer = get(page, "/instance/redis/cache")
        assert get(page, "/instance/redis/nope").status_code == 404
    text = answer.text
    for part in ("conf.d/redis.yaml:3", "4 × the interval", "2 undeclared", "redis.mem.used", "db:0", "12ms"):
        assert part in text
    assert text.count('<svg class="spark"') == 2
    assert "style=" not in text


def test_names_with_any_character_have_a_page() -> None:
    name = "redis/a b/ü?#%2F"
    with served(Actor(vitals(name))) as page:
        link = get(page).text.partition('href="/instance/')[2].partition('"')[0]
        answer = get(page, f"/instance/{link}")
    assert answer.status_code == 200
    assert f"<h1>{name} " in answer.text


def test_foreign_text_stays_text_everywhere() -> None:
    bad = failing(f"redis/{HOSTILE}", message=HOSTILE, hint=HOSTILE, file=HOSTILE, dropped={HOSTILE: 1})
    sink = SinkVitals(HOSTILE, 0, 0, 0, 0, HOSTILE)
    actor = Actor(bad, sinks=(sink,), problems=(Problem(HOSTILE, 1, HOSTILE, HOSTILE, HOSTILE),))
    with served(actor) as page:
        page.remember(batch(bad.instance, NOW, wave(HOSTILE, 1, tag=HOSTILE)))
        link = get(page).text.partition('href="/instance/')[2].partition('"')[0]
        pages = [get(page, path).text for path in ("/", f"/instance/{link}", f"/instance/{HOSTILE}")]
        with events(page, "x-0") as stream:
            next(stream)
            bad.runs += 1
            pages.append(json.dumps(next(stream)["parts"]))
    for text in pages:
        assert "<img" not in text
        assert text.count("<script") == text.count('<script src="/static/page.js?')


def test_no_page_names_another_host() -> None:
    with served(Actor(failing())) as page:
        for path in ("/", "/instance/redis/cache", "/static/page.css", "/static/page.js"):
            text = get(page, path).text
            assert "http:" not in text
            assert "https:" not in text
        assert get(page, "/static/service.py").status_code == 404


def test_every_answer_has_the_security_headers() -> None:
    csp = (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    )
    with served(Actor(failing())) as page:
        for path in ("/", "/nope", "/healthz", "/api/status", "/static/page.js", "/metrics"):
            headers = get(page, path).headers
            assert headers["content-security-policy"] == csp
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert "server" not in headers
        assert get(page).headers["cache-control"] == "no-store"


# For machines


def test_probes_do_not_ask_targets() -> None:
    starting = vitals("redis/new", State.STARTING, last_run=0.0, next_run=0.0)
    actor = Actor(failing(), vitals("redis/hung", State.STUCK), starting)
    with served(actor) as page:
        assert get(page, "/healthz").text == "ok\n"
        assert get(page, "/readyz").status_code == 503
        starting.next_run = NOW + 5
        assert get(page, "/readyz").text == "ok\n"
        starting.next_run = 0.0  # a new instance after a reload: ready stays ready
        assert get(page, "/readyz").status_code == 200


def test_metrics_are_the_agents_own() -> None:
    actor = Actor(vitals("redis/cache", dropped={"undeclared": 2}, worst_lateness=0.25), sinks=(SINK,))
    with served(actor) as page:
        answer = get(page, "/metrics")
        assert "openmetrics" in get(page, "/metrics", accept="application/openmetrics-text").headers["content-type"]
    found = {
        (sample.name, sample.labels.get("instance", sample.labels.get("sink", ""))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["vedette_check_lateness", "cache"] == 0.25
    assert found["vedette_check_samples_total", "cache"] == 4200
    assert found["vedette_check_dropped_total", "cache"] == 2
    assert found["vedette_sink_queue", "file"] == 4
    assert found["health_check_overall", ""] == 1
    assert found["process_resident_memory_bytes", ""] > 1_000_000
    assert actor.instances[0].worst_lateness == 0.25  # only the agent's own report resets it


def test_api_status_is_what_the_command_prints() -> None:
    actor = Actor(vitals("host/host"), failing(), sinks=(SINK,), problems=(PROBLEM,))
    with served(actor) as page:
        everything = get(page, "/api/status").json()
        one = get(page, "/api/status/cache").json()
        missing = get(page, "/api/status/cahce")
    assert everything["overall"] == "failing"
    assert [row["instance"] for row in everything["instances"]] == ["host/host", "redis/cache"]
    assert everything["problems"][0]["line"] == 7
    assert [row["hint"] for row in one["instances"]] == ["is the server running?"]
    assert (missing.status_code, missing.json()["error"]) == (
        404,
        "no instance is called 'cahce'; did you mean 'cache'?",
    )


# Events


class events:
    """The messages of the stream, decoded, from the moment the viewer is known."""

    def __init__(self, page: Served, stamp: str) -> None:
        self._client = httpx.Client(trust_env=False, timeout=40)
        self._stream = self._client.stream("GET", f"{page.url}/events", params={"since": stamp})

    def __enter__(self) -> Any:
        return self._messages(self._stream.__enter__())

    def __exit__(self, *_: Any) -> None:
        self._stream.__exit__(None, None, None)
        self._client.close()

    @staticmethod
    def _messages(answer: httpx.Response) -> Any:
        stamp = ""
        for line in answer.iter_lines():
            if line.startswith("id: "):
                stamp = line.removeprefix("id: ")
            elif line.startswith("data: "):
                yield {**json.loads(line.removeprefix("data: ")), "id": stamp}


def stamp_of(page: Served) -> str:
    return get(page).text.partition('data-stamp="')[2].partition('"')[0]


def test_a_viewer_gets_the_rows_that_changed_and_no_others() -> None:
    first, second = vitals("redis/a"), vitals("redis/b")
    with served(Actor(first, second)) as page, events(page, stamp_of(page)) as stream:
        page.wait_for_viewers(1)
        second.runs = 43
        news = next(stream)
        assert [(row[0], row[1], row[2][5]) for row in news["rows"]] == [(1, "ok", "43")]
        assert news["parts"] == {}
        first.state, first.message = State.CRITICAL, "too full"
        news = next(stream)
        assert [(row[0], row[1], row[2][6]) for row in news["rows"]] == [(0, "critical", "too full")]
        assert set(news["parts"]) == {"headline", "wrong"}
        assert "too full" in news["parts"]["wrong"]


def test_a_viewer_who_comes_back_gets_what_it_missed() -> None:
    one, other = vitals("redis/a"), vitals("redis/b")
    with served(Actor(one, other)) as page:
        seen = stamp_of(page)
        with events(page, seen) as stream:
            page.wait_for_viewers(1)
            one.runs = 43
            assert [row[0] for row in next(stream)["rows"]] == [0]
        with events(page, seen) as stream:
            assert [row[0] for row in next(stream)["rows"]] == [0]


def test_other_instances_or_another_agent_mean_a_new_page() -> None:
    actor = Actor(vitals("redis/a"))
    with served(actor) as page:
        with events(page, "another-agent-12") as stream:
            assert next(stream)["layout"] is True
        with events(page, stamp_of(page)) as stream:
            page.wait_for_viewers(1)
            actor.instances.append(vitals("redis/b"))
            assert next(stream)["layout"] is True


def test_one_computation_for_all_viewers_and_none_without_them() -> None:
    actor = Actor(vitals("redis/a"))
    with served(actor) as page:
        seen = stamp_of(page)
        with events(page, seen), events(page, seen), events(page, seen) as last:
            page.wait_for_viewers(3)
            before, begun = actor.pictures, time.monotonic()
            for number in range(3):
                actor.instances[0].runs = 50 + number
                next(last)
            passed = time.monotonic() - begun
            assert actor.pictures - before <= passed + 1  # once a second, however many look
        page.wait_for_viewers(0)
        until(lambda: page.page._page.hub._ticker.done(), "the ticker to end")  # type: ignore[union-attr]


def test_the_stop_ends_streams_at_once() -> None:
    page = Served(Actor(vitals("redis/a")))
    page.start()
    with events(page, "x-1") as stream:
        next(stream)
        begun = time.monotonic()
        page.stop()
        assert list(stream) == []
    assert time.monotonic() - begun < 20


def test_too_many_viewers_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette.status.hub.MOST_VIEWERS", 1)
    with served(Actor(vitals("redis/a"))) as page, events(page, "x-1") as stream:
        next(stream)
        assert get(page, "/events").status_code == 503


# Who may ask


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8127", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8127", 200),
        ("10.1.2.3", 200),
        ("node-7", 200),
        ("node-7.example.com:8127", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:8127", 421),
        ("[evil]:1", 421),
        ("", 421),
    ],
)
def test_requests_under_a_foreign_name_are_refused(host: str, status: int) -> None:
    with served(Actor(failing()), hosts=("node-7.example.com",)) as page:
        for path in ("/", "/healthz", "/api/status"):
            answer = get(page, path, host=host)
            assert answer.status_code == status
            assert ("redis" in answer.text) == (status == 200 and path != "/healthz")


ACTIONS = ("/api/run-now/redis/cache", "/api/mute/redis/cache?for=2h", "/api/unmute/redis/cache", "/api/reload")


@pytest.mark.parametrize("path", ACTIONS)
def test_without_a_configured_token_nothing_acts(path: str) -> None:
    actor = Actor(failing())
    with served(actor) as page:
        for headers in ({}, BEARER, {"authorization": "Bearer"}):
            assert post(page, path, **headers).status_code == 403
    assert actor.asked == []


@pytest.mark.parametrize("path", ACTIONS)
def test_without_the_right_token_nothing_acts(path: str) -> None:
    actor = Actor(failing())
    with served(actor, token=TOKEN) as page:
        for given in ("", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, b"Bearer \xff"):
            assert post(page, path, authorization=given).status_code == 401
        assert get(page, path, **BEARER).status_code == 405
    assert actor.asked == []


def test_with_the_token_actions_act() -> None:
    actor = Actor(failing(), vitals("redis/busy"), problems=(PROBLEM,))
    with served(actor, token=TOKEN) as page:
        begun = time.time()
        answers = [post(page, path, **BEARER) for path in (*ACTIONS, "/api/reload?check=true")]
        assert [answer.status_code for answer in answers] == [200] * 5
        reloaded = answers[3].json()["result"]
        busy = post(page, "/api/run-now/busy", **BEARER)
        assert [post(page, f"/api/{path}", **BEARER).status_code for path in ("mute/nope", "dance/cache")] == [404, 409]
        assert post(page, "/api/mute/cache?for=soon", **BEARER).status_code == 409
    assert [what[:2] for what in actor.asked] == [
        ("run-now", "redis/cache"),
        ("mute", "redis/cache"),
        ("mute", "redis/cache"),
        ("reload", False),
        ("reload", True),
        ("run-now", "redis/busy"),
    ]
    assert begun + 7200 <= actor.asked[1][2] <= time.time() + 7200
    assert actor.asked[2][2] == 0
    assert reloaded["summary"] == "+1 ~1 (interval 30s → 15s) -1 =12"
    assert (busy.status_code, busy.json()["error"]) == (409, "redis/busy cannot run now: a run is in progress")


def test_tls_and_a_password(tmp_path: Path) -> None:
    files = Certificates.make(tmp_path)
    options = {"tls_cert": files.cert, "tls_key": files.key, "username": "ops", "password": "pw:1", "token": TOKEN}
    actor = Actor(failing())
    with served(actor, **options) as page:
        trust = ssl.create_default_context(cafile=files.ca)
        with httpx.Client(base_url=page.url, verify=trust, trust_env=False, timeout=40) as client:
            for path in ("/", "/api/status", "/metrics", "/events", "/static/page.js", "/instance/redis/cache"):
                refused = client.get(path)
                assert (refused.status_code, "Basic" in refused.headers["www-authenticate"]) == (401, True)
                assert "redis" not in refused.text
            wrong = base64.b64encode(b"ops:pw:2").decode()
            assert client.get("/", headers={"authorization": f"Basic {wrong}"}).status_code == 401
            assert "nothing listens" in client.get("/", auth=("ops", "pw:1")).text
            assert [client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
            assert client.post("/api/run-now/cache", headers=BEARER).status_code == 200
            assert client.post("/api/run-now/cache", auth=("ops", "pw:1")).status_code == 401
        assert page.url.startswith("https://")


def test_a_port_that_is_taken_is_said_and_had_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vedette.status.service._AGAIN", 0.02)
    caplog.set_level(logging.INFO, "vedette.status")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        page = Served(Actor(vitals("host/host")), listen=f"127.0.0.1:{port}")
        page.start()
        assert page.url == ""
        until(lambda: "no status page" in caplog.text, "the line")
    until(lambda: bool(page.url), "the page")
    assert get(page, "/healthz").text == "ok\n"
    page.stop()
    said = [record.getMessage() for record in caplog.records if record.name == "vedette.status"]
    assert (
        said[0] == f"no status page: cannot listen on 127.0.0.1:{port}: address already in use; tried again every 0 s"
    )
    assert said[1:] == [f"serving http://127.0.0.1:{port}/"]


def test_probes_have_an_address_of_their_own_where_nothing_else_is_answered() -> None:
    starting = vitals("redis/cache", State.STARTING, last_run=0.0, next_run=0.0)
    standby = vitals("k8s/prod", State.STANDBY, last_run=0.0, next_run=0.0)
    actor = Actor(starting, standby)
    with served(actor, username="ops", password="pw:1", probes="0.0.0.0:0") as page:
        port = page.page.probes_url.rstrip("/").rpartition(":")[2]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=40) as kubelet:
            answer = kubelet.get("/readyz", headers={"host": "any.name.at.all"})
            assert (answer.status_code, answer.text) == (503, "starting\n")
            actor.instances = [vitals("redis/cache"), standby]
            assert [kubelet.get(path).text for path in ("/healthz", "/readyz")] == ["ok\n", "ok\n"]
            for path in ("/", "/metrics", "/api/status", "/events", "/static/page.js", "/instance/redis/cache"):
                assert kubelet.get(path).status_code == 404
            assert kubelet.post("/api/reload", headers=BEARER).status_code == 404
        assert page.url.startswith("http://127.0.0.1:")
        assert get(page).status_code == 401
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False)


def test_probes_whose_port_is_taken_keep_no_page_away(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with served(Actor(vitals("host/host")), probes=f"127.0.0.1:{port}") as page:
            until(lambda: "no probes" in caplog.text, "the line")
            assert get(page, "/healthz").text == "ok\n"
    with pytest.raises(ValidationError, match="must be an address and a port"):
        HttpConfig(probes="8128")


def test_a_certificate_that_is_none_is_said(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "page.pem").write_text("no certificate")
    page = Served(Actor(vitals("host/host")), tls_cert=tmp_path / "page.pem")
    page.start()
    until(lambda: "no status page" in caplog.text, "the line")
    page.stop()
    assert f"{tmp_path}/page.pem: no certificate with its key" in caplog.text


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01 no http\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"POST /x HTTP/9\r\n\r\n"]
)
def test_whatever_somebody_sends_the_page_goes_on(junk: bytes) -> None:
    with served(Actor(vitals("host/host"))) as page:
        host, port = page.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(junk + b"\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 4")
        assert get(page, "/healthz").text == "ok\n"


# What it takes


def test_packages_that_are_missing_are_said_with_what_brings_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette.config.model.find_spec", lambda name: None)
    with pytest.raises(ValidationError, match=r"needs packages that are missing; pip install 'vedette\[http\]'"):
        HttpConfig()


def test_an_agent_without_a_page_loads_none_of_it() -> None:
    code = (
        "import sys, vedette.agent, vedette.cli.run; print({'starlette', 'uvicorn', 'markupsafe'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
