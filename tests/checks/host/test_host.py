"""The check as a whole: options, parts that cannot be read, what is declared."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from vedette import CheckError
from vedette.plugins import Registry
from vedette_checks.host import Host, HostConfig

from .machine import CPU_LINES, Machine, Session

pytestmark = pytest.mark.anyio

README = Path(__file__).parents[3] / "plugins/vedette_checks/host/README.md"


def test_it_is_registered() -> None:
    assert Registry().load("checks", "host") is Host


def test_no_option_is_needed() -> None:
    config = HostConfig.model_validate({})
    assert (config.cpu, config.disk, config.network) == (True, True, True)
    assert (config.per_core, config.connections, config.network_filesystems) == (False, False, False)
    assert config.interfaces.exclude == ("lo", "lo0", "veth*")


@pytest.mark.parametrize(
    ("options", "where", "message"),
    [
        ({"procfs_path": "proc"}, ("procfs_path",), "must be an absolute path such as /host/proc"),
        ({"interfaces": {"exlude": ["lo"]}}, ("interfaces", "exlude"), "Extra inputs are not permitted"),
        ({"cpus": True}, ("cpus",), "Extra inputs are not permitted"),
    ],
)
def test_wrong_options(options: dict[str, object], where: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        HostConfig.model_validate(options)
    (problem,) = caught.value.errors()
    assert problem["loc"] == where
    assert message in problem["msg"]


def test_nothing_to_collect() -> None:
    parts = ("cpu", "load", "memory", "swap", "disk", "io", "network", "protocols", "uptime")
    with pytest.raises(ValidationError, match="nothing to collect: switch on one of cpu, load"):
        HostConfig.model_validate(dict.fromkeys(parts, False))


async def test_nothing_readable_is_a_finding(tmp_path: Path) -> None:
    session = await Session(procfs_path=str(tmp_path / "none"), io=False).open()
    with pytest.raises(CheckError) as caught:
        await session.run()
    assert caught.value.message.startswith("nothing could be read: cpu: No such file or directory: ")
    assert caught.value.hint == "procfs_path must be where the machine's /proc is mounted"


@pytest.mark.parametrize(
    ("file", "lost"),
    [
        ("stat", "system.cpu."),
        ("loadavg", "system.load."),
        ("meminfo", ("system.mem.", "system.swap.")),
        ("net/dev", ("system.net.bytes", "system.net.packets")),
        ("net/snmp", ("system.net.ip.in_receives", "system.net.ip.in_header", "system.net.udp.",
                      "system.net.tcp.active", "system.net.tcp.current", "system.net.tcp.retrans")),
        ("net/netstat", ("system.net.ip.in_no_routes", "system.net.ip.in_csum", "system.net.ip.reverse",
                         "system.net.tcp.listen", "system.net.tcp.syn")),
        ("self/mounts", ("system.disk.total", "system.disk.used", "system.disk.free", "system.disk.in_use",
                         "system.disk.utilized", "system.fs.")),
        ("uptime", "system.uptime"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("damage", ["missing", "empty", "garbage"])
async def test_a_file_that_cannot_be_read_costs_only_its_part(
    machine: Machine, file: str, lost: str | tuple[str, ...], damage: str
) -> None:
    whole = await (await Session(procfs_path=str(machine.root)).open()).run()
    if damage == "missing":
        machine.remove(file)
    else:
        machine.write(file, "" if damage == "empty" else "what: is this kB\n" * 3)
    broken = await (await Session(procfs_path=str(machine.root)).open()).run()
    steady = {name for name in whole.names() if not name.startswith("system.cpu.")}
    assert {name for name in steady if not name.startswith(lost)} <= broken.names()
    assert not {name for name in broken.names() if name.startswith(lost)} - {"system.cpu.num_cores"}
    assert broken.dropped == {}


async def test_a_part_that_fails_is_logged_once_and_when_it_is_back(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vedette")
    session = await Session(procfs_path=str(machine.root)).open()
    machine.remove("uptime")
    for _ in range(3):
        await session.run()
    machine.write("uptime", "1.0 2.0\n")
    seen = await session.run()
    assert seen.value("system.uptime") == 1.0
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"uptime: not available: No such file or directory: {machine.root}/uptime"),
        ("INFO", "uptime: available again"),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_that_may_not_be_read_costs_only_its_part(machine: Machine) -> None:
    (machine.root / "meminfo").chmod(0)
    seen = await (await Session(procfs_path=str(machine.root)).open()).run()
    assert seen.value("system.uptime") == 12345.67
    assert "system.mem.total" not in seen.names()


async def test_psutil_refusing_costs_only_its_part(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise psutil.AccessDenied(pid=1)

    session = await Session(procfs_path=str(machine.root)).open()
    monkeypatch.setattr(psutil, "net_io_counters", refuse)
    seen = await session.run()
    assert "system.net.bytes_rcvd" not in seen.names()
    assert seen.value("system.net.tcp.retrans_segs") == 17


async def test_another_instance_with_another_procfs_is_a_finding(machine: Machine) -> None:
    session = await Session(procfs_path=str(machine.root)).open()
    await Session().open()
    with pytest.raises(CheckError, match="psutil reads /proc for another host instance") as caught:
        await session.run()
    assert caught.value.hint == "give all host instances one procfs_path"


async def test_a_procfs_path_may_end_in_a_slash(machine: Machine) -> None:
    seen = await (await Session(procfs_path=f"{machine.root}/").open()).run()
    assert seen.value("system.uptime") == 12345.67


async def test_every_sample_is_declared_and_every_declared_metric_exists(
    machine: Machine, later: Callable[[], None]
) -> None:
    everything = {"per_core": True, "frequency": True, "connections": True}
    real = await (await Session(**everything, interfaces={"exclude": []}).open()).run()
    session = await Session(**everything, procfs_path=str(machine.root)).open()
    later()
    made = await session.run()
    assert real.dropped == made.dropped == {}
    missing = {metric.name: metric.help for metric in Host.metrics if metric.name not in real.names() | made.names()}
    elsewhere = {name for name, text in missing.items() if "(Windows)" in text}
    assert elsewhere == {f"system.core.{field}{end}" for field in ("interrupt", "dpc") for end in ("", ".total")}
    assert set(missing) - elsewhere <= {"system.core.frequency"}
    assert "system.core.frequency" in README.read_text()


def test_every_metric_is_declared_once_with_a_help_text() -> None:
    names = [metric.name for metric in Host.metrics]
    assert len(set(names)) == len(names)
    assert [metric.name for metric in Host.metrics if not metric.help.endswith(".")] == []


async def test_tags_are_those_declared(machine: Machine, later: Callable[[], None]) -> None:
    declared = {metric.name: {*metric.tags, "instance"} for metric in Host.metrics}
    session = await Session(per_core=True, connections=True, procfs_path=str(machine.root)).open()
    later()
    seen = await session.run()
    assert seen.names()
    for sample in seen.batch.samples:
        assert {tag.partition(":")[0] for tag in sample.tags} == declared[sample.name], sample.name


@pytest.fixture
def later(machine: Machine) -> Callable[[], None]:
    """Lets the machine work: processor time and disk requests between two readings."""

    def work() -> None:
        machine.write("stat", CPU_LINES.replace("cpu  1000", "cpu  1100").replace("cpu0 600", "cpu0 700"))
        text = (machine.root / "diskstats").read_text()
        machine.write("diskstats", text.replace("sda 100 10 8000 400 50 5", "sda 110 10 9000 450 70 5"))
        netstat = (machine.root / "net/netstat").read_text()
        machine.write("net/netstat", netstat.replace("InCsumErrors", "ReasmOverlaps"))

    return work
