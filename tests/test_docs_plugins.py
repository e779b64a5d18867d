"""docs/plugins.md, read as its reader would: each block is a file or a command, in the order of the page."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PAGE = Path(__file__).parents[1] / "docs" / "plugins.md"
_BLOCK = re.compile(r"^```(?P<language>\w*)(?: (?P<file>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_EXIT = {"vedette check queue_depth --json": 2}
"""Commands that do not end with 0."""


@dataclass
class Reader:
    """Somebody who types the page into a terminal, in a fresh environment of their own.

    It has what the page installs and nothing else. Two things are done in another way, since tests never leave the
    machine: what `pip install` would fetch is linked from this environment, with all that it requires, and what it
    would build is built by this environment's pip.

    Attributes:
        folder: where they work.
        home: their environment, once there is one.
        active: whether their shell uses it.
        ran: the commands so far.
    """

    folder: Path
    home: Path = Path()
    active: bool = False
    ran: list[str] = field(default_factory=list)

    @property
    def bin(self) -> Path:
        """The environment's programs."""
        assert self.active, "the page has activated no environment yet"
        return self.home / "bin"

    @property
    def packages(self) -> Path:
        """The environment's packages."""
        (packages,) = self.home.glob("lib/python*/site-packages")
        return packages

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(self, command: str) -> str:
        self.ran.append(command)
        words = shlex.split(command)
        if words[0] == "cd":
            self.folder = self.folder / words[1]
        elif words[:3] == ["python3", "-m", "venv"]:
            self.home = self.folder / words[3]
            venv.create(self.home, symlinks=True)
        elif words == [".", f"{self.home.name}/bin/activate"]:
            self.active = True
        elif words[:2] == ["pip", "install"]:
            self._install(words[2:])
        else:
            return self._program(command, words)
        return ""

    def _install(self, words: list[str]) -> None:
        assert self.active, "pip would install into the machine's own Python"
        if "." in words:
            options = "--quiet --no-index --no-deps --no-build-isolation --disable-pip-version-check --prefix"
            command = [sys.executable, "-m", "pip", "install", *options.split(), str(self.home), *words]
            done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0, done.stderr
            return
        for dist in required(words):
            for name in {file.parts[0] for file in dist.files or () if file.parts[0] not in ("..", "__pycache__")}:
                link = self.packages / name
                if not link.exists():
                    link.symlink_to(Path(str(dist.locate_file(name))))

    def _program(self, command: str, words: list[str]) -> str:
        if words[0] == "vedette":
            words = [str(self.bin / "python"), "-m", *words]
        elif words[0] == "python":
            words = [str(self.bin / "python"), *words[1:], "-p", "no:cacheprovider", "-W", "error"]
        ours = ("DD_", "PYTEST", "ENVIRONMENT", "APP_VERSION", "STATE_DIRECTORY", "VEDETTE", "COV")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        environment |= {"XDG_STATE_HOME": str(self.folder / "state"), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            words, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == _EXIT.get(command, 0), f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout


def required(words: list[str]) -> list[Distribution]:
    """The installed packages that `pip install` of these words would bring, with all that they require."""
    waiting = [Requirement(word) for word in words]
    seen: dict[tuple[str, str], Distribution] = {}
    while waiting:
        want = waiting.pop()
        for extra in ("", *want.extras):
            if (want.name.lower(), extra) not in seen:
                dist = seen[want.name.lower(), extra] = distribution(want.name)
                every = map(Requirement, dist.requires or ())
                waiting += [one for one in every if one.marker is None or one.marker.evaluate({"extra": extra})]
    return list(seen.values())


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """They begin in an empty folder."""
    return Reader(tmp_path)


def blocks() -> list[re.Match[str]]:
    return list(_BLOCK.finditer(PAGE.read_text(encoding="utf-8")))


def steps(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output that the page shows for it."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [(command, output) for command, _, output in (part.partition("\n") for part in parts)]


def matches(shown: str, real: str) -> bool:
    """Whether the output is as shown, where `...` stands for anything."""
    pattern = ".*".join(re.escape(piece) for piece in shown.split("..."))
    return re.fullmatch(pattern, real, re.DOTALL) is not None


@pytest.mark.slow
def test_the_page_works_as_written(reader: Reader) -> None:
    for block in blocks():
        if block["file"]:
            reader.write(block["file"], block["text"])
        elif block["language"] == "console":
            for command, shown in steps(block["text"]):
                real = reader.run(command)
                assert not shown or matches(shown, real), f"$ {command}\n{real}\nis not as shown:\n{shown}"
    tests = [command for command in reader.ran if "-m pytest" in command]
    assert not (reader.packages / "asyncpg").exists(), "more than the page installs"
    assert tests == ["python -m pytest test_queue_depth.py", "python -m pytest"]
    assert len(reader.ran) == 13
    module = subprocess.run(
        [reader.bin / "python", "-c", "import vedette_queue_depth as m; print(m.__file__)"],
        cwd=reader.bin,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(module.stdout.strip()).is_relative_to(reader.bin.parent), "not what pip installed"


def test_every_block_is_a_file_or_a_command() -> None:
    idle = [block["text"] for block in blocks() if not block["file"] and block["language"] != "console"]
    assert len(idle) == 1, "only the folder tree is neither"
    tree = {line.split()[-1] for line in idle[0].splitlines()[1:]}
    written = {block["file"] for block in blocks() if block["file"]}
    assert tree <= written
    assert len(written) == 13


def test_python_blocks_are_formatted_and_clean() -> None:
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(Path(sys.executable).parent))
    if ruff is None:
        pytest.skip("needs ruff, which is in the lint group")
    for block in blocks():
        if block["language"] == "python":
            for arguments in (["check", "--ignore", "D,S,RUF012,I"], ["format", "--check"]):
                command = [ruff, *arguments, "--no-cache", "--stdin-filename", f"docs/{block['file']}", "-"]
                done = subprocess.run(
                    command, input=block["text"], capture_output=True, text=True, check=False, cwd=PAGE.parents[1]
                )
                assert done.returncode == 0, f"{block['file']}\n{done.stdout}{done.stderr}"
