"""docs/plugins.md, read as its reader would: each block is a file or a command, in the order of the page."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import site
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "plugins.md"
_BLOCK = re.compile(r"^```(?P<language>\w*)(?: (?P<file>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_EXIT = {"vedette check queue_depth --json": 2}
"""Commands that do not end with 0."""


@dataclass
class Reader:
    """Somebody who types the page into a terminal, in a fresh environment of their own.

    Attributes:
        folder: where they work.
        bin: their environment's programs.
        ran: the commands so far.
    """

    folder: Path
    bin: Path
    ran: list[str] = field(default_factory=list)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(self, command: str) -> str:
        self.ran.append(command)
        words = shlex.split(command)
        if command == "pip install .":
            words = [str(self.bin / "python"), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
            words += ["--no-build-isolation", "--disable-pip-version-check", "."]
        elif words[0] == "vedette":
            words = [str(self.bin / "python"), "-m", *words]
        elif words[0] == "python":
            words[0] = str(self.bin / "python")
            words += ["-p", "no:cacheprovider", "-W", "error"]
        ours = ("DD_", "PYTEST", "ENVIRONMENT", "APP_VERSION", "STATE_DIRECTORY", "VEDETTE", "COV")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        environment |= {"XDG_STATE_HOME": str(self.folder / "state"), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            words, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == _EXIT.get(command, 0), f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """An environment that sees the packages of this one, vedette among them, and gets the plugin on top."""
    home = tmp_path / "venv"
    venv.create(home, symlinks=True)
    (packages,) = home.glob("lib/python*/site-packages")
    here = [path for path in site.getsitepackages() if Path(path).is_dir()]
    lines = [f"import site; site.addsitedir({path!r})" for path in here]  # addsitedir reads their .pth files too
    (packages / "outer.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    folder = tmp_path / "vedette-queue-depth"
    folder.mkdir()
    return Reader(folder, home / "bin")


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
    tests = [command for command in reader.ran if "pytest" in command]
    assert tests == ["python -m pytest test_queue_depth.py", "python -m pytest"]
    assert len(reader.ran) == 8
    distribution = subprocess.run(
        [reader.bin / "python", "-c", "import vedette_queue_depth as m; print(m.__file__)"],
        cwd=reader.bin,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(distribution.stdout.strip()).is_relative_to(reader.bin.parent), "not what pip installed"


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
