"""Filesystems: which ones count, how full they are, and whether they can be written.

Sizes are in kibibytes, as the Datadog agent sends them ("for legacy reasons"), although its list of metrics says
byte. The formulas are those of df(1) and psutil.disk_usage(), from one statvfs(3) for space and inodes.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from vedette import Emit, Kind, Metric, Status
from vedette_checks.host.config import Patterns

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator, Sequence

    from vedette_checks.host.config import HostConfig

_TAGS = ("device", "device_name")

DISK_METRICS = (
    Metric("system.disk.total", Kind.GAUGE, "kibibyte", "Size of the filesystem.", _TAGS),
    Metric("system.disk.used", Kind.GAUGE, "kibibyte", "Space in use.", _TAGS),
    Metric("system.disk.free", Kind.GAUGE, "kibibyte", "Space that an ordinary user can have.", _TAGS),
    Metric("system.disk.in_use", Kind.GAUGE, "fraction", "Fraction used of what users can have.", _TAGS),
    Metric("system.disk.utilized", Kind.GAUGE, "percent", "Percent used of what users can have.", _TAGS),
    Metric("system.fs.inodes.total", Kind.GAUGE, "inode", "Inodes.", _TAGS),
    Metric("system.fs.inodes.used", Kind.GAUGE, "inode", "Inodes in use.", _TAGS),
    Metric("system.fs.inodes.free", Kind.GAUGE, "inode", "Free inodes.", _TAGS),
    Metric("system.fs.inodes.in_use", Kind.GAUGE, "fraction", "Fraction of the inodes in use.", _TAGS),
    Metric("system.fs.inodes.utilized", Kind.GAUGE, "percent", "Percent of the inodes in use.", _TAGS),
)
DISK_STATUS = "disk.read_write"
_OCTAL = re.compile(r"\\([0-7]{3})")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


WITHOUT_DEVICE = frozenset({"tmpfs", "ramfs", "overlay", "aufs", "unionfs", "rootfs", "none"})
"""Filesystems whose `device` is only a word that many of them share."""
_IMAGES = frozenset({"squashfs", "erofs", "cramfs", "iso9660", "udf"})
_KERNELS = _words(
    "autofs bdev binder binfmt_misc bpf cgroup cgroup2 configfs cpuset debugfs devfs devpts devtmpfs efivarfs "
    "fdescfs fusectl hugetlbfs linprocfs linsysfs mqueue nfsd nsfs nullfs pipefs proc procfs pstore resctrl rpc_pipefs "
    "securityfs selinuxfs smackfs sockfs sysfs tracefs xenfs"
)
LEFT_OUT = WITHOUT_DEVICE | _IMAGES | _KERNELS
"""Types that are left out unless `filesystems: include` names them or they are mounted at `/`."""
NETWORKED = _words(
    "9p acfs afp afs afpfs beegfs ceph cifs coda davfs fuse glusterfs gpfs lustre ncp ncpfs nfs nfs3 nfs4 "
    "orangefs pvfs2 smb2 smb3 smbfs vboxsf virtiofs webdav"
)
"""Types with a server behind them, which may hang: only with `network_filesystems`. So is all of `fuse.*`."""


class Filesystem(NamedTuple):
    """A mounted filesystem that is to be reported.

    Attributes:
        mount_point: where to ask for its figures.
        writable: whether it is mounted for writing; None if the mount options do not say.
        fixed: read-only by design if it is read-only: an image, or a container's overlay or tmpfs.
        tags: `device:` and `device_name:`, ready for its samples.
    """

    mount_point: str
    writable: bool | None
    fixed: bool
    tags: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Space:
    """What statvfs(3) says of a filesystem: bytes and inodes.

    Attributes:
        total: size in bytes.
        used: bytes in use.
        free: bytes that an ordinary user can have (root's reserve is not among them).
        inodes: how many inodes there are; 0 where the filesystem has no fixed number.
        inodes_free: how many of them are free.
    """

    total: int
    used: int
    free: int
    inodes: int
    inodes_free: int

    @classmethod
    def of(cls, path: str) -> Space:
        """Ask the filesystem mounted at `path`.

        Raises:
            OSError: it does not answer or is not there any more.
        """
        answer = os.statvfs(path)
        return cls(
            total=answer.f_blocks * answer.f_frsize,
            used=(answer.f_blocks - answer.f_bfree) * answer.f_frsize,
            free=answer.f_bavail * answer.f_frsize,
            inodes=answer.f_files,
            inodes_free=answer.f_ffree,
        )


class Chooser:
    """Decides which mounts are filesystems to report, each once.

    Args:
        config: the instance's options.
    """

    def __init__(self, config: HostConfig) -> None:
        self._types = config.filesystems.compile()
        self._mount_points = config.mount_points.compile()
        self._devices = config.devices.compile()
        self._network = config.network_filesystems

    def choose(self, mounts: Sequence[tuple[str, str, str, str]]) -> Iterator[Filesystem]:
        """The filesystems among these mounts, of those on one device the first.

        Of two mounts at one place the later hides the earlier. A mount point that is a file (a container's
        /etc/hosts) is a bind mount of something reported elsewhere. A device that has one writable mount is
        writable: its others are read-only on purpose, as after a disk error none can be written.

        Args:
            mounts: device, mount point, type and options of each, as of psutil.disk_partitions().
        """
        devices: set[str] = set()
        writable = {source for source, _, _, options in mounts if _writable(options)}
        for source, place, kind, options in {mount[1]: mount for mount in mounts}.values():
            if not self._wanted(source, place, kind):
                continue
            shared_name = not source or kind in WITHOUT_DEVICE
            device = place if shared_name and place != "/" else source or kind
            if device in devices or not os.path.isdir(place):  # noqa: PTH112 (hot)
                continue
            devices.add(device)
            tags = (f"device:{device}", f"device_name:{(source or kind).rpartition('/')[2]}")
            mode = True if source in writable and not shared_name else _writable(options)
            yield Filesystem(place, mode, shared_name or kind in _IMAGES, tags)

    def _wanted(self, source: str, place: str, kind: str) -> bool:
        if place != "/":
            if not self._network and (kind in NETWORKED or kind.startswith("fuse.")):
                return False
            if kind in LEFT_OUT and not self._types.explicit:
                return False
        name = source.rpartition("/")[2]
        return self._types(kind) and self._mount_points(place) and self._devices(source, name)


def _writable(options: str) -> bool | None:
    words = options.split(",")
    if "ro" in words:
        return False
    return True if "rw" in words else None


def _unescaped(word: str) -> str:
    """A word of /proc/<pid>/mounts: getmntent(3) on blanks, tabs, newlines and backslashes in octal."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), word) if "\\" in word else word


class Disk:
    """`system.disk.*`, `system.fs.inodes.*` and `disk.read_write`.

    Args:
        config: the instance's options.
        log: told at debug level of filesystems that did not answer.
    """

    def __init__(self, config: HostConfig, log: logging.Logger) -> None:
        self._chooser = Chooser(config)
        self._first_process = Path(config.procfs_path, "1", "mounts")
        self._read_only = Patterns(include=config.read_only).compile()
        self._log = log

    def collect(self, emit: Emit) -> None:
        """List the mounts and ask each filesystem; one that went in between is left out.

        Raises:
            OSError: the mounts cannot be listed.
        """
        for filesystem in self._chooser.choose(self._mounts()):
            try:
                space = Space.of(filesystem.mount_point)
            except OSError as error:
                self._log.debug("%s: %s", filesystem.mount_point, error.strerror)
                continue
            if space.total > 0:
                _emit_space(emit, space, filesystem.tags)
                self._emit_status(emit, filesystem)

    def _mounts(self) -> list[tuple[str, str, str, str]]:
        """The mounts that this process sees, each with the options that it has for the whole machine.

        A service under systemd's ProtectSystem= sees everything mounted read-only: of those mounts the first process'
        options count. Where that lives among other mounts (a container's), nothing of it fits.
        """
        mounts = [(one.device, one.mountpoint, one.fstype, one.opts) for one in psutil.disk_partitions(all=True)]
        if all(_writable(options) or (kind in LEFT_OUT and place != "/") for _, place, kind, options in mounts):
            return mounts
        try:
            text = self._first_process.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return mounts
        real = {}
        for line in text.splitlines():
            source, place, kind, options = map(_unescaped, line.split(" ")[:4])
            real[source, place, kind] = options
        return [(*one[:3], real.get(one[:3], one[3])) for one in mounts]

    def _emit_status(self, emit: Emit, filesystem: Filesystem) -> None:
        place, tags = filesystem.mount_point, filesystem.tags[:1]
        if filesystem.writable is None:
            emit.status(DISK_STATUS, Status.UNKNOWN, f"{place}: its mount options name neither ro nor rw", tags)
        elif filesystem.writable or (self._read_only.explicit and self._read_only(place)):
            emit.status(DISK_STATUS, Status.OK, "", tags)
        elif not filesystem.fixed:
            emit.status(DISK_STATUS, Status.CRITICAL, f"{place} is mounted read-only", tags)


def _emit_space(emit: Emit, space: Space, tags: tuple[str, ...]) -> None:
    emit.gauge("system.disk.total", space.total / 1024, tags)
    emit.gauge("system.disk.used", space.used / 1024, tags)
    emit.gauge("system.disk.free", space.free / 1024, tags)
    reachable = space.used + space.free
    if reachable > 0:
        emit.gauge("system.disk.in_use", space.used / reachable, tags)
        emit.gauge("system.disk.utilized", 100 * space.used / reachable, tags)
    if space.inodes > 0:
        used = space.inodes - space.inodes_free
        emit.gauge("system.fs.inodes.total", space.inodes, tags)
        emit.gauge("system.fs.inodes.used", used, tags)
        emit.gauge("system.fs.inodes.free", space.inodes_free, tags)
        emit.gauge("system.fs.inodes.in_use", used / space.inodes, tags)
        emit.gauge("system.fs.inodes.utilized", 100 * used / space.inodes, tags)
