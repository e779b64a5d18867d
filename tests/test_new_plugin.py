"""`vedette new-plugin`: its package passes its own tests, linter and type check; an agent takes it up by a reload."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli.process import COMMAND, Running, vedette, wait_until
from test_docs_plugins import reader as reader  # an environment that sees vedette, and gets the plugin on top
from test_loading import install_by_hand
from vedette.errors import PluginError
from vedette.plugins import Registry
from vedette.scaffold import ScaffoldError, write_package

BIN = Path(sys.executable).parent
CANNOT = "cannot be the name of a check: lower-case letters, digits and single underscores"
LONGEST = "thelongestnameofthemallxxxxxxx"  # without underscores the class has the longest name too


def tool(folder: Path, *words: str) -> None:
    """Run a program of the environment in a folder; it must end with 0."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"PYTHONPATH": "src", "MYPYPATH": "src", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [BIN / "python", "-m", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize(
    "name", ["demo", "status", *(pytest.param(one, marks=pytest.mark.soak) for one in (LONGEST, "q2_b", "true"))]
)
def test_the_package_is_green_as_written(name: str, tmp_path: Path) -> None:
    written = write_package(name, tmp_path)
    folder = tmp_path / written[0].parts[0]
    assert folder.name == f"vedette-{name.replace('_', '-')}"
    assert {str(path.relative_to(folder.name)) for path in written} == {
        ".github/workflows/ci.yml", ".gitignore", "README.md", "pyproject.toml", f"conf.d/{name}.yaml.example",
        f"src/vedette_{name}/__init__.py", f"src/vedette_{name}/py.typed",
        "tests/conftest.py", "tests/regenerate.py", f"tests/test_{name}.py",
    }  # fmt: skip
    assert [path for path in folder.rglob("*") if path.is_file() and "$" in path.read_text().replace("${{", "")] == []
    tool(folder, "ruff", "check", "--no-cache", ".")
    tool(folder, "ruff", "format", "--no-cache", "--check", ".")
    assert not list(folder.rglob("__pycache__"))
    if name in ("status", "true"):
        tool(folder, "pytest", "-p", "no:cacheprovider")
        word = '"true"' if name == "true" else name
        assert f"# check: {word}\n" in (folder / f"conf.d/{name}.yaml.example").read_text()
    if name == "demo":
        tool(folder, "mypy", "--cache-dir", str(tmp_path))
        tool(folder, "pytest", "-p", "no:cacheprovider")
        tool(folder, "tests/regenerate.py"[:-3].replace("/", "."))
        assert "`demo.connect_time`" in (folder / "README.md").read_text()


def test_its_yaml_dropped_into_a_running_agent_starts_it(reader: Any, tmp_path: Path) -> None:
    """Written, installed editable and configured while the agent runs, beside one whose import ends the program."""
    for command in ("python3 -m venv venv", ". venv/bin/activate", "pip install vedette"):
        reader.run(command)
    conf = reader.folder / "conf.d"
    conf.mkdir()
    (conf / "agent.yaml").write_text("sinks: [{type: file, path: ../out.jsonl}]\nreload: {watch: false}\n")
    (conf / "host.yaml").write_text("instances: [{interval: 1s}]\n")
    agent = [str(reader.bin / "python"), *COMMAND[1:]]
    with Running(cwd=reader.folder, program=agent) as running, socket.create_server(("127.0.0.1", 0)) as service:
        out = reader.folder / "out.jsonl"
        wait_until(lambda: out.exists() and "system." in out.read_text(), "the agent to run", 60)
        done = vedette("new-plugin", "demo", "--in", str(tmp_path), cwd=tmp_path)
        assert done.stdout.endswith("# then: vedette reload\n"), done.stderr
        reader.run("cd vedette-demo")
        reader.run("pip install -e .")
        reader.run("cd ..")
        install_by_hand(reader.packages, "exits", "import sys\nsys.exit('bye')\n")
        (conf / "exits.yaml").write_text("instances: [{}]\n")
        told = subprocess.run([*agent, "reload"], cwd=reader.folder, capture_output=True, text=True, env=running.env)
        assert (told.returncode, running.process.poll()) == (3, None)
        assert "exits.yaml: exits: p_exits cannot be imported: SystemExit: bye" in told.stdout + told.stderr
        (conf / "exits.yaml").unlink()
        example = (tmp_path / "vedette-demo" / "conf.d" / "demo.yaml.example").read_text()
        port = service.getsockname()[1]
        (conf / "demo.yaml").write_text(
            example.replace("port: 8080", f"port: {port}").replace("# host: localhost", "host: 127.0.0.1")
        )
        told = subprocess.run([*agent, "reload"], cwd=reader.folder, capture_output=True, text=True, env=running.env)
        assert (told.returncode, "+ demo/demo" in told.stdout) == (0, True), told.stdout + told.stderr
        wait_until(lambda: "demo.connect_time" in out.read_text(), "the new check's first metric")
        assert running.end(signal.SIGTERM) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    (took, *_) = [row for row in rows if row["name"] == "demo.connect_time"]
    assert (took["kind"], took["tags"]) == ("gauge", ["instance:demo"])
    assert 0 < took["value"] < 5_000
    assert {row["value"] for row in rows if row["name"] == "demo.can_connect"} == {0}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Foo-Bar", f"'Foo-Bar' {CANNOT}, such as foo_bar"),
        ("9lives", f"'9lives' {CANNOT}"),
        ("class", f"'class' {CANNOT}"),
        ("redis", "there is a check 'redis' already (of vedette); take another name"),
        ("check", "vedette has something of the name 'check' in Python; take another name"),
        ("checks", "vedette has something of the name 'checks' in Python; take another name"),
        (f"{LONGEST}y", f"'{LONGEST}y' is longer than 30 characters"),
    ],
)  # fmt: skip
def test_names_that_do_not_do(name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ScaffoldError) as refused:
        write_package(name, tmp_path)
    assert str(refused.value) == says
    assert list(tmp_path.iterdir()) == []


def test_all_of_it_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("vedette.scaffold.example_yaml", full)
    with pytest.raises(OSError, match="No space"):
        write_package("demo", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    mine = tmp_path / "vedette-demo" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    done = vedette("new-plugin", "demo", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "vedette-demo is there already and not empty; take another name, or another folder" in done.stderr
    assert [path.name for path in mine.parent.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("spoken", "says"),
    [
        ("1.0", ""),
        ("1.1", "was written for version 1.1 of the plugin API, this agent speaks 1.0: pip install -U vedette"),
        ("2.0", "was written for version 2.0 of the plugin API, this agent speaks 1.0: pip install -U vedette"),
        ("0.9", "was written for version 0.9 of the plugin API, this agent speaks 1.0: pip install -U vedette-x"),
        (1, '''x: vedette_x has __vedette_api__ = 1; it is a text such as "1.0"'''),
    ],
)
def test_the_api_that_a_plugin_was_written_for(spoken: Any, says: str) -> None:
    from vedette import Check, CheckConfig, hookimpl

    class X(Check[CheckConfig]):
        name = "x"

    module = SimpleNamespace(__vedette_api__=spoken, register_checks=hookimpl(lambda register: register(X)))
    point = SimpleNamespace(name="x", value="vedette_x", load=lambda: module, dist=SimpleNamespace(name="vedette-x"))
    registry = Registry(lambda _: [point])
    if says:
        with pytest.raises(PluginError, match=says.replace("(", r"\(")):
            registry.load("checks", "x")
    else:
        assert registry.load("checks", "x") is X
