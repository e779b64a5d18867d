"""Network interfaces, conntrack and sockets by state."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from vedette import Emit, Kind, Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vedette_checks.host.config import HostConfig

_TAGS = ("device",)

NETWORK_METRICS = (
    Metric("system.net.bytes_rcvd", Kind.RATE, "byte", "Bytes received.", _TAGS, per="second"),
    Metric("system.net.bytes_sent", Kind.RATE, "byte", "Bytes sent.", _TAGS, per="second"),
    Metric("system.net.packets_in.count", Kind.RATE, "packet", "Packets received.", _TAGS, per="second"),
    Metric("system.net.packets_in.drop", Kind.RATE, "packet", "Packets received and dropped.", _TAGS, per="second"),
    Metric("system.net.packets_in.error", Kind.RATE, "error", "Errors in receiving.", _TAGS, per="second"),
    Metric("system.net.packets_out.count", Kind.RATE, "packet", "Packets sent.", _TAGS, per="second"),
    Metric("system.net.packets_out.drop", Kind.RATE, "packet", "Packets dropped unsent.", _TAGS, per="second"),
    Metric("system.net.packets_out.error", Kind.RATE, "error", "Errors in sending.", _TAGS, per="second"),
    Metric("system.net.iface.mtu", Kind.GAUGE, "byte", "Largest packet of an interface.", ("iface",)),
    Metric("system.net.conntrack.count", Kind.GAUGE, "connection", "Connections that netfilter tracks (Linux)."),
    Metric("system.net.conntrack.max", Kind.GAUGE, "connection", "Connections it can track (Linux)."),
)

_COMBINED: Mapping[str, tuple[str, ...]] = {
    "established": ("01",),
    "opening": ("02", "03", "0C"),
    "closing": ("04", "05", "07", "08", "09", "0B"),
    "listening": ("0A",),
    "time_wait": ("06",),
    "syn_sent": ("02",),
    "syn_recv": ("03", "0C"),
    "fin_wait_1": ("04",),
    "fin_wait_2": ("05",),
    "close_wait": ("08",),
}
"""Kernel state numbers (include/net/tcp_states.h) behind each metric."""

CONNECTION_METRICS = (
    *(
        Metric(f"system.net.tcp{family}.{state}", Kind.GAUGE, "connection", f"TCP sockets that are {words}.")
        for family in "46"
        for state, words in (
            ("established", "established"),
            ("opening", "being opened: syn_sent and syn_recv"),
            ("closing", "being closed: fin_wait_1, fin_wait_2, close_wait, last_ack, closing, close"),
            ("listening", "listening"),
            ("time_wait", "in time_wait"),
            ("syn_sent", "in syn_sent"),
            ("syn_recv", "in syn_recv"),
            ("fin_wait_1", "in fin_wait_1"),
            ("fin_wait_2", "in fin_wait_2"),
            ("close_wait", "in close_wait: the peer closed, the program has not"),
        )
    ),
    *(Metric(f"system.net.udp{family}.connections", Kind.GAUGE, "connection", "UDP sockets.") for family in "46"),
)


class Interfaces:
    """`system.net.*` of each interface; one that never carried a byte is left out, as the Datadog agent does.

    Args:
        config: the instance's options.
    """

    def __init__(self, config: HostConfig) -> None:
        self._interfaces = config.interfaces.compile()
        self._tags: dict[str, tuple[str]] = {}
        self._conntrack = Path(config.procfs_path, "sys/net/netfilter")
        self._mtu = None if config.procfs_path != "/proc" else Path("/sys/class/net")

    def collect(self, emit: Emit) -> None:
        """Report the totals of each interface, and conntrack where the kernel has it.

        Raises:
            OSError: the system does not tell.
            ValueError: /proc/net/dev has an unknown form.
        """
        for what in ("count", "max"):
            _gauge_file(emit, f"system.net.conntrack.{what}", self._conntrack / f"nf_conntrack_{what}")
        # nowrap would keep totals of its own for the whole process; the sinks handle a total that fell
        for name, now in psutil.net_io_counters(pernic=True, nowrap=False).items():
            if not (now.bytes_recv or now.bytes_sent) or not self._interfaces(name):
                continue
            tags = self._tags.setdefault(name, (f"device:{name}",))
            emit.rate("system.net.bytes_rcvd", now.bytes_recv, tags)
            emit.rate("system.net.bytes_sent", now.bytes_sent, tags)
            emit.rate("system.net.packets_in.count", now.packets_recv, tags)
            emit.rate("system.net.packets_in.drop", now.dropin, tags)
            emit.rate("system.net.packets_in.error", now.errin, tags)
            emit.rate("system.net.packets_out.count", now.packets_sent, tags)
            emit.rate("system.net.packets_out.drop", now.dropout, tags)
            emit.rate("system.net.packets_out.error", now.errout, tags)
            if self._mtu is not None:
                _gauge_file(emit, "system.net.iface.mtu", self._mtu / name / "mtu", (f"iface:{name}",))


def _gauge_file(emit: Emit, metric: str, path: Path, tags: tuple[str, ...] = ()) -> None:
    try:
        value = int(path.read_bytes())
    except (OSError, ValueError):
        return  # not this kernel, or not for this user
    emit.gauge(metric, value, tags)


class Connections:
    """Sockets by state, counted from /proc/net (Linux).

    psutil.net_connections() would look through the open files of every process as well.

    Args:
        config: the instance's options.
    """

    def __init__(self, config: HostConfig) -> None:
        self._net = Path(config.procfs_path, "net")

    def collect(self, emit: Emit) -> None:
        """Count the sockets of each family; a family that the kernel lacks is absent.

        Raises:
            OSError: /proc/net cannot be read.
        """
        for family, suffix in (("4", ""), ("6", "6")):
            if family == "6" and not (self._net / "tcp6").exists():
                continue
            states = count_states((self._net / f"tcp{suffix}").read_bytes())
            for state, numbers in _COMBINED.items():
                emit.gauge(f"system.net.tcp{family}.{state}", _sum(states, numbers))
            sockets = count_states((self._net / f"udp{suffix}").read_bytes())
            emit.gauge(f"system.net.udp{family}.connections", sockets.total())


def _sum(states: Counter[str], numbers: Iterable[str]) -> int:
    return sum(states[number] for number in numbers)


def count_states(table: bytes) -> Counter[str]:
    """How many sockets of /proc/net/tcp or udp are in each state (proc(5): the fourth column, hexadecimal)."""
    lines = table.decode("ascii", "replace").splitlines()[1:]
    return Counter(line.split(maxsplit=4)[3] for line in lines if line)
