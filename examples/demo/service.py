"""The payments service of examples/payments, in a process of its own as in life, behind the demo's servers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_EXAMPLES = Path(__file__).parents[1]
_PATIENCE = 5.0


@contextmanager
def payments_service(port: int, folder: Path, environ: Mapping[str, str]) -> Iterator[None]:
    """Start the service, without waiting for it; it is gone afterwards, whatever happened.

    Args:
        port: to serve on.
        folder: where it writes its log to, payments.log.
        environ: DATABASE_URL, REDIS_URL and what it tags its metrics with.
    """
    command = [
        sys.executable, "-m", "uvicorn", "payments.service:app", "--app-dir", str(_EXAMPLES), "--port", str(port),
        "--no-access-log", "--timeout-graceful-shutdown", "1",
    ]  # fmt: skip
    with (folder / "payments.log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **environ}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
