"""The host check: cpu, load, memory, swap, disks, network and uptime of this machine."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import psutil

from vedette import Check, CheckError, hookimpl
from vedette_checks.host import cpu, disk, io, memory, network, protocols
from vedette_checks.host.config import HostConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette import Diagnosis, Emit

__all__ = ["Host", "HostConfig", "register_checks"]

_SHORTEST = 0.1
"""Seconds that percentages span at least: /proc counts in hundredths."""
_NOT_TOLD = (OSError, psutil.Error, NotImplementedError, ValueError, LookupError, TypeError, AssertionError)
"""What psutil and /proc raise for something this system does not tell; the last two for a file cut short."""
_LINUX = sys.platform == "linux"


class Host(Check[HostConfig]):
    """Reports the machine it runs on. A part that the system does not tell is absent; the others go on."""

    name = "host"
    metrics = (
        *cpu.CPU_METRICS,
        *cpu.CORE_METRICS,
        *cpu.FREQUENCY_METRICS,
        *cpu.LOAD_METRICS,
        *cpu.UPTIME_METRICS,
        *memory.MEMORY_METRICS,
        *memory.SWAP_METRICS,
        *disk.DISK_METRICS,
        *io.IO_METRICS,
        *network.NETWORK_METRICS,
        *network.CONNECTION_METRICS,
        *protocols.PROTOCOL_METRICS,
    )
    statuses = (disk.DISK_STATUS,)

    async def open(self) -> None:
        """Take the readings that the first run compares with; psutil is told of `procfs_path` for the process."""
        config = self.config
        if _LINUX:
            psutil.PROCFS_PATH = config.procfs_path
        self._failing: dict[str, str] = {}
        self._cpu = cpu.Cpu(config)
        self._devices = io.BlockDevices(config)
        self._parts = self._enabled()
        for wanted, begin in ((config.cpu or config.per_core, self._cpu.begin), (config.io, self._devices.begin)):
            if wanted:
                self._attempt(begin)
        self._first_after: float | None = time.monotonic() + _SHORTEST

    def run(self, emit: Emit) -> None:
        """Collect every part.

        Raises:
            CheckError: no part at all could be read, or another instance has redirected psutil.
        """
        self._check_procfs()
        self._await_first()
        failing: dict[str, str] = {}
        for name, collect in self._parts.items():
            reason = self._attempt(collect, emit)
            if reason:
                failing[name] = reason
        self._tell(failing)
        if len(failing) == len(self._parts):
            raise CheckError(
                "nothing could be read: " + "; ".join(f"{name}: {why}" for name, why in failing.items()),
                hint="procfs_path must be where the machine's /proc is mounted",
            )

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """The files of the kernel that the enabled parts read."""
        from vedette_checks.host.doctor import diagnose

        diagnose(self.config, diagnosis)

    def _enabled(self) -> dict[str, Callable[[Emit], None]]:
        config = self.config
        linux_only = {
            "snmp": (config.protocols, protocols.Protocols(config, "snmp").collect),
            "netstat": (config.protocols, protocols.Protocols(config, "netstat").collect),
            "connections": (config.connections, network.Connections(config).collect),
        }
        parts = {
            "cpu": (config.cpu or config.per_core, self._cpu.collect),
            "frequency": (config.frequency, cpu.collect_frequency),
            "load": (config.load, cpu.Load(config).collect),
            "memory": (config.memory or config.swap, memory.Memory(config).collect),
            "disk": (config.disk, disk.Disk(config, self.log).collect),
            "io": (config.io, self._devices.collect),
            "network": (config.network, network.Interfaces(config).collect),
            "uptime": (config.uptime, cpu.Uptime(config).collect),
            **(linux_only if _LINUX else {}),
        }
        return {name: collect for name, (wanted, collect) in parts.items() if wanted}

    def _check_procfs(self) -> None:
        if _LINUX and self.config.procfs_path != psutil.PROCFS_PATH:
            raise CheckError(
                f"psutil reads {psutil.PROCFS_PATH} for another host instance of this agent",
                hint="give all host instances one procfs_path",
            )

    def _await_first(self) -> None:
        """In the first run, wait until enough time has passed since `open` to tell percentages."""
        if self._first_after is not None:
            rest = self._first_after - time.monotonic()
            self._first_after = None
            if rest > 0 and not {"cpu", "io"}.isdisjoint(self._parts):
                time.sleep(rest)

    @staticmethod
    def _attempt(act: Callable[..., None], *arguments: Emit) -> str:
        """Why it could not be done; empty if it could."""
        try:
            act(*arguments)
        except _NOT_TOLD as error:
            if isinstance(error, OSError) and error.strerror:
                return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
            return f"{type(error).__name__}: {error}"
        return ""

    def _tell(self, failing: dict[str, str]) -> None:
        """Log the parts that began or ceased to fail."""
        for name, reason in failing.items():
            if self._failing.get(name) != reason:
                self.log.warning("%s: not available: %s", name, reason)
        for name in self._failing.keys() - failing.keys():
            self.log.info("%s: available again", name)
        self._failing = failing


@hookimpl
def register_checks(register: Callable[[type[Host]], None]) -> None:
    """Offer the host check."""
    register(Host)
