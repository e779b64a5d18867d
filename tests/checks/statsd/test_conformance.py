"""The conformance file: alone and together, the careful way and the short one, and as Datadog's parser reads it."""

from __future__ import annotations

import logging
import socket
from collections import Counter
from pathlib import Path

import pytest

from checks.statsd.parts import Came, came, conformance, listening, meant
from datadog_parser import DatadogParser, series, sketches
from vedette import Kind
from vedette.emit import Channel, Emit
from vedette_checks.statsd import Statsd, StatsdConfig
from vedette_checks.statsd.intake import Intake
from vedette_checks.statsd.protocol import MalformedError, MetricLine, parse

pytestmark = pytest.mark.anyio
PAIRS = conformance()


def test_the_file_is_read_whole() -> None:
    assert len(PAIRS) > 120
    assert Counter(meaning.split(maxsplit=1)[0] for _, meaning in PAIRS)["malformed:"] > 40


@pytest.mark.parametrize(("packet", "why"), [pair for pair in PAIRS if pair[1].startswith("malformed")])
def test_what_is_malformed_says_why(packet: bytes, why: str) -> None:
    with pytest.raises(MalformedError) as raised:
        parse(packet)
    assert f"malformed: {raised.value}" == why


async def test_every_line_means_what_the_file_says() -> None:
    expected = meant(PAIRS)
    async with listening() as line:
        line.send(*(packet for packet, _ in PAIRS))
        found = await line.all()
    assert found.metrics == expected.metrics
    assert sorted(found.events, key=repr) == sorted(expected.events, key=repr)
    assert sorted(found.statuses, key=repr) == sorted(expected.statuses, key=repr)
    assert found.own["malformed"] == len(expected.malformed)
    assert found.own["packets listener:udp"] == len(PAIRS)
    assert found.own["events"] == len(expected.events)
    assert found.own["service_checks"] == len(expected.statuses)


async def test_known_lines_mean_the_same_as_new_ones() -> None:
    """Five times the same in one packet: the first is taken the careful way, the others the short one."""
    expected = meant(PAIRS * 5)
    async with listening() as line:
        line.send(*(b"\n".join([packet] * 5) for packet, _ in PAIRS))
        found = await line.all()
    assert found.metrics == expected.metrics
    assert found.own["malformed"] == len(expected.malformed)


@pytest.mark.parametrize("bad", [b"one", b"", b" 1", b"1_0", b"nan", b"1e999", b"::", b"1:x", b"9" * 400])
def test_a_bad_value_of_a_known_series_costs_only_itself(bad: bytes, caplog: pytest.LogCaptureFixture) -> None:
    intake = Intake(StatsdConfig(name="x"), logging.getLogger("statsd"))
    lines = [b"n:1|c", b"g:2|g", b"h:3|h"]
    for value in (b"1", bad, b"4"):
        intake.take(b"\n".join(line.replace(line[2:3], value, 1) for line in lines), "here")
    assert _handed_on(intake).metrics == {
        ("count", "n", (), None): 5,
        ("gauge", "g", (), None): 4,
        ("histogram", "h", (), None): Counter({1.0: 1, 4.0: 1}),
    }
    assert intake.malformed == 3
    assert len(caplog.messages) == 1


def test_a_set_has_no_empty_member() -> None:
    intake = Intake(StatsdConfig(name="x"), logging.getLogger("statsd"))
    intake.take(b"u:a|s\nu:|s\nu:b|s", "here")
    assert _handed_on(intake).metrics == {("set", "u", (), None): {"a", "b"}}
    assert intake.malformed == 1


def _handed_on(intake: Intake) -> Came:
    emit = Emit(Channel("statsd/x", "statsd", (), (), open_names=True), 0.0)
    for cell in intake.contexts.turn():
        cell.emit(emit)
    return came([emit.batch()])


@pytest.mark.slow
async def test_datadogs_own_parser_agrees_on_what_both_accept(tmp_path: Path) -> None:
    """It knows counts, gauges and distributions, and is simpler than Datadog's full agent in what `SIMPLER` lists."""
    parser = DatadogParser(tmp_path)
    try:
        await parser.ready()
        lines = [packet for packet, _ in PAIRS if _both_accept(packet)]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            for packet in lines:
                out.sendto(packet, ("127.0.0.1", parser.port))
        await parser.flushed()
        log = parser.output
    finally:
        parser.close()
    assert "Failed to parse" not in log
    assert len(lines) > 30
    async with listening() as line:
        line.send(*lines)
        found = await line.all()
    theirs = {(kind.lower(), name): (value, tags) for name, (value, kind, tags) in series(log).items()}
    theirs |= {("distribution", name): (float(count), tags) for name, (count, _, _, tags) in sketches(log).items()}
    ours = {
        (kind, name): (float(value.total() if kind == "distribution" else value), set(tags))
        for (kind, name, tags, _), value in found.metrics.items()
    }
    assert theirs.keys() == ours.keys()
    assert {name for kind, name in ours if theirs[kind, name] != ours[kind, name]} == set(SIMPLER)


SIMPLER = {
    **dict.fromkeys(("users.online.b", "rate.seven", "order.of.fields"), "rates mean nothing to it"),
    **dict.fromkeys(("packed", "packed.gauge", "packed.gap", "all.of.it"), "of packed values it takes the first"),
    "entity": "the tags of origin detection stay",
    "tags.blank": "blanks around tags stay",
    "tags.bool": "vedette writes booleans in lower case",
}


def _both_accept(packet: bytes) -> bool:
    """Its names and tags keep their control characters and blanks, and what is not UTF-8 it does not read."""
    try:
        line = parse(packet)
        text = packet.decode()
    except (MalformedError, UnicodeError):
        return False
    if not text.isprintable() or text != text.strip():
        return False
    return isinstance(line, MetricLine) and line.kind in (Kind.COUNT, Kind.GAUGE, Kind.DISTRIBUTION)


def test_the_listener_is_the_plugin_of_its_name() -> None:
    assert Statsd.name == "statsd"
