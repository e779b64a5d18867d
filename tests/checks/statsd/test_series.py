"""Rules, budgets, origins and what is forgotten: the series of an instance."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest
from pydantic import ValidationError

from checks.statsd.parts import Came, came, conformance, listening
from vedette.emit import Channel, Emit
from vedette_checks.statsd import MappingConfig, Statsd, StatsdConfig
from vedette_checks.statsd.cells import MOST_MEMBERS
from vedette_checks.statsd.intake import Intake
from vedette_checks.statsd.mapping import Mapper

pytestmark = pytest.mark.anyio


def intake(**options: Any) -> Intake:
    return Intake(StatsdConfig.model_validate({"name": "x", **options}), logging.getLogger("statsd"))


def hand_on(one: Intake) -> Came:
    """What the listener would emit now."""
    emit = Emit(Channel("statsd/x", "statsd", (), (), open_names=True), 0.0)
    for cell in one.contexts.turn():
        if cell.touched:
            cell.emit(emit)
    return came([emit.batch()])


# Rules


def mapper(*rules: dict[str, Any]) -> Mapper:
    return Mapper([MappingConfig.model_validate(rule) for rule in rules])


def test_parts_of_a_name_become_tags() -> None:
    mapped = mapper(
        {"match": "debug.**", "drop": True},
        {"match": "pay.*.*.duration", "name": "pay.duration", "tags": {"method": "$1", "outcome": "${2}", "v": "x-$1"}},
        {"match": "pay.*.count", "name": "$1.hits"},
        {"match": "pay.**", "tags": {"rest": "$1"}},
    )
    assert mapped("pay.card.ok.duration") == ("pay.duration", ("method:card", "outcome:ok", "v:x-card"))
    assert mapped("pay.card.count") == ("card.hits", ())
    assert mapped("pay.a.b.c.d") == ("pay.a.b.c.d", ("rest:a.b.c.d",))
    assert mapped("debug.a") is None
    assert mapped("debug.a.b") is None
    assert mapped("debug") == ("debug", ())
    assert mapped("pay.card.ok.duration.p95") == ("pay.card.ok.duration.p95", ("rest:card.ok.duration.p95",))
    assert mapped("xpay.card.count") == ("xpay.card.count", ())


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"match": "a.*b", "drop": True}, "must be words and * between dots"),
        ({"match": "a.**.b", "drop": True}, "must be words and * between dots"),
        ({"match": "", "drop": True}, "must be words and * between dots"),
        ({"match": "a.*"}, "give a name, tags, or drop: true"),
        ({"match": "a.*", "drop": True, "name": "b"}, "what is dropped needs no name and tags"),
        ({"match": "a.*", "name": "b.$2"}, "the pattern has 1 *, so there is no such reference"),
        ({"match": "a.b", "tags": {"x": "$1"}}, "the pattern has no *, so there is no such reference"),
        ({"match": "a.*", "tags": {"x y": "$1"}}, "a tag's key has no blank, colon, comma, bar or hash"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rule: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why.replace("*", r"\*").replace("$", r"\$")):
        MappingConfig.model_validate(rule)


def test_mapped_dropped_and_untagged() -> None:
    one = intake(
        mappings=[{"match": "pay.*", "name": "pay", "tags": {"how": "$1"}}, {"match": "debug.**", "drop": True}],
        drop_tags=["user"],
    )
    for _ in range(2):
        one.take(b"pay.card:1|c|#user:7,a:b\npay.cash:2|c|#user:8\ndebug.x.y:1|c\npay.card:1|c|#user:9,a:b", "here")
    assert hand_on(one).metrics == {
        ("count", "pay", ("a:b", "how:card"), None): 4,
        ("count", "pay", ("how:cash",), None): 4,
    }
    assert one.contexts.dropped["mapping"] == 2


# Budgets


def test_beyond_the_budget_sums_are_kept_and_tags_are_not() -> None:
    one = intake(max_contexts=3)
    for number in range(10):
        one.take(b"hits:1|c|#user:%d\nhits:1|c|#user:%d\ntime:5|h|#user:%d\nlevel:%d|g" % ((number,) * 4), "here")
    found = hand_on(one)
    assert found.metrics == {
        ("count", "hits", ("user:0",), None): 2,
        ("histogram", "time", ("user:0",), None): {5.0: 1},
        ("gauge", "level", (), None): 9,
        ("count", "hits", ("overflow:true",), None): 18,
        ("histogram", "time", ("overflow:true",), None): {5.0: 9},
    }
    assert list(one.contexts.budgets.told()) == [("here", 27)]
    assert list(one.contexts.budgets.told()) == []


def test_gauges_beyond_the_budget_are_dropped_and_counted() -> None:
    one = intake(max_contexts=1)
    one.take(b"a:1|g\nb:2|g\nb:3|g", "here")
    assert hand_on(one).metrics == {("gauge", "a", (), None): 1}
    assert one.contexts.dropped["overflow"] == 2


def test_each_origin_has_a_budget_of_its_own() -> None:
    one = intake(max_contexts=1)
    one.take(
        b"a:1|c|c:ci-aaa\nb:1|c|c:ci-aaa\nc:1|c|c:ci-bbb\nd:1|c|e:pu-ccc\ne:1|c|#dd.internal.entity_id:ddd", "here"
    )
    one.take(b"f:1|c", "10.0.0.1")
    one.take(b"g:1|c", "10.0.0.2")
    assert [name for _, name, tags, _ in hand_on(one).metrics if not tags] == ["a", "c", "d", "e", "f", "g"]
    assert list(one.contexts.budgets.told()) == [("aaa", 1)]


def test_names_beyond_the_budget_are_told_apart_up_to_a_hundred() -> None:
    one = intake(max_contexts=1)
    for number in range(500):
        one.take(b"n%d:1|c" % number, "here")
    assert len(hand_on(one).metrics) == 101
    assert one.contexts.dropped["overflow"] == 399


def test_idle_series_make_room() -> None:
    one = intake(max_contexts=2)
    one.take(b"a:1|c\nb:1|c\nc:1|c|#x", "here")
    hand_on(one)
    for _ in range(6):
        one.take(b"b:1|c\nc:1|c|#x", "here")
        assert set(hand_on(one).metrics) == {("count", "b", (), None), ("count", "c", ("overflow:true",), None)}
    one.take(b"b:1|c\nc:1|c|#x", "here")
    hand_on(one)  # `a` is forgotten by now, and with it that `c` has no room
    one.take(b"b:1|c\nc:1|c|#x", "here")
    assert ("count", "c", ("x",), None) in hand_on(one).metrics
    for _ in range(8):
        hand_on(one)
    assert len(one.contexts) == 0
    assert one.contexts.known == {}


@pytest.mark.parametrize(
    ("good", "bad", "budget"),
    [
        (b"n:5|c", b"n:nan|c", 100),
        (b"n:5|g", b"n:1e999|g", 100),
        (b"n:5|h", b"n:|h", 100),
        (b"n:5|s", b"n:" + b"5" * 1_001 + b"|s", 100),
        (b"n:5|c|#beyond", b"n:x|c|#beyond", 1),
    ],
)
def test_a_series_comes_back_after_a_long_time_of_bad_values(good: bytes, bad: bytes, budget: int) -> None:
    one = intake(max_contexts=budget)
    one.take(b"first:1|c\n" + good, "here")
    [expected] = [item for item in hand_on(one).metrics.items() if item[0][1] == "n"]
    for _ in range(10):
        one.take(b"first:1|c\n" + bad, "here")
        assert hand_on(one).names() == ["first"]
    for _ in range(2):
        one.take(b"first:1|c\n" + good, "here")
        assert expected in hand_on(one).metrics.items()


def test_names_beyond_the_budget_make_room_for_others() -> None:
    one = intake(max_contexts=1)
    one.take(b"first:1|c\n" + b"\n".join(b"old%d:1|c" % number for number in range(100)), "here")
    assert len(hand_on(one).metrics) == 101
    for turn in range(8):
        one.take(b"first:1|c\nnew:1|c", "here")
        found = hand_on(one).metrics
        assert one.contexts.dropped["overflow"] == min(turn + 1, 7)
    assert found == {("count", "first", (), None): 1, ("count", "new", ("overflow:true",), None): 1}


def test_an_origin_that_is_gone_makes_room_for_others() -> None:
    one = intake(max_contexts=1)
    for number in range(1_000):
        one.take(b"a%d:1|c|c:ci-%d\nb%d:1|c|c:ci-%d" % ((number,) * 4), "here")
    hand_on(one)
    assert len(list(one.contexts.budgets.told())) == 1_000
    assert len(one.contexts.budgets) == 1_000
    for _ in range(7):
        hand_on(one)
    assert (len(one.contexts), len(one.contexts.budgets)) == (0, 0)
    one.take(b"z:1|c|#p:1|c:ci-x\nz:1|c|#p:2|c:ci-y\nz:1|c|#p:3|c:ci-z", "here")
    assert [tags for _, _, tags, _ in hand_on(one).metrics] == [("p:1",), ("p:2",), ("p:3",)]


def test_all_origins_together_have_a_budget() -> None:
    """Whose name is what the client says; what an origin has already it keeps."""
    one = intake(max_contexts=2, max_total_contexts=5)
    one.take(b"mine:1|c", "here")
    for number in range(2_000):
        one.take(b"n:1|c|#u:%d|c:ci-%d\nb%d:1|c|c:ci-%d\ng:1|g|c:ci-%d" % ((number,) * 5), "here")
    found = hand_on(one)
    assert len([key for key in found.metrics if key[2] != ("overflow:true",)]) == 5
    assert len(one.contexts) == 1_005  # and of names beyond a budget no more than a thousand
    assert found.value("mine") == 1
    assert found.metrics["count", "n", ("overflow:true",), None] == 2_000 - 2
    assert one.contexts.dropped["overflow"] == 2_000 + 2_000 - 2 - 999
    assert sum(number for _, number in one.contexts.budgets.told()) == 6_000 - 4
    for _ in range(7):
        one.take(b"mine:1|c\nlate:1|c", "here")
        hand_on(one)
    one.take(b"mine:1|c\nlate:1|c", "here")
    assert hand_on(one).names() == ["late", "mine"]


def test_who_has_nothing_is_told_of_as_long_as_it_sends() -> None:
    one = intake(max_contexts=1, max_total_contexts=1)
    one.take(b"mine:1|c", "here")
    for sent in (1, 0, 2, 0, 3):
        one.take(b"mine:1|c\n" + b"g:1|g|c:ci-pod\n" * sent, "here")
        hand_on(one)
        assert list(one.contexts.budgets.told()) == ([("pod", sent)] if sent else [])


def test_the_budget_of_all_is_no_less_than_that_of_one() -> None:
    assert StatsdConfig(name="x", max_contexts=200_000).most_contexts == 200_000
    assert StatsdConfig(name="x", max_contexts=5).most_contexts == 100_000


def test_memory_is_bounded_whatever_comes() -> None:
    one = intake(max_contexts=100, max_total_contexts=100)
    for number in range(11_000):
        one.take(b"n:1|c|#u:%d\nt:1|g|T%d" % (number, number + 1), "here")
    assert len(one.contexts) <= 103
    assert sum(map(len, one.contexts.known.values())) <= 10_200
    found = hand_on(one)
    assert found.metrics["count", "n", ("overflow:true",), None] == 11_000 - 99
    assert len([key for key in found.metrics if key[3]]) == 11_000


def test_a_set_keeps_so_many_members() -> None:
    one = intake()
    for number in range(0, MOST_MEMBERS + 10, 5_000):
        one.take(
            b"\n".join(b"u:%d|s" % (number + more) for more in range(5_000 if number < MOST_MEMBERS else 10)), "here"
        )
    assert len(hand_on(one).value("u")) == MOST_MEMBERS
    assert one.contexts.dropped["set_members"] == 10


def test_no_line_takes_much_memory() -> None:
    one = intake()
    for _ in range(2):
        one.take(b"u:" + b"x" * 1_001 + b"|s\nu:short|s", "here")
    one.take(b"n:1|c|#" + b"t" * 9_000 + b"\n" + b"n" * 1_001 + b":1|c", "here")
    assert hand_on(one).metrics == {("set", "u", (), None): {"short"}}
    assert one.contexts.dropped["set_members"] == 2
    assert one.malformed == 2
    for _ in range(600):
        one.take(b"_e{1,30000}:t|" + b"x" * 30_000, "here")
    assert len(one.events) + one.too_many == 600
    assert 500 < len(one.events) < 600
    for _ in range(11_000):
        one.take(b"_sc|s|0", "here")
    assert one.kept <= 16 << 20


def test_late_points_of_one_time_are_one_point() -> None:
    one = intake()
    one.take(b"c:1|c|T100\nc:2|c|T100\nc:4|c|T101\ng:1|g|T100\ng:2|g|T100\nc:8|c", "here")
    assert hand_on(one).metrics == {
        ("count", "c", (), 100): 3, ("count", "c", (), 101): 4, ("gauge", "g", (), 100): 2, ("count", "c", (), None): 8
    }  # fmt: skip
    assert hand_on(one).metrics == {}


# Origins


FULL = b"a:1|c|c:ci-abc|e:it-false,cn-web,pu-12-34|card:%b"


@pytest.mark.parametrize(
    ("cardinality", "tags"),
    [
        (b"none", ()),
        (b"low", ("kube_container_name:web",)),
        (b"orchestrator", ("kube_container_name:web", "pod_uid:12-34")),
        (b"high", ("container_id:abc", "kube_container_name:web", "pod_uid:12-34")),
        (b"", ("kube_container_name:web",)),
    ],
)
async def test_what_the_client_tells_of_its_container(cardinality: bytes, tags: tuple[str, ...]) -> None:
    async with listening(origin_tags=True) as line:
        line.send(FULL % cardinality, b"_sc|s|0|c:ci-abc|card:high", b"_e{1,1}:t|t|e:cn-web")
        found = await line.all()
    assert found.metrics == {("count", "a", tags, None): 1}
    assert [tags for _, _, _, tags, _ in found.statuses] == [("container_id:abc",)]
    assert [event[4] for event in found.events] == [("kube_container_name:web",)]


async def test_without_the_option_it_is_no_tag() -> None:
    async with listening() as line:
        line.send(FULL % b"high")
        assert (await line.all()).metrics == {("count", "a", (), None): 1}


# What it says of itself


async def test_it_counts_what_came_and_what_did_not_stay() -> None:
    async with listening(max_contexts=2, mappings=[{"match": "debug", "drop": True}]) as line:
        line.send(
            b"a:1:2|c\nb:1|c\nc:1|g\nd:1|c\nd:1|c", b"debug:1|c", b"what?", b"_sc|s|0", b"_e{1,1}:t|t\n_e{1,1}:u|t"
        )
        found = await line.all()
    assert dict(found.own) == {
        "packets listener:udp": 5,
        "bytes listener:udp": 75,
        "values": 6,
        "events": 2,
        "service_checks": 1,
        "malformed": 1,
        "over_budget origin:127.0.0.1": 3,
        "dropped reason:overflow": 1,
        "dropped reason:mapping": 1,
        "socket.dropped listener:udp": 0,
    }
    assert max(line.serving.values("vedette.statsd.contexts")) == 3  # with the one that collects what is beyond


def test_every_metric_of_its_own_is_declared() -> None:
    assert {metric.name for metric in Statsd.metrics} == {
        f"vedette.statsd.{name}"
        for name in ("packets", "bytes", "values", "events", "service_checks", "malformed", "contexts", "over_budget",
                     "dropped", "socket.dropped")
    }  # fmt: skip


async def test_several_results_of_one_service_check_all_arrive() -> None:
    async with listening() as line:
        line.send(b"_sc|s|2|#a", b"_sc|s|0|#a", b"_sc|s|1|#a", b"_sc|other|0")
        found = await line.all()
    assert [(name, status) for name, status, *_ in found.statuses] == [("s", 2), ("s", 0), ("s", 1), ("other", 0)]


def test_malformed_lines_are_sampled_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    one = Intake(StatsdConfig(name="x"), logging.getLogger("statsd"), lambda: now)
    one.take(b"\n".join([b"b\x00d \xff" + b"x" * 500] * 100), "10.0.0.9")
    now = 61.0
    one.take(b"y:1", "10.0.0.9")
    assert one.malformed == 101
    first, second = caplog.messages
    assert first == f"not understood from 10.0.0.9: b\\x00d \\xff{'x' * 115}…: it has no type"
    assert second == "not understood from 10.0.0.9: y:1: it has no type; 99 more since the last one shown"


# Anything at all


def fuzz(rounds: int, seed: int) -> None:
    """Whole, broken and mixed lines: nothing raises, both ways understand the same, and every line is counted once."""
    source = random.Random(seed)
    lines = [packet for packet, _ in conformance()]
    pieces = [
        b":",
        b"|",
        b"#",
        b"@",
        b"T",
        b"\n",
        b",",
        b"_e{",
        b"}",
        b"_sc|",
        b"c",
        b"1",
        b"-",
        b"e",
        b"\xff",
        b"|c:",
        b"0.5",
    ]
    for _ in range(rounds):
        picked = [_mangled(source.choice(lines), source, pieces) for _ in range(source.randint(1, 6))]
        packet = b"\n".join(picked)
        careful, short = intake(max_contexts=50), intake(max_contexts=50)
        for line in packet.split(b"\n"):
            careful.take(line, "here")
        short.take(packet, "here")
        once, twice = hand_on(careful), hand_on(short)
        assert repr(once.metrics) == repr(twice.metrics), packet
        assert careful.malformed == short.malformed
        short.take(packet, "here")  # all of it is known by now
        again = hand_on(short)
        assert repr(again.metrics) == repr(once.metrics), packet
        assert short.malformed == 2 * careful.malformed
        assert not any("inf" in repr(value) or "nan" in repr(value) for value in once.metrics.values()), packet


def _mangled(line: bytes, source: random.Random, pieces: list[bytes]) -> bytes:
    for _ in range(source.choice((0, 0, 1, 1, 2, 5))):
        place = source.randint(0, len(line))
        piece = source.choice(pieces) if source.random() < 0.7 else source.randbytes(source.randint(1, 4))
        line = line[:place] + piece + line[place + source.choice((0, 0, 1, 3)) :]
    return line


def test_nothing_raises_whatever_comes() -> None:
    fuzz(500, 9)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(8))
def test_nothing_raises_whatever_comes_for_long(seed: int) -> None:
    fuzz(100_000, seed)


def fuzz_turns(rounds: int, seed: int) -> None:
    """Series that for some intervals each come well, badly or not at all, to a listener with room and one without.

    The one hands on just what a new listener would that knows nothing of before. The other hands on the same sums, and
    says of whom it was too much. In the end both know nothing any more.
    """
    source, lines = random.Random(seed), _metric_lines()
    for _ in range(rounds):
        picked = [_from_pod(line, source) for line in source.sample(lines, 5)]
        moods = [_moods(source) for _ in picked]
        roomy, narrow = intake(max_contexts=100), intake(max_contexts=1, max_total_contexts=2)
        for turn in zip(*moods, strict=True):
            packet = b"\n".join(
                line if mood == "good" else _with_a_bad_value(line, source)
                for line, mood in zip(picked, turn, strict=True)
                for _ in range(source.randint(1, 3))
                if mood != "silent"
            )
            fresh = intake()
            for one in (roomy, narrow, fresh):
                one.malformed = 0
                one.take(packet, "here")
            expected = hand_on(fresh)
            assert _rounded(hand_on(roomy)) == _rounded(expected), packet
            assert roomy.malformed == fresh.malformed, packet
            _check_what_has_no_room(narrow, expected, packet)
        for _ in range(8):
            assert hand_on(roomy).metrics == hand_on(narrow).metrics == {}
        for one in (roomy, narrow):
            assert (len(one.contexts), one.contexts.known, len(one.contexts.budgets)) == (0, {}, 0)


def _check_what_has_no_room(narrow: Intake, expected: Came, packet: bytes) -> None:
    narrow.contexts.dropped["overflow"] = 0
    found = hand_on(narrow)
    told = sum(number for _, number in narrow.contexts.budgets.told())
    assert _sums(found) == _sums(expected), packet
    assert {key for key in found.metrics if key[0] == "gauge"} <= set(expected.metrics), packet
    assert told >= narrow.contexts.dropped["overflow"], packet
    assert told or not any("overflow:true" in key[2] for key in found.metrics), packet
    assert narrow.malformed <= packet.count(b"\n") + 1


def _metric_lines() -> list[bytes]:
    """One line of each metric of the conformance file."""
    found = {}
    for packet, meaning in conformance():
        if b"\n" not in packet and meaning.split()[0] in ("count", "gauge", "histogram", "distribution", "set"):
            found.setdefault(tuple(meaning.split(" = ")[0].split(maxsplit=1)), packet)
    return list(found.values())


def _from_pod(line: bytes, source: random.Random) -> bytes:
    return line + source.choice((b"", b"|c:ci-a", b"|c:ci-b"))


def _moods(source: random.Random) -> list[str]:
    moods: list[str] = []
    while len(moods) < 20:
        moods += [source.choice(("good", "bad", "silent"))] * source.choice((1, 2, 8))
    return moods[:20]


def _with_a_bad_value(line: bytes, source: random.Random) -> bytes:
    head, _, tail = line.partition(b"|")
    is_set = tail.startswith(b"s")
    bad = source.choice((b"", b"5" * 1_001) if is_set else (b"", b"nan", b"one", b"1e999", b" 1", b"1:x"))
    return b"%b:%b|%b" % (head.partition(b":")[0], bad, tail)


def _rounded(found: Came) -> dict[Any, Any]:
    """What was summed up in another order may differ in the last digit."""
    return {key: float(f"{value:.12g}") if isinstance(value, float) else value for key, value in found.metrics.items()}


def _sums(found: Came) -> dict[Any, Any]:
    """All but gauges, their tags and times aside."""
    sums = Came()
    for (kind, name, _, _), value in found.metrics.items():
        if kind == "set":
            for member in value:
                sums.add(kind, name, member)
        elif kind != "gauge":
            sums.add(kind, name, value)
    return _rounded(sums)


def test_nothing_is_lost_for_ever_whatever_came_before() -> None:
    fuzz_turns(25, 9)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_lost_for_ever_whatever_came_before_for_long(seed: int) -> None:
    fuzz_turns(1_000, seed)
