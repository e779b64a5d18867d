"""What systemd hears of the agent, at a real datagram socket, and when the watchdog is fed no more."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli.process import Running
from core.clock import run_virtually
from core.parts import Recorder, instance
from vedette import Check, CheckConfig
from vedette.control import Snapshot
from vedette.errors import Problem
from vedette.report import SinkVitals
from vedette.runner import Runner, State, Vitals
from vedette.servicemanager import LEFT_UNSTARTED, ServiceManager, summary


class Systemd:
    """The other end: a datagram socket, its messages as dictionaries."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address[0] == "@" else address)
        self._socket.settimeout(40)

    def hear(self) -> dict[str, str]:
        """The next datagram."""
        return dict(line.split("=", 1) for line in self._socket.recv(65_536).decode().split("\n"))

    def hear_of(self, name: str, text: str = "") -> dict[str, str]:
        """The next datagram that has this, and there this text."""
        while True:
            message = self.hear()
            if name in message and text in message[name]:
                return message

    def heard(self) -> list[dict[str, str]]:
        """Everything that has come by now."""
        self._socket.setblocking(False)
        found = []
        try:
            while True:
                found.append(self.hear())
        except BlockingIOError:
            return found
        finally:
            self._socket.settimeout(40)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    other = Systemd(str(tmp_path / "notify") if request.param == "path" else f"@vedette-test-{os.getpid()}")
    yield other
    other.close()


@pytest.mark.parametrize("systemd", ["path"], indirect=True)
def test_a_service_tells_its_whole_life(systemd: Systemd, tmp_path: Path) -> None:
    conf = tmp_path / "conf.d"
    conf.mkdir()
    (conf / "agent.yaml").write_text("sinks: [{type: file, path: ../out.jsonl}]\nreload: {settle: 100ms}\n")
    (conf / "host.yaml").write_text("instances: [{interval: 1s}]\n")
    env = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "600000"}
    with Running("--conf", conf, cwd=tmp_path, **env) as agent:
        assert systemd.hear_of("READY")["WATCHDOG"] == "1"
        assert systemd.hear_of("STATUS", "all is well")["STATUS"] == "1 instance; all is well"  # it has run
        assert [systemd.hear_of("WATCHDOG").get("READY") for _ in range(3)] == [None] * 3  # fed again and again
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        agent.process.send_signal(signal.SIGHUP)
        reloading = systemd.hear_of("RELOADING")
        assert before < int(reloading["MONOTONIC_USEC"]) < time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert systemd.hear_of("READY")["READY"] == "1"
        (conf / "redis.yaml").write_text("instances: [{hots: 127.0.0.1}]\n")
        told = systemd.hear_of("STATUS", "mistakes")
        assert told["STATUS"] == f"1 instance; mistakes in {conf}/redis.yaml"
        agent.process.send_signal(signal.SIGTERM)
        assert systemd.hear_of("STOPPING")["STATUS"] == "stopping"  # heard meanwhile: a socket holds ten messages
        assert agent.end() == 0
        assert all(not message.keys() & {"READY", "RELOADING"} for message in systemd.heard())


def test_the_variables_are_for_this_process_and_no_other(systemd: Systemd) -> None:
    given = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid()), "X": "1"}
    manager = ServiceManager.of(given)
    assert (manager.watchdog, given) == (30.0, {"X": "1"})
    manager.ready()
    assert systemd.hear() == {"READY": "1", "WATCHDOG": "1"}
    manager.close()
    manager.ready()
    assert systemd.heard() == []


@pytest.mark.parametrize(("micros", "pid"), [("30000000", "1"), ("", ""), ("-1", ""), ("soon", ""), ("²", "")])
def test_a_watchdog_that_is_anothers_or_none_is_not_fed(micros: str, pid: str) -> None:
    assert ServiceManager.of({"WATCHDOG_USEC": micros, "WATCHDOG_PID": pid}).watchdog == 0


def test_without_systemd_and_with_an_address_it_does_not_know_nothing_happens(tmp_path: Path) -> None:
    for address in ("", "vsock:2:1234", str(tmp_path / "nobody"), "/" + "x" * 200):
        manager = ServiceManager(address)
        manager.ready()
        with manager.reloading():
            pass
        manager.stopping()
        manager.close()


def test_a_systemd_that_does_not_read_holds_up_nobody_and_hears_of_the_end_later(tmp_path: Path) -> None:
    other = Systemd(str(tmp_path / "notify"))
    manager = ServiceManager(other.address, 30.0)
    manager.ready()
    for _ in range(2000):  # net.unix.max_dgram_qlen, and room to spare
        with manager.reloading():
            pass
    assert len(other.heard()) < 2000
    manager.stopping()
    last = other.heard()[-1]
    assert {name: last.get(name) for name in ("STOPPING", "READY", "RELOADING")} == {
        "STOPPING": "1",
        "READY": None,
        "RELOADING": None,
    }
    manager.close()
    other.close()


# Progress


class Probe(Check[CheckConfig]):
    name = "probe"
    takes = 0.0

    async def run(self, emit: Any) -> None:
        await asyncio.sleep(self.takes)


class Slow(Probe):
    takes = 40.0


class Stubborn(Probe):
    async def run(self, emit: Any) -> None:
        until = asyncio.get_running_loop().time() + 200
        while (left := until - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                continue


@pytest.mark.parametrize("plugin", [Probe, Slow, Stubborn])
def test_an_instance_that_works_is_never_overdue_whatever_its_check_does(plugin: type[Any]) -> None:
    worst = 0.0

    async def main() -> None:
        nonlocal worst
        runner = Runner(instance(plugin, interval=10, timeout=50), Recorder().surroundings)
        task = asyncio.create_task(runner.serve())
        loop = asyncio.get_running_loop()
        for second in range(500):
            await asyncio.sleep(1)
            worst = max(worst, runner.overdue(loop.time()))
            if second == 300:
                runner.run_now()
        task.cancel()
        await asyncio.wait({task})

    run_virtually(main())
    assert worst < 1


def test_an_instance_whose_task_is_gone_is_overdue_since_its_tick() -> None:
    async def main() -> float:
        runner = Runner(instance(Probe, interval=10), Recorder().surroundings)
        task = asyncio.create_task(runner.serve())
        await asyncio.sleep(95)
        task.cancel()
        await asyncio.wait({task})
        now = asyncio.get_running_loop().time()
        return runner.overdue(now + 200) - 200 + runner.vitals.next_run - time.time()

    # the next run is announced on the wall clock, where no virtual time has passed
    assert -10 <= run_virtually(main()) <= 100


def picture(*vitals: Vitals, **more: Any) -> Snapshot:
    return Snapshot(time=1e9, started=1e9, instances=vitals, sinks=more.pop("sinks", ()), problems=(), **more)


def test_the_watchdog_goes_hungry_while_an_instance_is_forgotten_at_two_looks_in_a_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Systemd(str(tmp_path / "notify"))
    manager = ServiceManager(other.address, 30.0)
    late = [0.0, LEFT_UNSTARTED + 1, 0.0, LEFT_UNSTARTED + 1, LEFT_UNSTARTED + 11, LEFT_UNSTARTED + 21, 0.0]
    looks = iter(late)
    runner: Any = SimpleNamespace(instance=SimpleNamespace(id="redis/cache"), overdue=lambda now: next(looks))
    fed: list[bool] = []

    async def main() -> None:
        task = asyncio.create_task(manager.attend(lambda: picture(Vitals("redis/cache", "redis")), lambda: [runner]))
        for _ in late:
            await asyncio.sleep(5 if not fed else 10)
            fed.append(any("WATCHDOG" in message for message in other.heard()))
        task.cancel()
        await asyncio.wait({task})

    run_virtually(main())
    assert fed == [True, True, True, True, False, False, True]
    assert "redis/cache should have run 1m 11s ago and was not started" in caplog.text
    manager.close()
    other.close()


def test_the_status_line_says_what_is_wrong_first() -> None:
    fine = Vitals("host/host", "host", state=State.OK)
    bad = [Vitals(f"redis/{name}", "redis", state=State.FAILING) for name in "abcd"]
    assert summary(picture(fine)) == "1 instance; all is well"
    assert summary(picture(fine, Vitals("tcp/x", "tcp"))) == "2 instances; 1 not run yet"
    assert summary(picture(fine, Vitals("tcp/x", "tcp", state=State.WARNING))).endswith(
        "a warning: see `vedette status`"
    )
    problems = (Problem("conf.d/x.yaml", 1, "", "m"), Problem("conf.d/y.yaml", 1, "", "m", severity="warning"))
    whole = picture(fine, *bad, sinks=(SinkVitals("file", 0, 0, 0, 0, "no space"),))
    whole = Snapshot(whole.time, whole.started, whole.instances, whole.sinks, problems)
    assert summary(whole) == (
        "5 instances; 4 failing: redis/a, redis/b, redis/c and 1 more; sinks in trouble: file; "
        "mistakes in conf.d/x.yaml"
    )
