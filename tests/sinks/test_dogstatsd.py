from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from datadog.dogstatsd.base import DogStatsd
from pydantic import ValidationError

from sinks.parts import HERE, START, Port, batch, running, sample, until
from vedette import Kind, Status
from vedette.kit import Sketch
from vedette.metrics import Event, ServiceCheck
from vedette.outbox import Outbox, supervise
from vedette.sinks import dogstatsd
from vedette.sinks.dogstatsd import DogstatsdConfig, DogstatsdSink

pytestmark = pytest.mark.anyio
GAUGE, COUNT, COUNTER, RATE = Kind.GAUGE, Kind.COUNT, Kind.COUNTER, Kind.RATE
HISTOGRAM, DISTRIBUTION, SET = Kind.HISTOGRAM, Kind.DISTRIBUTION, Kind.SET


def make(port: int = 0, **options: Any) -> DogstatsdSink:
    target = {"port": port} if port else {}
    return DogstatsdSink(DogstatsdConfig(type="dogstatsd", **target, **options))


async def lines_of(*batches: Any, **options: Any) -> list[str]:
    """What arrives when these batches are sent."""
    with Port() as port:
        sink = make(port.number, **options)
        async with running(sink) as outbox:
            for one in batches:
                outbox.put(one)
        assert (sink.errors, sink.lost) == (0, 0)
        return await port.wait_for(sink._client.sent)


# Translation


async def test_every_kind_becomes_its_type() -> None:
    tags = ("instance:main", "redis_host:127.0.0.1")
    lines = await lines_of(
        batch(
            sample("redis.mem.used", GAUGE, 1_048_576, *tags),
            sample("redis.ratio", GAUGE, 0.25, *tags),
            sample("shop.revenue", GAUGE, Decimal("12345678901234567890.10"), "currency:EUR"),
            sample("tiny", GAUGE, Decimal("1E-7")),
            sample("requests", COUNT, 3, *tags),
            sample("latency", HISTOGRAM, 12.5, *tags),
            sample("latency.all", DISTRIBUTION, 7, *tags),
            sample("users", SET, "anna", *tags),
        )
    )
    assert lines == [
        "redis.mem.used:1048576|g|#instance:main,redis_host:127.0.0.1",
        "redis.ratio:0.25|g|#instance:main,redis_host:127.0.0.1",
        "shop.revenue:12345678901234567890.10|g|#currency:EUR",
        "tiny:0.0000001|g",
        "requests:3|c|#instance:main,redis_host:127.0.0.1",
        "latency:12.5|h|#instance:main,redis_host:127.0.0.1",
        "latency.all:7|d|#instance:main,redis_host:127.0.0.1",
        "users:anna|s|#instance:main,redis_host:127.0.0.1",
    ]


async def test_histograms_may_become_distributions() -> None:
    assert await lines_of(batch(sample("latency", HISTOGRAM, 12.5)), histogram_as="d") == ["latency:12.5|d"]


def totals(kind: Kind, *points: tuple[float, Any], name: str = "total") -> list[Any]:
    return [batch(sample(name, kind, value), at=START + after) for after, value in points]


async def test_a_counter_becomes_its_deltas() -> None:
    points = totals(COUNTER, (0, 100), (10, 130), (20, 130), (30, 7), (40, 9))
    assert await lines_of(*points) == ["total:30|c", "total:0|c", "total:2|c"]


async def test_a_delta_spans_a_gap_and_the_rate_divides_by_the_real_time() -> None:
    deltas = totals(COUNTER, (0, 100), (10, 130), (70, 500))
    rates = totals(RATE, (0, 100), (10, 130), (70, 490), (80, 3), (85, 13), name="rate")
    assert await lines_of(*deltas, *rates) == ["total:30|c", "total:370|c", "rate:3.0|g", "rate:6.0|g", "rate:2.0|g"]


async def test_a_decimal_total_stays_exact() -> None:
    points = totals(COUNTER, (0, Decimal("0.10")), (10, Decimal("1000000000000000.30")))
    assert await lines_of(*points) == ["total:1000000000000000.20|c"]


async def test_a_total_that_comes_twice_or_late_gives_no_rate() -> None:
    points = totals(RATE, (10, 100), (10, 100), (5, 90), (20, 150))
    assert await lines_of(*points) == ["total:5.0|g"]


async def test_series_differ_by_tags_and_by_instance() -> None:
    def at(after: float, main: int, replica: int) -> list[Any]:
        return [
            batch(sample("total", COUNTER, main, "db:0"), sample("total", COUNTER, main * 2, "db:1"), at=START + after),
            batch(sample("total", COUNTER, replica, "db:0"), at=START + after, instance="redis/replica"),
        ]

    lines = await lines_of(*at(0, 10, 1000), *at(10, 11, 1005))
    assert lines == ["total:1|c|#db:0", "total:2|c|#db:1", "total:5|c|#db:0"]


async def test_a_closed_instance_starts_anew() -> None:
    before, after = totals(COUNTER, (0, 100), (60, 130))
    other = [batch(sample("total", COUNTER, 1 + n, "other"), at=START + n, instance="redis/other") for n in range(2)]
    closed = batch(closed=True, at=START + 30)
    assert await lines_of(before, other[0], closed, after, other[1]) == ["total:1|c|#other"]


async def test_own_times_are_whole_seconds_of_gauges_and_counts() -> None:
    lines = await lines_of(
        batch(
            sample("level", GAUGE, 5, "a:b", at=START + 0.9),
            sample("level", GAUGE, Decimal("1.50"), at=START + 60),
            sample("hits", COUNT, 2, at=START),
            sample("hits", COUNT, 3, at=START + 0.5),
            sample("hits", COUNT, 4, at=START + 60),
            sample("total", COUNTER, 10, at=START),
            sample("total", COUNTER, 17, at=START + 60),
            sample("speed", RATE, 10, at=START),
            sample("speed", RATE, 130, at=START + 60),
            sample("later", GAUGE, 1, at=time.time() + 3600),
            sample("latency", HISTOGRAM, 1, at=START),
            sample("everyone", SET, "anna", at=START),
        ),
        batch(sample("other", COUNT, 1, at=START)),
    )
    assert sorted(lines) == [
        "everyone:anna|s",
        "hits:4|c|T1700000060",
        "hits:5|c|T1700000000",  # two points with one time: the last would win
        "latency:1|h",
        "later:1|g",  # a time to come is not part of the protocol
        "level:1.50|g|T1700000060",
        "level:5|g|#a:b|T1700000000",
        "other:1|c|T1700000000",
        "speed:2.0|g|T1700000060",
        "total:7|c|T1700000060",
    ]


async def test_a_sketch_is_sent_bin_by_bin() -> None:
    sketch = Sketch(bins=((1.0, 1), (2.5, 4), (10.0, 93)), sum=941.0, min=1.0, max=10.0)
    lines = await lines_of(batch(sample("latency", DISTRIBUTION, sketch, "a:b"), sample("own", HISTOGRAM, sketch)))
    rate = lines[2].split("|")[2]
    assert rate.startswith("@0.01075268817204")
    assert lines == [
        "latency:1.0|d|#a:b",
        "latency:2.5|d|@0.25|#a:b",
        f"latency:10.0|d|{rate}|#a:b",
        "own:1.0|h",
        "own:2.5|h|@0.25",
        f"own:10.0|h|{rate}",
    ]


def test_the_receiver_counts_as_many_observations_as_were_made() -> None:
    shares = {n: dogstatsd._share(n) for n in [*range(2, 20_000), 10**6 + 3, 10**9 + 7]}
    assert all(share.startswith("|@") for share in shares.values())
    assert [n for n, share in shares.items() if int(1 / float(share[2:])) != n] == []


@pytest.mark.parametrize(
    ("host", "tags", "ending"),
    [
        (HERE, ("a:b",), "|#a:b"),
        ("elsewhere", ("a:b",), "|#a:b,host:elsewhere"),
        ("", ("a:b",), "|#a:b,host:"),
        ("", (), "|#host:"),
        ("", ("a:b", "host:db1"), "|#a:b,host:db1"),
    ],
)
async def test_the_host_is_named_only_where_it_is_not_the_receivers_own(
    host: str, tags: tuple[str, ...], ending: str
) -> None:
    both = (sample("a", GAUGE, 1, *tags), sample("b", COUNT, 1, *tags))
    assert await lines_of(batch(*both, host=host)) == [f"a:1|g{ending}", f"b:1|c{ending}"]


async def test_the_host_tag_is_not_part_of_a_series() -> None:
    def moved(after: float, value: int, host: str) -> Any:
        return batch(sample("total", COUNTER, value), at=START + after, host=host)

    assert await lines_of(moved(0, 5, "a"), moved(10, 8, "b")) == ["total:3|c|#host:b"]


async def test_statuses() -> None:
    check = ServiceCheck("redis.can_connect", Status.CRITICAL, "refused\nm: no | sorry", ("port:6379",))
    fine = ServiceCheck("redis.can_connect", Status.OK, time=START + 1.7)
    here, away, nowhere = (batch(statuses=(check, fine), host=host) for host in (HERE, "elsewhere", ""))
    lines = await lines_of(here, away, nowhere)
    assert lines == [
        "_sc|redis.can_connect|2|d:1700000000|#port:6379|m:refused\\nm\\: no ¦ sorry",
        "_sc|redis.can_connect|0|d:1700000001",
        "_sc|redis.can_connect|2|d:1700000000|h:elsewhere|#port:6379|m:refused\\nm\\: no ¦ sorry",
        "_sc|redis.can_connect|0|d:1700000001|h:elsewhere",
        "_sc|redis.can_connect|2|d:1700000000|#port:6379,host:|m:refused\\nm\\: no ¦ sorry",
        "_sc|redis.can_connect|0|d:1700000001|#host:",
    ]


async def test_events() -> None:
    plain = Event("Failover", "é|ü\nnow", "error", "redis|main\n2", ("port:6379",), START + 5)
    odd = Event("x", "", "alarm")
    lines = await lines_of(batch(events=(plain,)), batch(events=(odd,), host="elsewhere"))
    assert lines == [
        "_e{8,10}:Failover|é|ü\\nnow|d:1700000005|k:redis¦main 2|t:error|#port:6379",
        "_e{1,0}:x||d:1700000000|h:elsewhere|t:info",
    ]


async def test_the_host_that_a_tag_names_goes_before_the_agents() -> None:
    check = ServiceCheck("up", Status.OK, tags=("host:other",))
    event = Event("x", "", tags=("host:other",))
    for host in (HERE, "elsewhere", ""):
        assert await lines_of(batch(statuses=(check,), events=(event,), host=host)) == [
            "_sc|up|0|d:1700000000|h:other|#host:other", "_e{1,0}:x||d:1700000000|h:other|t:info|#host:other"
        ]  # fmt: skip


async def test_a_long_event_is_cut_to_what_datadog_takes() -> None:
    tags = tuple(f"{n:02}{'y' * 97}" for n in range(100))
    (line,) = await lines_of(batch(events=(Event("t" * 1000, "x" * 10_000, tags=tags),), host="h" * 250))
    assert line == "".join(
        ["_e{500,4000}:", "t" * 500, "|", "x" * 4000, "|d:1700000000|h:", "h" * 250, "|t:info|#", ",".join(tags[:30])]
    )


async def test_nothing_in_a_name_a_tag_or_a_text_can_break_a_line() -> None:
    lines = await lines_of(
        batch(
            sample("a:b|c d\ne", GAUGE, 1, "k:v,w", "x|y", "n\nl", "\udcff", "ü:é"),
            sample("members", SET, "a|b\nc\udcff"),
            statuses=(ServiceCheck("a|b", Status.OK, "\udcff"),),
        )
    )
    assert lines == ["a_b_c_d_e:1|g|#k:v_w,x_y,n_l,_,ü:é", "members:a¦b c?|s", "_sc|a_b|0|d:1700000000|m:?"]


async def test_packets_are_byte_for_byte_those_of_the_stock_client() -> None:
    tag_sets = [[], ["a:b"], ["env:prod", "sp ace:x,y", "ü:é/1.2-3", "host:"]]
    values = [0, -1, 3.5, 1e300, 0.1, 2**70]
    with Port() as ours, Port() as theirs:
        stock = DogStatsd(
            "127.0.0.1", theirs.number, disable_buffering=False, flush_interval=0, disable_telemetry=True,
            origin_detection_enabled=False,
        )  # fmt: skip
        async with running(make(ours.number)) as outbox:
            samples = []
            for tags in tag_sets:
                for value in values:
                    samples.append(sample("the.level", GAUGE, value, *tags))
                    stock.gauge("the.level", value, tags)
                    samples.append(sample("the.count", COUNT, value, *tags))
                    stock.count("the.count", value, tags)
                    samples.append(sample("the.histogram", HISTOGRAM, value, *tags))
                    stock.histogram("the.histogram", value, tags)
                    samples.append(sample("the.distribution", DISTRIBUTION, value, *tags))
                    stock.distribution("the.distribution", value, tags)
                    samples.append(sample("the.set", SET, f"v{value}", *tags))
                    stock.set("the.set", f"v{value}", tags)
            outbox.put(batch(*samples))
        stock.flush()
        stock.close_socket()
        await until(lambda: len(theirs.lines) == len(samples) == len(ours.lines), "all lines")
        assert ours.packets == theirs.packets
        assert len(ours.packets) > 2


async def test_the_environment_adds_nothing_and_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = {
        "DD_ENV": "prod", "DD_SERVICE": "pay", "DD_VERSION": "1", "DD_TAGS": "a:b", "DATADOG_TAGS": "c:d",
        "DD_ENTITY_ID": "pod", "DD_EXTERNAL_ENV": "it-false", "DD_DOGSTATSD_DISABLE": "true",
        "DD_DOGSTATSD_PORT": "1", "DD_AGENT_HOST": "192.0.2.1", "DD_TELEMETRY_HOST": "192.0.2.1",
        "DD_DOGSTATSD_URL": "udp://192.0.2.1:1",
    }  # fmt: skip
    for name, value in foreign.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    lines = await lines_of(
        batch(
            sample("level", GAUGE, 1, "env:own"),
            sample("past", GAUGE, 1, at=START),
            statuses=(ServiceCheck("ok", Status.OK),),
            events=(Event("x", "y"),),
        )
    )
    assert sorted(lines) == [
        "_e{1,1}:x|y|d:1700000000|t:info",
        "_sc|ok|0|d:1700000000",
        "level:1|g|#env:own",
        "past:1|g|T1700000000",
    ]
    assert dict(os.environ) == before


# Targets


async def test_udp_packets_fit_an_ethernet_frame() -> None:
    with Port() as port:
        async with running(make(port.number)) as outbox:
            outbox.put(batch(*(sample(f"level.{n:04}", GAUGE, n, "some:tag") for n in range(500))))
        await port.wait_for(500)
        assert 1400 < max(map(len, port.packets)) <= 1432
        assert all(packet.endswith(b"\n") for packet in port.packets)
        assert port.lines == [f"level.{n:04}:{n}|g|#some:tag" for n in range(500)]


@pytest.mark.parametrize(
    ("stream", "scheme"), [(False, ""), (False, "unixgram://"), (True, ""), (True, "unixstream://")]
)
async def test_unix_sockets(tmp_path: Path, stream: bool, scheme: str) -> None:
    path = tmp_path / "dsd.socket"
    with Port(path, stream=stream) as port:
        sink = make(socket=f"{scheme}{path}")
        async with running(sink) as outbox:
            outbox.put(batch(sample("first", GAUGE, 1)))
            await port.wait_for(1)
            outbox.put(batch(*(sample(f"level.{n:04}", GAUGE, n) for n in range(2000))))
        await port.wait_for(2001)
        assert port.lines == ["first:1|g", *(f"level.{n:04}:{n}|g" for n in range(2000))]
        assert 8000 < max(map(len, port.packets)) <= 8192
        assert sink.lost == 0


@pytest.fixture
def soon_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dogstatsd, "_CALM", 0.3)


@pytest.mark.usefixtures("soon_calm")
@pytest.mark.parametrize("kind", ["udp", "datagram", "stream"])
async def test_the_target_may_be_absent_appear_and_go(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(logging.getLogger("datadog"), "level", logging.CRITICAL)  # as the agent's log sets it
    logging.getLogger("datadog.dogstatsd").setLevel(logging.NOTSET)
    path, stream = (None if kind == "udp" else tmp_path / "dsd.socket"), kind == "stream"
    with Port(path, stream=stream) as first:
        number = first.number
    sink = make(number) if path is None else make(socket=str(path))
    one = batch(sample("level", GAUGE, 1))
    async with running(sink) as outbox:
        for _ in range(2):
            enough = sink.lost + 3
            await repeatedly(lambda: outbox.put(one), lambda enough=enough: sink.lost >= enough, "losses")
            with Port(path, stream=stream, port=number) as port:
                recovered = lambda port=port: len(port.lines) >= 3 and not sink.trouble  # noqa: E731
                await repeatedly(lambda: outbox.put(one), recovered, "recovery")
                messages = list(caplog.messages)
    target = f"127.0.0.1:{number}" if path is None else str(path)
    assert len(messages) == 4
    assert [text == "sending again" for text in messages] == [False, True, False, True]
    assert all(text.startswith(f"{target}: ") for text in messages[::2])
    assert messages[0].endswith("Connection refused" if path is None else "No such file or directory")
    assert (sink.errors, sink.lost) >= (2, 6)


async def repeatedly(act: Any, condition: Any, what: str) -> None:
    """Act every 20 ms until the condition holds: the loss of one packet shows only at the next."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        act()
        await asyncio.sleep(0.02)


async def test_an_absent_target_neither_raises_nor_holds_up_the_stop() -> None:
    with Port() as port:
        number = port.number
    sink = make(number)
    async with running(sink) as outbox:
        outbox.put(batch(*(sample(f"level.{n}", GAUGE, n, "a" * 60) for n in range(1000))))
    assert outbox.delivered == 1000
    assert 0 < sink.lost < 1000  # UDP reports the loss of every other packet
    assert sink.trouble.endswith(": Connection refused")


@pytest.fixture
def hanging_lookup(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Name look-ups hang until the test ends; the event says that one was begun."""
    answer, asked, real = threading.Event(), threading.Event(), socket.getaddrinfo

    def hang(*args: Any, **kwargs: Any) -> Any:
        asked.set()
        answer.wait(30)
        return real(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield asked
    answer.set()
    for thread in threading.enumerate():
        if "dogstatsd" in thread.name.lower() or thread.name.startswith("Client"):
            thread.join(10)


def hundred() -> Any:
    return batch(*(sample("level", GAUGE, n, "a" * 100) for n in range(100)))


async def test_a_hanging_name_lookup_does_not_hold_up_the_stop(
    hanging_lookup: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dogstatsd, "_PATIENCE", 0.1)
    sink = make(8125)
    async with running(sink) as outbox:
        outbox.put(hundred())
        await until(hanging_lookup.is_set, "the lookup")
    assert (sink.lost, sink.trouble) == (100, "127.0.0.1:8125: packets could not be sent before the stop")


async def test_when_the_sender_is_far_behind_the_queue_before_the_sink_drops(
    hanging_lookup: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dogstatsd, "_HURRY", 0.1)
    monkeypatch.setattr(dogstatsd, "_ENOUGH_PACKETS", 2)
    sink, outbox = make(8125), Outbox(300)
    task = asyncio.create_task(supervise(sink, outbox))
    await repeatedly(lambda: outbox.put(hundred()), lambda: outbox.dropped >= 500, "the queue to drop the oldest")
    assert hanging_lookup.is_set()
    task.cancel()
    await asyncio.wait([task])
    assert (outbox.delivered, sink.lost) == (100, 100)  # the second batch was in hand, waiting for room


async def test_cancelling_leaves_no_thread_and_no_socket() -> None:
    before = set(threading.enumerate())
    with Port() as port:
        outbox = Outbox(1000)
        task = asyncio.create_task(supervise(make(port.number), outbox))
        outbox.put(batch(sample("level", GAUGE, 1)))
        await port.wait_for(1)
        outbox.put(batch(sample("level", GAUGE, 2)))
        await until(lambda: outbox.waiting == 0, "the sink to take it")
        assert any(thread.name.startswith("Client") for thread in threading.enumerate())
        task.cancel()
        await asyncio.wait([task])
        assert await port.wait_for(2) == ["level:1|g", "level:2|g"]
    await until(lambda: set(threading.enumerate()) <= before, "the threads' end")


def test_a_foreign_log_record_of_the_library_passes(caplog: pytest.LogCaptureFixture) -> None:
    client = dogstatsd.open_client(DogstatsdConfig(type="dogstatsd"))
    logging.getLogger("datadog.dogstatsd").warning("of another client")
    asyncio.run(client.close(5))
    assert caplog.messages == ["of another client"]
    assert logging.getLogger("datadog.dogstatsd").filters == []


# Options


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"port": 0}, "greater than or equal to 1"),
        ({"host": ""}, "at least 1 character"),
        ({"socket": "/a", "port": 8125}, "give either socket or host and port, not both"),
        ({"max_packet": 100}, "must be 0 or at least 1432"),
        ({"histogram_as": "ms"}, "'h' or 'd'"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        DogstatsdConfig(type="dogstatsd", **options)


def test_the_target_for_people() -> None:
    assert DogstatsdConfig(type="dogstatsd").target == "127.0.0.1:8125"
    assert DogstatsdConfig(type="dogstatsd", host="::1").target == "[::1]:8125"
    assert DogstatsdConfig(type="dogstatsd", socket="unixstream:///a").target == "unixstream:///a"
