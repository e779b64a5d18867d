"""A machine made of files: a procfs tree that the tests write, and a session of the check that reads it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import anyio.to_thread

from vedette import Batch, Emit, Status
from vedette.emit import Channel
from vedette_checks.host import Host, HostConfig

CPU_LINES = """\
cpu  1000 100 500 8000 200 30 70 100 40 20
cpu0 600 60 300 3800 100 20 40 80 30 10
cpu1 400 40 200 4200 100 10 30 20 10 10
intr 12345 1 2 3
ctxt 987654
btime 1700000000
processes 4242
procs_running 1
procs_blocked 0
"""
MEMINFO = """\
MemTotal:        8388608 kB
MemFree:         1048576 kB
MemAvailable:    4194304 kB
Buffers:          102400 kB
Cached:          2097152 kB
SwapCached:         5120 kB
SwapTotal:       2097152 kB
SwapFree:        1572864 kB
Shmem:            204800 kB
Slab:             307200 kB
SReclaimable:     153600 kB
PageTables:        10240 kB
CommitLimit:     6291456 kB
Committed_AS:    3145728 kB
HugePages_Total:       7
"""
VMSTAT = "nr_free_pages 262144\npgpgin 1\npswpin 1024\npswpout 512\npgfault 9\n"
DISKSTATS = """\
   7       0 loop0 5 0 10 1 0 0 0 0 0 1 1 0 0 0 0 0 0
   8       0 sda 100 10 8000 400 50 5 1600 600 0 700 1000 0 0 0 0 0 0
   8       1 sda1 90 9 7000 350 40 4 1500 500 0 600 850 0 0 0 0 0 0
   8      16 sdb 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
"""
NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier comp
    lo: 5000      50    0    0    0     0          0         0     5000      50    0    0    0     0       0          0
  eth0: 123456   700    3    4    0     0          0         0    65432     600    1    2    0     0       0          0
 dummy0:     0     0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
vethab12: 999      9    0    0    0     0          0         0      888       8    0    0    0     0       0          0
"""
SNMP = """\
Ip: Forwarding DefaultTTL InReceives InHdrErrors
Ip: 1 64 1000 2
Tcp: RtoAlgorithm MaxConn ActiveOpens CurrEstab RetransSegs
Tcp: 1 -1 31 5 17
Udp: InDatagrams NoPorts RcvbufErrors
Udp: 400 6 8
"""
NETSTAT = """\
TcpExt: SyncookiesSent ListenOverflows TCPSynRetrans IPReversePathFilter
TcpExt: 1 12 13 14
IpExt: InNoRoutes InCsumErrors
IpExt: 21 22
"""
TCP_HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def sockets(*states: str) -> str:
    """A table like /proc/net/tcp with one socket for each state number."""
    lines = (
        f"{n:4}: 0100007F:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {n} 1\n"
        for n, state in enumerate(states)
    )
    return TCP_HEAD + "".join(lines)


class Machine:
    """A procfs tree under `root` with plausible contents."""

    def __init__(self, root: Path) -> None:
        self.root = root
        contents = {
            "stat": CPU_LINES,
            "meminfo": MEMINFO,
            "vmstat": VMSTAT,
            "loadavg": "1.50 0.75 0.25 2/345 6789\n",
            "uptime": "12345.67 23456.78\n",
            "diskstats": DISKSTATS,
            "net/dev": NET_DEV,
            "net/snmp": SNMP,
            "net/netstat": NETSTAT,
            "net/tcp": sockets("0A", "01", "01", "06", "02", "03", "04", "05", "08", "09", "0B", "07", "0C"),
            "net/tcp6": sockets("0A", "0A"),
            "net/udp": sockets("07", "07", "01"),
            "net/udp6": sockets("07"),
            "sys/net/netfilter/nf_conntrack_count": "77\n",
            "sys/net/netfilter/nf_conntrack_max": "65536\n",
            "self/mounts": f"/dev/sda1 {root} ext4 rw,relatime 0 0\n",
        }
        for name, text in contents.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def remove(self, name: str) -> None:
        (self.root / name).unlink()


class Seen:
    """What one run said."""

    def __init__(self, batch: Batch, channel: Channel) -> None:
        self.batch = batch
        self.dropped = dict(channel.dropped)

    def names(self) -> set[str]:
        return {sample.name for sample in self.batch.samples}

    def all(self, name: str) -> dict[tuple[str, ...], Any]:
        """Values by tags, the instance's own tag left out."""
        return {
            tuple(tag for tag in sample.tags if not tag.startswith("instance:")): sample.value
            for sample in self.batch.samples
            if sample.name == name
        }

    def value(self, name: str, *tags: str) -> Any:
        found = self.all(name)
        assert tags in found, f"{name} {tags} is not among {found}"
        return found[tags]

    def kind(self, name: str) -> str:
        return next(sample.kind.value for sample in self.batch.samples if sample.name == name)

    def statuses(self) -> dict[str, tuple[Status, str]]:
        """Status and message of `disk.read_write` by device."""
        return {
            tag.removeprefix("device:"): (status.status, status.message)
            for status in self.batch.statuses
            for tag in status.tags
            if tag.startswith("device:")
        }


class Session:
    """An open instance of the check, run step by step so that the machine can change in between."""

    def __init__(self, **options: object) -> None:
        self.config = HostConfig.model_validate({"name": "host", **options})
        self.check = Host(self.config)
        self.channel = Channel(
            "host/host", "host", Host.declare(self.config), Host.statuses, ("instance:host",), host="testhost"
        )

    async def open(self) -> Session:
        await self.check.open()
        return self

    async def run(self) -> Seen:
        emit = Emit(self.channel, time.time())
        await anyio.to_thread.run_sync(self.check.run, emit)
        return Seen(emit.batch(), self.channel)
