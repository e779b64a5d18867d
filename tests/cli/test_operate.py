"""status, reload, run-now, mute and unmute against a running agent, as a person uses them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cli.process import Running, vedette, wait_until
from cli.test_commands import conf
from servers import free_port


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of an agent with a host, a Redis that is down on a slow rhythm, and a mistake."""
    folder = tmp_path_factory.mktemp("a")
    down = f"{{name: cache, host: 127.0.0.1, port: {free_port()}, interval: 1h}}"
    conf(
        folder,
        agent="sinks: [{type: file, path: out.jsonl}]\ncontrol_socket: c.sock\nhttp: {listen: '127.0.0.1:0'}",
        host="instances: [{interval: 200ms, timeout: 30s}]",
        redis=f"instances: [{down}, {{name: wrong, prot: 1}}]",
    )
    with Running(cwd=folder) as running:
        url = running.wait_for("serving http").rpartition(" ")[2]
        (folder / "url").write_text(url)
        wait_until(lambda: len(found := rows(folder)) == 2 and all(row["runs"] for row in found.values()), "first runs")
        yield folder
        assert running.end(signal.SIGTERM) == 0
    assert not (folder / "conf.d" / "c.sock").exists()


def rows(folder: Path) -> dict[str, dict[str, object]]:
    done = vedette("status", "--json", cwd=folder)
    return {row["instance"]: row for row in json.loads(done.stdout or '{"instances": []}')["instances"]}


def test_status_says_what_is_wrong_first(agent: Path) -> None:
    done = vedette("status", cwd=agent)
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert lines[0].startswith("1 failing: 2 instances on ")
    assert lines[2].startswith("● redis/cache failing since ")
    assert lines[3].startswith("  nothing listens on 127.0.0.1:")
    assert lines[4].startswith("  hint: ")
    assert any(line.startswith("host/host") and " ok " in line for line in lines)
    assert any(line.startswith("file ") for line in lines)
    assert lines[-1] == "conf.d/redis.yaml:1: instances[1].prot: unknown option; did you mean 'port'?"


def test_status_of_one_instance(agent: Path) -> None:
    done = vedette("status", "cache", cwd=agent)
    assert (done.returncode, done.stdout.splitlines()[0].partition(":")[0]) == (2, "redis/cache failing")
    assert "conf.d/redis.yaml:1" in done.stdout
    unknown = vedette("status", "cahce", cwd=agent)
    assert (unknown.returncode, unknown.stderr) == (
        1,
        "vedette: no instance is called 'cahce'; did you mean 'cache'?\n",
    )


def test_the_page_shows_the_same(agent: Path) -> None:
    text = httpx.get((agent / "url").read_text(), trust_env=False, timeout=40).text
    assert "1 of 2 instances failing" in text
    assert text.index("nothing listens") < text.index("<table>")


def test_run_now_runs_once_and_leaves_the_rhythm(agent: Path) -> None:
    before = rows(agent)["redis/cache"]
    done = vedette("run-now", "cache", cwd=agent)
    assert (done.returncode, done.stdout) == (0, "redis/cache runs now\n")
    after = wait_until(lambda: (row := rows(agent)["redis/cache"])["runs"] != before["runs"] and row, "the run")
    assert after["runs"] == before["runs"] + 1  # type: ignore[operator]
    assert after["next_run"] == before["next_run"]
    assert after["skipped"] == 0


def test_mute_and_unmute(agent: Path) -> None:
    done = vedette("mute", "cache", "--for", "5m", cwd=agent)
    assert (done.returncode, done.stdout) == (0, "redis/cache is muted for 5m\n")
    quiet = vedette("status", cwd=agent)
    assert quiet.returncode == 1  # the mistake in redis.yaml is left
    assert "●" not in quiet.stdout
    assert vedette("unmute", "cache", cwd=agent).stdout == "redis/cache is not muted\n"
    assert vedette("status", cwd=agent).returncode == 2
    wrong = vedette("mute", "cache", "--for", "soon", cwd=agent)
    assert (wrong.returncode, wrong.stderr.startswith("vedette mute: --for must be a duration")) == (64, True)


def test_reload_says_what_it_did(agent: Path) -> None:
    for arguments in (("reload", "--check"), ("reload",)):
        done = vedette(*arguments, cwd=agent)
        assert done.stdout == "+0 ~0 -0 =2\n"
        assert (done.returncode, "instances[1].prot: unknown option" in done.stderr) == (3, True)


@pytest.mark.parametrize("command", ["status", "reload", "run-now x", "mute x", "unmute x"])
def test_without_an_agent_one_line_says_so(command: str, tmp_path: Path) -> None:
    done = vedette(*command.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"vedette: no agent is running here ({tmp_path}/state/control.sock: no such file")
    assert done.stderr.count("\n") == 1
