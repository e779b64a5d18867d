"""Through rotations and kills of a real agent: no line is lost, and each kill repeats one batch at most."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from checks.log_file.receivers import RECEIVERS, Receiver
from cli.process import Running, wait_until

pytestmark = pytest.mark.skipif(
    shutil.which("logrotate") is None, reason="there is no logrotate: apt install logrotate"
)

WAYS = {
    "plain": ["create", "copytruncate"],
    "later": ["create\n compress\n delaycompress", "copytruncate\n compress\n delaycompress"],
    "packed": ["create\n compress", "copytruncate\n compress"],
}
"""How logrotate does it by turns. Compressed and other files beside each other confuse it, and it loses some."""


class Site:
    """A service that writes numbered lines, its logrotate, and an agent that follows it."""

    def __init__(self, folder: Path, seed: int, there: Receiver) -> None:
        self.folder = folder
        self.there = there
        self.random = random.Random(seed)
        self.logs = folder / "log"
        self.logs.mkdir()
        self.path = self.logs / "app.log"
        self.written = 0
        conf = folder / "conf.d"
        conf.mkdir()
        (conf / "agent.yaml").write_text(f"sinks: [{{{there.options}}}]\n")
        (conf / "log_file.yaml").write_text(
            f"instances: [{{name: app, paths: ['{self.path}'], start_position: beginning, poll: 50ms, discover: 1s}}]\n"
        )
        self.file = self.path.open("a")

    def write(self, lines: int) -> None:
        """Some lines; the last one may be left without its end for a while."""
        for number in range(self.written, self.written + lines):
            self.file.write(f"2026-10-05T12:00:00.000Z INFO line {number} {'x' * self.random.randrange(120)}\n")
        self.written += lines
        self.file.flush()

    def write_half(self) -> None:
        """Half a line: what comes next is its other half."""
        self.file.write(f"2026-10-05T12:00:00.000Z INFO line {self.written} ")
        self.file.flush()
        self.file.write("and its end\n")
        self.written += 1

    def rotate(self, way: str) -> None:
        """Have logrotate do it. While it copies nothing is written: it would be lost between copy and truncation."""
        self.file.flush()
        conf = self.folder / "logrotate.conf"
        conf.write_text(f"{self.path} {{\n rotate 100\n su root root\n {way}\n}}\n")
        conf.chmod(0o644)
        done = subprocess.run(
            ["logrotate", "--force", "--state", self.folder / "logrotate.state", conf], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        if "truncate" not in way:
            self.file.close()
            self.file = self.path.open("a")


def go(site: Site, style: str, lines: int, rotations: int, kills: int, pause: float) -> None:
    """Write, rotate and kill by turns, in an order by chance."""
    turns = ["rotate"] * rotations + ["kill"] * kills
    site.random.shuffle(turns)
    each = lines // (len(turns) + 1)
    agent = Running(cwd=site.folder)
    ways = list(WAYS[style])
    try:
        agent.wait_for("instances, 1 sinks")
        site.write(10)
        wait_until(lambda: site.there.has(site.written - 1), "the first lines")
        for turn in turns:
            for _ in range(10):
                site.write(each // 10)
                site.write_half()
                time.sleep(site.random.random() * pause)  # the agent gets its turn, or does not
            if turn == "rotate":
                site.rotate(ways.pop(0))
                ways = ways or list(WAYS[style])
            else:
                agent.process.kill()
                agent.end()
                agent = Running(cwd=site.folder)
        site.write(lines - site.written)
        site.file.close()
        wait_until(lambda: site.there.has(site.written - 1), "the last line", 600)
        wait_until(lambda: site.there.has_all(site.written), "all lines", 300)
    finally:
        agent.__exit__()


def ship(
    folder: Path, receiver: str, style: str, seed: int, lines: int, rotations: int, kills: int, pause: float
) -> None:
    with RECEIVERS[receiver](folder) as there:
        site = Site(folder, seed, there)
        go(site, style, lines, rotations, kills, pause)
        there.check(site.written, kills)


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_no_line_is_lost_and_a_kill_repeats_one_batch(tmp_path: Path, receiver: str) -> None:
    ship(tmp_path, receiver, "later", 1, 10_000, rotations=2, kills=1, pause=0.02)


@pytest.mark.soak
@pytest.mark.parametrize("receiver", RECEIVERS)
@pytest.mark.parametrize("style", WAYS)
@pytest.mark.parametrize("seed", range(10))
def test_other_orders_of_rotations_and_kills(tmp_path: Path, receiver: str, style: str, seed: int) -> None:
    ship(tmp_path, receiver, style, seed, 20_000, rotations=6, kills=3, pause=0.02)


@pytest.mark.soak
@pytest.mark.parametrize("receiver", RECEIVERS)
@pytest.mark.parametrize("style", WAYS)
def test_a_million_lines_ten_rotations_ten_kills(tmp_path: Path, receiver: str, style: str) -> None:
    ship(tmp_path, receiver, style, 7, 1_000_000, rotations=10, kills=10, pause=0.5)
