"""Resident memory of an agent with the redis and host checks, after 20 s, with the sinks named."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from common import redis_options, report, server, write_conf

SETTLED = 20.0
DOGSTATSD = {"type": "dogstatsd", "host": "127.0.0.1", "port": 8125}


def resident(folder: Path, port: int, sink: dict[str, object]) -> float:
    """MB of VmRSS of a fresh `vedette run`."""
    write_conf(
        folder,
        agent={"sinks": [sink]},
        redis={"instances": [redis_options(port, interval="1s")]},
        host={"instances": [{"interval": "1s"}]},
    )
    environ = {**os.environ, "STATE_DIRECTORY": str(folder / "state")}
    agent = subprocess.Popen(
        [sys.executable, "-m", "vedette", "run"], cwd=folder, env=environ, stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(SETTLED)
        lines = Path(f"/proc/{agent.pid}/status").read_text().splitlines()
    finally:
        agent.terminate()
        agent.wait()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000


def main() -> None:
    """Print the figures."""
    with server() as (folder, port):
        with_statsd = resident(folder, port, DOGSTATSD)
        without = resident(folder, port, {"type": "file", "path": "/dev/null"})
    report(
        ("RSS with redis + host, dogstatsd sink", with_statsd, "MB", "<= 55"),
        ("RSS with redis + host, file sink", without, "MB", "<= 47"),
    )


if __name__ == "__main__":
    main()
