"""Reloading: what changed starts anew, everything else does not notice."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from servers import START_TIMEOUT, RedisServer, redis62
from sinks.intake import KEY, intake
from vedette import Batch
from vedette.agent import Agent
from vedette.config import load
from vedette.plugins import Registry
from vedette.state import StateStore
from vedette.testing import UdpCapture
from vedette.watch import fingerprint

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    made = RedisServer(redis62(), tmp_path_factory.mktemp("redis"))
    made.start()
    yield made
    made.stop()


async def eventually(condition: Callable[[], bool], what: str, timeout: float = START_TIMEOUT) -> None:
    """Wait for something to become true; looks from the agent's own loop, as its pages and commands do."""
    try:
        async with asyncio.timeout(timeout):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"waited {timeout:g} s in vain for {what}")


class Site:
    """A configuration folder and the agent that runs it, in this process.

    Attributes:
        batches: what the instances handed over so far, if it is to `remember`.
    """

    def __init__(
        self, folder: Path, agent: str = "sinks: [{type: file, path: ../out.jsonl}]\n", remember: bool = True
    ) -> None:
        self.folder = folder
        self.remember = remember
        self.conf = folder / "conf.d"
        self.conf.mkdir()
        self.write("agent", f"reload: {{watch: false}}\n{agent}")
        self.batches: list[Batch] = []
        self.agent: Agent

    def write(self, name: str, text: str) -> None:
        (self.conf / f"{name}.yaml").write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.conf / f"{name}.yaml").read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    @asynccontextmanager
    async def running(self, meanwhile: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
        read = fingerprint(self.conf)
        configuration = await asyncio.to_thread(load, self.conf, Registry())
        assert configuration.problems == ()
        meanwhile()
        keep = self.batches.append if self.remember else None
        self.agent = Agent(configuration, StateStore(self.folder / "state"), {}, keep, read=read)
        task = asyncio.create_task(self.agent.run())
        try:
            yield
        finally:
            self.agent.stop()
            await task

    def runs(self, instance: str) -> int:
        return next((one.runs for one in self.agent.snapshot().instances if one.instance == instance), 0)

    async def ran(self, instance: str, more: int = 1) -> None:
        """Wait until an instance has run so many times more."""
        before = self.runs(instance)
        await eventually(lambda: self.runs(instance) >= before + more, f"runs of {instance}")

    def rows(self, file: str = "out.jsonl") -> list[dict[str, Any]]:
        path = self.folder / file
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]  # the last may be half written

    def names(self) -> list[str]:
        return [vitals.instance for vitals in self.agent.snapshot().instances]


def connections(server: RedisServer) -> dict[str, str]:
    """Client name to connection id, of the agent's connections."""
    with server.client() as client:
        found = client.client_list()
    return {one["name"]: one["id"] for one in found if one["name"].startswith("vedette")}


def cache(server: RedisServer, *names: str, **options: str) -> str:
    """A file with these instances of one server, each with a connection that carries its name."""
    more = "".join(f", {key}: {value}" for key, value in options.items())
    return "instances:\n" + "".join(
        f"  - {{name: {name}, host: 127.0.0.1, port: {server.port}, interval: 200ms, timeout: 30s{more}}}\n"
        for name in names
    )


def ids(server: RedisServer) -> set[str]:
    with server.client() as client:
        mine = client.client_id()
        return {one["id"] for one in client.client_list() if int(one["id"]) != mine}


async def test_an_edit_a_drop_and_a_removal_touch_only_their_own(tmp_path: Path, server: RedisServer) -> None:
    site = Site(tmp_path)
    site.write("redis", cache(server, "stays", "edited"))
    site.write("host", "instances: [{interval: 200ms}]\n")
    async with site.running():
        await site.ran("redis/stays")
        await site.ran("redis/edited")
        before, connected = site.agent.snapshot(), ids(server)
        site.write(
            "redis",
            cache(server, "stays")
            + f"  - {{name: edited, host: 127.0.0.1, port: {server.port}, interval: 300ms, timeout: 30s}}\n",
        )
        site.write("new", "check: host\ninstances: [{name: dropped, interval: 200ms}]\n")
        (site.conf / "host.yaml").unlink()
        planned = await site.agent.reload(check=True)
        assert str(planned) == "+1 ~1 (interval 200ms → 300ms) -1 =1"
        assert (
            site.names() == ["host/host", "redis/edited", "redis/stays"] or len(site.names()) == 3
        )  # nothing done yet
        assert await site.agent.reload() == planned
        await site.ran("redis/stays", 2)
        await site.ran("redis/edited", 2)
        await site.ran("host/dropped")
        assert site.names() == ["host/dropped", "redis/stays", "redis/edited"]
        after = {one.instance: one for one in site.agent.snapshot().instances}
        was = {one.instance: one for one in before.instances}
        assert after["redis/stays"].runs > was["redis/stays"].runs
        phase = (after["redis/stays"].next_run - was["redis/stays"].next_run) / 0.2
        assert abs(phase - round(phase)) < 0.05  # still on the same beat
        assert len(ids(server) & connected) == 1  # the one that stays
        assert len(ids(server)) == 2
    closed = [batch.instance for batch in site.batches if batch.closed]
    assert closed == ["host/host"]  # the edited one's series go on: only its clock changed


async def test_a_target_that_changes_begins_new_series(tmp_path: Path, server: RedisServer) -> None:
    site = Site(tmp_path)
    site.write("redis", cache(server, "cache"))
    async with site.running():
        await site.ran("redis/cache")
        site.edit("redis", "host: 127.0.0.1", "host: localhost")
        assert str(await site.agent.reload()) == "+0 ~1 (host 127.0.0.1 → localhost) -0 =0"
        await site.ran("redis/cache")
    assert [batch.instance for batch in site.batches if batch.closed] == ["redis/cache"]


async def test_new_tags_reach_every_series_and_no_connection_is_lost(tmp_path: Path, server: RedisServer) -> None:
    site = Site(tmp_path, "tags: [team:a]\nhostname: one\nsinks: [{type: file, path: ../out.jsonl}]\n")
    site.write("redis", cache(server, "cache"))
    async with site.running():
        await site.ran("redis/cache")
        connected, task = ids(server), site.runs("redis/cache")
        site.edit("agent", "team:a", "team:b")
        site.edit("agent", "hostname: one", "hostname: two")
        changes = await site.agent.reload()
        assert (changes.same, [one.what for one in changes.agent]) == (1, [("hostname", "tags")])
        await site.ran("redis/cache")
        assert ids(server) == connected
        assert site.runs("redis/cache") > task
    seen = {(row["host"], tag) for row in site.rows() for tag in row["tags"] if tag.startswith("team:")}
    assert seen == {("one", "team:a"), ("two", "team:b")}


async def test_a_changed_sink_gets_what_comes_from_then_on_and_others_go_on(
    tmp_path: Path, server: RedisServer
) -> None:
    with UdpCapture() as first, UdpCapture() as second:
        sinks = "sinks:\n  - {type: dogstatsd, host: 127.0.0.1, port: %d}\n  - {type: file, path: ../%s}\n"
        site = Site(tmp_path, sinks % (first.port, "a.jsonl"))
        site.write("redis", cache(server, "cache"))
        async with site.running():
            await site.ran("redis/cache", 2)
            site.write("agent", "reload: {watch: false}\n" + sinks % (first.port, "b.jsonl"))
            changes = await site.agent.reload()
            assert [(one.name, one.what) for one in changes.agent] == [("sink file", ("changed",))]
            await site.ran("redis/cache", 2)
            site.write("agent", "reload: {watch: false}\n" + sinks % (second.port, "b.jsonl"))
            await site.agent.reload()
            await site.ran("redis/cache", 2)
        times = [{row["time"] for row in site.rows(file) if row["check"] == "redis"} for file in ("a.jsonl", "b.jsonl")]
        handed = {batch.time for batch in site.batches if batch.check == "redis"}
        assert times[0] | times[1] == handed  # nothing is lost in between
        assert not times[0] & times[1]
        # the new client goes on from the old one's totals: its very first run has deltas
        runs = [line for line in second.lines if line.startswith("health_check.status")]
        deltas = [line for line in second.lines if line.startswith("redis.net.commands:")]
        assert len(deltas) == len(runs) > 0


async def test_a_broken_file_goes_on_as_it_was_and_shows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(tmp_path, "report_interval: 100ms\nsinks: [{type: file, path: ../out.jsonl}]\n")
    site.write("host", "instances: [{interval: 200ms}]\n")
    async with site.running():
        await site.ran("host/host")
        site.write("host", "instances: [{intervall: 200ms}]\n")
        assert str(await site.agent.reload()) == "+0 ~0 -0 =1"
        await site.ran("host/host", 2)
        (note, problem) = site.agent.snapshot().problems
        assert (problem.line, problem.path) == (1, "instances[0].intervall")
        assert note.message == "goes on as it was before the error: host/host"
        assert sum("host.yaml:1: instances[0].intervall" in one for one in caplog.messages) == 1

        def broken() -> list[int]:
            return [row["value"] for row in site.rows() if row["name"] == "vedette.config.broken_files"]

        await eventually(lambda: broken()[-1:] == [1], "the metric")
        site.write("host", "instances: [{interval: 200ms}]\n")
        await site.agent.reload()
        assert site.agent.snapshot().problems == ()
        await eventually(lambda: broken()[-1:] == [0], "the metric")


# Watching


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    site.write("agent", "reload: {settle: 300ms}\nsinks: [{type: file, path: ../out.jsonl}]\n")
    site.write("host", "instances: [{interval: 200ms}]\n")
    async with site.running():
        await site.ran("host/host")
        yield site


def named(name: str) -> str:
    return f"check: host\ninstances: [{{name: {name}, interval: 200ms}}]\n"


async def appears(site: Site, instance: str) -> None:
    await eventually(lambda: instance in site.names(), instance)


async def disappears(site: Site, instance: str) -> None:
    await eventually(lambda: instance not in site.names(), f"{instance} to end")


async def test_files_that_are_dropped_edited_and_removed_are_noticed(watched: Site) -> None:
    watched.write("second", named("two"))
    await appears(watched, "host/two")
    watched.write("second", named("three"))
    await appears(watched, "host/three")
    (watched.conf / "host.d").mkdir()
    (watched.conf / "host.d" / "x.yaml").write_text(named("four"))
    await appears(watched, "host/four")
    (watched.conf / "host.d" / "x.yaml").unlink()
    (watched.conf / "second.yaml").unlink()
    await disappears(watched, "host/four")
    await disappears(watched, "host/three")
    assert watched.names() == ["host/host"]


async def test_what_is_dropped_while_it_starts_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "team").write_text("team:shop")
    site = Site(tmp_path)
    tags = f'tags: ["${{file:{tmp_path}/team}}"]\n'
    site.write("agent", f"reload: {{settle: 300ms}}\n{tags}sinks: [{{type: file, path: ../out.jsonl}}]\n")
    site.write("host", "instances: [{interval: 200ms}]\n")
    async with site.running():
        await site.ran("host/host", 4)
        assert site.agent._reloads == 0
    async with site.running(lambda: site.write("second", named("two"))):
        await appears(site, "host/two")


async def test_a_secret_that_is_rotated_while_it_starts_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "name").write_text("one")
    site = Site(tmp_path)
    site.write("agent", "reload: {settle: 300ms}\nsinks: [{type: file, path: ../out.jsonl}]\n")
    site.write("host", named(f"'${{file:{tmp_path}/name}}'"))
    async with site.running(lambda: (tmp_path / "name").write_text("two") and None):
        await appears(site, "host/two")
        assert site.agent._reloads == 1


async def test_a_link_that_is_flipped_as_kubernetes_does(watched: Site) -> None:
    def version(number: int, text: str) -> None:
        folder = watched.conf / f"..2026_{number}"
        folder.mkdir()
        (folder / "map.yaml").write_text(text)
        (watched.conf / "..data_tmp").symlink_to(folder.name)
        (watched.conf / "..data_tmp").rename(watched.conf / "..data")

    version(1, named("one"))
    (watched.conf / "map.yaml").symlink_to("..data/map.yaml")
    await appears(watched, "host/one")
    version(2, named("two"))
    await appears(watched, "host/two")
    assert "host/one" not in watched.names()


@pytest.mark.parametrize("how", ["written in pieces", "swapped as editors do", "renamed as rsync does"])
async def test_what_is_half_written_is_not_read(watched: Site, how: str) -> None:
    watched.write("second", named("two"))
    await appears(watched, "host/two")
    await watched.ran("host/two")
    started = {one.instance: one.since for one in watched.agent.snapshot().instances}
    path, text = watched.conf / "second.yaml", named("two") + "# end\n"
    if how == "written in pieces":
        with path.open("w") as stream:
            for piece in (text[:20], text[20:]):
                stream.write(piece)
                stream.flush()
                watched.write("other", named(f"o{len(piece)}"))  # what wakes the watch meanwhile
                await asyncio.sleep(0.5)  # longer than it takes to settle: only that it is open tells
        (watched.conf / "other.yaml").unlink()
    elif how == "swapped as editors do":
        backup = path.with_name("second.yaml~")
        path.rename(backup)
        await asyncio.sleep(0.05)
        path.write_text(text)
        backup.unlink()
    else:
        hidden = path.with_name(".second.yaml.Xq3")
        hidden.write_text(text[:10])
        await asyncio.sleep(0.4)
        hidden.write_text(text)
        hidden.rename(path)
    watched.write("last", named("last"))
    await appears(watched, "host/last")
    now = {one.instance: one.since for one in watched.agent.snapshot().instances}
    assert now["host/two"] == started["host/two"]  # never ended, never began anew
    assert watched.agent.snapshot().problems == ()
    assert not [batch for batch in watched.batches if batch.closed and batch.instance == "host/two"]


async def test_links_to_elsewhere_and_rights_are_noticed_too(watched: Site, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.yaml").write_text(named("one"))
    (watched.conf / "linked.yaml").symlink_to(elsewhere / "x.yaml")
    await appears(watched, "host/one")
    (elsewhere / "x.yaml").write_text(named("two"))  # of which the system says nothing in conf.d
    await appears(watched, "host/two")
    assert "host/one" not in watched.names()
    reloads = watched.agent._reloads
    (elsewhere / "x.yaml").chmod(0o600)
    await eventually(lambda: watched.agent._reloads > reloads, "another look after chmod")


async def test_a_secret_file_that_changes_starts_those_who_use_it(
    watched: Site, server: RedisServer, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "pw").write_text("one-s3cret")
    user = "username: default, password: '${file:../secrets/pw}', "
    watched.write(
        "redis", cache(server, "open") + cache(server, "secret").replace("instances:\n", "").replace("{", "{" + user, 1)
    )
    await appears(watched, "redis/secret")
    await watched.ran("redis/open")
    before = {one.instance: one for one in watched.agent.snapshot().instances}
    (secrets / "pw.new").write_text("two-s3cret")
    (secrets / "pw.new").rename(secrets / "pw")

    def began_anew() -> bool:
        now = {one.instance: one for one in watched.agent.snapshot().instances}
        return (
            now["redis/secret"].runs < before["redis/secret"].runs
            or now["redis/secret"].since > before["redis/secret"].since
        )

    await eventually(began_anew, "the instance with the secret to start anew")
    assert watched.runs("redis/open") >= before["redis/open"].runs


# A thousand edits


class Editor:
    """Changes a configuration at random, and knows what must be untouched."""

    def __init__(self, site: Site, server: RedisServer, seed: int, files: int) -> None:
        self.site, self.server, self.random = site, server, random.Random(seed)
        self.files = {f"cache{n:02}": [f"c{n:02}-{i}" for i in range(10)] for n in range(files)}
        self.moving = list(self.files)[files // 2 :]
        self.steady = {f"redis/{name}" for file in list(self.files)[: files // 2] for name in self.files[file]}
        for file in self.files:
            self.restore(file)

    def text(self, file: str, interval: str = "4s") -> str:
        return (
            cache(self.server, *self.files[file])
            .replace("200ms", interval)
            .replace("instances:", "check: redis\ninstances:")
        )

    def restore(self, file: str) -> None:
        self.site.write(file, self.text(file))

    def once(self) -> None:
        file = self.random.choice(self.moving)
        path = self.site.conf / f"{file}.yaml"
        action: Callable[[], Any] = self.random.choice(
            [
                lambda: path.unlink(missing_ok=True),
                lambda: path.write_text("instances: ["),
                lambda: path.write_text(self.text(file, self.random.choice(["5s", "6s"]))),
                lambda: path.write_text(self.text(file).replace(self.files[file][3], f"{file}-renamed")),
                lambda: path.write_text(self.text(file).replace("port:", "prot:", 1)),
                lambda: path.write_text(self.text(file).replace("4s", "4s, tags: [x:y]", 1)),
                lambda: self.restore(file),
            ]
        )
        action()

    async def all_run(self, caplog: pytest.LogCaptureFixture) -> float:
        """Megabytes of memory once every file is whole and every instance has run."""
        for file in self.files:
            self.restore(file)
        await self.site.agent.reload()
        await eventually(lambda: all(self.site.runs(one) for one in self.site.names()), "everybody's run", 60)
        caplog.clear()  # what the test remembers is not the agent's
        gc.collect()
        return resident()


def open_files() -> int:
    """File descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def resident() -> float:
    """Megabytes of memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.parametrize(("files", "edits"), [(4, 10), pytest.param(20, 1000, marks=pytest.mark.soak)])
async def test_random_edits_touch_nobody_else(
    tmp_path: Path, server: RedisServer, caplog: pytest.LogCaptureFixture, files: int, edits: int
) -> None:
    instances, steady, loop = files * 10, files * 5, asyncio.get_running_loop()
    site = Site(tmp_path, "sinks: [{type: file, path: ../out.jsonl, max_bytes: 1MB}]\n", remember=False)
    editor = Editor(site, server, edits, files)
    async with site.running():
        await eventually(lambda: all(site.runs(one) for one in site.names()), "everybody's first run", 60)
        steady_connections, files_open = ids(server), open_files()
        tasks = {name: site.agent._crew._tasks[name] for name in editor.steady}  # a run's own task has that name too
        first = {one.instance: one for one in site.agent.snapshot().instances if one.instance in editor.steady}
        early = 0.0
        for number in range(edits):
            editor.once()
            await site.agent.reload()
            if number == edits // 10:
                early = await editor.all_run(caplog)
        late = await editor.all_run(caplog)
        assert len(site.names()) == instances
        assert site.agent.snapshot().problems == ()
        last = {one.instance: one for one in site.agent.snapshot().instances if one.instance in editor.steady}
        assert {name: one.skipped for name, one in last.items() if one.skipped} == {}
        beats = {name: (one.next_run - first[name].next_run) / 4.0 for name, one in last.items()}
        assert {name: beat for name, beat in beats.items() if abs(beat - round(beat)) > 0.01} == {}  # the same phase
        assert {name: tasks[name].done() for name in editor.steady} == dict.fromkeys(editor.steady, False)
        assert len(steady_connections & ids(server)) >= steady
        assert len(ids(server)) == instances
        if edits >= 1000:
            assert late <= early + 5
        # A run in progress is a task of its own: what leaks is there between runs too.
        await eventually(lambda: len(asyncio.all_tasks(loop)) <= instances + 8, "no task more than at the start")
        await eventually(lambda: open_files() <= files_open + 2, "no file descriptor more than at the start")


async def test_a_key_that_is_refused_is_read_anew_and_what_waits_is_sent_with_the_new_one(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    await asyncio.to_thread(secret.write_text, KEY + "\n")
    async with intake() as there:
        sink = f'{{type: datadog, api_key: "${{file:{secret}}}", base_url: {there.url}, flush: 100ms}}'
        site = Site(tmp_path, f"sinks: [{sink}]\n")
        site.write("host", "instances: [{interval: 1s}]\n")
        async with site.running():
            await eventually(lambda: bool(there.values("system.load.1")), "points under the first key")
            before = set(there.values("system.load.1"))
            newer = KEY[::-1]
            there.keys = {newer}
            await asyncio.to_thread(secret.write_text, newer)  # nobody watches the file
            await eventually(lambda: len(set(there.values("system.load.1")) - before) > 1, "points under the new key")
        assert 403 in {status for _, status in there.statuses}
        measured = {int(one.time) for one in site.batches if one.check == "host" and one.samples}
        assert set(there.values("system.load.1")) == measured
