"""Through the whole agent: what applications send comes out of every sink, and a reload loses nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from checks.statsd.parts import Came, came
from core.test_reload import Site
from servers import eventually, free_port
from vedette.sinks.prometheus import store
from vedette.testing import UdpCapture

pytestmark = pytest.mark.anyio


def free_udp() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


PACKET = b"""\
hits:1|c|#a:1
hits:2|c|@0.5|#a:1
level:3.5|g
size:1:2:2:9|d|#a:1
wait:100|ms
users:u1|s
users:u2|s
past:7|g|T1700000000
_e{5,4}:title|text|t:error|#a:1
_sc|app.ok|1|#a:1|m:so so"""


async def test_every_sink_says_what_was_sent(
    tmp_path: Path, udp_capture: UdpCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_LIFETIMES", 60)  # the page forgets what is unseen for so many intervals
    port, page = free_udp(), free_port()
    site = Site(
        tmp_path,
        f"hostname: {socket.gethostname()}\n"
        "sinks:\n"
        f"  - {{type: dogstatsd, port: {udp_capture.port}, histogram_as: d}}\n"
        f"  - {{type: prometheus, listen: '127.0.0.1:{page}'}}\n"
        "  - {type: file, path: ../out.jsonl}\n",
    )
    site.write("statsd", f"instances: [{{name: apps, listen: '127.0.0.1:{port}', interval: 1s, tags: [t:x]}}]\n")
    pages: list[str] = []
    async with site.running():
        await _up(site)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.sendto(PACKET, ("127.0.0.1", port))
        await eventually(lambda: _came(site).statuses, "the hand-over")
        with httpx.Client(trust_env=False) as client:
            await eventually(lambda: _shows(client, page, pages), "the page")
        lines = await udp_capture.wait_for(lambda lines: any("_sc|app.ok" in line for line in lines), 20)
        await eventually(lambda: any(row["name"] == "app.ok" for row in site.rows()), "the file")
    _check_lines([line for line in lines if "vedette." not in line and "health_check" not in line])
    _check_page(pages[-1])
    _check_file(site.rows())


def _shows(client: httpx.Client, port: int, pages: list[str]) -> bool:
    pages.append(client.get(f"http://127.0.0.1:{port}/metrics").text)
    return "app_ok" in pages[-1]


def _check_lines(lines: list[str]) -> None:
    assert sorted(line for line in lines if not line.startswith("_")) == [
        "hits:5|c|#a:1,instance:apps,t:x",
        "level:3.5|g|#instance:apps,t:x",
        "past:7|g|T1700000000|#instance:apps,t:x" if "past:7|g|T1" in "".join(lines) else
        "past:7|g|#instance:apps,t:x|T1700000000",
        "size:1.0|d|#a:1,instance:apps,t:x",
        "size:2.0|d|@0.5|#a:1,instance:apps,t:x",
        "size:9.0|d|#a:1,instance:apps,t:x",
        "users:u1|s|#instance:apps,t:x",
        "users:u2|s|#instance:apps,t:x",
        "wait:100.0|d|#instance:apps,t:x",
    ]  # fmt: skip
    event, status = sorted(line for line in lines if line.startswith("_"))
    assert event.startswith("_e{5,4}:title|text|")
    assert "|t:error|" in event
    assert event.endswith("#a:1,instance:apps,t:x")
    assert status.startswith("_sc|app.ok|1|")
    assert "#a:1,instance:apps,t:x" in status
    assert status.endswith("|m:so so")


def _check_page(text: str) -> None:
    page = {
        key: float(value) for key, _, value in (line.rpartition(" ") for line in text.splitlines() if line[0] != "#")
    }
    labels = 'a="1",instance="apps",t="x"'
    assert page[f"hits_total{{{labels}}}"] == 5
    assert page['level{instance="apps",t="x"}'] == 3.5
    assert page[f"size_count{{{labels}}}"] == 4
    assert page[f"size_sum{{{labels}}}"] == 14
    assert page['wait_sum{instance="apps",t="x"}'] == 100
    assert page['users{instance="apps",t="x"}'] == 2
    assert page['past{instance="apps",t="x"}'] == 7
    assert page[f"app_ok{{{labels}}}"] == 1


def _check_file(rows: list[dict[str, Any]]) -> None:
    found = {row["name"]: row for row in rows if row["check"] == "statsd" and not row["name"].startswith("vedette.")}
    assert {name: (row["kind"], row["value"]) for name, row in found.items()} == {
        "hits": ("count", 5),
        "level": ("gauge", 3.5),
        "past": ("gauge", 7),
        "size": ("distribution", {"count": 4, "sum": 14, "min": 1, "max": 9, "bins": [[1, 1], [2, 2], [9, 1]]}),
        "wait": ("histogram", {"count": 1, "sum": 100, "min": 100, "max": 100, "bins": [[100, 1]]}),
        "users": ("set", "u2"),
        "title": ("event", "text"),
        "app.ok": ("status", 1),
    }
    assert found["past"]["time"] == 1_700_000_000


async def _up(site: Site) -> None:
    def up() -> bool:
        return any(
            one.instance.startswith("statsd/") and one.state.value == "ok" for one in site.agent.snapshot().instances
        )

    await eventually(up, "the listener")


class Fire(threading.Thread):
    """Sends over UDP and a unix socket until it is told to stop; `failures` says when nobody listened."""

    def __init__(self, port: int, path: Path) -> None:
        super().__init__(daemon=True)
        self._target, self._path = ("127.0.0.1", port), str(path)
        self.sent = 0
        self.failures: list[str] = []
        self.ceasing = threading.Event()

    def run(self) -> None:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix,
        ):
            udp.connect(self._target)  # so that a port that nobody has is an error
            while not self.ceasing.wait(0.0003):
                for send in (lambda: udp.send(b"n:1|c"), lambda: unix.sendto(b"n:1|c", self._path)):
                    try:
                        send()
                        self.sent += 1
                    except OSError as error:
                        self.failures.append(str(error))


async def test_a_reload_under_fire_loses_nothing(tmp_path: Path) -> None:
    port, path = free_udp(), tmp_path / "dsd.socket"
    site = Site(tmp_path)
    options = {"name": "apps", "listen": f"127.0.0.1:{port}", "socket": str(path), "interval": "100ms"}
    site.write("statsd", json.dumps({"instances": [options]}))
    async with site.running():
        await _up(site)
        fire = Fire(port, path)
        fire.start()
        for number in range(8):
            await eventually(lambda number=number: len(_came(site).metrics) > number, "samples")  # type: ignore[misc]
            site.write("statsd", json.dumps({"instances": [{**options, "tags": [f"t:{number}"], "max_contexts": 9}]}))
            assert (await site.agent.reload()).changed
        await eventually(lambda: len(_came(site).metrics) > 8, "samples")
        fire.ceasing.set()
        await asyncio.to_thread(fire.join)
        await eventually(lambda: _sum(site) >= fire.sent, "the rest")
    assert fire.failures == []
    assert _sum(site) == fire.sent
    assert len(_came(site).metrics) == 9  # each reload began a new series
    assert not path.exists()


def _came(site: Site) -> Came:
    return came(batch for batch in list(site.batches) if batch.check == "statsd")


def _sum(site: Site) -> float:
    found = _came(site)
    return float(sum(value for (_, name, _, _), value in found.metrics.items() if name == "n"))


async def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    port = free_udp()
    site = Site(tmp_path)
    site.write("statsd", f"instances: [{{listen: '127.0.0.1:{port}', interval: 100ms, isolate: true}}]\n")
    async with site.running():
        # The child opens its port after the agent calls it well.
        await eventually(lambda: f":{port:04X} " in Path("/proc/net/udp").read_text(), "the child's port")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            for _ in range(3):
                out.sendto(PACKET, ("127.0.0.1", port))
        await eventually(lambda: len(_came(site).statuses) == 3, "three packets", 20)
    found = _came(site)
    assert found.metrics["count", "hits", ("a:1",), None] == 15
    assert found.metrics["distribution", "size", ("a:1",), None] == {1.0: 3, 2.0: 6, 9.0: 3}
