"""The lease server as a process of its own."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

import lease_server
from servers import Server


class LeaseServer(Server):
    """The server as a process of its own, which can be killed, frozen and restarted; its Leases last.

    Attributes:
        kubeconfig: leads to it, once it was started.
    """

    def command_line(self) -> list[str]:
        return [sys.executable, lease_server.__file__, str(self.port), str(self.journal)]

    @property
    def journal(self) -> Path:
        return self.directory / "journal"

    @property
    def kubeconfig(self) -> Path:
        return lease_server.write_kubeconfig(self.port, self.directory / "kubeconfig")

    def ready(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{self.port}/version", timeout=1.0).status_code == 200
        return False

    def fault(self, *verbs: str, **options: Any) -> None:
        """Let requests go wrong; see `Fault`."""
        httpx.post(f"http://127.0.0.1:{self.port}/faults", json={"verbs": verbs, **options}, timeout=5.0)
