"""The sockets: what the kernel dropped, files left behind, permissions, streams, taking over, the end."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from pydantic import ValidationError

from checks.statsd.parts import came, listening
from servers import eventually
from vedette import Batch, CheckError, Diagnosis
from vedette.emit import Channel, Emit
from vedette.testing import serve_check
from vedette_checks.statsd import Statsd, StatsdConfig, ports
from vedette_checks.statsd.binding import bind_unix
from vedette_checks.statsd.ports import LONGEST_FRAME, StreamServer

pytestmark = pytest.mark.anyio


def config(**options: Any) -> StatsdConfig:
    return StatsdConfig.model_validate({"name": "x", "listen": None, **options})


# UDP


async def test_what_the_kernel_had_no_room_for_is_told() -> None:
    async with listening(receive_buffer="64KB") as line:
        line.send(*[b"n:1|c|#pad:" + b"x" * 900] * 1_000)  # nobody receives meanwhile
        found = await line.all(1)
    assert found.own["socket.dropped listener:udp"] > 500
    assert found.value("n") + found.own["socket.dropped listener:udp"] == 1_000


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
async def test_addresses(host: str) -> None:
    async with listening(listen=f"{host}:0") as line:
        family = socket.AF_INET6 if host == "[::1]" else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as out:
            out.sendto(b"n:1|c", (host.strip("[]"), line.serving.check.port))
        assert (await line.all(1)).value("n") == 1


async def test_beyond_this_machine_each_sender_is_an_origin() -> None:
    async with listening(listen="0.0.0.0:0", max_contexts=1) as line:
        for address in ("127.0.0.1", "127.0.0.2"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
                out.bind((address, 0))
                packet = b"n:1|c|#from:%b\nm.%b:1|c" % (address.encode(), address.encode())
                out.sendto(packet, ("127.0.0.1", line.serving.check.port))
        found = await line.all(2)
    assert {tags for _, name, tags, _ in found.metrics if name == "n"} == {("from:127.0.0.1",), ("from:127.0.0.2",)}
    assert {key for key in found.own if key.startswith("over")} == {
        "over_budget origin:127.0.0.1", "over_budget origin:127.0.0.2"
    }  # fmt: skip


async def test_a_taken_port_is_a_finding() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(CheckError, match=f"cannot listen on {place}: Address already in use") as raised:
            await Statsd(config(listen=place)).open()
        assert "Datadog's agent" in raised.value.hint


async def test_fast_senders_of_small_packets_lose_nothing() -> None:
    """It stops to be woken up for each and looks now and then; once they are done it is woken up again."""
    async with listening() as line:
        for burst in range(30):
            line.send(*[b"n:1|c"] * 100)
            await asyncio.sleep(0.0005 if burst % 3 else 0)
        assert (await line.all()).value("n") == 3_000
        line.send(b"last:1|c")
        assert (await line.all()).value("last") == 1


# Unix sockets


@pytest.mark.parametrize("option", ["socket", "stream_socket"])
async def test_a_unix_socket_has_its_mode_and_is_gone_afterwards(option: str, tmp_path: Path) -> None:
    path = tmp_path / "dsd.socket"
    group = os.getgid()
    async with serve_check(Statsd, {"listen": None, option: str(path), "socket_mode": "0622"}):
        found = path.stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o622
        assert found.st_gid == group
    assert not path.exists()


@pytest.mark.parametrize(("option", "kind"), [("socket", socket.SOCK_DGRAM), ("stream_socket", socket.SOCK_STREAM)])
async def test_a_file_left_behind_gives_way(option: str, kind: socket.SocketKind, tmp_path: Path) -> None:
    path = tmp_path / "dsd.socket"
    with socket.socket(socket.AF_UNIX, kind) as crashed:
        crashed.bind(str(path))
    check = Statsd(config(**{option: path}))
    await check.open()
    with socket.socket(socket.AF_UNIX, kind) as out:
        out.connect(str(path))
    await check.close()
    assert not path.exists()


@pytest.mark.parametrize(("option", "kind"), [("socket", socket.SOCK_DGRAM), ("stream_socket", socket.SOCK_STREAM)])
@pytest.mark.parametrize("theirs", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
async def test_a_socket_that_somebody_serves_does_not(
    option: str, kind: socket.SocketKind, theirs: socket.SocketKind, tmp_path: Path
) -> None:
    path = tmp_path / "dsd.socket"
    with socket.socket(socket.AF_UNIX, theirs) as other:
        other.bind(str(path))
        if theirs is socket.SOCK_STREAM:
            other.listen()
        with pytest.raises(CheckError, match="somebody listens on"):
            await Statsd(config(**{option: path})).open()
        assert path.exists()


async def test_other_files_and_missing_folders_are_findings(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckError, match="is there and is no socket"):
        await Statsd(config(socket=tmp_path / "file")).open()
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(CheckError, match="No such file") as raised:
        await Statsd(config(socket=tmp_path / "no" / "dsd.socket")).open()
    assert "make the folder" in raised.value.hint
    with pytest.raises(CheckError, match="too long"):
        await Statsd(config(socket=tmp_path / ("x" * 120))).open()
    with pytest.raises(CheckError, match="no group nosuchgroup"):
        await Statsd(config(socket=tmp_path / "dsd.socket", socket_group="nosuchgroup")).open()
    assert not (tmp_path / "dsd.socket").exists()


async def test_a_file_that_another_took_the_place_of_stays(tmp_path: Path) -> None:
    path = tmp_path / "dsd.socket"
    check = Statsd(config(socket=path))
    await check.open()
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        await check.close()
        assert path.exists()


async def test_a_failure_leaves_nothing_open(tmp_path: Path) -> None:
    path, taken = tmp_path / "dsd.socket", tmp_path / "taken"
    taken.write_text("")
    check = Statsd(config(socket=path, stream_socket=taken))
    with pytest.raises(CheckError):
        await check.open()
    assert not path.exists()


# Streams


def frame(packet: bytes) -> bytes:
    return struct.pack("<I", len(packet)) + packet


async def test_a_stream_may_come_in_any_pieces(tmp_path: Path) -> None:
    path = tmp_path / "dsd.socket"
    whole = b"".join(frame(b"n:1|c\nm:%d|g" % number) for number in range(50)) + frame(b"") + frame(b"end:1|c")
    async with listening(listen=None, stream_socket=str(path)) as line:
        _, writer = await asyncio.open_unix_connection(path)
        for place in range(0, len(whole), 7):
            writer.write(whole[place : place + 7])
            await writer.drain()
            await asyncio.sleep(0)
        found = await line.all(52)
        writer.close()
        await writer.wait_closed()
    assert (found.value("n"), found.value("m"), found.value("end")) == (50, 49, 1)
    assert found.own["malformed"] == 0
    assert found.own["packets listener:unixstream"] == 52


async def test_a_stream_without_lengths_is_ended_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "dsd.socket"
    async with listening(listen=None, stream_socket=str(path)) as line:
        for wrong in (b"n:1|c\nm:1|c\n", struct.pack("<I", LONGEST_FRAME + 1) + b"x" * 10):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(wrong)
            assert await reader.read() == b""  # the listener ends it
            writer.close()
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(frame(b"good:1|c") + frame(b"cut:1|c")[:6])
        writer.close()
        found = await line.all(1)
        await line.serving.wait_for(lambda serving: came(serving.batches).own["malformed"] == 3, 20)
    assert found.names() == ["good"]


async def test_one_connection_too_many_ends_the_idlest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ports, "MOST_CONNECTIONS", 3)
    path = tmp_path / "dsd.socket"
    async with listening(listen=None, stream_socket=str(path)) as line:
        streams = [await asyncio.open_unix_connection(path) for _ in range(3)]
        for sent, number in enumerate((1, 2, 0), 1):
            streams[number][1].write(frame(b"n:1|c"))
            await line.all(sent)  # so that they are heard one after the other
        for ended in (1, 2):
            streams.append(await asyncio.open_unix_connection(path))
            assert await asyncio.wait_for(streams[ended][0].read(), 20) == b""
        for number in (0, 3, 4):
            streams[number][1].write(frame(b"n:10|c"))
        found = await line.all(6)
        for _, writer in streams:
            writer.close()
    assert found.value("n") == 33
    assert found.own["dropped reason:connections"] == 2
    assert caplog.messages == [
        "too many connections to stream_socket: those that were idle for longest are ended"
    ]  # fmt: skip


async def test_connections_leave_files_to_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4, soft[1]))
    path = tmp_path / "dsd.socket"
    async with listening(listen=None, stream_socket=str(path)) as line:
        streams = [await asyncio.open_unix_connection(path) for _ in range(3)]
        assert await asyncio.wait_for(streams[0][0].read(), 20) == b""
        streams[2][1].write(frame(b"n:1|c"))
        assert (await line.all(1)).value("n") == 1
        for _, writer in streams:
            writer.close()


# The end, and a new beginning


async def test_the_last_partial_interval_is_handed_on(tmp_path: Path) -> None:
    path = tmp_path / "dsd.socket"
    async with serve_check(Statsd, {"listen": "127.0.0.1:0", "socket": str(path), "interval": "1h"}) as serving:
        await asyncio.sleep(0)  # for its task to begin
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix,
        ):
            udp.sendto(b"n:1|c\ns:1|h", ("127.0.0.1", serving.check.port))
            unix.sendto(b"n:2|c\n_sc|s|0", str(path))
    found = came(serving.batches)
    assert found.value("n") == 3
    assert found.value("s") == {1.0: 1}
    assert len(found.statuses) == 1


async def test_a_successor_takes_over_what_waits_in_the_sockets(tmp_path: Path) -> None:
    path, other = tmp_path / "dsd.socket", tmp_path / "other.socket"
    old = Statsd(config(listen="127.0.0.1:0", socket=path, stream_socket=other))
    await old.open()
    port = old.port
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix,
    ):
        udp.sendto(b"n:1|c", ("127.0.0.1", port))
        unix.sendto(b"n:2|c", str(path))
    new = Statsd(config(listen="127.0.0.1:0", socket=path, interval="1h"))
    new.succeed(old)
    await old.close()
    assert not other.exists()
    assert path.exists()
    await new.open()
    assert new.port == port
    for one in new._ports.values():
        one._take = new._intake.take
        assert one.drain()
    assert new._intake.contexts.turn()[0].name == "n"
    await new.close()
    assert not path.exists()


class _Tidy(uvloop.Loop):
    """As loops are from Python 3.13 on: they remove the file of a unix server that they close."""

    async def create_unix_server(self, *args: Any, cleanup_socket: bool = True, **options: Any) -> Any:
        return await super().create_unix_server(*args, cleanup_socket=cleanup_socket, **options)


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop, _Tidy])
def test_a_stream_sockets_file_outlives_a_reload(loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    path = tmp_path / "dsd.socket"
    packets: list[bytes] = []

    async def reload() -> None:
        server = StreamServer(bind_unix(path, socket.SOCK_STREAM, 0o600, "", 1 << 20), path)
        try:
            for generation in (1, 2):
                await server.start(lambda packet, _: packets.append(packet), lambda *_: None)
                _, writer = await asyncio.open_unix_connection(path)
                writer.write(frame(b"n:%d|c" % generation))
                await eventually(lambda generation=generation: len(packets) == generation, "it")  # type: ignore[misc]
                writer.close()
                server.pause()
                await asyncio.sleep(0)
        finally:
            server.pause()
            server.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(reload())
    assert packets == [b"n:1|c", b"n:2|c"]
    assert not path.exists()


async def test_slow_sinks_make_it_wait_and_lose_nothing() -> None:
    """While it waits for room it goes on to receive, and puts together what comes."""
    batches: list[Batch] = []
    room, waiting = asyncio.Event(), asyncio.Event()

    async def flush(batch: Batch) -> None:
        batches.append(batch)
        waiting.set()
        await room.wait()

    check = Statsd(config(listen="127.0.0.1:0", interval="10ms", receive_buffer="1MB"))
    await check.open()
    channel = Channel("statsd/x", "statsd", Statsd.metrics, (), open_names=True)
    task = asyncio.create_task(check.serve(Emit(channel, 0.0, flush, lambda: 0.0)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        await waiting.wait()
        for _ in range(3_000):  # far more than the kernel would keep
            out.sendto(b"n:1|c|#pad:" + b"x" * 500, ("127.0.0.1", check.port))
            await asyncio.sleep(0)
        assert len(batches) == 1
        room.set()
        key = ("count", "n", ("pad:" + "x" * 500,), None)
        await eventually(lambda: came(list(batches)).metrics.get(key) == 3_000, "the rest")
    task.cancel()
    await asyncio.wait([task])
    await check.close()


async def test_it_does_not_wait_for_ever_when_it_stops(caplog: pytest.LogCaptureFixture) -> None:
    check = Statsd(config(listen="127.0.0.1:0", interval="1h"))
    await check.open()
    channel = Channel("statsd/x", "statsd", Statsd.metrics, (), open_names=True)

    async def flush(_: Batch) -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(check.serve(Emit(channel, 0.0, flush, lambda: 0.0)))
    await asyncio.sleep(0)
    for number in range(3_000):
        check._intake.take(b"n.%d:1|c" % number, "here")
    task.cancel()
    await asyncio.wait([task], timeout=20)
    assert task.done()
    await check.close()
    assert caplog.messages == ["stopped while the sinks' queues were full: 1000 series are lost"]


# Options


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"listen": None}, "nothing to listen on"),
        ({"listen": "8125"}, "must be an address and a port"),
        ({"listen": "127.0.0.1:70000"}, "must be an address and a port"),
        ({"socket": "/a", "stream_socket": "/a"}, "must be two paths"),
        ({"socket_mode": "rw"}, "must be permissions as chmod takes them"),
        ({"socket_mode": 660}, "must be permissions as chmod takes them"),
        ({"schedule": "* * * * *"}, "a listener has an interval"),
        ({"receive_buffer": "1KB"}, "must be between 64KB and 1GB"),
        ({"memory_limit": "1MB", "isolate": True}, "must be at least 64MB"),
        ({"drop_tags": ["a:b"]}, "must be keys of tags"),
        ({"max_contexts": 0}, "greater than or equal to 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        StatsdConfig.model_validate({"name": "x", **options})


@pytest.mark.parametrize("written", ["0660", "660", 0o660, "0o660"])
def test_a_mode_as_people_and_yaml_write_it(written: Any) -> None:
    assert StatsdConfig.model_validate({"name": "x", "socket_mode": written}).socket_mode == "0660"


@pytest.mark.parametrize(
    ("listen", "exposed"),
    [
        ("127.0.0.1:1", False),
        ("localhost:1", False),
        ("[::1]:1", False),
        ("0.0.0.0:1", True),
        (":1", True),
        ("[::]:1", True),
    ],
)
def test_what_other_machines_reach_is_warned_of(listen: str, exposed: bool) -> None:
    assert bool(list(Statsd.lint(config(listen=listen)))) is exposed


# Doctor


async def diagnosed(**options: Any) -> dict[str, str]:
    diagnosis = Diagnosis()
    await Statsd(config(**options)).diagnose(diagnosis)
    return {one.what: f"{one.grade}: {one.seen}" for one in diagnosis.symptoms}


async def test_doctor_looks_at_each_place(tmp_path: Path) -> None:
    path = tmp_path / "dsd.socket"
    found = await diagnosed(
        listen="127.0.0.1:0", socket=path, stream_socket=tmp_path / "no" / "s", receive_buffer="64KB"
    )
    assert found.pop("unix queue").endswith("datagrams")
    assert found == {
        "UDP": "ok: 127.0.0.1:0 is free",
        "receive buffer": "ok: 64 KB, as asked for",
        "socket": f"ok: {path} is free",
        "stream socket": f"failed: there is no folder {tmp_path}/no",
    }
    assert not path.exists()
    async with listening(socket=str(path)) as line:
        place = f"127.0.0.1:{line.serving.check.port}"
        found = await diagnosed(listen=place, socket=path)
        assert found["UDP"] == f"info: somebody listens on {place}"
        assert found["socket"] == f"info: somebody listens on {path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as crashed:
        crashed.bind(str(path))
    assert (await diagnosed(socket=path))["socket"] == f"ok: {path} was left behind and gives way"
    assert path.exists()
    path.unlink()
    path.write_text("")
    assert (await diagnosed(socket=path))["socket"] == f"failed: {path} is there and is no socket"
