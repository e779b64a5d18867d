"""`vedette plan`, `doctor` and `bundle` beside checks that would end, stall or talk over them."""

from __future__ import annotations

import json
import signal
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from cli.process import COMMAND, environ, vedette, wait_until
from core.test_isolation import conf, descendants, gone

ROGUES = """
instances:
  - {name: segfaults, how: segfaults, isolate: true}
  - {name: spins, how: spins, isolate: true, timeout: 1s}
  - {name: apart, how: prints, isolate: true}
  - {name: near, how: prints, secret: hunter2secret}
"""
CRASHED = "the child process was killed by SIGSEGV"
SPUN = "timed out after 1s and did not end: the child process was killed"
NOT_ASKED = "not asked: it runs in a child process"


@pytest.fixture
def rogues(tmp_path: Path) -> str:
    """The PYTHONPATH of a folder with rogues and a host."""
    path = conf(tmp_path, ROGUES)
    (tmp_path / "conf.d" / "host.yaml").write_text("instances: [{}]\n")
    return path


def test_plan_says_what_a_child_died_of_and_measures_the_others(tmp_path: Path, rogues: str) -> None:
    done = vedette("plan", "--json", cwd=tmp_path, PYTHONPATH=rogues)
    assert done.returncode == 2, done.stderr
    lines = {line["id"]: line for line in json.loads(done.stdout)["instances"]}
    assert list(lines) == ["host/host", "rogue/segfaults", "rogue/spins", "rogue/apart", "rogue/near"]
    crashed, spun = lines["rogue/segfaults"], lines["rogue/spins"]
    assert (crashed["state"], crashed["message"], crashed["figures"]) == ("failing", CRASHED, None)
    assert crashed["hint"] == "a fault in native code; log: {level: debug} shows where"
    assert (spun["state"], spun["message"], spun["figures"]) == ("failing", SPUN, None)
    assert spun["estimates"] == crashed["estimates"] == []
    assert lines["host/host"]["state"] == "ok"
    assert lines["host/host"]["figures"]["series"] > 20
    apart, near = lines["rogue/apart"], lines["rogue/near"]
    assert apart["figures"] == near["figures"]
    assert (apart["state"], apart["figures"]["series"]) == ("ok", 2)
    assert apart["estimates"] == [{"what": "estimates", "value": None, "unit": "", "hint": NOT_ASKED}]
    assert [estimate["what"] for estimate in near["estimates"]] == ["process"]
    assert done.stderr.count("to descriptor 1\n") == 2, "of the two runs in this process"
    assert done.stderr.count("to stdout xxx") == 2


def test_plan_for_people(tmp_path: Path, rogues: str) -> None:
    done = vedette("plan", "--runs", "4", cwd=tmp_path, PYTHONPATH=rogues)
    assert done.returncode == 2, done.stderr
    assert f"rogue/segfaults: not measured: {CRASHED}\n  hint: a fault in native code" in done.stdout
    assert f"rogue/spins: not measured: {SPUN}\n  hint: log: {{level: debug}} shows where" in done.stdout
    assert f"rogue/apart\n  estimates  -    {NOT_ASKED}\n" in done.stdout
    assert "to descriptor" not in done.stdout
    assert "to stdout" not in done.stdout


def symptoms(done: Any) -> dict[str, list[tuple[str, str, str]]]:
    return {
        case["name"]: [(one["what"], one["grade"], one["seen"]) for one in case["symptoms"]]
        for case in json.loads(done.stdout)
    }


def test_doctor(tmp_path: Path, rogues: str) -> None:
    done = vedette("doctor", "--json", cwd=tmp_path, PYTHONPATH=rogues)
    assert done.returncode == 2, done.stderr
    cases = symptoms(done)
    not_asked = ("diagnosis", "info", NOT_ASKED)
    assert cases["rogue/segfaults"] == [not_asked, ("run", "failed", CRASHED)]
    assert cases["rogue/spins"] == [not_asked, ("run", "failed", SPUN)]
    assert cases["rogue/apart"] == [not_asked, ("run", "ok", "4 samples")]
    assert [what for what, _, _ in cases["rogue/near"]] == ["process", "run"]
    assert cases["rogue/near"][1] == ("run", "ok", "4 samples")
    assert cases["host/host"][-1][:2] == ("run", "ok")


def test_bundle(tmp_path: Path, rogues: str) -> None:
    done = vedette("bundle", "-o", "b.tar.gz", cwd=tmp_path, PYTHONPATH=rogues)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("b.tar.gz: ")
    assert "to descriptor" not in done.stdout
    with tarfile.open(tmp_path / "b.tar.gz") as opened:
        stream = opened.extractfile("vedette-bundle/doctor.txt")
        assert stream is not None
        text = stream.read().decode()
    assert CRASHED in text
    assert SPUN in text
    assert "to descriptor" not in text


@pytest.mark.parametrize("number", ["SIGINT", pytest.param("SIGKILL", marks=pytest.mark.soak)])
def test_a_plan_that_is_interrupted_leaves_no_child(tmp_path: Path, number: str) -> None:
    file = tmp_path / "pid"
    path = conf(
        tmp_path, f"instances: [{{how: forks_and_spins, isolate: true, timeout: 60s, interval: 90s, file: {file}}}]\n"
    )
    with subprocess.Popen([*COMMAND, "plan"], cwd=tmp_path, env=environ(tmp_path / "state", PYTHONPATH=path)) as made:
        wait_until(lambda: file.exists() and file.read_text(), "the run")
        children = descendants(made.pid)
        assert len(children) == 2
        made.send_signal(getattr(signal, number))
        made.wait(20)
    wait_until(lambda: all(map(gone, children)), "their end")
