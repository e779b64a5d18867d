"""Builds the Debian package: vedette and what its checks need, from wheels, in an environment under /opt/vedette.

    .venv/bin/python packaging/deb/build.py [--arch amd64] [--revision 1] [--to dist]

Nothing of it depends on the machine that builds: wheels for the target, times from SOURCE_DATE_EPOCH or the last
commit, bytecode that is found by the source's hash. nfpm packs what nfpm.yaml lists.
"""

from __future__ import annotations

import argparse
import compileall
import gzip
import os
import platform
import py_compile
import re
import shutil
import subprocess
import sys
import time
import tomllib
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
STAGE = ROOT / "build" / "deb"
HOME = STAGE / "vedette"
PYTHON = (3, 11)
"""Debian 12's: the package depends on just this one."""
TARGET = {"python_version": "3.11", "python_full_version": "3.11.2", "sys_platform": "linux", "os_name": "posix"}
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
GLIBC = (17, 28, 34, 35, 36)
"""Minor versions of manylinux whose wheels run on Debian 12."""
STARTER = """#!/opt/vedette/bin/python3 -I
import sys

from vedette.cli import main

sys.exit(main())
"""
CHANGES = """vedette ({version}-{revision}) stable; urgency=medium

  * See changelog.gz.

 -- vedette maintainers <maintainers@vedette.dev>  {date}
"""


def main() -> None:
    """Lay out, pack, say where the package is and how large."""
    parser = argparse.ArgumentParser(description="builds the Debian package")
    parser.add_argument("--arch", choices=sorted(MACHINES), default=own_arch(), help="default: this machine's")
    parser.add_argument("--revision", default="1", help="of the package, for the same version of vedette")
    parser.add_argument("--to", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    if sys.version_info[:2] != PYTHON:
        sys.exit(f"the bytecode is Python {'.'.join(map(str, PYTHON))}'s: build with that one")
    version = debian_version(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or _last_commit())
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "ARCH": options.arch}
    environ |= {"VERSION": version, "RELEASE": options.revision}
    lay_out(options.arch, environ)
    write_changes(version, options.revision, epoch)
    settle(STAGE, epoch)
    options.to.mkdir(parents=True, exist_ok=True)
    package = options.to / f"vedette_{version}-{options.revision}_{options.arch}.deb"
    _run(_program("nfpm"), "package", "-f", "packaging/deb/nfpm.yaml", "-p", "deb", "-t", str(package), env=environ)
    print(f"{package}: {package.stat().st_size / 1e6:.1f} MB")


def own_arch() -> str:
    """Debian's name of this machine; amd64 where there is none."""
    return {machine: arch for arch, machine in MACHINES.items()}.get(platform.machine(), "amd64")


def debian_version(version: str) -> str:
    """A version of PEP 440 as dpkg sorts it: what comes before a release stands behind `~`, dev before a, b and rc.

    Source: deb-version(7).
    """
    return re.sub(r"(a|b|rc)(?=\d)", r"~\1", version).replace(".dev", "~~dev")


def lay_out(arch: str, environ: dict[str, str]) -> None:
    """An environment for the target machine, without pip, which nothing is written to at run time."""
    shutil.rmtree(STAGE, ignore_errors=True)
    _run(_program("hatchling"), "build", "-t", "wheel", "-d", str(STAGE / "wheel"), env=environ)
    (wheel,) = (STAGE / "wheel").glob("*.whl")
    packages = HOME / "lib" / "python{}.{}".format(*PYTHON) / "site-packages"
    platforms = [f"--platform=manylinux_2_{minor}_{MACHINES[arch]}" for minor in GLIBC]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-compile"]
    target = ["--target", str(packages), "--python-version=3.11", "--implementation=cp", "--only-binary=:all:"]
    install = [*pip, *target, *platforms, "-c", "constraints.txt"]
    _run(*install, f"{wheel}[all]", env=environ)
    while missing := missing_on_target(packages):
        _run(*install, *missing, env=environ)
    shutil.rmtree(packages / "bin", ignore_errors=True)
    for name in ("direct_url.json", "REQUESTED"):  # where it was built is nobody's concern
        for file in packages.glob(f"*.dist-info/{name}"):
            file.unlink()
    if not compileall.compile_dir(
        packages,
        quiet=2,
        stripdir=str(HOME),
        prependdir="/opt/vedette",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    ):
        print("some files of others are no Python of this version: they go without bytecode")
    (HOME / "bin").mkdir()
    (HOME / "bin" / "vedette").write_text(STARTER)
    (HOME / "bin" / "vedette").chmod(0o755)
    (HOME / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")


def missing_on_target(packages: Path) -> list[str]:
    """What the target's Python needs and this one does not: pip decides by the one that runs it (redis, for 3.11.2)."""
    here = {canonicalize_name(one.name): one for one in distributions(path=[str(packages)])}
    missing: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [("vedette", extra) for extra in ("", "all")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen or name not in here:
            continue
        seen.add((name, extra))
        for text in here[name].requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({**TARGET, "extra": extra}):
                needs = canonicalize_name(wanted.name)
                if needs not in here:
                    missing[needs] = f"{wanted.name}{wanted.specifier}"
                waiting += [(needs, one) for one in ("", *wanted.extras)]
    return sorted(missing.values())


def write_changes(version: str, revision: str, epoch: int) -> None:
    """The two changelogs that Debian looks for."""
    date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(epoch))
    texts = {
        "changelog.gz": (ROOT / "CHANGELOG.md").read_bytes(),
        "changelog.Debian.gz": CHANGES.format(version=version, revision=revision, date=date).encode(),
    }
    for name, text in texts.items():
        (STAGE / name).write_bytes(gzip.compress(text, mtime=0))


def settle(folder: Path, epoch: int) -> None:
    """The same modes and times whoever builds it, and whenever."""
    for path in (folder, *folder.rglob("*")):
        runs = path.is_dir() or path.parent == HOME / "bin"
        path.chmod(0o755 if runs else 0o644)
        os.utime(path, (epoch, epoch))


def _last_commit() -> str:
    return subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def _program(name: str) -> str:
    """A program of this environment, else of the PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name


def _run(*command: str, env: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=ROOT, env=env, check=False)
    if done.returncode:
        sys.exit(f"{Path(command[0]).name} failed with status {done.returncode}")


if __name__ == "__main__":
    main()
