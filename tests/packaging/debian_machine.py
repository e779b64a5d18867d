"""A Debian machine with systemd as its first process, in a container: made by debootstrap, booted by systemd-nspawn.

The tree is kept in $VEDETTE_PACKAGING_CACHE, else ~/.cache/vedette/packaging; each machine boots it under a layer in
memory that goes with it, with a loopback of its own and no other network.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SUITE = "bookworm"
PACKAGES = (
    "ca-certificates",
    "dbus",
    "init-system-helpers",
    "iputils-ping",
    "procps",
    "python3",
    "redis-server",
    "systemd-sysv",
)
PROGRAMS = {"debootstrap": "debootstrap", "systemd-nspawn": "systemd-container"}
_ENVIRON = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "COLUMNS": "200"}


def sources(folder: str, names: list[str]) -> set[str]:
    """What shutil.copytree leaves out where only what is built from is wanted."""
    beside = {"tests", "build", "dist"} if (Path(folder) / "pyproject.toml").exists() else set()
    return {one for one in names if one in beside | {".venv", ".git", "__pycache__"} or one.endswith("_cache")}


def why_not() -> str:
    """What keeps machines from booting here; empty if nothing does. Installs what Debian has."""
    if os.geteuid() != 0:
        return "systemd-nspawn needs root"
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if missing and not shutil.which("apt-get"):
        return f"there is no {' and no '.join(missing)}, and no apt-get to install them with"
    if missing:
        commands = ["apt-get update -qq", f"apt-get install -qq -y --no-install-recommends {' '.join(missing)}"]
        for command in commands:
            environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(command.split(), env=environ, capture_output=True, check=False, timeout=600)
    still = [program for program in PROGRAMS if not shutil.which(program)]
    return f"apt-get could not install {' and '.join(still)}" if still else ""


def tree() -> Path:
    """Debian's files, made once."""
    kept = os.environ.get("VEDETTE_PACKAGING_CACHE")
    folder = Path(kept) if kept else Path("~/.cache/vedette/packaging").expanduser()
    made = folder / f"{SUITE}-{hashlib.sha256(' '.join(PACKAGES).encode()).hexdigest()[:8]}"
    if made.exists():
        return made
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f"new-{uuid.uuid4().hex[:8]}"
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(new), *_mirror()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    if done.returncode:
        shutil.rmtree(new, ignore_errors=True)
        raise RuntimeError(f"debootstrap failed: {done.stdout[-300:]}")
    (new / "usr/sbin/policy-rc.d").unlink(missing_ok=True)  # nothing is to keep services from being started
    new.rename(made)
    return made


def _mirror() -> list[str]:
    """Where this machine gets Debian from, so that it is the tree's too."""
    for file in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))):
        text = file.read_text() if file.is_file() else ""
        for stanza in re.split(r"\n\s*\n", text):
            if SUITE in stanza and (found := re.search(r"^(?:URIs:|deb)\s.*?(https?://\S+)", stanza, re.MULTILINE)):
                return [found[1]]
    return []


class Machine:
    """A booted machine.

    Args:
        binds: folders of this machine that it sees, read-only, and where.
    """

    def __init__(self, binds: Mapping[Path, str]) -> None:
        self.name = f"debian-{uuid.uuid4().hex[:8]}"
        options = ["--quiet", f"--directory={tree()}", "--volatile=overlay", "--register=no", "--keep-unit"]
        options += ["--private-network", f"--machine={self.name}", "--console=pipe", "--boot"]
        options += [f"--bind-ro={here}:{there}" for here, there in binds.items()]
        command = ["unshare", "--mount", "--propagation", "private", "systemd-nspawn", *options]
        self._nspawn = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            self._leader = self.until(self._first_process, "the first process", 120)
            self.until(self._booted, "the machine to boot", 120)
        except BaseException:
            self.stop()
            raise

    def _first_process(self) -> str:
        if self._nspawn.poll() is not None:
            assert self._nspawn.stdout is not None
            raise RuntimeError(f"systemd-nspawn cannot boot here: {self._nspawn.stdout.read().decode()[-500:]}")
        pid = self._nspawn.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            try:
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":  # helpers come and go before it
                    return child
            except OSError:
                continue
        return ""

    def _booted(self) -> bool:
        return self.run("systemctl is-system-running", check=False).strip() in ("running", "degraded")

    def run(self, command: str, *, check: bool = True, timeout: float = 120) -> str:
        """A shell command's output, errors among it."""
        status, shown = self.tries(command, timeout)
        assert not check or status == 0, f"{command}: status {status}\n{shown}"
        return shown

    def tries(self, command: str, timeout: float = 120) -> tuple[int, str]:
        """A shell command's status and output."""
        inside = ["nsenter", "-t", self._leader, "-m", "-u", "-i", "-n", "-p", "sh", "-c", command]
        done = subprocess.run(
            inside, env=_ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=timeout
        )
        return done.returncode, done.stdout.decode()

    def write(self, path: str, text: str) -> None:
        """A file, made or replaced in one step, as an editor does."""
        inside = ["nsenter", "-t", self._leader, "-m", "-p", "sh", "-c", f"cat > {path}.new && mv {path}.new {path}"]
        subprocess.run(inside, input=text.encode(), env=_ENVIRON, check=True, timeout=60)

    def show(self, name: str) -> str:
        """A property of the service."""
        return self.run(f"systemctl show -p {name} --value vedette").strip()

    def until(self, condition: Callable[[], Any], what: str, timeout: float = 60) -> Any:
        """Ask ten times a second until the answer is true."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if answer := condition():
                return answer
            time.sleep(0.1)
        more = (
            self.run("journalctl -u vedette -n 30 --no-pager -o cat", check=False) if hasattr(self, "_leader") else ""
        )
        raise AssertionError(f"waited {timeout:g}s in vain for {what}\n{more}")

    def stop(self) -> None:
        """Power it off and leave nothing."""
        if self._nspawn.poll() is None:
            self._nspawn.terminate()  # nspawn has the machine shut down
        try:
            self._nspawn.wait(60)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait(10)
        if self._nspawn.stdout is not None:
            self._nspawn.stdout.close()
        shutil.rmtree(Path("/run/systemd/nspawn/propagate") / self.name, ignore_errors=True)
