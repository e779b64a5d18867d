"""A fleet of agent processes on a real engine, each behind a wire that can be cut."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from cli.process import COMMAND, environ
from engines.backends import Backend
from lease_process import LeaseServer
from lease_server import write_kubeconfig
from proxies import SilentProxy, silent_proxy
from servers import until
from vedette.lease import boottime

from .court import Court
from .witness import install

PATIENCE = 180.0
INSTANCES = 60
SINKS: list[dict[str, Any]] = [{"type": "witness"}, {"type": "witness", "name": "slow", "delay": 0.1}]
"""What one of them sent counts only when the other one has it, too."""


class Wires:
    """Proxies on a loop in a thread of its own, so that a test may wait in its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._proxies = AsyncExitStack()

    def lay(self, port: int) -> SilentProxy:
        """A new one to this port."""

        async def begin() -> SilentProxy:
            return await self._proxies.enter_async_context(silent_proxy(port))

        return asyncio.run_coroutine_threadsafe(begin(), self._loop).result(PATIENCE)

    def speak(self, proxy: SilentProxy | None, requests: bool, replies: bool) -> None:
        """See `SilentProxy`."""
        assert proxy is not None
        done = threading.Event()

        def act() -> None:
            proxy.speak(requests, replies)
            done.set()

        self._loop.call_soon_threadsafe(act)
        done.wait(PATIENCE)

    def end(self) -> None:
        asyncio.run_coroutine_threadsafe(self._proxies.aclose(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Member:
    """An agent process."""

    def __init__(self, name: str, folder: Path, wire: SilentProxy | None, **more: str) -> None:
        self.name = name
        self.folder = folder
        self.wire = wire
        self._more = more
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "run"],
                cwd=self.folder,
                env=environ(self.folder / "state", WITNESS_NAME=self.name, **self._more),
                stdout=log,
                stderr=log,
            )

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Like a machine that is switched off."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE)
            self.process = None

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        assert self.process is not None
        self.signal(signal.SIGTERM)
        status, self.process = self.process.wait(PATIENCE), None
        return status

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def ask(self, *words: str) -> Any:
        """`vedette status --json` and the like."""
        done = subprocess.run(
            [*COMMAND, *words], cwd=self.folder, env=environ(self.folder / "state"), capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
        return json.loads(done.stdout) if "--json" in words else done


class Ground:
    """The members, the engine and the court."""

    def __init__(self, folder: Path, backend: Backend, court: Court, ttl: float, interval: float) -> None:
        self.folder = folder
        self.backend = backend
        self.court = court
        self.ttl = ttl
        self.interval = interval
        self.wires = Wires()
        self.members: list[Member] = []
        self._path = os.pathsep.join((install(folder), *filter(None, [os.environ.get("PYTHONPATH")])))

    def add(
        self, name: str, instances: int = INSTANCES, *, wired: bool = False, rare: float = 0.0, **more: str
    ) -> Member:
        """A member that is not started yet.

        Args:
            name: its name.
            instances: how many it has.
            wired: its way to the engine can be cut.
            rare: seconds between two runs of one more instance, `rare`, in a process of its own.
            more: its environment.
        """
        folder = self.folder / name
        conf = folder / "conf.d"
        conf.mkdir(parents=True)
        wire = self.wires.lay(self.backend.server.port) if wired else None
        port = wire.port if wire is not None else self.backend.server.port
        fleet = {"backend": "redis", "host": "127.0.0.1", "port": port, "ttl": self.ttl}
        if isinstance(self.backend.server, LeaseServer):
            kubeconfig = write_kubeconfig(port, folder / "kubeconfig")
            fleet = {"backend": "kubernetes", "kubeconfig": str(kubeconfig), "namespace": "vedette", "ttl": self.ttl}
        agent: dict[str, Any] = {"hostname": name, "fleet": fleet, "sinks": SINKS, "report_interval": "1h"}
        windows = [{"name": f"i{number}", "run_on": "hash", "interval": self.interval} for number in range(instances)]
        if rare:
            windows.append({"name": "rare", "run_on": "hash", "interval": rare, "isolate": True})
        (conf / "agent.yaml").write_text(json.dumps(agent))
        (conf / "windows.yaml").write_text(json.dumps({"instances": windows}))
        member = Member(name, folder, wire, PYTHONPATH=self._path, WITNESS_PORT=str(self.court.port), **more)
        self.members.append(member)
        return member

    @property
    def recently(self) -> float:
        """Every instance that runs at all has run since then."""
        return boottime() - 2.5 * self.interval

    def settled(self, instances: int, members: int, since: float) -> bool:
        """Whether every instance ran since then, and all of so many agents had some."""
        owners = self.court.owners(since)
        return len(owners) == instances and len(set(owners.values())) == members

    def await_settled(self, instances: int = INSTANCES, members: int = 3, since: float | None = None) -> None:
        begun = boottime() if since is None else since
        until(lambda: self.settled(instances, members, max(begun, self.recently)), "the fleet to settle", PATIENCE)

    def await_rare(self, names: set[str], since: float) -> str:
        """Until one of these has run `rare` since then; where these are one or all, until all run something."""

        def ran() -> str:
            return self.court.owners(since).get("windows/rare", "")

        until(lambda: ran() in names, f"{names} to run it", PATIENCE)
        everybody = {member.name for member in self.members}
        if len(names) == 1 or names == everybody:
            until(lambda: set(self.court.owners(self.recently).values()) == everybody, "all to run", PATIENCE)
        return ran()

    def await_sent(self, instances: int = INSTANCES) -> None:
        """Until the windows up to now are sent: what is missing of them at the end is missing for good."""
        now = boottime()
        until(lambda: len(self.court.reached(now)) == instances, "all windows to be sent", PATIENCE)

    def end(self) -> None:
        for member in self.members:
            member.kill()
        self.wires.end()


@contextmanager
def ground(folder: Path, backend: Backend, ttl: float, interval: float = 1.0) -> Iterator[Ground]:
    """A place for a fleet; nothing of it is left at the end."""
    backend.server.start()
    try:
        with Court() as court:
            made = Ground(folder, backend, court, ttl, interval)
            try:
                yield made
            finally:
                made.end()
    finally:
        backend.server.kill()


def nap(seconds: float) -> None:
    """What a round is made of: time in which something is wrong."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end, "time to pass", PATIENCE)
