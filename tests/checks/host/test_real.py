"""Values of this machine, compared with what its own /proc says before and after."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from .machine import Seen, Session

pytestmark = pytest.mark.anyio

PROC = Path("/proc")


@pytest.fixture
def traffic() -> Iterator[None]:
    """A datagram and a connection on the loopback, so that there is something to count."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        receiver.bind(("127.0.0.1", 0))
        with socket.create_connection(server.getsockname()):
            peer, _ = server.accept()
            receiver.sendto(b"x", receiver.getsockname())
            with peer:
                yield


async def collect(**options: object) -> Seen:
    return await (await Session(**options).open()).run()


def meminfo() -> dict[str, int]:
    lines = (line.split() for line in (PROC / "meminfo").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines}


def stat(field: str) -> int:
    line = next(line for line in (PROC / "stat").read_text().splitlines() if line.startswith(f"{field} "))
    return int(line.split()[1])


def net_dev() -> dict[str, list[int]]:
    lines = (PROC / "net/dev").read_text().splitlines()[2:]
    return {line.partition(":")[0].strip(): list(map(int, line.partition(":")[2].split())) for line in lines}


def mtu(interface: str) -> int:
    return int(Path(f"/sys/class/net/{interface}/mtu").read_text())


def diskstats() -> dict[str, list[int]]:
    words = (line.split() for line in (PROC / "diskstats").read_text().splitlines())
    return {line[2]: list(map(int, line[3:])) for line in words}


def snmp() -> dict[str, int]:
    lines = (PROC / "net/snmp").read_text().splitlines()
    return {
        f"{names.split(':')[0]}.{name}": int(value)
        for names, values in zip(lines[::2], lines[1::2], strict=True)
        for name, value in zip(names.split()[1:], values.split()[1:], strict=True)
    }


async def test_memory() -> None:
    before = meminfo()
    seen = await collect()
    for name, field in (("mem.total", "MemTotal"), ("swap.total", "SwapTotal"), ("mem.commit_limit", "CommitLimit")):
        assert seen.value(f"system.{name}") == before[field] / 1024
    slack = 1024  # other tests run meanwhile
    for name, field in (("free", "MemFree"), ("usable", "MemAvailable"), ("shared", "Shmem"), ("slab", "Slab")):
        assert seen.value(f"system.mem.{name}") == pytest.approx(before[field] / 1024, abs=slack)
    assert seen.value("system.mem.pct_usable") == seen.value("system.mem.usable") / seen.value("system.mem.total")


async def test_load_and_cpu() -> None:
    before, switches = os.getloadavg(), stat("ctxt")
    seen = await collect()
    after = os.getloadavg()
    assert switches <= seen.value("system.cpu.context_switches") <= stat("ctxt")
    for minutes, old, new in zip((1, 5, 15), before, after, strict=True):
        assert min(old, new) - 1 <= seen.value(f"system.load.{minutes}") <= max(old, new) + 1
    cores = seen.value("system.cpu.num_cores")
    assert cores == len([line for line in (PROC / "stat").read_text().splitlines() if line[:3] == "cpu"]) - 1
    assert seen.value("system.load.norm.1") == seen.value("system.load.1") / cores


async def test_uptime() -> None:
    def uptime() -> float:
        return float((PROC / "uptime").read_text().split()[0])

    before = uptime()
    seen = await collect()
    assert before <= seen.value("system.uptime") <= uptime()


async def test_interfaces(traffic: None) -> None:
    before = net_dev()
    seen = await collect(interfaces={"exclude": []})
    after = net_dev()
    received = seen.all("system.net.bytes_rcvd")
    assert ("device:lo",) in received
    columns = {
        "bytes_rcvd": 0, "packets_in.count": 1, "packets_in.error": 2, "packets_in.drop": 3,
        "bytes_sent": 8, "packets_out.count": 9, "packets_out.error": 10, "packets_out.drop": 11,
    }  # fmt: skip
    for (tag,) in received:
        interface = tag.removeprefix("device:")
        for name, column in columns.items():
            value = seen.value(f"system.net.{name}", tag)
            assert before[interface][column] <= value <= after[interface][column], name
        assert seen.value("system.net.iface.mtu", f"iface:{interface}") == mtu(interface)


async def test_block_devices() -> None:
    before = diskstats()
    seen = await collect(devices={"exclude": []})
    after = diskstats()
    devices = {tags[0].removeprefix("device:") for tags in seen.all("system.io.r_s")}
    assert {name for name, columns in before.items() if columns[0] or columns[4]} <= devices
    columns = {"io.r_s": 0, "io.rrqm_s": 1, "disk.read_time": 3, "io.w_s": 4, "io.wrqm_s": 5, "disk.write_time": 7}
    for name in devices & before.keys():
        tags = (f"device:{name}", f"device_name:{name}")
        for metric, column in columns.items():
            assert before[name][column] <= seen.value(f"system.{metric}", *tags) <= after[name][column]
        assert before[name][2] <= seen.value("system.io.rkb_s", *tags) * 2 <= after[name][2]
        assert before[name][6] <= seen.value("system.io.wkb_s", *tags) * 2 <= after[name][6]


async def test_protocol_counters(traffic: None) -> None:
    before = snmp()
    seen = await collect()
    after = snmp()
    fields = {
        "ip.in_receives": "Ip.InReceives", "tcp.active_opens": "Tcp.ActiveOpens", "tcp.in_segs": "Tcp.InSegs",
        "tcp.retrans_segs": "Tcp.RetransSegs", "udp.in_datagrams": "Udp.InDatagrams",
        "udp.out_datagrams": "Udp.OutDatagrams",
    }  # fmt: skip
    for name, field in fields.items():
        assert before[field] <= seen.value(f"system.net.{name}") <= after[field]
    assert seen.value("system.net.tcp.active_opens") >= 1


async def test_connections(traffic: None) -> None:
    seen = await collect(connections=True)
    assert seen.value("system.net.tcp4.established") >= 2
    assert seen.value("system.net.tcp4.listening") >= 1
    assert seen.value("system.net.udp4.connections") >= 1


async def test_filesystems() -> None:
    seen = await collect()
    sizes = {os.statvfs(place).f_blocks * os.statvfs(place).f_frsize / 1024 for place in mount_points()}
    totals = seen.all("system.disk.total")
    assert set(totals.values()) <= sizes
    root = os.statvfs("/")
    assert root.f_blocks * root.f_frsize / 1024 in totals.values()
    assert len(totals) == len(seen.all("system.disk.free"))


def mount_points() -> Iterator[str]:
    for line in (PROC / "self/mounts").read_text().splitlines():
        place = line.split()[1].encode().decode("unicode_escape")
        if os.access(place, os.R_OK):
            yield place
