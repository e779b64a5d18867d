"""Rules in files: what they may name, what a reload makes of them, what they mean in their metrics' units."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from alerts.parts import DB, FLOW, Stage, open_catalogue, read
from listening import listening
from vedette.alerts.heartbeat import Pulse
from vedette.config import Configuration, load
from vedette.config.changes import compare, in_force
from vedette.metrics import Kind
from vedette.notifier import Alert
from vedette.plugins import Registry
from vedette.rules.catalogue import Catalogue
from vedette.rules.model import HeartbeatConfig

REDIS = """
instances: [{name: cache, host: 127.0.0.1}]
alerts:
  - {name: down, when: status(redis/cache) == critical}
  - {name: full, when: redis.mem.used > 1000, notify: [oncall, team]}
"""
AGENT = """
notifiers:
  - {type: webhook, name: oncall, url: "http://127.0.0.1:1/oncall"}
routes:
  - {name: team, match: {severity: critical}, notify: [oncall]}
"""


def loaded(folder: Path, **files: str) -> Configuration:
    for name, text in {"agent": AGENT, **files}.items():
        (folder / f"{name}.yaml").write_text(text)
    return load(folder, Registry(), environ={}, secrets="lazy")


def names(configuration: Configuration) -> list[str]:
    assert configuration.rulebook is not None
    return [rule.name for rule in configuration.rulebook.rules]


def test_a_file_with_an_error_keeps_its_last_good_rules(tmp_path: Path) -> None:
    before = loaded(tmp_path, redis=REDIS, alerts="alerts: [{name: up, when: vedette.agent.up < 1}]")
    after = in_force(before, loaded(tmp_path, redis=REDIS.replace("redis.mem.used", "redis.mem.usd")))
    assert sorted(names(after)) == ["down", "full", "up"]
    after = in_force(before, loaded(tmp_path, redis=REDIS, alerts="alerts: [{name: up}, {name: b, when: no}]"))
    assert sorted(names(after)) == ["down", "full", "up"]
    mended = in_force(after, loaded(tmp_path, alerts="alerts: [{name: other, when: vedette.agent.up < 1}]"))
    assert sorted(names(mended)) == ["down", "full", "other"]


def test_a_reload_says_which_rules_differ(tmp_path: Path) -> None:
    before = loaded(tmp_path, redis=REDIS)
    moved = loaded(tmp_path, redis=f"# a line more\n{REDIS}")
    assert not compare(before, moved)
    after = loaded(tmp_path, redis=REDIS.replace("> 1000", "> 2000").replace("name: down", "name: gone"))
    changed = {change.name: change.what for change in compare(before, after).agent}
    assert changed == {"rule down": ("removed",), "rule full": ("changed",), "rule gone": ("added",)}


def test_a_rule_keeps_no_instance_from_running(tmp_path: Path) -> None:
    configuration = loaded(tmp_path, redis=REDIS.replace("redis.mem.used >", "redis.mem.used ="))
    assert ([one.id for one in configuration.instances], names(configuration)) == (["redis/cache"], ["down"])


def test_notifiers_are_looked_up_by_name(tmp_path: Path) -> None:
    wrong = "heartbeat: {notifier: onkall}"
    configuration = loaded(tmp_path, redis=REDIS.replace("team", "taem"), alerts=wrong)
    assert [str(problem) for problem in configuration.problems] == [
        f"{tmp_path}/alerts.yaml:1: heartbeat.notifier: no notifier is called onkall; did you mean 'oncall'?",
        f"{tmp_path}/redis.yaml:5: alerts[1].notify: no notifier is called taem; did you mean 'team'?",
    ]
    assert names(configuration) == ["down", "full"]  # the log and the status tell of it anyway
    assert loaded(tmp_path, redis=REDIS, alerts="heartbeat: {notifier: team}").problems == ()


def test_what_may_come_from_elsewhere_is_a_warning(tmp_path: Path) -> None:
    rules = "alerts: [{name: fraud, when: sum(business.fraud.blocked_transactions) over 1h > 20}]"
    with_statsd = loaded(tmp_path, statsd="instances: [{listen: '127.0.0.1:0'}]", alerts=rules)
    assert [problem.severity for problem in with_statsd.problems] == ["warning"]
    assert names(with_statsd) == ["fraud"]
    (tmp_path / "statsd.yaml").unlink()
    without = loaded(tmp_path, redis="instances: [{host: 127.0.0.1}]")
    assert [problem.severity for problem in without.problems] == ["error"]


@pytest.mark.parametrize(
    ("when", "means"),
    [
        ("business.hourly.success_rate < 97%", "last(business.hourly.success_rate) < 97"),
        ("sqs.age > 10m", "last(sqs.age) > 600"),
        ("avg(synthetic.pay.response_time) over 5m > 2s", "avg(synthetic.pay.response_time) over 5m > 2000"),
        ("days_left(sqs.age) over 1h < 36h", "days_left(sqs.age) over 1h < 1.5"),
        ("sum(payments.failed) / sum(payments.all) over 5m > 5%",
         "sum(payments.failed) over 5m / sum(payments.all) over 5m > 0.05"),
    ],
)  # fmt: skip
def test_percent_and_time_mean_what_the_metric_is_measured_in(when: str, means: str) -> None:
    book, problems = read(f"alerts: [{{name: x, when: '{when}'}}]")
    assert (str(book.rules[0].when), problems) == (means, [])


def test_a_percentage_of_what_nobody_declares_is_an_error() -> None:
    text = "alerts: [{name: x, when: '%s > 90%%'}]"
    book, problems = read(text % "avg(cache.hits) over 5m", among=open_catalogue())
    assert book.rules == ()
    assert problems[-1] == (
        "alerts.yaml:1: alerts[0].when: nobody says whether avg(cache.hits) over 5m is measured in percent; "
        "write a number: 90 if it is, or 0.9"
    )
    _, problems = read(text % "avg(cache.hits) over 5m", among=Catalogue((), (), complete=False))
    assert problems[-1].endswith("0.9; where a file with an error declares it mend that")
    book, _ = read(text % "sum(cache.hits) / sum(cache.all) over 5m", among=open_catalogue())
    assert [str(rule.when) for rule in book.rules] == ["sum(cache.hits) over 5m / sum(cache.all) over 5m > 0.9"]


def test_a_typo_in_one_file_changes_no_rule_of_another(tmp_path: Path) -> None:
    rules = """
    alerts:
      - {name: full, when: avg(system.cpu.user) over 5m > 90}
      - {name: slow, when: "avg(redis.mem.used) over 5m > 9 and avg(system.cpu.user) over 5m > 9"}
    """
    good = "instances: [{name: me, interval: 30s}]"
    before = loaded(tmp_path, redis=REDIS, host=good, alerts=rules)
    more = REDIS.replace("}]", "}, {name: more, host: 127.0.0.2}]")
    after = in_force(before, loaded(tmp_path, redis=more, host=good.replace("interval", "intervall"), alerts=rules))
    assert before.rulebook is not None
    assert after.rulebook is not None
    old, new = ({rule.name: rule for rule in one.rulebook.rules} for one in (before, after))
    assert [(new[name].when, new[name].kinds) for name in ("full", "slow")] == [
        (old[name].when, old[name].kinds) for name in ("full", "slow")
    ]
    assert new["full"].sources == old["full"].sources
    slow = {one.instance for some in new["slow"].sources.values() for one in some}
    assert slow == {"host/me", "redis/cache", "redis/more"}
    percent = rules.replace("90}", "90%}")
    before = loaded(tmp_path, host=good, alerts=percent)
    after = in_force(before, loaded(tmp_path, host=good.replace("interval", "intervall"), alerts=percent))
    assert after.rulebook is not None
    assert str(after.rulebook.rules[0].when) == "avg(system.cpu.user) over 5m > 90"


@pytest.mark.parametrize("wrong", [REDIS.replace(" 127.0.0.1}", " [127}"), REDIS.replace("host", "hots")])
def test_a_typo_in_one_file_keeps_no_rule_of_another_from_a_start(wrong: str, tmp_path: Path) -> None:
    configuration = loaded(tmp_path, redis=wrong, alerts="alerts: [{name: full, when: redis.mem.peak > 1000}]")
    broken = {problem.file for problem in configuration.problems if problem.severity == "error"}
    assert broken == {f"{tmp_path}/redis.yaml"}
    assert "full" in names(configuration)


def test_a_window_that_is_finer_than_what_is_kept_is_a_warning() -> None:
    rule = "alerts: [{name: x, when: 'change(sum(payments.all) over OVER, 7d) < -30%'}]"
    assert read(rule.replace("OVER", "40m"))[1] == []
    assert read(rule.replace("OVER", "10m"))[1] == [
        "alerts.yaml:1: alerts[0].when: warning: of what came in 7d a point for every 4m 56s is kept, too little for a "
        "window of 10m; make the window 40m long at least, where it runs more often than every 4m 56s"
    ]


def test_what_several_agents_see_in_part_is_a_warning() -> None:
    text = "alerts: [{name: x, when: 'status(*/*) == critical%s'}]"
    _, problems = read(text % "", FLOW, DB)
    assert problems == [
        "alerts.yaml:1: alerts[0].when: warning: its instances may run on different agents of the fleet, and each sees "
        "only its own; group it: `by (instance)`"
    ]
    assert read(text % " by (instance)", FLOW, DB)[1] == []


def test_no_data_in_a_check_s_file_is_about_each_of_its_instances() -> None:
    book, problems = read("alerts: [{name: silent, when: no data for 10m}]", check="synthetic")
    assert problems == []
    assert str(book.rules[0].when) == "no data(synthetic/*) for 10m by (instance)"


def test_a_page_of_groups_is_bounded() -> None:
    stage = Stage("alerts: [{name: old, when: sqs.age > 100 by (queue)}]")
    for place in range(1_005):
        stage.values("sqs/queues", ("sqs.age", Kind.GAUGE, 1.0, f"queue:{place}"))
    assert len(stage.engine.cases) == 1_000
    assert stage.engine.vitals is not None
    assert stage.engine.vitals.left_out == 5
    stage.at(120)  # three intervals later the latest values count no more, and there is room again
    stage.values("sqs/queues", ("sqs.age", Kind.GAUGE, 200.0, "queue:new"))
    assert stage.states == {"old{queue:new}": "firing"}


@pytest.mark.anyio
async def test_the_heartbeat_asks_its_url_and_says_when_it_does_not_arrive(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()

    pulse = Pulse()
    async with listening(serve) as port:
        beat = HeartbeatConfig.model_validate({"url": f"http://127.0.0.1:{port}/s3cr", "every": "1m"})
        for now in (1000.0, 1001.0, 1059.0, 1060.0):
            pulse.beat(beat, None, now)
            assert pulse._sending is not None
            await pulse._sending
        assert asked == [b"GET /s3cr HTTP/1.1\r\n"] * 2
        assert pulse.arrived is True
    pulse.beat(beat, None, 2000.0)
    await pulse._sending
    assert pulse.trouble == "the heartbeat does not arrive (URLError)"
    assert pulse.arrived is False
    assert "s3cr" not in caplog.text


def test_the_heartbeat_tells_a_notifier() -> None:
    told: list[tuple[Alert, tuple[str, ...]]] = []
    beat = HeartbeatConfig(notifier="oncall", every=60.0)
    pulse = Pulse()
    for now in (1000.0, 1030.0, 1060.0):
        pulse.beat(beat, lambda alert, to: told.append((alert, tuple(to))), now)
    assert [(alert.at, alert.severity, to) for alert, to in told] == [
        (1000.0, "info", ("oncall",)),
        (1060.0, "info", ("oncall",)),
    ]
