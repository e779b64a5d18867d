"""Processor percentages, load and uptime, exact on a machine made of files."""

from __future__ import annotations

import psutil
import pytest

from vedette_checks.host.cpu import shares

from .machine import CPU_LINES, Machine, Session

pytestmark = pytest.mark.anyio

ONLY = dict.fromkeys(("load", "memory", "swap", "disk", "io", "network", "protocols", "uptime"), False)
LATER = """\
cpu  1200 150 600 8500 250 40 110 150 60 25
cpu0 700 100 350 4050 110 25 60 105 40 13
cpu1 500 50 250 4450 140 15 50 45 20 12
intr 12345 1 2 3
ctxt 999999
"""
# differences of the first line: user 200, nice 50, system 100, idle 500, iowait 50, irq 10, softirq 40, steal 50,
# together 1000; guest 20 and guest_nice 5 are within user and nice


async def test_percentages_between_two_readings(machine: Machine) -> None:
    session = await Session(**ONLY, procfs_path=str(machine.root)).open()
    machine.write("stat", LATER)
    seen = await session.run()
    expected = {"user": 25, "system": 15, "interrupt": 5, "iowait": 5, "idle": 50, "stolen": 5, "guest": 2}
    assert {name: seen.value(f"system.cpu.{name}") for name in expected} == pytest.approx(expected)
    assert seen.value("system.cpu.context_switches") == 999999
    assert seen.kind("system.cpu.context_switches") == "counter"
    assert seen.value("system.cpu.num_cores") == psutil.cpu_count()
    assert len(seen.batch.samples) == 9


async def test_each_run_compares_with_the_one_before(machine: Machine) -> None:
    session = await Session(**ONLY, procfs_path=str(machine.root)).open()
    machine.write("stat", LATER)
    await session.run()
    machine.write("stat", LATER.replace("cpu  1200", "cpu  1300"))
    seen = await session.run()
    assert seen.value("system.cpu.user") == 100
    assert seen.value("system.cpu.idle") == 0


async def test_per_core(machine: Machine) -> None:
    session = await Session(**ONLY, per_core=True, procfs_path=str(machine.root)).open()
    machine.write("stat", LATER)
    seen = await session.run()
    assert seen.value("system.core.count") == 2
    # core 0: user 100, nice 40, system 50, idle 250, iowait 10, irq 5, softirq 20, steal 25 of 500
    core0 = {
        "user": 20, "nice": 8, "system": 10, "idle": 50, "iowait": 2, "irq": 1, "softirq": 4, "steal": 5,
        "guest": 2, "guest_nice": 0.6,
    }  # fmt: skip
    assert {f: seen.value(f"system.core.{f}", "core:0") for f in core0} == pytest.approx(core0)
    assert seen.value("system.core.user", "core:1") == pytest.approx(100 * 100 / 500)
    assert seen.value("system.core.user.total") == pytest.approx(20)
    assert seen.value("system.core.nice.total") == pytest.approx(5)
    assert seen.value("system.core.steal.total") == pytest.approx(5)
    assert seen.dropped == {}


async def test_a_core_that_came_breaks_only_the_cores(machine: Machine) -> None:
    session = await Session(**ONLY, per_core=True, procfs_path=str(machine.root)).open()
    machine.write("stat", LATER.replace("intr", "cpu2 1 1 1 1 1 1 1 1 1 1\nintr"))
    seen = await session.run()
    assert seen.value("system.core.count") == 3
    assert seen.value("system.cpu.user") == pytest.approx(25)
    assert seen.all("system.core.user") == {}


async def test_no_time_passed_is_absent_not_zero(machine: Machine) -> None:
    session = await Session(**ONLY, procfs_path=str(machine.root)).open()
    seen = await session.run()
    assert seen.names() == {"system.cpu.num_cores", "system.cpu.context_switches"}


async def test_the_first_run_has_percentages_of_the_real_machine() -> None:
    seen = await (await Session(**ONLY).open()).run()
    parts = ("user", "system", "iowait", "idle", "stolen")
    assert sum(seen.value(f"system.cpu.{part}") for part in parts) == pytest.approx(100)


async def test_a_baseline_that_could_not_be_read_costs_one_run(machine: Machine) -> None:
    machine.remove("stat")
    session = await Session(**{**ONLY, "uptime": True}, procfs_path=str(machine.root)).open()
    machine.write("stat", CPU_LINES)
    assert (await session.run()).all("system.cpu.user") == {}
    machine.write("stat", LATER)
    assert (await session.run()).value("system.cpu.user") == pytest.approx(25)


def test_a_field_that_fell_counts_as_nothing() -> None:
    assert shares({"user": 10, "iowait": 5}, {"user": 14, "iowait": 4}) == {"user": 100, "iowait": 0}
    assert shares({"user": 10}, {"user": 9}) is None


def test_guest_time_is_counted_once() -> None:
    assert shares({"user": 0, "guest": 0, "idle": 0}, {"user": 3, "guest": 3, "idle": 1}) == {
        "user": 75, "guest": 75, "idle": 25,
    }  # fmt: skip


async def test_load_and_uptime(machine: Machine) -> None:
    options = {**ONLY, "cpu": False, "load": True, "uptime": True}
    seen = await (await Session(**options, procfs_path=str(machine.root)).open()).run()
    cores = psutil.cpu_count() or 1
    assert {name: seen.value(f"system.load.{name}") for name in ("1", "5", "15")} == {"1": 1.5, "5": 0.75, "15": 0.25}
    assert seen.value("system.load.norm.5") == 0.75 / cores
    assert seen.value("system.uptime") == 12345.67
    assert len(seen.batch.samples) == 7


async def test_frequency(machine: Machine) -> None:
    options = {**ONLY, "cpu": False, "uptime": True, "frequency": True}
    seen = await (await Session(**options).open()).run()
    clocks = [clock.current for clock in psutil.cpu_freq(percpu=True)]
    known = {(f"core:{n}",) for n, clock in enumerate(clocks) if clock > 0}
    assert set(seen.all("system.core.frequency")) == known
