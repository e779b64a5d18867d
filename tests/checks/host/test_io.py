"""Block devices, exact on a machine made of files."""

from __future__ import annotations

import pytest

from .machine import DISKSTATS, Machine, Session

pytestmark = pytest.mark.anyio

ONLY = dict.fromkeys(("cpu", "load", "memory", "swap", "disk", "network", "protocols", "uptime"), False)
SDA = ("device:sda", "device_name:sda")
LATER = DISKSTATS.replace(
    "sda 100 10 8000 400 50 5 1600 600 0 700 1000", "sda 120 12 9000 460 60 6 2800 690 0 700 1000"
)
# sda, differences: 20 reads of 1000 sectors in 60 ms, 10 writes of 1200 sectors in 90 ms, never busy


async def test_totals(machine: Machine) -> None:
    seen = await (await Session(**ONLY, procfs_path=str(machine.root)).open()).run()
    rates = {"r_s": 100, "w_s": 50, "rrqm_s": 10, "wrqm_s": 5, "rkb_s": 4000, "wkb_s": 800}
    assert {name: seen.value(f"system.io.{name}", *SDA) for name in rates} == rates
    assert {seen.kind(f"system.io.{name}") for name in rates} == {"rate"}
    assert seen.value("system.disk.read_time", *SDA) == 400
    assert seen.value("system.disk.write_time", *SDA) == 600
    assert seen.kind("system.disk.read_time") == "counter"
    assert seen.value("system.disk.read_time_pct", *SDA) == 40
    assert seen.value("system.disk.write_time_pct", *SDA) == 60
    assert seen.kind("system.disk.read_time_pct") == "rate"


async def test_means_between_two_readings(machine: Machine) -> None:
    session = await Session(**ONLY, procfs_path=str(machine.root)).open()
    machine.write("diskstats", LATER)
    seen = await session.run()
    expected = {"r_await": 3, "w_await": 9, "await": 5, "avg_rq_sz": 2200 / 30, "util": 0}
    assert {name: seen.value(f"system.io.{name}", *SDA) for name in expected} == pytest.approx(expected)


async def test_utilization_is_at_most_all_of_the_time(machine: Machine) -> None:
    session = await Session(**ONLY, procfs_path=str(machine.root)).open()
    machine.write("diskstats", DISKSTATS.replace("600 0 700 1000", "600 0 999999 1000"))
    assert (await session.run()).value("system.io.util", *SDA) == 100


async def test_without_requests_there_is_no_mean(machine: Machine) -> None:
    seen = await (await Session(**ONLY, procfs_path=str(machine.root)).open()).run()
    assert not {name for name in seen.names() if name.endswith(("await", "avg_rq_sz"))}


async def test_a_device_put_in_the_place_of_another_has_no_mean(machine: Machine) -> None:
    session = await Session(**ONLY, procfs_path=str(machine.root)).open()
    machine.write("diskstats", "   8       0 sda 3 0 8 4 1 0 8 2 0 6 6 0 0 0 0 0 0\n")
    seen = await session.run()
    assert seen.value("system.io.r_s", *SDA) == 3
    assert not {"system.io.await", "system.io.util", "system.io.avg_rq_sz"} & seen.names()


async def test_idle_and_loop_devices_are_left_out(machine: Machine) -> None:
    seen = await (await Session(**ONLY, procfs_path=str(machine.root)).open()).run()
    assert {tags[0] for tags in seen.all("system.io.r_s")} == {"device:sda", "device:sda1"}


async def test_choice_of_devices(machine: Machine) -> None:
    options = {**ONLY, "devices": {"include": ["/dev/sda1", "loop*"]}, "procfs_path": str(machine.root)}
    seen = await (await Session(**options).open()).run()
    assert {tags[0] for tags in seen.all("system.io.r_s")} == {"device:loop0", "device:sda1"}
