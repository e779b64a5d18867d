"""Who shall own what: the same for all who know the same; and records that nobody can read."""

from __future__ import annotations

import pytest

from vedette.engine import EngineRecord
from vedette.fleet.records import LARGEST, Catalogue, Claim, Member, identity_of
from vedette.fleet.roster import Roster, elect

INSTANCES = [f"redis/{n}" for n in range(400)]


def member(name: str, *, ready: bool = True, order: int = 1, catalogue: str = "all") -> Member:
    return Member(f"{name}_1", name, 3, ready, order, catalogue, 15.0, 7)


def test_hash_spreads_and_a_change_moves_only_what_it_must() -> None:
    catalogues = {"all": dict.fromkeys(INSTANCES, "hash")}
    four = [member(name) for name in "abcd"]
    before = {one: elect(one, four, catalogues) for one in INSTANCES}
    for each in four:
        assert 60 < sum(owner == each.id for owner in before.values()) < 140
    without = {one: elect(one, four[:3], catalogues) for one in INSTANCES}
    assert {one for one in INSTANCES if without[one] != before[one]} == {
        one for one in INSTANCES if before[one] == "d_1"
    }
    assert {one: elect(one, reversed(four), catalogues) for one in INSTANCES} == before


def test_an_agent_gets_back_what_it_had_before_its_restart() -> None:
    catalogues = {"all": dict.fromkeys(INSTANCES, "hash")}
    before = {one: elect(one, [member("a"), member("b")], catalogues) for one in INSTANCES}
    again = Member("a_2", "a", 1, True, 9, "all", 15.0)
    after = {one: elect(one, [again, member("b")], catalogues) for one in INSTANCES}
    assert all(identity_of(after[one]) == identity_of(before[one]) for one in INSTANCES)


def test_a_catalogue_of_any_size_goes_into_an_engine_and_comes_out_the_same() -> None:
    small = Catalogue.of({"redis/a": "hash", "k8s/b": "leader"})
    assert small.text == '{"hash":["redis/a"],"leader":["k8s/b"]}'
    large = Catalogue.of({f"business_sql/revenue-{n * 7919 % 100_003}": "hash" for n in range(30_000)})
    assert len(large.text) < LARGEST
    wide = Catalogue.of({f"business_sql/{chr(0x4E00 + n) * 10}": "hash" for n in range(5_000)})
    assert len(wide.text.encode()) < LARGEST
    assert Catalogue.parse(wide.text) == wide.modes
    assert Catalogue.parse(large.text) == large.modes
    for damaged in ('{"packed":"%"}', '{"packed":"AAAA"}', large.text.replace("e", "f")):
        assert Catalogue.parse(damaged) == {}


@pytest.mark.parametrize(
    ("members", "leader"),
    [
        ([member("a", order=3), member("b", order=2), member("c", order=4)], "b_1"),
        ([member("a", order=3), member("b", order=2, ready=False)], "a_1"),
        ([member("b", order=2), member("a", order=2)], "a_1"),
        ([member("a", order=1, catalogue="none"), member("b", order=2)], "b_1"),
        ([member("a", order=1, catalogue="unknown"), member("b", order=2)], "b_1"),
        ([member("a", ready=False)], ""),
        ([], ""),
    ],
)
def test_the_leader_came_first_of_those_who_are_ready_and_have_it(members: list[Member], leader: str) -> None:
    assert elect("sql/x", members, {"all": {"sql/x": "leader"}, "none": {}}) == leader


def test_while_configurations_differ_all_take_the_leader() -> None:
    catalogues = {"new": {"sql/x": "leader"}, "old": {"sql/x": "hash"}}
    for order in (1, 2):
        members = [member("a", order=order, catalogue="old"), member("b", order=3 - order, catalogue="new")]
        assert elect("sql/x", members, catalogues) == min(members, key=lambda one: one.order).id


def test_records_survive_the_way_through_the_engine() -> None:
    one = member("node-7.example", ready=False, order=4)
    assert Member.parse(f"members/{one.id}", one.text(), 1.0) == one
    claim = Claim("a_1", 5, {"watermark": [1, 2.5, "ü"]})
    assert Claim.parse(claim.text()) == claim
    catalogue = Catalogue.of({"b": "hash", "a": "hash", "c": "leader"})
    assert Catalogue.parse(catalogue.text) == {"a": "hash", "b": "hash", "c": "leader"}
    assert Catalogue.of({"c": "leader", "a": "hash", "b": "hash"}).digest == catalogue.digest


@pytest.mark.parametrize(
    "wild", ['"ttl":1e12', '"ttl":"inf"', '"ttl":"nan"', '"ttl":-1', f'"ttl":1{"0" * 400}', '"protocol":2']
)
def test_another_versions_record_and_one_with_a_wild_ttl_own_nothing_and_hold_nobody_up(wild: str) -> None:
    text = member("a").text().replace('"protocol":1' if "protocol" in wild else '"ttl":15.0', wild)
    assert wild in text
    odd = Member.parse("members/a_1", text, 15.0)
    assert (odd.id, odd.identity, odd.ready, odd.ttl) == ("a_1", "a", False, 15.0)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"identity": 1}', '{"owner": 3, "token": "x", "state": []}'])
def test_what_cannot_be_read_owns_nothing_and_is_nobodys(text: str) -> None:
    garbled = Member.parse("members/node_7_abc", text, 15.0)
    assert (garbled.id, garbled.identity, garbled.ready, garbled.ttl) == ("node_7_abc", "node_7", False, 15.0)
    assert Claim.parse(text) == Claim()
    assert Catalogue.parse(text) == {}


def test_silence_is_counted_here_from_the_moment_a_record_was_read() -> None:
    roster = Roster(10.0)
    record = EngineRecord("members/a_1", member("a").text(), "r1")
    roster.update([record], now=100.0)
    roster.update([record], now=110.0)
    (sighting,) = roster
    assert sighting.expires == 115.0  # by the ttl that the member itself says
    assert roster.longest_ttl == 15.0
    version = roster.version
    roster.update([record._replace(revision="r2")], now=120.0)
    (sighting,) = roster
    assert sighting.expires == 135.0
    assert roster.version == version  # a beat is no news
    roster.drop("a_1", "r1")
    assert "a_1" in roster  # it beat meanwhile
    roster.drop("a_1", "r2")
    assert "a_1" not in roster
    assert roster.version > version


def test_a_long_ttl_is_waited_for_as_long_as_a_term_of_it_may_last_and_no_longer() -> None:
    roster = Roster(10.0)
    roster.update([EngineRecord("members/a_1", member("a").text(), "r1")], now=100.0)
    roster.update([], now=120.0)  # it may have beaten until now, and the engine may have forgotten it
    assert roster.longest_ttl == 15.0
    roster.update([], now=134.0)
    assert roster.longest_ttl == 15.0
    roster.update([], now=135.0)
    assert roster.longest_ttl == 10.0
