"""Memory and swap, exact on a machine made of files."""

from __future__ import annotations

import mmap

import pytest

from vedette_checks.host.memory import linux_memory, read_meminfo

from .machine import MEMINFO, Machine, Session

pytestmark = pytest.mark.anyio

ONLY = dict.fromkeys(("cpu", "load", "disk", "io", "network", "protocols", "uptime"), False)


async def test_memory_in_mebibytes(machine: Machine) -> None:
    seen = await (await Session(**ONLY, swap=False, procfs_path=str(machine.root)).open()).run()
    expected = {
        "total": 8192, "free": 1024, "used": 7168, "usable": 4096, "pct_usable": 0.5, "buffered": 100,
        "cached": 2048 + 150, "shared": 200, "slab": 300, "slab_reclaimable": 150, "page_tables": 10,
        "commit_limit": 6144, "committed_as": 3072,
    }  # fmt: skip
    assert {s.name.removeprefix("system.mem."): s.value for s in seen.batch.samples} == expected
    assert {s.kind.value for s in seen.batch.samples} == {"gauge"}


async def test_swap_in_mebibytes(machine: Machine) -> None:
    seen = await (await Session(**ONLY, memory=False, procfs_path=str(machine.root)).open()).run()
    page = mmap.PAGESIZE / 2**20
    expected = {
        "total": 2048, "free": 1536, "used": 512, "cached": 5, "pct_free": 0.75,
        "swap_in": 1024 * page, "swap_out": 512 * page,
    }  # fmt: skip
    assert {s.name.removeprefix("system.swap."): s.value for s in seen.batch.samples} == expected
    assert seen.kind("system.swap.swap_in") == seen.kind("system.swap.swap_out") == "rate"


async def test_without_swap_there_is_no_fraction_of_it(machine: Machine) -> None:
    machine.write("meminfo", MEMINFO.replace("2097152 kB\nSwapFree:        1572864", "0 kB\nSwapFree:        0"))
    seen = await (await Session(**ONLY, memory=False, procfs_path=str(machine.root)).open()).run()
    assert seen.value("system.swap.total") == 0
    assert seen.all("system.swap.pct_free") == {}


async def test_a_missing_field_is_absent_not_zero(machine: Machine) -> None:
    machine.write("meminfo", "MemTotal: 2048 kB\nMemFree: 1024 kB\n")
    seen = await (await Session(**ONLY, swap=False, procfs_path=str(machine.root)).open()).run()
    assert {s.name: s.value for s in seen.batch.samples} == {
        "system.mem.total": 2, "system.mem.free": 1, "system.mem.used": 1,
    }  # fmt: skip


async def test_missing_vmstat_costs_only_the_rates(machine: Machine) -> None:
    machine.remove("vmstat")
    options = {**ONLY, "uptime": True, "procfs_path": str(machine.root)}
    seen = await (await Session(**options).open()).run()
    assert seen.value("system.swap.used") == 512
    assert seen.value("system.mem.total") == 8192
    assert not {"system.swap.swap_in", "system.swap.swap_out"} & seen.names()


def test_available_memory_of_the_whole_machine_in_a_container() -> None:
    info = read_meminfo(b"MemTotal: 1000 kB\nMemFree: 400 kB\nMemAvailable: 5000 kB\n")
    assert linux_memory(info)["usable"] == 400 * 1024


def test_counts_of_pages_are_not_taken_for_kilobytes() -> None:
    assert read_meminfo(b"HugePages_Total:       7\nMlocked: 3 kB\n") == {"Mlocked": 3072}
