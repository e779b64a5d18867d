"""The options of the host check, and the glob patterns that pick disks and interfaces."""

from __future__ import annotations

import re
from fnmatch import translate
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vedette import CheckConfig
from vedette_checks.options import ProcfsPath

COLLECTORS = ("cpu", "load", "memory", "swap", "disk", "io", "network", "protocols", "connections", "uptime")
"""The options that each switch a part of the check on or off."""


class Patterns(BaseModel):
    """Which names to keep, as glob patterns; exclusion wins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    include: tuple[str, ...] = Field(default=(), description="Keep only these; empty leaves the choice to the check.")
    exclude: tuple[str, ...] = Field(default=(), description="Leave these out.")

    def compile(self) -> Selection:
        """The patterns ready for use."""
        return Selection(self)


class Selection:
    """Compiled `Patterns`."""

    def __init__(self, patterns: Patterns) -> None:
        self._include = _union(patterns.include)
        self._exclude = _union(patterns.exclude)
        self.explicit = self._include is not None
        """Whether the user listed what to keep."""

    def __call__(self, *names: str) -> bool:
        """Whether a thing known by these names is kept: none is excluded, one is included."""
        if self._exclude is not None and any(map(self._exclude.match, names)):
            return False
        return self._include is None or any(map(self._include.match, names))


def _union(patterns: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(translate, patterns))) if patterns else None


def _no_loop_devices() -> Patterns:
    return Patterns(exclude=("loop*", "ram*", "sr*", "fd*"))


def _no_virtual_pairs() -> Patterns:
    return Patterns(exclude=("lo", "lo0", "veth*"))


class HostConfig(CheckConfig):
    """Options of the host check; every one has a default, so `instances: [{}]` is a whole configuration."""

    cpu: bool = Field(True, description="Collect `system.cpu.*`.")
    per_core: bool = Field(
        False, description="Collect `system.core.*` too: ten series for each core, tagged `core:0` and so on."
    )
    frequency: bool = Field(
        False,
        description="Collect `system.core.frequency`. Some processors take milliseconds per core to tell it.",
    )
    load: bool = Field(True, description="Collect `system.load.*`.")
    memory: bool = Field(True, description="Collect `system.mem.*`.")
    swap: bool = Field(True, description="Collect `system.swap.*`.")
    disk: bool = Field(
        True,
        description="Collect `system.disk.*`, `system.fs.inodes.*` and the status `disk.read_write` of filesystems.",
    )
    io: bool = Field(True, description="Collect `system.io.*` and the read and write times of block devices.")
    network: bool = Field(True, description="Collect `system.net.*` of interfaces, and the use of conntrack.")
    protocols: bool = Field(
        True, description="Collect the kernel's counters `system.net.ip.*`, `system.net.tcp.*`, `system.net.udp.*`."
    )
    connections: bool = Field(
        False,
        description="Count sockets by state (`system.net.tcp4.established`, …). The kernel takes milliseconds for "
        "the list, more with many connections.",
    )
    uptime: bool = Field(True, description="Collect `system.uptime`.")
    filesystems: Patterns = Field(
        default_factory=Patterns,
        description="Types of filesystems. `include` also admits types that are otherwise left out, such as tmpfs.",
        examples=[{"include": ["ext4", "xfs", "tmpfs"]}],
    )
    mount_points: Patterns = Field(
        default_factory=Patterns, description="Mount points.", examples=[{"exclude": ["/boot*", "/snap/*"]}]
    )
    devices: Patterns = Field(
        default_factory=_no_loop_devices,
        description="Block devices and the filesystems on them, with or without `/dev/`.",
        examples=[{"exclude": ["loop*", "dm-*"]}],
    )
    interfaces: Patterns = Field(
        default_factory=_no_virtual_pairs,
        description="Network interfaces.",
        examples=[{"exclude": ["lo", "docker*", "veth*"]}],
    )
    network_filesystems: bool = Field(
        False,
        description="Look at NFS, SMB, FUSE and the like too. A server that hangs then holds up this instance.",
    )
    read_only: tuple[str, ...] = Field(
        (),
        description="Mount points that are read-only on purpose (glob patterns): `disk.read_write` is OK there.",
        examples=[["/usr", "/nix/store"]],
    )
    procfs_path: ProcfsPath = "/proc"

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not any(getattr(self, name) for name in COLLECTORS) and not (self.per_core or self.frequency):
            raise ValueError(f"nothing to collect: switch on one of {', '.join(COLLECTORS)}")
        return self
