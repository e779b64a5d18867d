"""The other commands: check, validate, plugins, example, schema; their output, exit status and help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli.process import environ, vedette
from servers import RedisServer, free_port, redis62

ALERTS = ("alerts", "alerts explain", "alerts test", "silence", "ack")
PINNED = Path(__file__).with_name("help.txt")
CHECKS = (
    "business_sql",
    "cloudwatch",
    "datadog_check",
    "dns",
    "exec",
    "host",
    "k8s",
    "log_file",
    "openmetrics",
    "postgres",
    "process",
    "rabbitmq",
    "redis",
    "sqs",
    "statsd",
    "synthetic",
    "tcp",
    "tls",
)
"""All that vedette brings."""


def conf(folder: Path, **files: str) -> None:
    (folder / "conf.d").mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / "conf.d" / f"{name}.yaml").write_text(text)


def test_check_host_without_any_configuration_prints_a_table(tmp_path: Path) -> None:
    done = vedette("check", "host", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "host/host ok"
    row = next(line for line in lines if line.startswith("system.mem.total"))
    total = int(Path("/proc/meminfo").read_text().split()[1]) / 1024
    name, value, unit, kind = row.split()[:4]
    assert (name, unit, kind) == ("system.mem.total", "mebibyte", "gauge")
    assert float(value.replace(",", "")) == pytest.approx(total, rel=0.001)


def test_check_json_is_one_array_of_the_file_sinks_objects(tmp_path: Path) -> None:
    conf(tmp_path, agent="tags: [team:x]", host="instances: [{name: here, tags: [a:b]}]")
    done = vedette("check", "host", "--runs", "2", "--json", cwd=tmp_path)
    rows = json.loads(done.stdout)
    assert done.returncode == 0
    load = [row for row in rows if row["name"] == "system.load.1"]
    assert len(load) == 2
    assert set(load[0]) == {"time", "check", "instance", "host", "name", "kind", "value", "tags"}
    assert load[0]["tags"] == ["a:b", "instance:here", "team:x"]
    assert load[1]["time"] - load[0]["time"] >= 1.0


def test_what_one_run_of_check_commits_the_next_one_sees_and_nothing_is_written(tmp_path: Path) -> None:
    server = RedisServer(redis62(), tmp_path / "redis", slowlog_log_slower_than=0)
    server.start()
    try:
        conf(tmp_path, redis=f"instances: [{{host: 127.0.0.1, port: {server.port}, slowlog: {{}}}}]")
        done = vedette("check", "redis", "--runs", "2", "--json", cwd=tmp_path)
    finally:
        server.stop()
    slow = [row for row in json.loads(done.stdout) if row["name"] == "redis.slowlog.micros"]
    assert len({row["time"] for row in slow}) == 1  # the first run only sets the mark
    assert "command:info" in {tag for row in slow for tag in row["tags"]}
    assert not list(tmp_path.rglob("state.db"))


def test_check_exit_status_follows_what_it_finds(tmp_path: Path) -> None:
    server = RedisServer(redis62(), tmp_path / "redis")
    server.start()
    try:
        conf(
            tmp_path,
            redis=f"defaults: {{host: 127.0.0.1}}\ninstances:\n  - {{name: up, port: {server.port}}}\n"
            f"  - {{name: down, port: {free_port()}}}\n",
        )
        assert vedette("check", "redis", "--instance", "up", cwd=tmp_path).returncode == 0
        both = vedette("check", "redis", cwd=tmp_path)
        assert both.returncode == 2
        assert "redis/up ok" in both.stdout
        assert "redis/down failing: " in both.stdout
        assert "Traceback" not in both.stdout + both.stderr
        unknown = vedette("check", "redis", "--instance", "sideways", cwd=tmp_path)
        assert (unknown.returncode, unknown.stderr) == (3, "redis has no valid instance 'sideways'; it has: up, down\n")
    finally:
        server.stop()


def test_check_reads_state_and_never_writes_it(tmp_path: Path) -> None:
    vedette("check", "host", cwd=tmp_path)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("check", "reddis"), 3, "vedette: no check is called 'reddis'; did you mean 'redis'?"),
        (
            ("example", "prometeus"),
            3,
            "vedette: no check, sink, notifier, discovery or engine is called 'prometeus'; did you mean 'prometheus'?",
        ),
        (
            ("schema", "zzz"),
            3,
            "vedette: no check, sink, notifier, discovery or engine is called 'zzz'; "
            "`vedette plugins` lists what is installed",
        ),
        (("run", "--for", "soon"), 64, "vedette run: --for must be a duration such as 500ms, 15s, 5m, 1h or 1d"),
        (
            ("validate", "--conf", "nowhere"),
            3,
            "nowhere: this folder does not exist; --conf DIR names the folder with the YAML files",
        ),
    ],
)
def test_mistakes_on_the_command_line(tmp_path: Path, arguments: tuple[str, ...], status: int, said: str) -> None:
    done = vedette(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr.strip(), done.stdout) == (status, said, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check",), "vedette check: the following arguments are required: NAME"),
        (("check", "redis", "--runs", "0"), "vedette check: argument --runs: must be a whole number above 0"),
    ],
)
def test_a_wrong_command_line_is_not_taken_for_a_critical_check(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = vedette(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (64, said)


def test_output_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    command = f"{sys.executable} -m vedette example redis > /dev/full"
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env=environ(tmp_path), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "vedette: No space left on device\n")


def test_a_piped_table_folds_nothing(tmp_path: Path) -> None:
    tags = ", ".join(f"a{n}:{'x' * 30}" for n in range(9))
    conf(tmp_path, host=f"instances: [{{tags: [{tags}]}}]")
    lines = vedette("check", "host", cwd=tmp_path, COLUMNS="80").stdout.splitlines()
    total = next(line for line in lines if line.startswith("system.mem.total"))
    assert total.split()[2:4] == ["mebibyte", "gauge"]
    assert len(lines) == sum(line.startswith(("system.", "health_check.", "●")) for line in lines) + 4


def test_validate_needs_no_network_and_warns_of_unset_secrets(tmp_path: Path) -> None:
    conf(tmp_path, redis='instances: [{host: no.such.host.invalid, password: "${env:NOT_SET_HERE}"}]')
    lazy = vedette("validate", cwd=tmp_path)
    assert lazy.returncode == 0
    assert lazy.stderr.startswith(
        "conf.d/redis.yaml:1: instances[0].password: warning: environment variable NOT_SET_HERE"
    )
    strict = vedette("validate", "--secrets", cwd=tmp_path)
    assert strict.returncode == 3
    good = vedette("validate", "--secrets", cwd=tmp_path, NOT_SET_HERE="hunter2secret")
    assert (good.returncode, good.stdout, good.stderr) == (0, "conf.d: 1 instance, no errors\n", "")


def test_plugins_lists_what_is_installed(tmp_path: Path) -> None:
    done = vedette("plugins", cwd=tmp_path)
    rows = [line.split()[:4] for line in done.stdout.splitlines()[1:] if not line.startswith(" ")]
    expected = [("check", name) for name in CHECKS]
    expected += [("sink", name) for name in ("console", "datadog", "dogstatsd", "file", "prometheus")]
    expected += [("discovery", "k8s")]
    expected += [("engine", "kubernetes"), ("engine", "redis")]
    notifiers = ("alertmanager", "email", "pagerduty", "slack", "sns", "webhook")
    expected += [("notifier", name) for name in notifiers]
    expected += [("secret", name) for name in ("aws-iam", "aws-sm", "aws-ssm")]
    assert [(row[0], row[1]) for row in rows if row[2] == "vedette"] == expected


@pytest.mark.parametrize("name", CHECKS)
def test_the_example_file_is_valid_as_printed(tmp_path: Path, name: str) -> None:
    conf(tmp_path, **{name: vedette("example", name, cwd=tmp_path).stdout})
    done = vedette("validate", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "conf.d: 1 instance, no errors\n"), done.stderr


def test_the_schema_is_json(tmp_path: Path) -> None:
    schema = json.loads(vedette("schema", "redis", cwd=tmp_path).stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_help_texts_are_pinned(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """To accept a change of wording: delete tests/cli/help.txt, run this test, read the file."""
    commands = ("", "run", "check", "validate", "plan", "doctor", "bundle", "notify", "plugins", "example", "schema")
    commands = (*commands, *ALERTS, "datadog", "datadog sync", "datadog export", "datadog list")
    texts = [vedette(*command.split(), "--help", cwd=tmp_path, COLUMNS="100").stdout for command in commands]
    text = f"{'-' * 80}\n".join(texts)
    if not PINNED.exists():
        PINNED.write_text(text)
        pytest.fail("help.txt was missing and has been written: read it and run again")
    assert text == PINNED.read_text()


def test_a_reader_that_leaves_early_sees_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m vedette example redis | head -n 1",
        shell=True,
        cwd=tmp_path,
        env=environ(tmp_path / "state"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.startswith("##")
