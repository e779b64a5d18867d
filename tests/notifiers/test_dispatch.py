"""The dispatcher: durable, prompt, patient; one notifier's trouble is nobody else's."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from core.clock import run_virtually, virtual_loop
from notifiers.receivers import alert
from vedette import Evidence, Notifier, NotifierConfig, Undelivered
from vedette.alerts.addressees import Addressees
from vedette.alerts.dispatch import Dispatcher
from vedette.config.notify import Route, addressable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette import Alert


class World:
    """What the notifiers of a test heard, and how they behave."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, float, tuple[tuple[str, str], ...]]] = []
        self.down: set[str] = set()
        self.error: Exception = Undelivered("nothing takes connections there")
        self.made = 0
        self.closed = 0

    def of(self, name: str) -> list[tuple[str, str]]:
        return [one for who, _, told in self.heard if who == name for one in told]


WORLD: list[World] = [World()]


class VoiceConfig(NotifierConfig):
    group: float = 0.0
    option: str = ""
    keyed: bool = False


class Voice(Notifier[VoiceConfig]):
    """Speaks into the world of the test."""

    name = "voice"

    def __init__(self, config: VoiceConfig) -> None:
        super().__init__(config)
        self.window = config.group
        WORLD[0].made += 1

    def deduplicates(self, alert: Alert) -> bool:
        return self.config.keyed

    async def send(self, alert: Alert) -> str:
        return await self.send_all([alert])

    async def send_all(self, alerts: Sequence[Alert]) -> str:
        world, name = WORLD[0], self.config.name
        if name in world.down or any(f"{name}:{one.key}" in world.down for one in alerts):
            raise world.error
        told = tuple((one.key, one.state + ("+" if one.reminder else "")) for one in alerts)
        world.heard.append((name, asyncio.get_running_loop().time(), told))
        return "heard"

    async def close(self) -> None:
        WORLD[0].closed += 1


@pytest.fixture
def world() -> World:
    WORLD[0] = World()
    return WORLD[0]


def voices(*names: str, **options: Any) -> list[tuple[type[Voice], VoiceConfig]]:
    return [(Voice, VoiceConfig(type="voice", name=name, **options)) for name in names]


def dispatcher(folder: Path | None, *names: str, routes: tuple[Route, ...] = (), **options: Any) -> Dispatcher:
    wall = asyncio.get_running_loop().time
    return Dispatcher(voices(*names, **options), routes, folder, wall=wall)


async def settle(made: Dispatcher) -> None:
    while not made.idle:  # noqa: ASYNC110 - of virtual time
        await asyncio.sleep(1)


def test_an_hour_down_delays_no_other_and_loses_nothing(tmp_path: Path, world: World) -> None:
    async def main() -> None:
        made = dispatcher(tmp_path, "pager", "team")
        made.start()
        world.down.add("pager")
        start = virtual_loop().time()
        for minute in range(60):
            made.tell(alert(key=f"k{minute}", at=float(minute)))
            await asyncio.sleep(60)
        assert [told[0][0] for who, _, told in world.heard if who == "team"] == [f"k{n}" for n in range(60)]
        assert max(at - start - 60 * n for n, (_, at, _) in enumerate(world.heard)) < 0.1
        vitals = {one.name: one for one in made.vitals}
        assert (vitals["pager"].queued, vitals["pager"].sent, vitals["pager"].failed) == (60, 0, 0)
        assert vitals["pager"].trouble == "nothing takes connections there"
        assert 60 <= vitals["pager"].errors < 400  # a pause of half a minute on average, and no storm
        world.down.clear()
        back = virtual_loop().time()
        await settle(made)
        assert sorted(world.of("pager")) == sorted((f"k{n}", "firing") for n in range(60))
        assert len(world.of("pager")) == 60
        assert virtual_loop().time() - back < 60 + 60  # the longest pause, then the rate: 30 at once, 30 a minute
        assert {one.name: one.trouble for one in made.vitals} == {"pager": "", "team": ""}
        await made.stop(1)

    run_virtually(main())


def test_what_nobody_heard_and_is_over_is_one_message(tmp_path: Path, world: World) -> None:
    async def main() -> None:
        made = dispatcher(tmp_path, "pager")
        made.start()
        made.tell(alert(key="known"))
        await settle(made)
        world.down.add("pager")
        made.tell(alert(key="short", at=1.0))
        made.tell(alert(key="short", at=2.0, reminder=True))
        made.tell(alert("resolved", key="short", at=3.0))
        made.tell(alert("resolved", key="known", at=3.0))
        made.tell(alert(key="known", at=4.0))  # again: the receiver still shows the one before
        made.tell(alert(key="long", at=1.0))
        made.tell(alert(key="long", at=5.0, reminder=True))
        await asyncio.sleep(30)
        world.down.clear()
        world.heard.clear()
        await settle(made)
        assert [one for one in world.of("pager") if one[0] == "short"] == [("short", "resolved")]
        assert [one for one in world.of("pager") if one[0] == "known"] == [("known", "resolved"), ("known", "firing")]
        assert [one for one in world.of("pager") if one[0] == "long"] == [("long", "firing")]  # and no reminder
        await made.stop(1)

    run_virtually(main())


def test_a_burst_is_one_message_where_the_channel_can_show_it(tmp_path: Path, world: World) -> None:
    async def main() -> None:
        made = Dispatcher([*voices("team", group=30.0), *voices("pager")], (), tmp_path)
        made.start()
        start = virtual_loop().time()
        for number in range(5):
            made.tell(alert(key=f"k{number}"))
            await asyncio.sleep(2)
        await settle(made)
        team = [(round(at - start), len(told)) for who, at, told in world.heard if who == "team"]
        assert team == [(30, 5)]
        assert [len(told) for who, _, told in world.heard if who == "pager"] == [1] * 5
        world.heard.clear()
        for number in range(45):  # more than a message holds need not wait
            made.tell(alert(key=f"m{number}"))
        await asyncio.sleep(1)
        assert [len(told) for who, _, told in world.heard if who == "team"] == [20, 20]
        await made.stop(60)
        assert len(world.of("team")) == 45

    run_virtually(main())


def test_the_rate_limit_lets_a_burst_pass_and_then_paces(tmp_path: Path, world: World) -> None:
    async def main() -> None:
        made = dispatcher(tmp_path, "pager", per_minute=6)
        made.start()
        start = virtual_loop().time()
        for number in range(10):
            made.tell(alert(key=f"k{number}"))
        await settle(made)
        assert [round(at - start) for _, at, _ in world.heard] == [0] * 6 + [10, 20, 30, 40]
        await made.stop(1)

    run_virtually(main())


def test_retry_after_is_kept_and_a_message_that_is_refused_holds_up_no_other(tmp_path: Path, world: World) -> None:
    async def main() -> None:
        made = dispatcher(tmp_path, "pager")
        made.start()
        world.down.add("pager")
        world.error = Undelivered("asked too often", after=90.0)
        start = virtual_loop().time()
        made.tell(alert(key="a"))
        await asyncio.sleep(1)
        world.down.clear()
        await settle(made)
        assert 90 <= world.heard[0][1] - start < 92
        world.heard.clear()
        world.down.add("pager:poison")
        world.error = Undelivered("it fails on this one, again and again")
        made.tell(alert(key="poison"))
        made.tell(alert(key="good"))
        await asyncio.sleep(10)
        assert world.of("pager") == [("good", "firing")]
        world.error = Undelivered("this one is invalid", again=False)
        await asyncio.sleep(120)
        (vitals,) = made.vitals
        assert (vitals.queued, vitals.sent, vitals.failed) == (0, 2, 1)
        assert vitals.last_error == "given up: firing 'payments flow down': this one is invalid"
        await made.stop(1)

    run_virtually(main())


def test_a_refused_group_is_told_one_by_one(tmp_path: Path, world: World) -> None:
    async def main() -> None:
        made = Dispatcher(voices("team", group=5.0), (), tmp_path)
        made.start()
        world.down.add("team:bad")
        world.error = Undelivered("invalid_blocks", again=False)
        for key in ("a", "bad", "b"):
            made.tell(alert(key=key))
        await settle(made)
        assert sorted(world.of("team")) == [("a", "firing"), ("b", "firing")]
        assert (made.vitals[0].sent, made.vitals[0].failed) == (2, 1)
        await made.stop(1)

    run_virtually(main())


def test_what_is_not_told_in_time_is_given_up(tmp_path: Path, world: World, caplog: Any) -> None:
    async def main() -> None:
        made = dispatcher(tmp_path, "pager", retry_for=3600.0)
        made.start()
        world.down.add("pager")
        made.tell(alert(key="a"))
        await asyncio.sleep(3500)
        assert made.vitals[0].queued == 1
        await asyncio.sleep(200)
        assert (made.vitals[0].queued, made.vitals[0].failed) == (0, 1)
        assert list((tmp_path / "pager").glob("*.json")) == []
        await made.stop(1)

    run_virtually(main())
    assert "given up: firing 'payments flow down': it could not be told for too long" in caplog.text


def test_a_crash_makes_a_new_object_and_loses_nothing(tmp_path: Path, world: World) -> None:
    async def main() -> None:
        made = dispatcher(tmp_path, "pager")
        made.start()
        world.down.add("pager")
        world.error = RuntimeError("a fault")
        made.tell(alert(key="a"))
        await asyncio.sleep(0.1)
        assert world.made == world.closed + 1 > 1
        assert made.vitals[0].trouble == "the notifier failed: RuntimeError: a fault"
        world.down.clear()
        await settle(made)
        assert world.of("pager") == [("a", "firing")]
        await made.stop(1)

    run_virtually(main())


def test_a_notifier_that_hangs_ends_at_its_deadline(tmp_path: Path, world: World) -> None:
    class Hanging(Voice):
        async def send(self, alert: Alert) -> str:
            await asyncio.sleep(1e6)
            return ""

    async def main() -> None:
        hanging = (Hanging, VoiceConfig(type="voice", name="hanging", timeout=5))
        made = Dispatcher([hanging, *voices("team")], (), tmp_path)
        made.start()
        made.tell(alert(key="a"))
        await asyncio.sleep(6.5)
        assert world.of("team") == [("a", "firing")]
        assert made.vitals[0].trouble == "no answer within 5s"
        assert made.vitals[0].queued == 1
        await made.stop(1)

    run_virtually(main())


def test_a_reload_touches_only_what_changed_and_keeps_queues(tmp_path: Path, world: World) -> None:
    async def main() -> None:
        made = dispatcher(tmp_path, "pager", "team", "old")
        made.start()
        world.down |= {"pager", "old"}
        for key in ("a", "b"):
            made.tell(alert(key=key), ["pager", "team"])
        made.tell(alert(key="lost"), ["old"])
        await asyncio.sleep(1)
        assert world.made == 3
        await made.swap([*voices("pager", option="new"), *voices("team"), *voices("fresh", option="x")], (), 1.0)
        await made.retire(1.0)
        assert (world.made, world.closed) == (5, 2)
        world.down.clear()
        made.tell(alert(key="c"))
        await settle(made)
        everything = [("a", "firing"), ("b", "firing"), ("c", "firing"), ("lost", "firing")]
        assert sorted(world.of("pager")) == everything
        assert sorted(world.of("team")) == everything  # what waited for one that is gone goes where the routes say
        assert sorted(world.of("fresh")) == everything[2:]
        assert world.of("old") == []
        assert list((tmp_path / "old").glob("[0-9]*")) == []
        await made.stop(1)

    run_virtually(main())


def test_who_is_told(world: World) -> None:
    routes = (
        Route(match={"severity": "critical"}, notify=("oncall",)),
        Route(match={"team": ["pay*", "core"], "severity": ["critical", "warning"]}, notify=("team", "oncall")),
        Route(name="quiet", match={"rule": "never"}, notify=("mail",)),
    )

    async def main() -> None:
        made = dispatcher(None, "oncall", "team", "mail", routes=routes)
        critical, mild = alert(), alert(severity="warning", labels={"team": "payments"})
        assert made.addressees(critical) == ["oncall", "team"]
        assert made.addressees(mild) == ["team", "oncall"]
        assert made.addressees(replace(mild, labels={"team": "web"})) == []
        assert made.addressees(mild, ["quiet", "team", "team"]) == ["mail", "team"]
        assert made.addressees(mild, ["nobody", "team"]) == ["team"]
        assert made.addressees(critical, ["nobody"]) == made.addressees(critical)  # somebody must hear
        assert dispatcher(None, "a", "b").addressees(mild) == ["a", "b"]
        made.tell(replace(mild, labels={}))
        assert made.unrouted == 1

    run_virtually(main())


def test_what_goes_on_is_repeated_until_it_is_over_or_somebody_elses(tmp_path: Path, world: World) -> None:
    class Steady(Voice):
        rhythm = 60.0

        async def send_all(self, alerts: Sequence[Alert]) -> str:
            for one in alerts:
                if one.state == "resolved":
                    self.memory.pop(one.key, None)
                else:
                    self.memory[one.key] = one.state
            return await super().send_all(alerts)

        async def beat(self) -> None:
            world.heard.append(("beat", 0.0, tuple((key, "again") for key in self.memory)))

    async def main() -> None:
        made = Dispatcher([(Steady, VoiceConfig(type="voice", name="steady")), *voices("team")], (), tmp_path)
        made.start()
        made.tell(alert(key="a"))
        made.resume(alert(key="theirs"))
        await asyncio.sleep(90)
        assert world.of("team") == [("a", "firing")]
        assert world.of("steady") == [("a", "firing"), ("theirs", "firing")]
        assert world.of("beat") == [("a", "again"), ("theirs", "again")] * 2  # at once, and a minute later
        made.tell(alert("resolved", key="a"))
        made.forget("theirs")
        await asyncio.sleep(90)
        assert len(world.of("beat")) == 4
        await made.stop(1)

    run_virtually(main())
    assert addressable(voices("a", "b"), (Route(name="r", notify=("a",)), Route(notify=("b",)))) == ("a", "b", "r")


def test_what_was_accepted_before_a_restart_is_told_after_it(tmp_path: Path, world: World, caplog: Any) -> None:
    async def main() -> None:
        first = dispatcher(tmp_path, "pager")
        for key in ("a", "b"):
            first.tell(alert(key=key))  # never started: killed at this moment
        (tmp_path / "pager" / "000000000009.json").write_text("{")
        again = dispatcher(tmp_path, "pager")
        assert again.vitals[0].queued == 2
        again.tell(alert("resolved", key="a", at=9.0))
        again.start()
        await settle(again)
        assert world.of("pager") == [("b", "firing"), ("a", "resolved")]
        assert [path.name for path in (tmp_path / "pager").iterdir()] == ["000000000009.damaged"]
        await again.stop(1)

    run_virtually(main())
    assert "000000000009.json is damaged and was set aside" in caplog.text


_ACCEPTS = """
import asyncio, os, signal, sys
from pathlib import Path
from notifiers.receivers import alert
from notifiers.test_dispatch import dispatcher
async def main():
    made = dispatcher(Path(sys.argv[1]), "pager")
    made.tell(alert(key="a"))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


def test_a_kill_right_after_accepting_loses_nothing(tmp_path: Path, world: World) -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", _ACCEPTS, str(tmp_path)], env=environ, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL

    async def main() -> None:
        made = dispatcher(tmp_path, "pager")
        made.start()
        await settle(made)
        assert world.of("pager") == [("a", "firing")]
        await made.stop(1)

    run_virtually(main())


def test_no_room_gives_up_the_oldest(tmp_path: Path, world: World) -> None:
    async def main() -> None:
        made = dispatcher(tmp_path, "pager")
        made._lanes["pager"].box._most = 3
        for number in range(5):
            made.tell(alert(key=f"k{number}"))
        assert (made.vitals[0].queued, made.vitals[0].failed) == (3, 2)
        made.start()
        await settle(made)
        assert [key for key, _ in world.of("pager")] == ["k2", "k3", "k4"]
        await made.stop(1)

    run_virtually(main())


def test_a_disk_that_refuses_costs_durability_only(tmp_path: Path, world: World) -> None:
    (tmp_path / "file").write_text("")

    async def main() -> None:
        made = dispatcher(tmp_path / "file", "pager")
        made.tell(alert(key="a"))
        assert made.vitals[0].trouble == f"alerts wait in memory only: {tmp_path}/file/pager: Not a directory"
        made.start()
        await settle(made)
        assert world.of("pager") == [("a", "firing")]
        await made.stop(1)

    run_virtually(main())


def test_files_are_small_private_and_whole(tmp_path: Path, world: World) -> None:
    async def main() -> None:
        made = dispatcher(tmp_path, "pager")
        made.tell(alert())
        (path,) = (tmp_path / "pager").iterdir()
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert json.loads(path.read_text())["alert"]["key"] == "payments flow down"
        assert path.stat().st_size < 2_000

    run_virtually(main())


def test_no_text_is_one_that_cannot_be_sent(tmp_path: Path, world: World) -> None:
    async def main() -> None:
        made = dispatcher(tmp_path, "pager")
        evidence = Evidence(error="x" * 50_000, values=((0.0, float("nan")), (1.0, 2.0)), threshold=float("inf"))
        made.tell(alert(key="k\ud800é", summary="lone \udcff", evidence=evidence))
        (path,) = (tmp_path / "pager").iterdir()
        told = json.loads(path.read_text(), parse_constant=pytest.fail)["alert"]
        assert (told["key"], told["summary"]) == ("k?é", "lone ?")
        assert len(told["evidence"]["error"]) == 20_000
        assert (told["evidence"]["values"], told["evidence"]["threshold"]) == ([[1.0, 2.0]], None)
        made.start()
        await settle(made)
        assert world.of("pager") == [("k?é", "firing")]
        await made.stop(1)

    run_virtually(main())


def test_failures_are_logged_once_and_masked(tmp_path: Path, world: World, caplog: Any) -> None:
    async def main() -> None:
        made = Dispatcher(voices("pager"), (), tmp_path, lambda text: text.replace("hunter2", "****"))
        made.start()
        world.down.add("pager")
        world.error = RuntimeError("token hunter2 is\nbad")
        made.tell(alert())
        await asyncio.sleep(300)
        assert made.vitals[0].errors > 3
        world.down.clear()
        await settle(made)
        await made.stop(1)

    with caplog.at_level(logging.INFO):
        run_virtually(main())
    said = [record.getMessage() for record in caplog.records if record.name == "vedette.notifier.pager"]
    assert said == ["the notifier failed: RuntimeError: token **** is bad", "telling works again"]


def test_one_alert_on_which_a_group_fails_delays_no_other(tmp_path: Path, world: World) -> None:
    async def main() -> None:
        made = Dispatcher(voices("team", group=5.0), (), tmp_path)
        made.start()
        world.down.add("team:poison")
        world.error = Undelivered("answered 500")
        made.tell(alert(key="poison"))
        start, late = virtual_loop().time(), []
        for number in range(12):
            told = virtual_loop().time()
            made.tell(alert(key=f"k{number}"))
            await asyncio.sleep(600)
            late += [at - told for _, at, keys in world.heard for key, _ in keys if key == f"k{number}"]
        assert len(late) == 12
        assert max(late) <= 60 + 5  # the longest pause, of the one that fails
        assert made.vitals[0].errors < 2 * (virtual_loop().time() - start) / 30
        await made.stop(1)

    run_virtually(main())


def test_after_an_outage_groups_are_groups_again(tmp_path: Path, world: World) -> None:
    async def main() -> None:
        made = Dispatcher(voices("team", group=5.0), (), tmp_path)
        made.start()
        world.down.add("team")
        for number in range(60):
            made.tell(alert(key=f"k{number}"))
        await asyncio.sleep(1800)
        world.down.clear()
        await settle(made)
        assert [len(told) for _, _, told in world.heard] == [1, 2, 4, 8, 16, 20, 9]
        await made.stop(1)

    run_virtually(main())


def test_the_worst_comes_first_and_the_least_is_given_up(tmp_path: Path, world: World) -> None:
    async def main() -> None:
        made = dispatcher(tmp_path, "pager")
        made.start()
        for number in range(100):
            made.tell(alert(key=f"w{number}", severity="warning"))
        await asyncio.sleep(1)
        start = virtual_loop().time()
        made.tell(alert(key="bad"))
        await settle(made)
        assert world.heard[30][2] == (("bad", "firing"),)
        assert world.heard[30][1] - start <= 2  # its turn in the rate, and none for each warning
        await made.stop(1)
        full = dispatcher(tmp_path / "full", "pager")
        full._lanes["pager"].box._most = 3
        full.tell(alert("resolved", key="over"))
        full.tell(alert(key="worst"))
        full.tell(alert(key="again", reminder=True))
        full.tell(alert(key="mild", severity="warning"))
        full.tell(alert(key="fyi", severity="info"))
        assert [one.alert.key for one in full._lanes["pager"].box.of()] == ["over", "worst", "mild"]
        full.tell(alert(key="worse"))
        full.tell(alert("resolved", key="too"))
        assert [one.alert.key for one in full._lanes["pager"].box.of()] == ["over", "worse", "too"]
        assert full.vitals[0].failed == 4

    run_virtually(main())


def test_a_receiver_of_incidents_hears_of_one_before_it_is_acknowledged(tmp_path: Path, world: World) -> None:
    async def main() -> None:
        made = Dispatcher([*voices("pager", keyed=True), *voices("team")], (), tmp_path)
        made.start()
        world.down |= {"pager", "team"}
        made.tell(alert(key="a"))
        await asyncio.sleep(30)
        made.tell(alert("acknowledged", key="a", at=100.0))
        made.tell(alert(key="b"))
        made.tell(alert("acknowledged", key="b", at=100.0))
        made.tell(alert("resolved", key="b", at=101.0))
        world.down.clear()
        await settle(made)
        assert [state for key, state in world.of("pager") if key == "a"] == ["firing", "acknowledged"]
        assert [state for key, state in world.of("pager") if key == "b"] == ["resolved"]
        assert sorted(world.of("team")) == [("a", "acknowledged"), ("b", "resolved")]
        await made.stop(1)

    run_virtually(main())


def test_a_takeover_leaves_nothing_stale_and_nothing_untold(tmp_path: Path, world: World) -> None:
    async def main() -> None:
        options = [*voices("pager", keyed=True), *voices("team", group=30.0)]
        here, heir = Dispatcher(options, (), tmp_path / "a"), Dispatcher(options, (), tmp_path / "b")
        here.start()
        heir.start()
        here.tell(alert(key="calm"))
        await asyncio.sleep(1)
        here.forget("calm")  # stopped in order, say: what waits for its turn is told at once
        heir.resume(alert(key="calm"))
        await asyncio.sleep(1)
        assert world.of("team") == [("calm", "firing")]
        assert world.of("pager") == [("calm", "firing")] * 2  # which it knows by its key
        world.heard.clear()
        world.down |= {"pager", "team"}  # cut off
        here.tell(alert(key="cut"))
        await asyncio.sleep(60)
        here.forget("cut")
        assert here.idle
        world.down.clear()
        for state in ("firing", "resolved"):
            heir.tell(alert(state, key="cut"))
            await asyncio.sleep(600)
        assert world.of("pager") == world.of("team") == [("cut", "firing"), ("cut", "resolved")]
        await here.stop(1)
        await heir.stop(1)

    run_virtually(main())


def test_what_is_being_told_when_another_takes_over_is_not_kept(tmp_path: Path, world: World) -> None:
    class Slow(Voice):
        async def send(self, alert: Alert) -> str:
            await asyncio.sleep(5)
            self.memory[alert.key] = "goes on"
            if alert.key in world.down:
                raise Undelivered("too late")
            return "heard"

    async def main() -> None:
        made = Dispatcher([(Slow, VoiceConfig(type="voice", name="slow"))], (), tmp_path)
        made.start()
        for key in ("a", "b"):
            world.down = {"b"}
            made.tell(alert(key=key))
            await asyncio.sleep(1)
            made.forget(key)
            await asyncio.sleep(5)
            assert made.idle
        assert dict(made._lanes["slow"]._notifier.memory) == {"b": "goes on"}
        await made.stop(1)

    run_virtually(main())


def test_the_end_goes_where_the_beginning_went(tmp_path: Path, world: World) -> None:
    routes = (
        Route(match={"severity": "critical"}, notify=("pager",)),
        Route(match={"severity": "warning"}, notify=("team",)),
    )

    async def main() -> None:
        made = dispatcher(tmp_path, "pager", "team", routes=routes)
        made.start()
        made.tell(alert(key="a"))
        await settle(made)
        await made.stop(1)
        after = dispatcher(tmp_path, "pager", "team", routes=routes)  # restarted, and the rule is milder
        after.start()
        after.tell(alert("acknowledged", key="a", severity="warning"))
        after.tell(alert(key="a", severity="warning", reminder=True))
        await settle(after)
        after.tell(alert("resolved", key="a", severity="warning"))
        after.tell(alert(key="a", severity="warning", since=1_790_009_000.0))
        after.tell(alert("resolved", key="a", severity="warning", since=1_790_009_000.0))
        await settle(after)
        assert world.of("pager") == [("a", "firing"), ("a", "acknowledged"), ("a", "resolved")]
        assert world.of("team")[0] == ("a", "firing+")
        assert world.of("team")[-1] == ("a", "resolved")
        assert json.loads((tmp_path / ".told.json").read_text()) == {}
        await after.stop(1)

    run_virtually(main())


def test_who_was_told_of_many_is_kept_line_by_line(tmp_path: Path) -> None:
    told = Addressees(tmp_path)
    whole, lines = tmp_path / ".told.json", tmp_path / ".told.more"
    for number in range(400):
        told.note(alert(key=f"a{number}"), ["pager", "team"])
    assert (whole.exists(), lines.read_text().count("\n")) == (False, 400)
    for number in range(100):
        told.note(alert("resolved", key=f"a{number}"), ["pager"])
    with lines.open("a") as file:
        file.write('["a200", ["te')  # a kill in the midst of it
    after = Addressees(tmp_path)
    assert [after.of(alert(key=f"a{number}")) for number in (99, 100, 200)] == [
        None,
        ["pager", "team"],
        ["pager", "team"],
    ]
    after.note(alert("acknowledged", key="a100"), ["web"])
    assert (len(json.loads(whole.read_text())), lines.exists()) == (300, False)
    after.forget("a101")
    again = Addressees(tmp_path)
    assert (again.of(alert(key="a100")), again.of(alert(key="a101"))) == (["pager", "team", "web"], None)


def test_a_reload_that_renames_loses_nothing(tmp_path: Path, world: World) -> None:
    class Slow(Voice):
        async def send(self, alert: Alert) -> str:
            if alert.key == "slow":
                await asyncio.sleep(5)
            return await super().send(alert)

    def named(name: str, **options: Any) -> tuple[type[Voice], VoiceConfig]:
        return Slow, VoiceConfig(type="voice", name=name, **options)

    async def main() -> None:
        made = Dispatcher([named("old")], (Route(notify=("old",)),), tmp_path)
        made.start()
        made.tell(alert(key="known"))
        await settle(made)
        made.tell(alert(key="slow"))
        await asyncio.sleep(1)
        swap = asyncio.create_task(made.swap([named("new")], (Route(notify=("new",)),), 1.0))
        await asyncio.sleep(0)
        made.tell(alert(key="meanwhile"))
        await swap
        made.tell(alert(key="by name"), ["old"])  # of a rule as it was
        await made.retire(1.0)
        made.tell(alert("resolved", key="known"))
        await settle(made)
        assert world.of("old") == [("known", "firing")]
        assert sorted(world.of("new")) == [
            ("by name", "firing"), ("known", "resolved"), ("meanwhile", "firing"), ("slow", "firing")
        ]  # fmt: skip
        assert made.unrouted == 0
        await made.stop(1)

    run_virtually(main())


def test_what_is_written_while_the_disk_syncs_is_synced_too(tmp_path: Path, world: World) -> None:
    async def main() -> None:
        made = dispatcher(tmp_path, "pager")
        box, turns = made._lanes["pager"].box, 0
        sync, begun, go_on = box.sync, threading.Event(), threading.Event()

        def slow() -> None:
            nonlocal turns
            turns += 1
            sync()
            begun.set()
            go_on.wait(20)

        box.sync = slow  # type: ignore[method-assign]
        made.tell(alert(key="a"))
        await asyncio.to_thread(begun.wait, 20)
        made.tell(alert(key="b"))
        go_on.set()
        for _ in range(2_000):
            if not box.unsynced:
                break
            await asyncio.sleep(0.01)
        assert (box.unsynced, turns) == (False, 2)

    asyncio.run(main())


def chaos(folder: Path, seed: int) -> None:
    """Alerts of three incidents, outages, kills and restarts at random; then all is well and everything is told."""
    dice, world = random.Random(seed), World()
    WORLD[0] = world
    told: dict[str, list[tuple[float, str]]] = {key: [] for key in "abc"}

    async def main() -> None:
        made = Dispatcher(voices("pager", group=dice.choice([0.0, 20.0])), (), folder, wall=virtual_loop().time)
        made.start()
        for step in range(dice.randrange(5, 40)):
            move = dice.random()
            if move < 0.6:
                key = dice.choice("abc")
                last = told[key][-1][1] if told[key] else "resolved"
                state: Any = dice.choice(("resolved", "acknowledged")) if last != "resolved" else "firing"
                told[key].append((float(step), state))
                made.tell(alert(state, key=key, at=float(step)))
            elif move < 0.75:
                world.down ^= {"pager"}
            elif move < 0.85:  # killed: nobody closes anything
                for lane in made._lanes.values():
                    if lane._task is not None:
                        lane._task.cancel()
                await asyncio.sleep(0)
                made = Dispatcher(voices("pager", group=20.0), (), folder, wall=virtual_loop().time)
                made.start()
            await asyncio.sleep(dice.choice((0.0, 0.3, 5.0, 90.0)))
        world.down.clear()
        await settle(made)
        await made.stop(1)

    run_virtually(main())
    for key, states in told.items():
        heard = [state for one, state in world.of("pager") if one == key]
        assert heard[-1:] == [state for _, state in states][-1:], (seed, key, states, heard)
        accepted = iter(state for _, state in states)
        assert all(state in accepted for state in heard), (seed, key, states, heard)  # in order, and nothing twice
    assert list(folder.rglob("[0-9]*.json")) == []


def test_the_last_state_of_every_incident_arrives_whatever_happens(tmp_path: Path) -> None:
    for seed in range(40):
        chaos(tmp_path / str(seed), seed)


@pytest.mark.soak
def test_the_last_state_of_every_incident_arrives_whatever_happens_at_length(tmp_path: Path) -> None:
    for seed in range(40, 3_000):
        chaos(tmp_path / str(seed), seed)
