"""Instances that come and go with what a discovery finds, in a real agent."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import vedette.plugins
from core.scouting import Scouting, find, pod
from servers import START_TIMEOUT, RedisServer, redis62
from vedette import Batch, Container, Target
from vedette.agent import Agent
from vedette.config import load
from vedette.control import overall
from vedette.control.wire import encode, picture, snapshot_of
from vedette.logs import TextFormatter
from vedette.plugins import Registry
from vedette.state import StateStore

pytestmark = pytest.mark.anyio

ECHO = 'echo: [{host: "%%host%%", interval: 100ms}]\n'
AGENT = (
    "reload: {watch: false}\nreport_interval: 100ms\nsinks: [{type: file, path: ../out.jsonl}]\n"
    "autodiscovery: [{type: scouting, allow: [echo, redis], min_interval: 100ms}]\n"
)
WHO = "payments/{}: vedette.dev/checks"


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vedette.plugins, "entry_points", lambda: SimpleNamespace(select=find))


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Iterator[None]:
    yield
    assert Scouting.live == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    made = RedisServer(redis62(), tmp_path_factory.mktemp("redis"))
    made.start()
    yield made
    made.stop()


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait for something to become true; looks from the agent's own loop, as its pages and commands do."""
    async with asyncio.timeout(START_TIMEOUT):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.01)
    assert condition(), what


class Site:
    """A configuration folder, an agent that runs it, and the one discovery that it has."""

    def __init__(self, folder: Path, **files: str) -> None:
        self.folder = folder
        self.conf = folder / "conf.d"
        self.conf.mkdir()
        for name, text in {"agent": AGENT, **files}.items():
            self.write(name, text)
        self.batches: list[Batch] = []
        self.agent: Agent

    def write(self, name: str, text: str) -> None:
        (self.conf / f"{name}.yaml").write_text(text)

    @asynccontextmanager
    async def running(self, *found: Target) -> AsyncIterator[None]:
        configuration = await asyncio.to_thread(load, self.conf, Registry())
        assert configuration.problems == ()
        self.agent = Agent(configuration, StateStore(self.folder / "state"), {}, self.batches.append)
        Scouting.first = found
        task = asyncio.create_task(self.agent.run())
        try:
            await eventually(lambda: bool(Scouting.live) or task.done(), "the discovery")
            yield
        finally:
            self.agent.stop()
            await task

    @property
    def scout(self) -> Scouting:
        (scout,) = Scouting.live
        return scout

    def ids(self) -> list[str]:
        return [vitals.instance for vitals in self.agent.snapshot().instances]

    async def has(self, *ids: str) -> None:
        await eventually(lambda: sorted(self.ids()) == sorted(ids), f"{ids} instead of {self.ids()}")

    def runs(self, instance: str) -> int:
        return next((one.runs for one in self.agent.snapshot().instances if one.instance == instance), 0)

    async def ran(self, instance: str, more: int = 1) -> None:
        before = self.runs(instance)
        await eventually(lambda: self.runs(instance) >= before + more, f"runs of {instance}")

    def closed(self) -> list[str]:
        return [batch.instance for batch in self.batches if batch.closed]

    def values(self, name: str) -> list[Any]:
        path = self.folder / "out.jsonl"
        text = path.read_text() if path.exists() else ""
        rows = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]  # the last may be half written
        return [row["value"] for row in rows if row["name"] == name]


async def test_instances_come_and_go_with_their_pods(tmp_path: Path, server: RedisServer) -> None:
    redis = 'redis: [{host: "%%host%%", port: "%%port%%", interval: 200ms, timeout: 30s}]'
    cache = Container("redis", "redis:6.2", {"redis": server.port})
    one, two = (
        pod(name, redis, host="127.0.0.1", containers=[cache], tags=(f"pod_name:{name}",)) for name in ("one", "two")
    )
    site = Site(tmp_path, host="instances: [{interval: 200ms}]")
    async with site.running(one):
        await site.has("host/host", "redis/payments.one")
        await site.ran("redis/payments.one")
        (batch, *_) = (b for b in site.batches if b.instance == "redis/payments.one")
        assert {"pod_name:one", "instance:payments.one"} <= set(batch.samples[0].tags)
        with server.client() as client:
            (connected,) = (c["id"] for c in client.client_list() if c["name"].startswith("vedette"))
        site.scout.found([one, two])
        await site.has("host/host", "redis/payments.one", "redis/payments.two")
        await site.ran("redis/payments.two")
        site.scout.found([one])
        await site.has("host/host", "redis/payments.one")
        await site.ran("redis/payments.one")
        with server.client() as client:  # the one that stayed has the connection that it had
            (still,) = (c["id"] for c in client.client_list() if c["name"].startswith("vedette"))
        assert still == connected
        assert site.closed() == ["redis/payments.two"]
        vitals = next(v for v in site.agent.snapshot().instances if v.instance == "redis/payments.one")
        assert (vitals.origin, vitals.file, vitals.line) == ("pod payments/one", WHO.format("one"), 1)
        site.scout.found([])
        await site.has("host/host")


async def test_another_pod_of_the_same_name_and_another_address_start_anew(tmp_path: Path) -> None:
    site = Site(tmp_path)
    async with site.running(pod("db-0", ECHO), pod("db-1", ECHO)):
        await site.ran("echo/payments.db-0")
        await site.ran("echo/payments.db-1")
        site.scout.found([pod("db-0", ECHO, uid="uid-of-its-successor"), pod("db-1", ECHO)])
        await eventually(lambda: site.closed() == ["echo/payments.db-0"], "the end of the first")
        site.scout.found([pod("db-0", ECHO, uid="uid-of-its-successor"), pod("db-1", ECHO, host="10.1.2.99")])
        await eventually(lambda: site.closed() == ["echo/payments.db-0", "echo/payments.db-1"], "that of the second")
        await site.ran("echo/payments.db-1")
        assert sorted(site.ids()) == ["echo/payments.db-0", "echo/payments.db-1"]


async def test_a_changed_annotation_changes_only_its_own_instance(tmp_path: Path) -> None:
    both = 'echo:\n  - {host: "%%host%%", interval: 100ms}\n  - {name: slow, host: "%%host%%", interval: 100ms}\n'
    site = Site(tmp_path)
    async with site.running(pod("a", both), pod("b", ECHO)):
        await site.ran("echo/payments.a:slow")
        await site.ran("echo/payments.a")
        await site.ran("echo/payments.b")
        before = {v.instance: v.runs for v in site.agent.snapshot().instances}
        site.scout.found([pod("a", both.replace("slow, ", "slow, tags: [x], ")), pod("b", ECHO)])
        await eventually(lambda: site.closed() == ["echo/payments.a:slow"], "the change")
        after = {v.instance: v.runs for v in site.agent.snapshot().instances}
        assert after["echo/payments.a"] >= before["echo/payments.a"] > 0
        assert after["echo/payments.b"] >= before["echo/payments.b"] > 0
        assert after["echo/payments.a:slow"] < 3


async def test_problems_show_in_status_and_metrics_and_once_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path)
    hostile = "echo:\n  - {isolate: true}\n"
    async with site.running(pod("good", ECHO), pod("bad", hostile)):
        await eventually(lambda: site.values("vedette.discovery.problems")[-1:] == [1], "the metric")
        snapshot = site.agent.snapshot()
        expected = f"{WHO.format('bad')}:2: echo[0].isolate: only the operator may set this option"
        assert list(map(str, snapshot.problems)) == [expected]
        (scout,) = snapshot.discoveries
        assert (scout.name, scout.targets, scout.instances, scout.problems) == ("scouting", 2, 1, 1)
        assert overall(snapshot).name == "WARNING"
        assert snapshot_of(json.loads(encode(picture(snapshot)))) == snapshot
        assert (await site.agent.reload(check=True)).problems == ()  # else a pod could make a deployment fail
        site.scout.found([pod("good", ECHO), pod("bad", hostile), pod("more", ECHO)])
        await site.has("echo/payments.good", "echo/payments.more")
        assert caplog.messages.count(expected) == 1
        assert set(site.values("vedette.config.problems")) == {0}  # the files are fine
        site.scout.found([pod("good", ECHO)])
        await eventually(lambda: site.agent.snapshot().problems == (), "their end")
        assert site.values("vedette.discovery.targets")[0] in (0, 2)
        assert not any("mended" in message for message in caplog.messages)


async def test_a_discovery_that_crashes_is_shown_and_what_it_found_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vedette.scouts._FIRST_PAUSE", 0.2)
    site = Site(tmp_path)
    async with site.running(pod("a", ECHO)):
        await site.ran("echo/payments.a")
        Scouting.first = (pod("a", ECHO), pod("b", ECHO))
        site.scout.crash(RuntimeError("no idea"))
        await eventually(lambda: site.agent.snapshot().discoveries[0].trouble != "", "the trouble")
        scout = site.agent.snapshot().discoveries[0]
        assert (scout.trouble, scout.errors, scout.targets) == ("RuntimeError: no idea", 1, 1)
        assert overall(site.agent.snapshot()).name == "WARNING"
        await site.ran("echo/payments.a")
        await site.has("echo/payments.a", "echo/payments.b")  # its next start
        assert site.closed() == []
        assert site.agent.snapshot().discoveries[0].trouble == ""


async def test_a_pods_secret_is_masked_in_log_and_status_of_its_instance(tmp_path: Path) -> None:
    stream = io.StringIO()
    site = Site(tmp_path)
    container = Container("c", "c", {}, {"PW": "hunter2"})
    asks = ECHO.replace("100ms", '100ms, password: "%%env:PW%%"')
    handler = logging.StreamHandler(stream)
    logging.getLogger("vedette").addHandler(handler)
    try:
        async with site.running(pod("a", asks, containers=[container])):
            handler.setFormatter(TextFormatter(site.agent._configuration.masker, debug=False, colour=False))
            await eventually(lambda: "AUTH" in stream.getvalue(), "the log")
            await eventually(lambda: site.agent.snapshot().instances[0].message != "", "the failure")
            assert site.agent.snapshot().instances[0].message == "**** was refused"
    finally:
        logging.getLogger("vedette").removeHandler(handler)
    assert "sent AUTH ****\n" in stream.getvalue()
    assert "hunter2" not in stream.getvalue() + (tmp_path / "out.jsonl").read_text()


async def test_a_check_that_fails_before_its_first_run_keeps_no_other_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path)
    async with site.running(pod("a", ECHO)):
        await site.ran("echo/payments.a")
        site.scout.found([pod("bad", ECHO.replace("100ms", "100ms, tags: [explode]")), pod("a", ECHO), pod("b", ECHO)])
        await site.has("echo/payments.a", "echo/payments.b")
        await site.ran("echo/payments.b")
        assert site.closed() == []
        assert any("echo/payments.bad cannot be started" in message for message in caplog.messages)
        site.scout.found([pod("b", ECHO)])
        await site.has("echo/payments.b")


TEMPLATE = 'instances: [{host: "%%host%%", interval: 100ms, match: {image: "redis:*"}}]\n'


async def test_a_template_is_edited_broken_and_removed(tmp_path: Path) -> None:
    site = Site(tmp_path, echo=TEMPLATE)
    async with site.running(pod("a"), pod("b", ECHO)):
        await site.has("echo/payments.a", "echo/payments.b")
        await site.ran("echo/payments.a")
        assert str(await site.agent.reload()) == "+0 ~0 -0 =2"
        site.write("echo", TEMPLATE.replace("100ms", "200ms"))
        assert str(await site.agent.reload()) == "+0 ~1 (interval 100ms → 200ms) -0 =1"
        site.write("echo", TEMPLATE.replace("image", "imag"))
        assert str(await site.agent.reload()) == "+0 ~0 -0 =2"
        note, problem = site.agent.snapshot().problems
        assert note.message == "goes on as it was before the error: the template on line 1"
        assert problem.path == "instances[0].match.imag"
        site.scout.found([pod("a"), pod("b", ECHO), pod("c")])  # also for what is found meanwhile
        await site.has("echo/payments.a", "echo/payments.b", "echo/payments.c")
        (site.conf / "echo.yaml").unlink()
        assert str(await site.agent.reload()) == "+0 ~0 -2 =1"
        assert site.ids() == ["echo/payments.b"]


async def test_a_discovery_is_changed_and_removed_by_a_reload(tmp_path: Path) -> None:
    site = Site(tmp_path)
    async with site.running(pod("a", ECHO)):
        await site.ran("echo/payments.a")
        before = site.scout
        site.write("agent", AGENT.replace("{type: scouting", "{type: scouting, speed: 2"))
        changes = await site.agent.reload()
        assert [(one.name, one.what) for one in changes.agent] == [("discovery scouting", ("changed",))]
        assert (changes.same, changes.removed) == (1, ())
        await eventually(lambda: len(Scouting.live) == 1 and site.scout is not before, "the new one")
        site.write("agent", AGENT.replace("[echo, redis]", "[redis]"))
        changes = await site.agent.reload()
        assert changes.removed == ("echo/payments.a",)
        site.write("agent", AGENT.partition("autodiscovery")[0])
        changes = await site.agent.reload()
        assert [(one.name, one.what) for one in changes.agent] == [("discovery scouting", ("removed",))]
        await eventually(lambda: Scouting.live == [], "its end")
        assert site.agent.snapshot().discoveries == ()


async def test_500_pods_come_flap_and_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    site = Site(tmp_path, host="instances: [{interval: 200ms, timeout: 20s}]")
    asks = ECHO.replace("100ms", "10s")
    pods = [pod(f"p{n}.x", asks) for n in range(500)]
    known = set(logging.Logger.manager.loggerDict)
    async with site.running(*pods):
        await eventually(lambda: len(site.ids()) == 501, "500 instances")
        for _ in range(5):
            site.scout.found(pods[50:])
            site.scout.found(pods)
        await site.ran("host/host", 2)
        assert site.closed() == []  # gone and back in a moment
        site.scout.found(pods[:1])
        await site.has("host/host", "echo/payments.p0.x")
        await eventually(lambda: len(site.closed()) == 499, "the end of 499 instances")
        runs = site.runs("host/host")
        await site.ran("host/host")
        assert site.runs("host/host") > runs
        left = {name for name in set(logging.Logger.manager.loggerDict) - known if "payments.p" in name}
        assert len(left) <= 6  # those of the pod that is there, and what stands above them
        assert len(site.agent._state._values) <= 4
    slow = ("vedette.watchdog",)  # as the start of 500 instances is on a busy machine
    said = [one.message for one in caplog.records if one.name.startswith("vedette") and one.name not in slow]
    assert [text for text in said if "late" not in text] == []


async def test_the_page_shows_discoveries_and_escapes_what_pods_say(tmp_path: Path) -> None:
    from vedette.status.board import Board
    from vedette.status.pages import parts

    site = Site(tmp_path)
    hostile = pod("<script>alert(1)</script>", 'echo: [{host: "%%<b>%%"}]', kind="<i>")
    async with site.running(pod("good", ECHO), hostile):
        await eventually(lambda: len(site.agent.snapshot().problems) == 1, "the problem")
        shown = parts(Board(site.agent))
        assert (
            "<th scope=row>scouting</th><td class=n>2</td><td class=n>1</td><td class=n>1</td>" in shown["discoveries"]
        )
        assert "&lt;script&gt;alert(1)" in shown["problems"]
        assert not any(word in part for part in shown.values() for word in ("<script>", "<b>", "<i>"))
