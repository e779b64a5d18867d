"""Interfaces, conntrack, protocol counters and sockets, exact on a machine made of files."""

from __future__ import annotations

import pytest

from vedette_checks.host.network import count_states

from .machine import Machine, Session, sockets

pytestmark = pytest.mark.anyio

ONLY = dict.fromkeys(("cpu", "load", "memory", "swap", "disk", "io", "uptime"), False)


async def test_interfaces(machine: Machine) -> None:
    options = {**ONLY, "protocols": False, "procfs_path": str(machine.root)}
    seen = await (await Session(**options).open()).run()
    expected = {
        "bytes_rcvd": 123456, "bytes_sent": 65432,
        "packets_in.count": 700, "packets_in.error": 3, "packets_in.drop": 4,
        "packets_out.count": 600, "packets_out.error": 1, "packets_out.drop": 2,
    }  # fmt: skip
    assert {name: seen.all(f"system.net.{name}") for name in expected} == {
        name: {("device:eth0",): value} for name, value in expected.items()
    }
    assert {seen.kind(f"system.net.{name}") for name in expected} == {"rate"}
    assert seen.value("system.net.conntrack.count") == 77
    assert seen.value("system.net.conntrack.max") == 65536
    assert len(seen.batch.samples) == 10


async def test_choice_of_interfaces(machine: Machine) -> None:
    for interfaces, expected in (
        ({"exclude": []}, {"lo", "eth0", "vethab12"}),  # dummy0 never carried a byte
        ({"include": ["l?", "veth*"]}, {"lo", "vethab12"}),
        ({"exclude": ["eth*"]}, {"lo", "vethab12"}),
    ):
        options: dict[str, object] = {**ONLY, "interfaces": interfaces, "procfs_path": str(machine.root)}
        seen = await (await Session(**options).open()).run()
        assert {tags[0].removeprefix("device:") for tags in seen.all("system.net.bytes_rcvd")} == expected


async def test_conntrack_that_is_not_loaded_is_absent(machine: Machine) -> None:
    machine.remove("sys/net/netfilter/nf_conntrack_count")
    machine.write("sys/net/netfilter/nf_conntrack_max", "")
    seen = await (await Session(**ONLY, procfs_path=str(machine.root)).open()).run()
    assert not {name for name in seen.names() if "conntrack" in name}
    assert seen.value("system.net.bytes_rcvd", "device:eth0") == 123456


async def test_protocols(machine: Machine) -> None:
    options = {**ONLY, "network": False, "procfs_path": str(machine.root)}
    seen = await (await Session(**options).open()).run()
    assert {s.name.removeprefix("system.net."): (s.kind.value, s.value) for s in seen.batch.samples} == {
        "ip.in_receives": ("rate", 1000),
        "ip.in_header_errors": ("rate", 2),
        "ip.in_no_routes": ("rate", 21),
        "ip.in_csum_errors": ("rate", 22),
        "ip.reverse_path_filter": ("rate", 14),
        "tcp.active_opens": ("rate", 31),
        "tcp.retrans_segs": ("rate", 17),
        "tcp.current_established": ("gauge", 5),
        "tcp.syn_cookies_sent": ("rate", 1),
        "tcp.listen_overflows": ("rate", 12),
        "tcp.syn_retrans": ("rate", 13),
        "udp.in_datagrams": ("rate", 400),
        "udp.no_ports": ("rate", 6),
        "udp.rcv_buf_errors": ("rate", 8),
    }


async def test_missing_netstat_costs_only_its_own(machine: Machine) -> None:
    machine.remove("net/netstat")
    seen = await (await Session(**ONLY, procfs_path=str(machine.root)).open()).run()
    assert seen.value("system.net.tcp.retrans_segs") == 17
    assert seen.all("system.net.tcp.listen_overflows") == {}


async def test_connections(machine: Machine) -> None:
    options = {**ONLY, "network": False, "protocols": False, "connections": True, "procfs_path": str(machine.root)}
    seen = await (await Session(**options).open()).run()
    tcp4 = {
        "listening": 1, "established": 2, "time_wait": 1, "opening": 3, "closing": 6,
        "syn_sent": 1, "syn_recv": 2, "fin_wait_1": 1, "fin_wait_2": 1, "close_wait": 1,
    }  # fmt: skip
    assert {name: seen.value(f"system.net.tcp4.{name}") for name in tcp4} == tcp4
    assert seen.value("system.net.tcp6.listening") == 2
    assert seen.value("system.net.tcp6.established") == 0
    assert seen.value("system.net.udp4.connections") == 3
    assert seen.value("system.net.udp6.connections") == 1


async def test_a_kernel_without_ipv6_has_no_such_sockets(machine: Machine) -> None:
    machine.remove("net/tcp6")
    machine.remove("net/udp6")
    options = {**ONLY, "network": False, "protocols": False, "connections": True, "procfs_path": str(machine.root)}
    seen = await (await Session(**options).open()).run()
    assert seen.value("system.net.udp4.connections") == 3
    assert not {name for name in seen.names() if "6" in name}


def test_an_empty_table_has_no_sockets() -> None:
    assert count_states(sockets().encode()).total() == 0
    assert count_states(b"") == {}
