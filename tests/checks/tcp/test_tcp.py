"""Ports that accept, refuse, hang, and names without addresses."""

from __future__ import annotations

import json
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from cli.process import COMMAND, environ
from vedette import Diagnosis, Status
from vedette.testing import CheckRun, assert_declared, run_check
from vedette_checks.tcp import Tcp, TcpConfig

pytestmark = pytest.mark.anyio


def tags_of(run: CheckRun) -> dict[tuple[str, ...], Status]:
    return {one.tags: one.status for one in run.statuses if one.name == "tcp.can_connect"}


async def test_one_that_accepts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        run = await run_check(Tcp, {"name": "x", "host": "127.0.0.1", "port": port})
    tags = {"target_host": "127.0.0.1", "port": str(port), "address": "127.0.0.1"}
    took = run.value("network.tcp.response_time", **tags)
    assert isinstance(took, float)
    assert 0 < took < 5
    assert run.value("network.tcp.can_connect", **tags) == 1
    assert tags_of(run) == {("instance:x", f"port:{port}", "target_host:127.0.0.1"): Status.OK}
    assert_declared(run)


async def test_one_that_refuses(closed_port: int) -> None:
    port = closed_port
    run = await run_check(Tcp, {"name": "x", "host": "127.0.0.1", "port": port})
    assert (run.value("network.tcp.can_connect"), run.values("network.tcp.response_time")) == (0, [])
    assert run.error is not None
    assert run.error.message == f"127.0.0.1 port {port}: connection refused"
    assert run.message("tcp.can_connect") == run.error.message


async def test_one_that_does_not_answer() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)  # its queue is full after one connection: the kernel answers nobody else
        waiting = []
        for _ in range(3):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(server.getsockname())
            waiting.append(one)
        port = server.getsockname()[1]
        run = None
        while run is None:
            with suppress(TimeoutError):  # the machine stood still just when the time was over
                run = await run_check(Tcp, {"name": "x", "host": "127.0.0.1", "port": port, "timeout": "500ms"})
        for one in waiting:
            one.close()
    assert run.error is not None
    assert run.error.message == f"127.0.0.1 port {port}: no answer"
    assert tags_of(run) == {("instance:x", f"port:{port}", "target_host:127.0.0.1"): Status.CRITICAL}


def test_every_address_of_a_name(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 db.internal\n127.0.0.2 db.internal\n")
    within = ["unshare", "-rm", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts]
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs a mount namespace, for an /etc/hosts of its own")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (tmp_path / "conf.d").mkdir()
        (tmp_path / "conf.d" / "tcp.yaml").write_text(
            f"instances: [{{host: db.internal, port: {port}, all_addresses: true}}]"
        )
        done = subprocess.run(
            [*within, *COMMAND, "check", "tcp", "--json"], cwd=tmp_path, env=environ(tmp_path / "state"),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 2, done.stderr
    found = {
        tag: row["value"] for row in json.loads(done.stdout) if row["name"] == "network.tcp.can_connect"
        for tag in row["tags"] if tag.startswith("address:")
    }  # fmt: skip
    assert found == {"address:127.0.0.1": 1, "address:127.0.0.2": 0}
    (said,) = [row for row in json.loads(done.stdout) if "address:127.0.0.2" in row["tags"] and "message" in row]
    assert said["message"] == f"127.0.0.2 port {port}: connection refused"


async def test_a_name_without_an_address() -> None:
    for host, every in (("no-such-host.invalid", False), ("no-such-host.invalid", True), (f"{'a' * 70}.x", False)):
        run = await run_check(Tcp, {"name": "x", "host": host, "port": 1, "all_addresses": every})
        assert run.error is not None
        assert run.error.message == f"{host} has no address"
        assert tags_of(run) == {("instance:x", "port:1", f"target_host:{host}"): Status.CRITICAL}


async def test_addresses_have_a_status_beside_the_names_own() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        given = {"name": "x", "host": "127.0.0.1", "port": port, "all_addresses": True}
        tags = ("instance:x", f"port:{port}", "target_host:127.0.0.1")
        both = [tags, ("address:127.0.0.1", *tags)]
        assert tags_of(await run_check(Tcp, given)) == dict.fromkeys(both, Status.CRITICAL)
        server.listen()
        assert tags_of(await run_check(Tcp, given)) == dict.fromkeys(both, Status.OK)


async def test_what_doctor_says() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        diagnosis = Diagnosis()
        await Tcp(TcpConfig(name="x", host="localhost", port=server.getsockname()[1])).diagnose(diagnosis)
    assert {(one.what, str(one.grade)) for one in diagnosis.symptoms} >= {("DNS", "ok"), ("TCP", "ok")}
