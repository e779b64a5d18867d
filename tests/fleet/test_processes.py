"""Agents as processes that are killed, stopped and cut off; a court hears of every lease, run and packet."""

from __future__ import annotations

import random
import signal
from bisect import bisect
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.backends import BACKENDS
from servers import until
from vedette.lease import boottime

from .court import Deed
from .ground import INSTANCES, PATIENCE, Ground, Member, ground, nap

FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
PATIENT = 20.0
"""Seconds that a busy machine may take longer than promised where the rest of the tests runs beside it."""
SLACK = 3.0
"""Seconds likewise, in one round of ten, where it has nothing else to do."""
TICK = 0.001
"""Seconds: more than what rounding makes of a clock."""
KINDS = ("kill", "stop", "silence", "deaf")


def clocks() -> Iterator[dict[str, str]]:
    """Environments: in time, an hour ahead, a day behind, where libfaketime is installed; else all in time."""
    for offset in ("+0", "+1h", "-1d"):
        more = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        yield more if FAKETIME is not None and offset != "+0" else {}


def harm(place: Ground, kind: str, victim: Member) -> None:
    """Begin to have something wrong with a member."""
    if kind == "kill":
        victim.kill()
    elif kind == "stop":
        victim.signal(signal.SIGSTOP)
    else:  # silent both ways, or heard by the engine, whose answers are lost
        place.wires.speak(victim.wire, kind == "deaf", False)


def mend(place: Ground, kind: str, victim: Member) -> None:
    """End it."""
    if kind == "kill":
        victim.start()
    elif kind == "stop":
        victim.signal(signal.SIGCONT)
    else:
        place.wires.speak(victim.wire, True, True)


@pytest.mark.soak
def test_one_agent_runs_each_instance_whatever_befalls_the_others(tmp_path: Path) -> None:
    """Killed, stopped and silent at the same time: the fourth has everything, and gives it back."""
    with ground(tmp_path, BACKENDS["redis6.2"](tmp_path / "engine"), 2.0) as place:
        three = zip(("one", "two", "three"), clocks(), strict=True)
        victims = [place.add(name, wired=name == "three", **more) for name, more in three]
        place.add("four")
        for member in place.members:
            member.start()
        place.await_settled(members=4)
        begun = boottime()
        kinds = dict(zip(("kill", "stop", "silence"), victims, strict=True))
        for kind, victim in kinds.items():
            harm(place, kind, victim)
        until(lambda: set(place.court.owners(place.recently).values()) == {"four"}, "one to have all", PATIENCE)
        until(lambda: len(place.court.owners(place.recently)) == INSTANCES, "it to run all", PATIENCE)
        for kind, victim in kinds.items():
            mend(place, kind, victim)
        place.await_settled(members=4)
        place.await_sent()
        gaps = place.court.gaps(begun - 2 * place.interval)
        assert len(gaps) == INSTANCES
        assert max(gaps.values()) < 2 * place.ttl + 2 * place.interval + PATIENT
        verdict = place.court.judge()
        assert (verdict.begun, verdict.overlaps) == ([], [])
        assert 0.5 * place.ttl < verdict.longest < 0.9 * place.ttl + TICK
        assert len(verdict.strays) <= 3
        assert verdict.lost == [], place.court.story(verdict.lost)
        assert verdict.rewound == []  # between a packet and its commit a crash may come: that one is sent again
        assert verdict.doubled == []  # but none where its owner had time to hand over
        hit = Counter((deed.instance, deed.sink) for deed in verdict.again if deed not in verdict.doubled)
        assert max(hit.values(), default=0) <= 1
        if FAKETIME is not None:
            walls = {deed.by.partition("/")[0]: round((deed.wall - deed.at) / 3600) for deed in place.court.runs()}
            assert [walls[name] - walls["four"] for name in ("one", "two", "three")] == [0, 1, -24]
        assert not any("Traceback" in member.log for member in place.members)


@pytest.mark.soak
def test_a_stop_hands_over_at_once_and_an_engine_may_come_back_empty(tmp_path: Path) -> None:
    backend = BACKENDS["redis6.2"](tmp_path / "engine")
    with ground(tmp_path, backend, 3.0) as place:
        one, two = place.add("one", 12), place.add("two", 12)
        one.start()
        two.start()
        place.await_settled(12, 2)
        begun = boottime()
        assert one.stop() == 0
        ended = boottime()
        until(lambda: place.settled(12, 1, ended), "the other one to have all", PATIENCE)
        assert max(place.court.gaps(begun - 2 * place.interval).values()) < place.ttl + place.interval
        place.await_sent(12)
        verdict = place.court.judge()
        assert (verdict.begun, verdict.overlaps, verdict.strays) == ([], [], [])
        assert (verdict.lost, verdict.again) == ([], [])
        fleet = two.ask("status", "--json")["fleet"]
        assert (fleet["state"], [row["identity"] for row in fleet["members"]]) == ("member", ["two"])
        assert set(fleet["owners"].values()) == {"two"}

        backend.server.kill()
        backend.forget()
        place.court.wiped.append(boottime())
        backend.server.start()
        back = boottime()
        until(lambda: place.settled(12, 1, back + place.ttl), "everything to run again", PATIENCE)
        place.await_sent(12)
        verdict = place.court.judge()
        assert (verdict.begun, verdict.overlaps, verdict.strays) == ([], [], [])
        assert verdict.lost == []  # its own store had the watermarks
        assert two.log.count("is ready") == 2


@pytest.mark.soak
def test_an_instance_that_runs_seldom_in_a_process_of_its_own_is_taken_over_too(tmp_path: Path) -> None:
    """Its child process knows only how long the lease lasts. Whoever takes over does not wait for the next tick."""
    soon = 10.0
    with ground(tmp_path, BACKENDS["redis6.2"](tmp_path / "engine"), 2.0) as place:
        for name in ("one", "two", "three"):
            place.add(name, 12, wired=True, rare=30.0).start()
        victim = place.await_rare({member.name for member in place.members}, boottime())
        for kind in ("kill", "stop", "silence"):
            (member,) = (one for one in place.members if one.name == victim)
            begun = boottime()
            harm(place, kind, member)
            place.await_rare({one.name for one in place.members if one is not member}, begun)
            took = boottime() - begun
            print(f"{kind} of {victim}: it ran again after {took:.1f} s", flush=True)
            assert took < 2 * place.ttl + soon + SLACK
            mend(place, kind, member)
            place.await_rare({victim}, begun + took)
        place.await_sent(13)
        verdict = place.court.judge()
        assert (verdict.begun, verdict.overlaps, verdict.lost) == ([], [], [])
        assert len(verdict.strays) <= 3
        assert (verdict.rewound, verdict.doubled) == ([], [])
        assert not any("Traceback" in member.log for member in place.members)


class Rounds:
    """Harms one agent after the other, and lets the fleet settle in between."""

    def __init__(self, place: Ground, seed: int) -> None:
        self.place = place
        self.chance = random.Random(seed)
        self.gaps: list[float] = []
        self.done: Counter[str] = Counter()
        self.begun: list[float] = []

    def one(self, kind: str) -> None:
        place, victim = self.place, self.chance.choice(self.place.members)
        begun = boottime()
        self.begun.append(begun)
        length = self.chance.uniform(0.2, 2.5) * place.ttl
        harm(place, kind, victim)
        nap(length)
        mend(place, kind, victim)
        place.await_settled()
        gaps = place.court.gaps(begun - 2 * place.interval)
        assert len(gaps) == INSTANCES
        worst = max(gaps, key=gaps.__getitem__)
        self.gaps.append(gaps[worst])
        self.done[kind] += 1
        if gaps[worst] > 2 * place.ttl + 2 * place.interval:
            print("\n".join(str(deed) for deed in place.court.runs(begun - 3) if deed.instance == worst))
            print("\n".join(f"{member.name}:\n{member.log[-2000:]}" for member in place.members))
        print(f"{kind} of {victim.name} for {length:.1f} s: {worst} did not run for {gaps[worst]:.2f} s", flush=True)

    def judge(self) -> None:
        """Hold the agents to what is promised in each round, and print the figures."""
        self.place.await_sent()
        verdict, rounds, place = self.place.court.judge(), self.done.total(), self.place
        gaps = sorted(self.gaps)
        print(
            f"{rounds} rounds {dict(self.done)}, ttl {place.ttl:g} s: {verdict.runs} runs, {verdict.packets} packets, "
            f"{verdict.moves} owners; {len(verdict.begun)} runs without the lease, {len(verdict.overlaps)} leases at "
            f"once, {len(verdict.strays)} stray packets, {len(verdict.lost)} windows lost, {len(verdict.again)} "
            f"packets again ({len(verdict.doubled)} without need, "
            f"{len(verdict.rewound)} twice); gaps {gaps[len(gaps) // 2]:.2f} s (median) to {gaps[-1]:.2f} s"
        )
        assert (verdict.begun, verdict.overlaps) == ([], [])
        assert 0.5 * place.ttl < verdict.longest < 0.9 * place.ttl + TICK
        assert max(Counter(self._round(deed) for deed in verdict.strays).values(), default=0) <= 1
        assert verdict.lost == [], self.place.court.story(verdict.lost)
        assert verdict.rewound == []
        assert verdict.doubled == []
        crashed = [deed for deed in verdict.again if deed not in verdict.doubled]
        hit = Counter((self._round(deed), deed.instance, deed.sink) for deed in crashed)
        assert max(hit.values(), default=0) <= 1  # the last packet before a crash, of each instance that it hit
        promised = 2 * place.ttl + place.interval
        assert gaps[rounds * 9 // 10] <= promised
        assert gaps[-1] <= promised + SLACK
        assert not any("Traceback" in member.log for member in place.members)

    def _round(self, deed: Deed) -> int:
        return bisect(self.begun, deed.at)


@pytest.mark.soak
@pytest.mark.parametrize(("backend", "ttl", "interval"), [("redis6.2", 3, 1), ("valkey9", 3, 1), ("leases", 4, 1)])
def test_fifty_rounds(tmp_path: Path, backend: str, ttl: float, interval: float) -> None:
    """Our API server of Leases is written in Python: it gets a little more time."""
    with ground(tmp_path, BACKENDS[backend](tmp_path / "engine"), ttl, interval) as place:
        for name, more in zip(("one", "two", "three"), clocks(), strict=True):
            place.add(name, wired=True, **more).start()
        place.await_settled()
        rounds = Rounds(place, seed=9)
        for number in range(56):
            rounds.one(KINDS[number % len(KINDS)])
        rounds.judge()
