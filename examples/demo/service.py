"""The payments service of examples/payments, in a process of its own as in life, behind the demo's servers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_EXAMPLES = Path(__file__).parents[1]
_PATIENCE = 5.0
_AWAY = 20.0  # seconds: so long that people are told, and short for whoever watches


class Service:
    """The service's process, which may be killed and begun again.

    Args:
        port: to serve on.
        folder: where it writes its log to, payments.log.
        environ: DATABASE_URL, REDIS_URL and what it tags its metrics with.
    """

    def __init__(self, port: int, folder: Path, environ: Mapping[str, str]) -> None:
        self._command = [
            sys.executable, "-m", "uvicorn", "payments.service:app", "--app-dir", str(_EXAMPLES), "--port", str(port),
            "--no-access-log", "--timeout-graceful-shutdown", "1",
        ]  # fmt: skip
        self._environ = {**os.environ, **environ}
        self._log = folder / "payments.log"
        self.begin()

    @property
    def pid(self) -> int:
        """Of its process; 0 once that has ended."""
        return 0 if self._process.poll() is not None else self._process.pid

    def begin(self) -> None:
        """Start it, without waiting for it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def kill(self) -> None:
        """Let it die as it would of a fault of its own."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Stop it, whatever it does."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()

    async def keep_up(self) -> None:
        """Begin it again some time after it was killed, as systemd does, until cancelled."""
        while True:
            await asyncio.sleep(0.5)
            if not self.pid:
                await asyncio.sleep(_AWAY)
                self.begin()


@contextmanager
def payments_service(port: int, folder: Path, environ: Mapping[str, str]) -> Iterator[Service]:
    """Start the service; it is gone afterwards, whatever happened. See `Service`."""
    service = Service(port, folder, environ)
    try:
        yield service
    finally:
        service.end()
