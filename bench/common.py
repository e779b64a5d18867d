"""What the benchmarks share: a real server on the other core, instances of it, a process's memory."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "demo"))
from server import redis_server  # type: ignore[import-not-found]

PASSWORD = "bench"


@contextmanager
def server() -> Iterator[tuple[Path, int]]:
    """A folder and the port of a server in it; with two cores the server gets the second, this process the first."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="vedette-bench-") as name:
        os.sched_setaffinity(0, cores[-1:])
        with redis_server(Path(name), PASSWORD) as port:
            os.sched_setaffinity(0, cores[:1])
            yield Path(name), port
            os.sched_setaffinity(0, cores)


def write_conf(folder: Path, **files: Any) -> Path:
    """A conf.d of these files; JSON is YAML."""
    conf = folder / "conf.d"
    conf.mkdir(exist_ok=True)
    for old in conf.iterdir():
        old.unlink()
    for name, content in files.items():
        (conf / f"{name}.yaml").write_text(json.dumps(content))
    return conf


def redis_options(port: int, **more: Any) -> dict[str, Any]:
    """Options of a redis instance of the bench server."""
    return {"host": "127.0.0.1", "port": port, "password": PASSWORD, **more}


def report(*rows: tuple[str, float, str, str]) -> None:
    """Print (what, value, unit, target) rows for run.py."""
    print(json.dumps([{"what": w, "value": v, "unit": u, "target": t} for w, v, u, t in rows]))
