"""One instance's claim, as a seat sees it; what no history needs, but people do who edit records by hand."""

from __future__ import annotations

from itertools import count
from typing import Any

from vedette.engine import EngineConflict, EngineRecord, EngineUnavailable
from vedette.fleet.participant import Participant
from vedette.fleet.records import CLAIMS, MEMBERS, Claim, Member
from vedette.fleet.requests import Get, Read, Remove, Request, Write

TTL = 12.0


class Alone:
    """A participant, its clock, and an engine that answers when it is told to."""

    def __init__(self) -> None:
        self.now, ids = 0.0, count()
        self.records: dict[str, EngineRecord] = {}
        self.part = Participant("one", TTL, lambda: self.now, lambda: f"{next(ids):016x}")
        self.part.want({"check/1": "hash"})

    def answer(self, request: Request) -> None:
        """What the contract says, where nobody else writes."""
        reply: Any = None
        if isinstance(request, Read):
            reply = [one for key, one in sorted(self.records.items()) if key.startswith(request.prefix)]
        elif isinstance(request, Get):
            reply = self.records.get(request.key)
        elif isinstance(request, Write):
            reply = self.put(request.key, request.value)
        else:
            assert isinstance(request, Remove)
            reply = None if self.records.pop(request.key, None) else EngineConflict(request.key)
        request.answer(reply)

    def put(self, key: str, value: str) -> str:
        """Write a record; returns its revision."""
        revision = str(int(self.records[key].revision) + 1 if key in self.records else 1)
        self.records[key] = EngineRecord(key, value, revision)
        return revision

    def go_on(self, until: float) -> None:
        """Ask and answer."""
        while self.now < until:
            for request in self.part.requests():
                self.answer(request)
            self.now += TTL / 60


def test_a_lease_ends_when_the_record_names_another_owner_and_what_was_saved_is_not_kept() -> None:
    alone = Alone()
    alone.go_on(1.5 * TTL)
    lease = alone.part.held["check/1"].lease
    kept: list[bool] = []
    assert lease is not None
    assert lease.held
    alone.put(f"{CLAIMS}check/1", Claim("other_1", lease.token + 1, {"n": 7}).text())
    tenure = alone.part.tenures["check/1"]
    tenure.save({"n": 8}, kept.append)
    tenure.update(alone.records[f"{CLAIMS}check/1"], alone.now)
    assert (lease.held, alone.part.held, kept) == (False, {}, [False])
    assert tenure.unwritten is False


def test_a_claim_waits_for_the_answer_to_a_beat_which_would_void_its_guard() -> None:
    alone = Alone()
    alone.go_on(1.5 * TTL)
    tenure, seat, roster = alone.part.tenures["check/1"], alone.part.seat, alone.part.roster
    alone.put(f"{CLAIMS}check/1", Claim("", tenure.claim.token).text())
    tenure.update(alone.records[f"{CLAIMS}check/1"], alone.now)
    alone.now += TTL / 3
    (beat,) = seat.requests()
    assert isinstance(beat, Write)
    assert tenure.request(roster) is None
    alone.answer(beat)
    claim = tenure.request(roster)
    assert isinstance(claim, Write)
    assert claim.guard == alone.records[f"{MEMBERS}{seat.id}"]


def test_a_label_on_the_own_record_changes_its_revision_and_nothing_else() -> None:
    alone = Alone()
    alone.go_on(1.5 * TTL)
    seat, key = alone.part.seat, f"{MEMBERS}{alone.part.seat.id}"
    for _ in range(5):
        alone.put(key, alone.records[key].value)
        alone.go_on(alone.now + TTL / 2)
    assert alone.part.seat is seat
    assert alone.part.held["check/1"].lease is not None


def test_what_is_over_is_not_remembered_for_ever() -> None:
    alone = Alone()
    for number in range(30):
        alone.go_on(alone.now + 0.1 * TTL)
        alone.part.seat.end()
        alone.put(f"{MEMBERS}other_{number}", Member(f"other_{number}", "other", 1, False, 1, "", TTL).text())
        alone.go_on(alone.now + 2.5 * TTL)
    assert [key for key in alone.records if key.startswith(MEMBERS)] == [f"{MEMBERS}{alone.part.seat.id}"]
    assert max(len(getattr(alone.part, name)) for name in ("_former", "_removing")) <= 8


def test_what_ran_under_an_earlier_lease_may_end_late_and_gives_up_nothing() -> None:
    """It hung for longer than a ttl, and what the agent got then is being halted now."""
    alone = Alone()
    alone.go_on(1.5 * TTL)
    tenure, roster = alone.part.tenures["check/1"], alone.part.roster
    first = tenure.claim.token
    tenure.assign(False)
    alone.now += TTL
    release = tenure.request(roster)
    assert isinstance(release, Write)
    assert Claim.parse(release.value) == Claim("", first)
    alone.answer(release)
    tenure.assign(True)
    claim = tenure.request(roster)
    assert claim is not None
    alone.answer(claim)
    assert tenure.lease is not None
    assert tenure.lease.token == first + 1
    tenure.assign(False)
    tenure.stopped(first)
    assert tenure.request(roster) is None
    tenure.stopped(first + 1)
    release = tenure.request(roster)
    assert isinstance(release, Write)
    assert Claim.parse(release.value) == Claim("", first + 1)


def test_a_claim_in_doubt_is_voided_by_a_record_that_is_another_than_before() -> None:
    """An engine may take a write that changes nothing for none, and then the claim could still be made."""
    alone = Alone()
    alone.go_on(1.5 * TTL)
    tenure, roster = alone.part.tenures["check/1"], alone.part.roster
    tenure.update(None, alone.now)
    free = Claim("", tenure.claim.token)
    alone.now += 1
    alone.put(f"{CLAIMS}check/1", free.text())
    tenure.update(alone.records[f"{CLAIMS}check/1"], alone.now)
    claim = tenure.request(roster)
    assert isinstance(claim, Write)
    tenure.assign(False)
    claim.answer(EngineUnavailable("silence"))
    alone.now += TTL
    void = tenure.request(roster)
    assert isinstance(void, Write)
    assert (void.revision, Claim.parse(void.value)) == (claim.revision, Claim("", free.token + 1))
