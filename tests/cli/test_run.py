"""`vedette run` as a process: signals, state lock, a target that dies and returns, nothing left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cli.plugin import install
from cli.process import Running, environ, vedette, wait_until
from servers import RedisServer, free_port, redis62


def write(folder: Path, **files: str) -> Path:
    conf = folder / "conf.d"
    conf.mkdir(exist_ok=True)
    for name, text in files.items():
        (conf / f"{name}.yaml").write_text(text)
    return conf


def samples(path: Path) -> list[dict[str, Any]]:
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]  # the last one may be half written


FILE_SINK = "sinks: [{type: file, path: ../out.jsonl}]\n"


def test_once_runs_every_instance_one_time_flushes_and_ends(tmp_path: Path) -> None:
    write(tmp_path, agent=FILE_SINK + "hostname: node-7\ntags: [team:payments]\n", host="instances: [{interval: 1h}]")
    done = vedette(
        "run", "--once", cwd=tmp_path, ENVIRONMENT="staging", DD_SERVICE="pay", DD_VERSION="9", APP_VERSION="8"
    )
    assert (done.returncode, done.stdout) == (0, "")
    rows = samples(tmp_path / "out.jsonl")
    status = [row for row in rows if row["name"] == "health_check.status"]
    assert [(row["value"], row["kind"], row["check"], row["instance"], row["host"]) for row in status] == [
        (1, "gauge", "host", "host", "node-7")
    ]
    assert status[0]["tags"] == [
        "check:host",
        "environment:staging",
        "instance:host",
        "service:pay",
        "team:payments",
        "version:8",
    ]
    assert [row["value"] for row in rows if row["name"] == "health_check.overall"] == [1]
    uptime = next(row for row in rows if row["name"] == "system.uptime")
    assert uptime["value"] == pytest.approx(float(Path("/proc/uptime").read_text().split()[0]), abs=30)


def test_sigterm_stops_with_a_flush_and_exit_0(tmp_path: Path) -> None:
    write(tmp_path, agent=FILE_SINK, host="instances: [{interval: 1s}]")
    with Running(cwd=tmp_path) as agent:
        agent.wait_for("1 instances, 1 sinks")
        wait_until(lambda: len(samples(tmp_path / "out.jsonl")) > 5, "the first samples")
        begun = time.monotonic()
        assert agent.end(signal.SIGTERM) == 0
        assert time.monotonic() - begun < 15
    rows = samples(tmp_path / "out.jsonl")
    assert rows[-1]["instance"] == "agent"  # the last report went out after the last run
    assert agent.lines[-1].endswith("SIGTERM: stopping")


def misbehaving(folder: Path, how: str) -> Running:
    """An agent one of whose instances misbehaves and has begun to."""
    options = f"instances: [{{how: {how}, touch: ../begun, interval: 1s, timeout: 500ms}}]"
    write(folder, agent=FILE_SINK, misbehaves=options, host="instances: [{interval: 500ms, timeout: 30s}]")
    agent = Running(cwd=folder, PYTHONPATH=install(folder))
    wait_until((folder / "begun").exists, "the first run")
    return agent


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with misbehaving(tmp_path, "swallows") as agent:
        agent.process.send_signal(signal.SIGTERM)
        agent.wait_for("SIGTERM: stopping")
        assert agent.end(signal.SIGTERM) == 130


@pytest.mark.parametrize("how", ["swallows", "thread"])
def test_a_run_that_cannot_be_ended_does_not_hold_up_the_stop(tmp_path: Path, how: str) -> None:
    with misbehaving(tmp_path, how) as agent:
        wait_until(lambda: any("host" in row["instance"] for row in samples(tmp_path / "out.jsonl")), "the host check")
        begun = time.monotonic()
        assert agent.end(signal.SIGTERM) == 0
        assert time.monotonic() - begun < 20
    if how == "swallows":
        assert "left behind, still running: misbehaves/misbehaves" in agent.lines[-1]


@pytest.mark.parametrize(
    "how", ["swallows", *(pytest.param(how, marks=pytest.mark.soak) for how in ("thread", "exits", "raises"))]
)
def test_a_misbehaving_check_hurts_no_other_instance(tmp_path: Path, how: str) -> None:
    out = tmp_path / "out.jsonl"
    with misbehaving(tmp_path, how) as agent:
        agent.wait_for("misbehaves/misbehaves: ")
        begun = time.time()
        wait_until(lambda: len(by_instance(samples(out), "system.load.1", begun).get("host", [])) > 4, "the host check")
        status = by_instance(samples(out), "health_check.status")
        agent.process.kill()
        agent.end()
    assert set(status["misbehaves"]) == {0}
    assert set(status["host"]) == {1}
    assert "hunter2secret" not in "\n".join(agent.lines)
    assert "Traceback" not in "\n".join(agent.lines)


def test_a_second_agent_on_the_same_state_is_refused(tmp_path: Path) -> None:
    write(tmp_path, agent=FILE_SINK, host="instances: [{interval: 1h}]")
    with Running(cwd=tmp_path) as agent:
        agent.wait_for("1 instances")
        second = vedette("run", "--once", cwd=tmp_path)
        assert second.returncode == 1
        assert f"another vedette agent (process {agent.process.pid}) uses {tmp_path}/state" in second.stderr
        assert vedette("check", "host", "--json", cwd=tmp_path).returncode == 0
        agent.end(signal.SIGTERM)
    assert vedette("run", "--once", cwd=tmp_path).returncode == 0


def test_sigkill_leaves_no_lock_behind(tmp_path: Path) -> None:
    write(tmp_path, agent=FILE_SINK, host="instances: [{interval: 1h}]")
    with Running(cwd=tmp_path) as agent:
        agent.wait_for("1 instances")
        agent.end(signal.SIGKILL)
    assert vedette("run", "--once", cwd=tmp_path).returncode == 0


def test_a_secret_that_is_not_there_yet_is_no_broken_configuration(tmp_path: Path) -> None:
    secret = tmp_path / "late"
    write(tmp_path, agent=FILE_SINK, redis=f"instances: [{{password: '${{file:{secret}}}'}}]")
    done = vedette("run", cwd=tmp_path)
    assert done.returncode == 75
    assert str(secret) in done.stderr
    assert done.stderr.endswith("no valid instance to run before those files can be read\n")
    assert vedette("run", "--once", cwd=tmp_path).returncode == 3
    write(tmp_path, agent=f"tags: ['${{file:{secret}}}']", host="instances: [{}]")
    assert vedette("run", cwd=tmp_path).returncode == 75
    secret.write_text("team:a")
    write(tmp_path, agent="snks: []")
    assert vedette("run", cwd=tmp_path).returncode == 3


def test_good_instances_run_beside_bad_files_and_nothing_valid_is_exit_3(tmp_path: Path) -> None:
    write(tmp_path, agent=FILE_SINK, host="instances: [{interval: 1h}]", redis="instances: [{prot: 6379}]")
    done = vedette("run", "--once", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == "conf.d/redis.yaml:1: instances[0].prot: unknown option; did you mean 'port'?"
    (tmp_path / "conf.d" / "host.yaml").unlink()
    assert vedette("run", "--once", cwd=tmp_path).returncode == 3
    write(tmp_path, agent="snks: []", host="instances: [{}]")
    broken = vedette("run", "--once", cwd=tmp_path)
    assert (broken.returncode, broken.stderr.splitlines()[0]) == (
        3,
        "conf.d/agent.yaml:1: snks: unknown option; did you mean 'sinks'?",
    )


def test_the_log_as_json_is_one_object_a_line(tmp_path: Path) -> None:
    write(
        tmp_path,
        agent=FILE_SINK,
        redis=f"instances: [{{host: 127.0.0.1, port: {free_port()}, password: hunter2secret}}]",
    )
    done = vedette("run", "--once", "--log-format", "json", cwd=tmp_path)
    rows = [json.loads(line) for line in done.stderr.splitlines()]
    failing = [row for row in rows if row["level"] == "error"]
    assert [row["instance"] for row in failing] == ["redis/redis"]
    assert failing[0]["message"].startswith("failing: ")
    assert "nothing listens on 127.0.0.1:" in failing[0]["message"]
    assert "hunter2secret" not in done.stderr


def test_run_imports_nothing_that_is_not_configured(tmp_path: Path) -> None:
    write(tmp_path, agent=FILE_SINK, host="instances: [{interval: 1h}]")
    script = (
        "import sys; from vedette.cli import main; status = main(['run', '--once']);"
        "print(status, sorted({'redis', 'rich', 'datadog', 'prometheus_client', 'requests', 'httpx', 'vedette.render',"
        "'vedette_checks.redis'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environ(tmp_path / "state"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0 []\n"


def by_instance(rows: list[dict[str, Any]], name: str, since: float = 0.0) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in rows:
        if row["name"] == name and row["time"] >= since:
            found.setdefault(row["instance"], []).append(row["value"])
    return found


@pytest.mark.slow
def test_a_killed_redis_is_a_finding_of_its_own_instances_only(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(redis62(), folder)
    server.start()
    out = tmp_path / "out.jsonl"
    redis = "defaults: {host: 127.0.0.1, port: PORT, interval: 500ms, timeout: 30s}\ninstances: [{name: a}, {name: b}]"
    sinks = f"sinks: [{{type: file, path: ../out.jsonl}}, {{type: dogstatsd, host: 127.0.0.1, port: {free_port()}}}]\n"
    write(
        tmp_path,
        agent="report_interval: 1s\n" + sinks,
        redis=redis.replace("PORT", str(server.port)),
        host="instances: [{interval: 500ms, timeout: 30s}]",
    )

    def health(since: float) -> dict[str, list[Any]]:
        return by_instance(samples(out), "health_check.status", since)

    try:
        with Running(cwd=tmp_path) as agent:
            wait_until(lambda: {k: v[-1] for k, v in health(0).items()} == {"a": 1, "b": 1, "host": 1}, "all healthy")
            server.kill()
            killed = time.time()
            wait_until(lambda: all(0 in health(killed).get(name, []) for name in "ab"), "both critical")
            wait_until(lambda: len(health(killed)["a"]) >= 4, "some more runs while it is down")
            rows = [row for row in samples(out) if row["name"] == "redis.can_connect" and row["time"] > killed]
            assert rows[-1]["status"] == "critical"
            assert "nothing listens on" in rows[-1]["message"]
            server.start()
            back = time.time()
            wait_until(lambda: all(health(back).get(name) for name in "ab"), "both to have run again")
            assert {name: health(back)[name][0] for name in "ab"} == {"a": 1, "b": 1}  # the first run after its return
            runs = {name: len(values) for name, values in health(killed).items()}
            assert abs(runs["a"] - runs["host"]) <= 2  # neither ran less often: the host not, and those that failed not
            assert agent.end(signal.SIGTERM) == 0
    finally:
        server.stop()
    rows = samples(out)
    assert set(by_instance(rows, "health_check.status")["host"]) == {1}
    overall = by_instance(rows, "health_check.overall")["agent"]
    assert {0, 1} <= set(overall)
    logged = [line for line in agent.lines if "redis/a:" in line]
    assert [word for line in logged for word in ("failing", "recovered") if word in line] == ["failing", "recovered"]


def test_a_stopped_agent_leaves_no_file_but_its_state(tmp_path: Path) -> None:
    write(tmp_path, agent=FILE_SINK, host="instances: [{interval: 1s}]")
    with Running(cwd=tmp_path) as agent:
        wait_until(lambda: samples(tmp_path / "out.jsonl"), "the first samples")
        agent.end(signal.SIGINT)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["conf.d/agent.yaml", "conf.d/host.yaml", "out.jsonl", "state/agent.lock"]
    assert not Path(f"/proc/{agent.process.pid}").exists()


def test_sighup_and_a_dropped_file_reload_and_the_log_says_what_changed(tmp_path: Path) -> None:
    write(tmp_path, agent=f"reload: {{settle: 100ms}}\n{FILE_SINK}", host="instances: [{interval: 1s}]\n")
    with Running(cwd=tmp_path) as agent:
        agent.wait_for("1 instances, 1 sinks")
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for("configuration read again: nothing to change")
        write(tmp_path, second="check: host\ninstances: [{name: two, interval: 1s}]\n")
        agent.wait_for("configuration reloaded: +1 ~0 -0 =1")
        write(tmp_path, second="check: host\ninstances: [{name: two, intervall: 1s}]\n")
        agent.wait_for("conf.d/second.yaml:2: instances[0].intervall: unknown option; did you mean 'interval'?")
        write(tmp_path, second="check: host\ninstances: [{name: two, interval: 2s}]\n")
        agent.wait_for("conf.d/second.yaml: mended")
        agent.wait_for("configuration reloaded: +0 ~1 (interval 1s → 2s) -0 =1")
        (tmp_path / "conf.d" / "second.yaml").unlink()
        agent.wait_for("configuration reloaded: +0 ~0 -1 =1")
        assert agent.end(signal.SIGTERM) == 0
