"""Through rotations and kills of a real agent: no line is lost, and each kill repeats one batch at most."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

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

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.logs = folder / "log"
        self.logs.mkdir()
        self.path = self.logs / "app.log"
        self.written = 0
        self.out = folder / "out.jsonl"
        conf = folder / "conf.d"
        conf.mkdir()
        (conf / "agent.yaml").write_text("sinks: [{type: file, path: ../out.jsonl, max_bytes: 100GB}]\n")
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

    def rows(self) -> Iterator[tuple[int, float]]:
        """The number and the batch's time of each line that the sink has."""
        if self.out.exists():
            for line in self.out.read_bytes().splitlines():
                if b'"kind":"log"' in line:
                    row = json.loads(line)
                    yield int(row["value"].split()[3]), row["time"]

    def has_all(self) -> bool:
        if not self.out.exists():
            return False
        with self.out.open("rb") as file:
            file.seek(max(0, self.out.stat().st_size - 2_000_000))
            return f"line {self.written - 1} ".encode() in file.read()


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
        wait_until(site.has_all, "the first lines")
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
        wait_until(site.has_all, "the last line", 600)
        wait_until(lambda: len({number for number, _ in site.rows()}) == site.written, "all lines", 120)
    finally:
        agent.__exit__()


def check(site: Site, kills: int) -> None:
    seen: dict[int, float] = {}
    repeated: Counter[float] = Counter()
    for number, batch in site.rows():
        if number in seen:
            repeated[seen[number]] += 1
        else:
            seen[number] = batch
    assert sorted(seen) == list(range(site.written))
    assert len(repeated) <= kills, f"{len(repeated)} batches came again after {kills} kills"


def test_no_line_is_lost_and_a_kill_repeats_one_batch(tmp_path: Path) -> None:
    site = Site(tmp_path, 1)
    go(site, "later", lines=20_000, rotations=4, kills=2, pause=0.02)
    check(site, 2)


@pytest.mark.soak
@pytest.mark.parametrize("style", WAYS)
@pytest.mark.parametrize("seed", range(10))
def test_other_orders_of_rotations_and_kills(tmp_path: Path, style: str, seed: int) -> None:
    site = Site(tmp_path, seed)
    go(site, style, lines=20_000, rotations=6, kills=3, pause=0.02)
    check(site, 3)


@pytest.mark.soak
@pytest.mark.parametrize("style", WAYS)
def test_a_million_lines_ten_rotations_ten_kills(tmp_path: Path, style: str) -> None:
    site = Site(tmp_path, 7)
    go(site, style, lines=1_000_000, rotations=10, kills=10, pause=0.5)
    check(site, 10)
