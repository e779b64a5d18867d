"""The agent as a whole, in this process: what it leaves behind, what reaches the sinks, what it says of itself."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from servers import free_port, until
from vedette.agent import Agent, agent_tags
from vedette.config import load
from vedette.control import ControlError
from vedette.metrics import Batch
from vedette.plugins import Registry
from vedette.state import StateStore

pytestmark = pytest.mark.anyio


def open_files() -> set[str]:
    found = set()
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        try:
            found.add(str(descriptor.readlink()))
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return found


def threads() -> set[str]:
    """Names of the threads, but for those of the loop's own pool, which it keeps."""
    return {thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}


def configure(folder: Path, **files: Any) -> Path:
    conf = folder / "conf.d"
    conf.mkdir(exist_ok=True)
    for name, content in files.items():
        (conf / f"{name}.yaml").write_text(json.dumps(content))
    return conf


async def test_after_the_stop_no_task_thread_socket_or_file_is_left(tmp_path: Path) -> None:
    sinks = [
        {"type": "file", "path": str(tmp_path / "out.jsonl")},
        {"type": "prometheus", "listen": "127.0.0.1:0"},
        {"type": "dogstatsd", "host": "127.0.0.1", "port": free_port()},
    ]
    conf = configure(
        tmp_path,
        agent={"sinks": sinks, "report_interval": "200ms", "http": {"listen": "127.0.0.1:0"}},
        host={"instances": [{"interval": "300ms"}]},
        redis={"instances": [{"host": "127.0.0.1", "port": free_port(), "interval": "300ms"}]},
    )
    configuration = await asyncio.to_thread(load, conf, Registry())  # also starts asyncio's own worker thread
    assert configuration.problems == ()
    await anyio.to_thread.run_sync(int)  # anyio keeps an idle worker too
    before = threads(), open_files(), len(asyncio.all_tasks())
    agent = Agent(configuration, StateStore(tmp_path / "state"), {})
    await agent.run(duration=1.0)
    await asyncio.to_thread(until, lambda: threads() <= before[0], "the sinks' threads to end")
    # An earlier test's may have been closed meanwhile, and the watch of conf.d ends in a thread of its library's.
    await asyncio.to_thread(until, lambda: open_files() <= before[1], "files and sockets to be closed")
    assert len(asyncio.all_tasks()) == before[2]


async def test_the_snapshot_tells_where_every_instance_and_sink_stands(tmp_path: Path) -> None:
    port = free_port()
    conf = configure(
        tmp_path,
        agent={"sinks": [{"type": "file", "path": str(tmp_path / "out.jsonl")}]},
        host={"instances": [{"interval": "300ms", "timeout": "30s"}]},
        redis={"instances": [{"host": "127.0.0.1", "port": port, "interval": "300ms", "timeout": "30s"}]},
    )
    configuration = await asyncio.to_thread(load, conf, Registry())
    agent = Agent(configuration, StateStore(tmp_path / "state"), {})
    running = asyncio.create_task(agent.run())
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        snapshot = agent.snapshot()
        due = snapshot.time < snapshot.instances[0].next_run  # else the machine stopped, and its run is about to begin
        if due and all(vitals.runs >= 2 for vitals in snapshot.instances):
            break
        await asyncio.sleep(0.01)
    agent.stop()
    await running
    host, redis = snapshot.instances
    assert (host.instance, host.state.value, host.healthy, host.failures) == ("host/host", "ok", True, 0)
    assert (redis.instance, redis.state.value, redis.healthy) == ("redis/redis", "failing", False)
    assert redis.failures == redis.runs
    assert redis.message.startswith(f"nothing listens on 127.0.0.1:{port}")
    assert 0 < host.next_run - snapshot.time <= 0.31
    assert [(sink.name, sink.dropped, sink.trouble) for sink in agent.snapshot().sinks] == [("file", 0, "")]
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert agent.snapshot().sinks[0].sent == len(lines)


def test_tags_from_the_environment_give_way_to_configured_ones() -> None:
    environ = {"DD_ENV": "prod", "ENVIRONMENT": "staging", "DD_SERVICE": "pay", "DD_VERSION": "2", "APP_VERSION": ""}
    assert agent_tags(["team:x"], environ) == ("team:x", "environment:staging", "service:pay", "version:2")
    assert agent_tags(["environment:mine", "service"], environ) == ("environment:mine", "service", "version:2")
    assert agent_tags([], {}) == ()


async def test_a_muted_instance_does_not_count_and_one_can_be_run_beside_its_rhythm(tmp_path: Path) -> None:
    conf = configure(
        tmp_path,
        agent={"sinks": [{"type": "file", "path": str(tmp_path / "out.jsonl")}], "report_interval": "50ms"},
        redis={"instances": [{"name": "down", "host": "127.0.0.1", "port": free_port(), "interval": "1h"}]},
    )
    configuration = await asyncio.to_thread(load, conf, Registry())
    overall: asyncio.Queue[Any] = asyncio.Queue()

    def note(batch: Batch) -> None:
        for sample in batch.samples:
            if sample.name == "health_check.overall":
                overall.put_nowait(sample.value)

    async def overall_becomes(value: int) -> None:
        async with asyncio.timeout(20):
            while await overall.get() != value:
                pass

    agent = Agent(configuration, StateStore(tmp_path / "state"), {}, on_batch=note)
    running = asyncio.create_task(agent.run())
    await overall_becomes(0)
    (before,) = agent.snapshot().instances
    agent.mute("redis/down", time.time() + 60)
    await overall_becomes(1)
    agent.mute("redis/down", 0.0)
    await overall_becomes(0)
    agent.run_now("redis/down")
    await asyncio.sleep(0)  # one step of the loop: the run begins
    with pytest.raises(ControlError, match="cannot run now: a run is in progress"):
        agent.run_now("redis/down")
    await asyncio.to_thread(until, lambda: agent.snapshot().instances[0].runs == before.runs + 1, "the run")
    (after,) = agent.snapshot().instances
    assert (after.next_run, after.skipped) == (before.next_run, 0)
    with pytest.raises(ControlError, match="no instance is called 'redis/up'"):
        agent.run_now("redis/up")
    agent.stop()
    await running
