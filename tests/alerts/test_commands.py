"""Rules in a running agent, and the commands about them, as a person uses them."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from cli.process import Running, vedette, wait_until
from cli.test_commands import conf
from servers import free_port
from test_readme import blocks, commands, run, section, write_examples

RULES = """
alerts:
  - name: cache down
    when: status(redis/cache) == critical for 2 of 3 runs
    summary: the cache does not answer
    runbook: https://runbooks.example.com/cache
  - name: host silent
    when: no data(redis/*) for 1h by (instance)
    severity: warning
"""


def listing(folder: Path) -> dict[str, dict[str, Any]]:
    done = vedette("alerts", "--json", cwd=folder)
    return {row["key"]: row for row in json.loads(done.stdout or '{"alerts": []}')["alerts"]}


def state(folder: Path, key: str) -> str:
    return str(listing(folder).get(key, {}).get("state"))


@pytest.mark.soak
def test_an_alert_in_a_running_agent_over_a_restart(tmp_path: Path) -> None:
    port = free_port()
    conf(
        tmp_path,
        agent="sinks: [{type: file, path: out.jsonl}]\ncontrol_socket: c.sock\nreport_interval: 300ms\n"
        "reload: {watch: false}",
        redis=f"instances: [{{name: cache, host: 127.0.0.1, port: {port}, interval: 300ms}}]",
        alerts=RULES,
    )
    with Running(cwd=tmp_path) as agent:
        told = agent.wait_for("firing cache down")
        assert told.endswith("firing cache down: cache down: the cache does not answer")
        _look_at_it(tmp_path, port)
        _quieten(tmp_path)
        assert agent.end(signal.SIGTERM) == 0
    rows = [json.loads(line) for line in (tmp_path / "conf.d" / "out.jsonl").read_text().splitlines()]
    firing = {tuple(row["tags"]): row["value"] for row in rows if row.get("name") == "vedette.alerts.firing"}
    assert firing["severity:critical",] == 1
    with Running(cwd=tmp_path) as agent:
        wait_until(lambda: state(tmp_path, "cache down") == "acknowledged", "where it was left")
        done = vedette("alerts", "end", "cache down", cwd=tmp_path)
        assert done.stdout == "cache down has ended; it fires again if its condition holds at the next run\n"
        agent.wait_for("resolved cache down: cache down: ended by hand")
        agent.wait_for("firing cache down")
        (tmp_path / "conf.d" / "alerts.yaml").write_text("alerts: []")
        assert vedette("reload", cwd=tmp_path).returncode == 0
        agent.wait_for("resolved cache down: cache down: the rule is not in force any more")
        assert agent.end(signal.SIGTERM) == 0
    assert sum(" firing " in line for line in agent.lines) == 1  # once it was ended by hand


def _look_at_it(folder: Path, port: int) -> None:
    listed = vedette("alerts", cwd=folder)
    assert listed.returncode == 2
    assert listed.stdout.splitlines()[1].startswith("cache down ")
    explained = vedette("alerts", "explain", "cache down", cwd=folder).stdout
    assert "when: status(redis/cache) == critical for 2 of 3 runs" in explained
    assert f"error: nothing listens on 127.0.0.1:{port}" in explained
    assert "conf.d/alerts.yaml:3" in explained
    unknown = vedette("alerts", "explain", "cahce down", cwd=folder)
    assert (unknown.returncode, unknown.stderr) == (
        1,
        "vedette: no alert is called 'cahce down'; did you mean 'cache down'?\n",
    )
    status = vedette("status", cwd=folder).stdout
    assert "▲ cache down firing since " in status


def _quieten(folder: Path) -> None:
    done = vedette("silence", "cache *", "--for", "2h", "--comment", "we know", cwd=folder)
    assert done.stdout == "silence 1: nobody is told of cache * for 2h\n"
    assert "silence 1: cache *, until " in vedette("alerts", cwd=folder).stdout
    assert vedette("silence", "--end", "1", cwd=folder).stdout == "silence 1 has ended\n"
    assert vedette("silence", "--end", "1", cwd=folder).returncode == 1
    assert vedette("silence", "cash", cwd=folder).stderr.startswith("vedette: no rule is called 'cash'; ")
    assert vedette("silence", cwd=folder).returncode == 64
    done = vedette("ack", "cache down", cwd=folder)
    assert done.stdout == "cache down is acknowledged: no reminders until it is over\n"
    assert vedette("ack", "host silent", cwd=folder).stderr == "vedette: 'host silent' does not fire\n"
    assert vedette("alerts", "end", "host silent", cwd=folder).stderr == "vedette: 'host silent' does not fire\n"


SUITE = """\
alerts:
  - {name: low, when: "avg(business.success_rate{currency:USD}) over 3m < 97", keep: 2m}
  - {name: flow, when: status(synthetic/pay) == critical for 2 of 3 runs}
series:
  - {metric: business.success_rate, tags: ["currency:USD"], values: 99x5 90x3 99x10}
  - {status: synthetic/pay, values: ok x3 critical x2 ok x5, message: "step pay: 502"}
expect:
  - {at: 4m, firing: [flow]}
  - {at: 7m, firing: [low]}
  - {at: 20m, firing: []}
told: [4m firing flow, 5m firing low, 6m resolved flow, 12m resolved low]
"""


def test_rules_are_tried_over_given_series(tmp_path: Path) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text(SUITE)
    done = vedette("alerts", "test", "suite.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "suite.yaml: ok, 7 expectations\n", "")
    file.write_text(SUITE.replace("at: 7m, firing: [low]", "at: 7m, firing: [flow]"))
    done = vedette("alerts", "test", "suite.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout.splitlines()[:3] == [
        "suite.yaml: at 7m: does not fire: flow",
        "suite.yaml: at 7m: fires and should not: low",
        "suite.yaml: told: 4m firing flow: flow: synthetic/pay is critical: step pay: 502",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "critical x2",
            "critcal x2",
            "suite.yaml:6: series[1]: a status's `values` are ok, warning, critical, unknown ",
        ),
        ("99x5 90x3", "99x5 9O", "suite.yaml:5: series[0].values: "),
        ("expect:", "expects:", "suite.yaml:7: expects: unknown option; did you mean 'expect'?"),
        ("over 3m <", "over 3m", "suite.yaml:2: alerts[0].when: "),
        ("status(synthetic/pay)", "status(synthetic/play)", "suite.yaml:3: alerts[1].when: no instance is called "),
    ],
)
def test_what_is_wrong_in_such_a_file_is_told(old: str, new: str, said: str, tmp_path: Path) -> None:
    from vedette.alerts.replay import replay

    file = tmp_path / "suite.yaml"
    assert old in SUITE
    file.write_text(SUITE.replace(old, new))
    problems = [str(problem) for problem in replay(file, lambda _: None).problems]
    assert len(problems) == 1
    assert problems[0].removeprefix(f"{tmp_path}/").startswith(said), problems


def test_alert_me(tmp_path: Path) -> None:
    """The README's section, done as a reader does it."""
    text = section("Alert me")
    folder = write_examples(text, tmp_path)
    (suite,) = [body for body in blocks(text, "yaml") if body.startswith("# cache-down.yaml")]
    (tmp_path / "cache-down.yaml").write_text(suite)
    validate, test, *rest = commands(text)
    done = run(validate, tmp_path)
    assert (done.returncode, done.stdout) == (0, "conf.d: 1 instance, 1 alert rule, no errors\n"), done.stderr
    done = run(test, tmp_path)
    assert (done.returncode, done.stdout) == (0, "cache-down.yaml: ok, 3 expectations\n"), done.stderr
    (folder / "redis.yaml").write_text((folder / "redis.yaml").read_text().replace("6379", str(free_port())))
    (folder / "agent.yaml").write_text("control_socket: c.sock")
    with Running(cwd=tmp_path) as agent:
        agent.wait_for("firing cache down")
        fires, sees, silences, takes_on = (run(command, tmp_path) for command in rest)
        shown = run("vedette alerts --conf conf.d", tmp_path)
        assert [one.returncode for one in (fires, sees, silences, takes_on, shown)] == [2, 0, 0, 0, 2]
        assert "cache down  firing  critical" in fires.stdout
        assert "when: status(redis/cache) == critical for 2 of 3 runs\n  runbook: https://runbooks" in sees.stdout
        assert silences.stdout == "silence 1: nobody is told of cache* for 2h\n"
        assert takes_on.stdout == "cache down is acknowledged: no reminders until it is over\n"
        assert "cache down  acknowledged (silence 1)  critical" in shown.stdout
        assert agent.end(signal.SIGTERM) == 0
