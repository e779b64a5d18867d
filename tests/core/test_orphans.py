"""Ended processes that others left to the agent as process 1; a real process adopts real ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

ADOPTS = """
import ctypes, os, pathlib, signal, subprocess, time
from vedette.orphans import Orphans
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER: as process 1 is by itself
def state(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "gone"
def ended(pid):
    until = time.monotonic() + 30
    while state(pid) != "Z":
        assert time.monotonic() < until, state(pid)
        time.sleep(0.005)
orphans = Orphans()
assert orphans.look() == 0
def left(program):
    program = ["sh", "-c", f"{program} & exec echo $!"]  # exec: this shell waits for nothing
    return int(subprocess.run(program, stdout=subprocess.PIPE, text=True).stdout)
dead, alive = left("(exit 3)"), left("sleep 60 >&-")
own = subprocess.Popen(["sh", "-c", "exit 7"])
ended(dead); ended(own.pid)
print(orphans.look(), state(dead), own.wait())
late = subprocess.Popen(["sh", "-c", "exit 8"])
ended(late.pid)
print(orphans.look(), state(dead), state(late.pid), late.wait(), state(alive) in "SRD")
os.kill(alive, signal.SIGKILL); ended(alive)
print(orphans.look(), orphans.look(), state(alive), orphans.look())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="process 1 of a container is Linux's")
def test_what_nobody_waits_for_is_taken_in_at_the_second_look() -> None:
    done = subprocess.run([sys.executable, "-c", ADOPTS], capture_output=True, text=True, check=False, timeout=120)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["0 Z 7", "1 gone Z 8 True", "0 1 gone 0"]
