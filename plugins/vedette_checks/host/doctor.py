"""Which files of the kernel the check needs, and whether they can be read: for `vedette doctor`."""

from __future__ import annotations

import sys
from pathlib import Path

from vedette import Diagnosis
from vedette_checks.host.config import HostConfig

_FILES = {
    "cpu": ("stat",),
    "load": ("loadavg",),
    "memory": ("meminfo",),
    "swap": ("meminfo", "vmstat"),
    "disk": ("filesystems", "self/mounts"),
    "io": ("diskstats",),
    "network": ("net/dev",),
    "protocols": ("net/snmp", "net/netstat"),
    "connections": ("net/tcp", "net/udp"),
    "uptime": ("stat",),
}
"""What each part reads below `procfs_path`."""


def diagnose(config: HostConfig, diagnosis: Diagnosis) -> None:
    """Read the beginning of each file."""
    if sys.platform != "linux":
        diagnosis.info("procfs", "there is none on this system; psutil asks the system itself")
        return
    procfs = Path(config.procfs_path)
    for part, names in _FILES.items():
        if not getattr(config, part):
            continue
        missing = [f"{procfs / name}: {why}" for name in names if (why := _unreadable(procfs / name))]
        if missing:
            hint = "`procfs_path` must be where the machine's /proc is mounted"
            diagnosis.failed(part, "; ".join(missing), hint)
        else:
            diagnosis.ok(part, ", ".join(str(procfs / name) for name in names))
    if config.io or config.disk:
        _look_at_sysfs(diagnosis)


def _unreadable(path: Path) -> str:
    """Why a file cannot be read; empty if it can."""
    try:
        with path.open("rb") as stream:
            stream.read(1)
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _look_at_sysfs(diagnosis: Diagnosis) -> None:
    blocks = Path("/sys/class/block")
    try:
        number = sum(1 for _ in blocks.iterdir())
    except OSError as error:
        diagnosis.warning("sysfs", f"{blocks}: {error.strerror}", "devices cannot be told from their partitions")
    else:
        diagnosis.ok("sysfs", f"{number} block devices in {blocks}")
