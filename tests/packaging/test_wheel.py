"""The wheel and the sdist: the same bytes whoever builds them, nothing missing, on every Python that is meant."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
from debian_machine import sources

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = {"agent": "vedette", "plugins": "vedette_checks"}
LEFT_OUT = ("__pycache__", ".pyc")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def files(folder: Path) -> set[str]:
    """What a build finds, by its path in the wheel."""
    found = set()
    for room, package in PACKAGES.items():
        for path in (folder / room / package).rglob("*"):
            if path.is_file() and not any(part in str(path) for part in LEFT_OUT):
                found.add(str(path.relative_to(folder / room)))
    return found


def interpreter(version: str) -> str:
    """A Python of this version that can make an environment: of the PATH, or pyenv's; empty if there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
    found = [shutil.which(f"python{version}"), *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
    for one in filter(None, found):  # pyenv's own stand-in on the PATH may refuse
        if subprocess.run([one, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode == 0:
            return one
    return ""


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two builds, from two copies in different places with other times."""
    made = []
    for number in (1, 2):
        folder = tmp_path_factory.mktemp(f"build{number}")
        source = folder / ("x" * 20 * number)
        copy = shutil.copy2 if number == 1 else shutil.copy
        shutil.copytree(ROOT, source, ignore=sources, copy_function=copy)
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(folder / "dist")]
        subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=300)
        made.append(folder / "dist")
    return made


@pytest.fixture(scope="session")
def wheel(builds: list[Path]) -> Path:
    (found,) = builds[0].glob("*.whl")
    return found


def test_two_builds_are_the_same_bytes(builds: list[Path]) -> None:
    sums = [{file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in one.iterdir()} for one in builds]
    stem = f"vedette-{PROJECT['version']}"
    assert sums[0].keys() == {f"{stem}-py3-none-any.whl", f"{stem}.tar.gz"}
    assert sums[0] == sums[1]
    print("\n".join(f"{value}  {name}" for name, value in sums[0].items()))


def test_the_wheel_is_complete_and_holds_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        held = {name for name in opened.namelist() if ".dist-info/" not in name}
        metadata = Parser().parsestr(opened.read(f"vedette-{PROJECT['version']}.dist-info/METADATA").decode())
        licences = [name for name in opened.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
    assert held == files(ROOT)
    checks = {target.replace(".", "/") for target in PROJECT["entry-points"]["vedette.checks"].values()}
    assert len(checks) > 10
    assert {f"{check}/{name}" for check in checks for name in ("README.md", "conf.yaml.example")} <= held
    assert {"vedette/py.typed", "vedette_checks/py.typed", "vedette/status/page.js"} <= held
    assert len(licences) == 1
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()  # type: ignore[union-attr]
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra") or ()) == set(PROJECT["optional-dependencies"])


def test_the_sdist_builds_the_same_wheel(builds: list[Path], wheel: Path, tmp_path: Path) -> None:
    (sdist,) = builds[0].glob("*.tar.gz")
    how: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Debian 12's Python has none
    with tarfile.open(sdist) as opened:
        opened.extractall(tmp_path, **how)
    (source,) = tmp_path.iterdir()
    assert {"CHANGELOG.md", "LICENSE", "README.md", "conf.d", "docs"} <= {path.name for path in source.iterdir()}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=300)
    (again,) = (tmp_path / "dist").glob("*.whl")
    assert again.read_bytes() == wheel.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_it_installs_and_runs_on_every_python_that_can_be_had(version: str, wheel: Path, tmp_path: Path) -> None:
    if not (python := interpreter(version)):
        pytest.skip(f"NOT TRIED: there is no python{version} on this machine")
    subprocess.run([python, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=120)
    own = ["--python", tmp_path / "venv/bin/python", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", *own, "-q", "install", "--no-compile"]
    done = subprocess.run([*pip, f"{wheel}[redis]"], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, "pip could not install it"
    said = subprocess.run([tmp_path / "venv/bin/vedette", "--version"], capture_output=True, text=True, check=True)
    assert PROJECT["version"] in said.stdout.split()
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/host.yaml").write_text("instances: [{}]\n")
    command = [tmp_path / "venv/bin/vedette", "check", "host", "--json", "--conf", tmp_path / "conf.d"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert shown.returncode == 0, shown.stderr
    assert '"system.uptime"' in shown.stdout


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS[1:])
def test_its_dependencies_have_wheels_for_pythons_that_are_not_here(version: str, wheel: Path, tmp_path: Path) -> None:
    """Resolved for that Python, nothing downloaded twice, nothing run: what can be tried without the interpreter."""
    if interpreter(version):
        pytest.skip("it is here, so the wheel was installed on it")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "-q",
        "install",
        "--dry-run",
        "--ignore-installed",
    ]
    target = ["--target", str(tmp_path), "--only-binary=:all:", "--implementation=cp", f"--python-version={version}"]
    # pip decides on `python_version < "3.14"` by the Python that runs it: backports.zstd, of the extra datadog
    extras = ",".join(sorted(set(PROJECT["optional-dependencies"]) - {"all", "datadog"}))
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (17, 28, 34)]
    done = subprocess.run(
        [*pip, *target, *platforms, f"{wheel}[{extras}]"], capture_output=True, text=True, check=False, timeout=600
    )
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    assert done.returncode == 0, errors
