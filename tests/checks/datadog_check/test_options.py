"""The options, what doctor says, and the ledger's arithmetic with times and bounds of our own."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from vedette import Kind
from vedette.advice import Diagnosis
from vedette.config.values import harvest
from vedette.emit import Channel, Emit
from vedette.kit import Deltas, Sketch
from vedette_checks.datadog_check import DatadogCheck, DatadogCheckConfig
from vedette_checks.datadog_check.config import revealed
from vedette_checks.datadog_check.ledger import Ledger

PACKAGE = Path(__file__).parent / "package"
FIGURES: dict[str, Any] = {
    "module": "datadog_checks.figures", "environment": {"PYTHONPATH": str(PACKAGE)}, "timeout": "60s",
}  # fmt: skip


def config(**options: Any) -> DatadogCheckConfig:
    return DatadogCheckConfig.model_validate({"name": "x", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give module or path: where the check is"),
        ({"module": "a", "path": "/a.py"}, "give module or path: where the check is"),
        ({"module": "a:A", "check_class": "A"}, "module names a class already: leave check_class out"),
        ({"module": "../a.py"}, "String should match pattern"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        config(**options)
    assert message in str(caught.value)


def test_how_it_is_called_and_what_is_hidden() -> None:
    assert (config(module="a.b:C").called, config(module="a.b:C").cls, config(path="/x/my.py").called) == (
        "b",
        "C",
        "my",
    )
    instance = {"password": "p", "hosts": [{"api_key": "k", "user": "u"}], "tls_private_key_path": "/k", "n": 1}
    made = config(module="a", instance=instance)
    assert str(made.instance) == (
        "{'password': ****, 'hosts': [{'api_key': ****, 'user': 'u'}], 'tls_private_key_path': '/k', 'n': 1}"
    )
    assert revealed(made.instance) == instance


def test_what_is_hidden_however_it_is_spelt() -> None:
    instance = {
        "password": 1234567890, "pin_token": 12, "max_tokens": 4096, "use_token": True, "port": 65000,
        "headers": {"X-API-Key": "hdr", "Accept": "text/plain", "auth-token": "t", "Cookie": "c"},
        "privKey": "p", "authKey": "a", "bearerToken": "b", "APIKey": "k", "community_string": "cs", "passwords": ["x"],
        "client.secret": "s", "private_key_path": "/k", "token_url": "/t", "passive": "no", "app_key": "ak",
    }  # fmt: skip
    made = config(module="a", instance=instance)
    found: set[str] = set()
    harvest(made, found.add)
    assert found == {"1234567890", "hdr", "t", "c", "p", "a", "b", "k", "cs", "x", "s", "ak"}
    assert revealed(made.instance) == instance
    assert type(revealed(made.instance)["password"]) is int
    assert "1234567890" not in repr(made.instance)


def test_what_lint_says() -> None:
    said = list(DatadogCheck.lint(config(module="a", isolate=True, init_config={"min_collection_interval": 60})))
    assert said == [
        "isolate: such a check has a process of its own anyway; isolate costs a second one",
        "min_collection_interval changes nothing here: interval does",
    ]
    assert list(DatadogCheck.lint(config(module="a", interval="60s", instance={"min_collection_interval": 60}))) == []


@pytest.mark.anyio
async def test_doctor_looks_without_running_it(tmp_path: Path) -> None:
    async def seen(**options: Any) -> list[tuple[str, str, str]]:
        diagnosis = Diagnosis()
        check = DatadogCheck(config(**options), {})
        await check.diagnose(diagnosis)
        await check.close()
        return [(one.what, one.grade.value, one.seen) for one in diagnosis.symptoms]

    python = ".".join(map(str, sys.version_info[:3]))
    first, second = await seen(**FIGURES, instance={"port": 1})
    assert (first[:2], first[2].endswith(f", Python {python}")) == (("datadog-checks-base", "ok"), True)
    assert second == ("check", "ok", "datadog_checks.figures.check.FiguresCheck takes its options")
    assert await seen(**FIGURES, instance={}) == [
        (
            "check",
            "failed",
            "FiguresCheck refuses: ConfigurationError: Detected 1 error while loading configuration model "
            "`InstanceConfig`:; port; Field required",
        )
    ]
    gone = tmp_path / "gone.py"
    assert await seen(path=gone) == [("path", "failed", f"there is no file {gone}")]


@pytest.fixture
def spoken() -> tuple[Ledger, Emit]:
    ledger = Ledger(logging.getLogger("test"), (), 10, {})
    emit = Emit(Channel("datadog_check/x", "datadog_check", (), (), open_names=True, host="node-7"), 1_000.0)
    ledger.begin(emit)
    return ledger, emit


def test_historate_is_the_speed_within_a_run(spoken: tuple[Ledger, Emit]) -> None:
    ledger, emit = spoken
    ledger.take(
        [["metric", 6, "a", value, [], "", False, time] for value, time in ((1, 10), (5, 12), (5, 12), (3, 13))]
    )
    ledger.end()
    assert [(one.kind, one.value) for one in emit.batch().samples] == [(Kind.HISTOGRAM, 2.0), (Kind.HISTOGRAM, -2.0)]
    ledger.begin(emit)
    before = len(emit.batch().samples)
    ledger.take([["metric", 6, "a", 9, [], "", False, 20.0]])
    assert len(emit.batch().samples) == before


def test_buckets_without_an_end_and_with_few_observations(spoken: tuple[Ledger, Emit]) -> None:
    ledger, emit = spoken
    inf = float("inf")
    bounds = ((0.0, 1.0, 2), (1.0, inf, 3), (-inf, 0.0, 1), (-inf, inf, 5), (1.0, 2.0, 0), (2.0, 4.0, 100))
    ledger.take([["bucket", "a", number, lower, upper, False, "", [], False] for lower, upper, number in bounds])
    ledger.end()
    (sample,) = emit.batch().samples
    assert isinstance(sample.value, Sketch)
    assert sample.value.count == 106
    assert sample.value.bins[:4] == ((0.0, 1), (0.25, 1), (0.75, 1), (1.0, 3))
    assert (sample.value.min, sample.value.max) == (0.0, 3.9375)
    assert sample.value.sum == pytest.approx(0.25 + 0.75 + 3 + 300, rel=0.01)


def counted(deltas: Deltas, emit: Emit, name: str) -> float:
    batch = emit.batch()
    reported = [deltas.reported(batch, one) for one in batch.samples if one.name == name]
    return sum(one.value for one in reported if one is not None)  # type: ignore[misc]


def test_tags_have_no_order_and_no_doubles(spoken: tuple[Ledger, Emit]) -> None:
    ledger, _ = spoken
    deltas, grown, buckets = Deltas(), [], []
    for run, tags in enumerate((["a:1", "b:2"], ["b:2", "a:1"], ["a:1", "b:2", "a:1"]), 1):
        emit = Emit(Channel("datadog_check/x", "datadog_check", (), (), open_names=True), 1_000.0 + run)
        ledger.begin(emit)
        ledger.take([["metric", 3, "total", 1_000 + 10 * run, tags, "", True, 1.0]])
        ledger.take([["bucket", "b", 100 * run, 0.0, 1.0, True, "", tags, True]])
        ledger.take([["metric", 6, "pace", run, tags, "", False, 1.0]])
        ledger.take([["metric", 6, "pace", run + 1, tags[::-1], "", False, 2.0]])
        ledger.end()
        grown.append(counted(deltas, emit, "total"))
        buckets += [one.value.count for one in emit.batch().samples if isinstance(one.value, Sketch)]
        assert [one.value for one in emit.batch().samples if one.name == "pace"] == [1.0]
        assert "series" not in ledger.dropped
    assert (grown, buckets) == ([1_010, 10, 10], [100, 100, 100])


def test_of_too_many_totals_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette_checks.datadog_check.ledger._MOST_KNOWN", 2)
    ledger, deltas, grown = Ledger(logging.getLogger("test"), (), 2, {}), Deltas(), []
    for run, name in enumerate("abcdbeba"):
        emit = Emit(Channel("datadog_check/x", "datadog_check", (), (), open_names=True), 1_000.0 + run)
        ledger.begin(emit)
        ledger.take([["metric", 3, name, 100 + run, [], "", True, 1.0]])
        ledger.end()
        grown.append(counted(deltas, emit, name))
    assert grown == [100, 101, 102, 103, 3, 105, 2, 107]  # `a` was forgotten as `e` came, `b` never


def test_what_has_no_series_is_bounded_too(spoken: tuple[Ledger, Emit], monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"log": 1, "event": 2, "entry": 1, "status": 2, "observation": 3}
    monkeypatch.setattr("vedette_checks.datadog_check.ledger._MOST", few)
    ledger, emit = spoken
    ledger.begin(emit)
    ledger.take([["event", {"msg_title": f"t{number}"}] for number in range(5)])
    ledger.take([["entry", '{"message": "m"}'], ["entry", '{"message": "n"}'], ["log", 10, "a"], ["log", 10, "b"]])
    ledger.take([["status", f"s{number}", 0, [], "", ""] for number in range(3)])
    ledger.take([["metric", 5, "h", number, [], "", False, 1.0] for number in range(7)])
    ledger.take([["metric", 0, name, 1, [], "", False, 1.0] for name in ("", " ", "g")])
    ledger.end()
    batch = emit.batch()
    assert (len(batch.events), len(batch.logs), len(batch.statuses)) == (2, 1, 2)
    assert [(one.name, one.value) for one in batch.samples] == [("g", 1), ("h", 0), ("h", 1), ("h", 2)]
    assert dict(ledger.dropped) == {"event": 3, "entry": 1, "log": 1, "status": 1, "observation": 4, "no_name": 2}


def test_the_own_host_is_no_tag_and_another_is(spoken: tuple[Ledger, Emit]) -> None:
    ledger, emit = spoken
    ledger.take([["metric", 0, "a", 1, [], "node-7", False, 1.0], ["metric", 0, "a", 1, [], "db", False, 1.0]])
    assert [one.tags for one in emit.batch().samples] == [(), ("host:db",)]


@pytest.mark.parametrize("entry", [["nothing"], ["metric", 9, "a", 1, [], "", False, 1], ["metric"], [], ["status", 1]])
def test_nonsense_is_noticed(spoken: tuple[Ledger, Emit], entry: list[Any]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        spoken[0].take([entry])


def test_logs_that_it_collects(spoken: tuple[Ledger, Emit]) -> None:
    ledger, emit = spoken
    ledger.take(
        [["entry", '{"message": "m", "timestamp": 5000, "ddtags": "a:b,c", "status": "error", "level": "x", "k": 1}']]
    )
    (log,) = emit.batch().logs
    assert (log.message, log.level, log.time, log.tags) == ("m", "error", 5.0, ("a:b", "c"))
    assert dict(log.attributes) == {"level_": "x", "k": 1}
