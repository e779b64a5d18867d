"""The control socket, with real sockets: who is answered what, and what becomes of the socket."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from servers import until
from status.parts import Actor, failing, vitals
from vedette.config import AgentConfig
from vedette.control import ControlError, Overall, find, overall
from vedette.control import server as module
from vedette.control.client import NoAgentError, ask
from vedette.control.path import socket_path, socket_paths
from vedette.control.server import ControlServer
from vedette.control.wire import picture, snapshot_of
from vedette.errors import Problem
from vedette.report import SinkVitals
from vedette.runner import State

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def serving(actor: Any, path: Path) -> AsyncIterator[ControlServer]:
    server = ControlServer(actor, path)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def request(path: Path, **asked: Any) -> Any:
    return await asyncio.to_thread(ask, [path], asked)


async def raw(path: Path, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return answer


async def test_every_operation(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    actor = Actor(vitals("host/host"), failing(), vitals("redis/busy"))
    async with serving(actor, path):
        assert (await request(path, op="status"))["overall"] == "failing"
        one = await request(path, op="status", instance="cache")
        assert [row["hint"] for row in one["instances"]] == ["is the server running?"]
        assert (await request(path, op="reload", check=True))["summary"] == "+1 ~1 (interval 30s → 15s) -1 =12"
        assert await request(path, op="run-now", instance="cache") == {"instance": "redis/cache"}
        begun = time.time()
        end = (await request(path, op="mute", instance="host", **{"for": "2h"}))["until"]
        await request(path, op="unmute", instance="host/host")
        with pytest.raises(ControlError, match="redis/busy cannot run now: a run is in progress"):
            await request(path, op="run-now", instance="busy")
    assert begun + 7200 <= end <= time.time() + 7200
    assert actor.asked == [
        ("reload", True),
        ("run-now", "redis/cache"),
        ("mute", "host/host", end),
        ("mute", "host/host", 0.0),
        ("run-now", "redis/busy"),
    ]


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"op": "dance"}, "the operations are status, reload, run-now, mute, unmute, alerts, explain, silence, "),
        ({}, "the operations are status"),
        ({"op": "mute"}, "mute takes an instance"),
        ({"op": "run-now", "instance": 3}, "run-now takes an instance"),
        ({"op": "run-now", "instance": "cahce"}, "no instance is called 'cahce'; did you mean 'cache'?"),
        ({"op": "status", "instance": "x"}, "no instance is called 'x'; `vedette status` lists them"),
        ({"op": "mute", "instance": "cache", "for": "soon"}, "for must be a duration"),
        ({"op": "mute", "instance": "cache", "for": 0}, "for must be greater than 0"),
        ({"op": "mute", "instance": "cache", "for": -1}, "for must be a duration"),
    ],
)
async def test_what_makes_no_sense_is_refused(asked: dict[str, Any], error: str, tmp_path: Path) -> None:
    actor = Actor(failing())
    async with serving(actor, tmp_path / "s"):
        with pytest.raises(ControlError) as refused:
            await request(tmp_path / "s", **asked)
    assert str(refused.value).startswith(error)
    assert actor.asked == []


JUNK = (b"\n", b"[]\n", b'"status"\n', b"{}x\n", b"GET / HTTP/1.1\r\n", b"\xff\n", b"x" * 70_000)


@pytest.mark.parametrize("junk", JUNK)
async def test_junk_gets_a_sentence_and_harms_nothing(junk: bytes, tmp_path: Path) -> None:
    async with serving(Actor(failing()), tmp_path / "s"):
        answer = json.loads(await raw(tmp_path / "s", junk))
        assert answer == {"ok": False, "error": 'a request is one line of JSON, such as {"op": "status"}'}
        assert (await request(tmp_path / "s", op="status"))["overall"] == "failing"


async def test_whoever_says_nothing_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    async with serving(Actor(failing()), tmp_path / "s"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        assert await reader.read() == b""
        writer.close()


async def test_more_clients_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_CLIENTS", 1)
    async with serving(Actor(failing()), tmp_path / "s") as server:
        _, first = await asyncio.open_unix_connection(tmp_path / "s")
        reader, second = await asyncio.open_unix_connection(tmp_path / "s")
        assert await reader.read() == b""
        assert len(server._clients) == 1
        first.close()
        second.close()


async def test_a_fault_is_said_and_the_server_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Actor):
        def run_now(self, instance: str) -> None:
            raise ZeroDivisionError("secret")

    async with serving(Broken(failing()), tmp_path / "s"):
        with pytest.raises(ControlError, match=r"^a fault in vedette itself \(ZeroDivisionError\); its log says more$"):
            await request(tmp_path / "s", op="run-now", instance="cache")
        assert (await request(tmp_path / "s", op="status"))["overall"] == "failing"
    assert "a request failed" in caplog.text


# The socket


async def test_only_its_owner_may_connect_and_it_goes_with_the_agent(tmp_path: Path) -> None:
    path = tmp_path / "new" / "control.sock"
    async with serving(Actor(), path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with serving(Actor(failing()), path):
        assert (await request(path, op="status"))["overall"] == "failing"


async def test_a_live_socket_of_somebody_else_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "control.sock"
    async with serving(Actor(failing()), path):
        async with serving(Actor(), path):
            assert (await request(path, op="status"))["overall"] == "failing"
        assert (await request(path, op="status"))["overall"] == "failing"
    assert f"commands cannot reach this agent: {path} is in use by another agent" in caplog.text


async def test_a_live_socket_whose_owner_is_busy_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        async with serving(Actor(), path):
            pass
        assert path.exists()
    assert "is in use by another agent" in caplog.text


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    async with serving(Actor(), path):
        pass
    assert path.read_text() == "precious"
    assert f"commands cannot reach this agent: {path}: is there already and no socket" in caplog.text


async def test_a_long_path_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 30) / "control.sock"
    path.parent.mkdir()
    for _ in range(2):
        async with serving(Actor(), path):
            answer = await asyncio.to_thread(ask, [path], {"op": "status", "instance": ""})
            assert answer["host"] == "node-7"
        assert not path.exists()


async def test_a_name_that_is_too_long_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / ("x" * 108)
    async with serving(Actor(), path):
        pass
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said == (
        f"commands cannot reach this agent: {path.name} is too long for the name of a socket (80 bytes); "
        "see control_socket"
    )


async def test_the_stop_cuts_off_whoever_is_connected(tmp_path: Path) -> None:
    async with serving(Actor(), tmp_path / "s") as server:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        await asyncio.to_thread(until, lambda: len(server._clients) == 1, "the server to know the client")
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()


def test_without_an_agent_the_client_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(NoAgentError) as none:
        ask([tmp_path / "a", tmp_path / "b"], {"op": "status"})
    assert str(none.value) == (
        f"no agent is running here ({tmp_path}/a: no such file or directory; {tmp_path}/b: no such file or directory); "
        "--conf DIR names its configuration"
    )


def test_an_agent_that_does_not_answer_is_said(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        with pytest.raises(NoAgentError, match="does not answer within 0 s"):
            ask([tmp_path / "s"], {"op": "status"}, patience=0.05)


@pytest.mark.parametrize(
    ("options", "environ", "path"),
    [
        ({"control_socket": "/a/b"}, {"RUNTIME_DIRECTORY": "/run/x"}, "/a/b"),
        ({}, {"RUNTIME_DIRECTORY": "/run/x:/run/y", "STATE_DIRECTORY": "/state"}, "/run/x/control.sock"),
        ({}, {"STATE_DIRECTORY": "/state"}, "/state/control.sock"),
        ({"state_directory": "/mine"}, {"STATE_DIRECTORY": "/state"}, "/mine/control.sock"),
    ],
)
def test_where_the_socket_is(options: dict[str, Any], environ: dict[str, str], path: str) -> None:
    made = AgentConfig(**options)
    assert str(socket_path(made, environ)) == path
    more = [] if "control_socket" in options else ["/run/vedette/control.sock"]
    assert [str(each) for each in socket_paths(made, environ)] == [path, *more]


# What is said


def test_a_picture_survives_the_wire() -> None:
    import msgspec

    sink, problem = SinkVitals("file", 1, 2, 3, 4, "x"), Problem("a.yaml", 1, "x", "y", "z")
    snapshot = Actor(failing(dropped={"undeclared": 2}), sinks=(sink,), problems=(problem,)).snapshot()
    data = msgspec.json.decode(msgspec.json.encode({**picture(snapshot), "of_a_later_version": 1}))
    data["instances"][0]["of_a_later_version"] = 1
    assert snapshot_of(data) == snapshot


OK, WARNING, FAILING = Overall


@pytest.mark.parametrize(
    ("actor", "worst"),
    [
        (Actor(), OK),
        (Actor(vitals("a/a"), vitals("a/b", State.STARTING)), OK),
        (Actor(vitals("a/a", State.WARNING)), WARNING),
        (Actor(vitals("a/a", State.WARNING, muted_until=2e9)), OK),
        (Actor(vitals("a/a", State.CRITICAL)), FAILING),
        (Actor(vitals("a/a", State.STUCK)), FAILING),
        (Actor(failing(muted_until=2e9)), OK),
        (Actor(failing(muted_until=1e9)), FAILING),
        (Actor(sinks=(SinkVitals("a", 0, 0, 0, 0, "down"),)), WARNING),
        (Actor(problems=(Problem("a", 1, "", "b"),)), WARNING),
        (Actor(problems=(Problem("a", 1, "", "b", "", "warning"),)), OK),
    ],
)
def test_the_overall_state(actor: Actor, worst: Overall) -> None:
    assert overall(actor.snapshot()) is worst


def test_an_instance_is_found_by_its_name_where_that_says_enough() -> None:
    ids = ["redis/main", "postgres/main", "redis/cache"]
    assert [find(name, ids) for name in ("redis/main", "cache")] == ["redis/main", "redis/cache"]
    with pytest.raises(ControlError, match=r"^which one is meant: redis/main, postgres/main\?$"):
        find("main", ids)
