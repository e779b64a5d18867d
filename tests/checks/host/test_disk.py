"""Which filesystems count, and what is said of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vedette import Status
from vedette_checks.host import HostConfig
from vedette_checks.host.disk import Chooser

from .machine import Machine, Session

pytestmark = pytest.mark.anyio

ONLY = dict.fromkeys(("cpu", "load", "memory", "swap", "io", "network", "protocols", "uptime"), False)

Mount = tuple[str, str, str, str]


def chosen(mounts: list[Mount], **options: object) -> list[tuple[str, tuple[str, ...]]]:
    chooser = Chooser(HostConfig.model_validate(options))
    return [(filesystem.mount_point, filesystem.tags) for filesystem in chooser.choose(mounts)]


def devices(mounts: list[Mount], **options: object) -> list[str]:
    return [tags[0].removeprefix("device:") for _, tags in chosen(mounts, **options)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("a", "b", "c", "d", "e"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    return tmp_path


def test_a_server(place: Path) -> None:
    mounts = [
        ("proc", "/proc", "proc", "rw"),
        ("sysfs", "/sys", "sysfs", "rw"),
        ("/dev/sda2", "/", "ext4", "rw"),
        ("tmpfs", "/dev", "tmpfs", "rw"),
        ("/dev/loop3", str(place / "a"), "squashfs", "ro"),
        ("/dev/sda1", str(place / "b"), "vfat", "rw"),
        ("pool/data", str(place / "c"), "zfs", "rw"),
        ("nas:/export", str(place / "d"), "nfs4", "rw"),
        ("sshfs", str(place / "e"), "fuse.sshfs", "rw"),
    ]
    assert chosen(mounts) == [
        ("/", ("device:/dev/sda2", "device_name:sda2")),
        (str(place / "b"), ("device:/dev/sda1", "device_name:sda1")),
        (str(place / "c"), ("device:pool/data", "device_name:data")),
    ]


def test_a_container(place: Path) -> None:
    mounts = [
        ("overlay", "/", "overlay", "rw"),
        ("tmpfs", "/dev", "tmpfs", "rw"),
        ("/dev/sda1", str(place / "file"), "ext4", "rw"),  # /etc/hosts
        ("/dev/sdb1", str(place / "a"), "xfs", "rw"),  # a volume
    ]
    assert chosen(mounts) == [
        ("/", ("device:overlay", "device_name:overlay")),
        (str(place / "a"), ("device:/dev/sdb1", "device_name:sdb1")),
    ]


def test_a_container_host_leaves_out_the_containers(place: Path) -> None:
    mounts = [
        ("/dev/sda1", "/", "ext4", "rw"),
        ("overlay", str(place / "a"), "overlay", "rw"),
        ("/dev/sda1", str(place / "b"), "ext4", "rw"),  # a bind mount
        ("/dev/sdb", str(place / "c"), "ext4", "rw"),
        ("/dev/sdb", str(place / "d"), "ext4", "rw"),
    ]
    assert chosen(mounts)[1:] == [(str(place / "c"), ("device:/dev/sdb", "device_name:sdb"))]
    assert devices(mounts) == ["/dev/sda1", "/dev/sdb"]


def test_the_later_of_two_mounts_hides_the_earlier(place: Path) -> None:
    mounts = [("/dev/sda1", str(place / "a"), "ext4", "rw"), ("/dev/sdb1", str(place / "a"), "ext4", "rw")]
    assert devices(mounts) == ["/dev/sdb1"]


def test_the_root_counts_whatever_it_is() -> None:
    for source, kind in (("none", "9p"), ("rootfs", "rootfs"), ("/dev/vda", "squashfs"), ("nas:/root", "nfs")):
        assert devices([(source, "/", kind, "ro")]) == [source]


def test_filesystems_that_share_a_name_are_told_apart(place: Path) -> None:
    mounts = [("tmpfs", str(place / name), "tmpfs", "rw") for name in "ab"]
    assert chosen(mounts) == []
    assert chosen(mounts, filesystems={"include": ["tmpfs"]}) == [
        (str(place / "a"), (f"device:{place / 'a'}", "device_name:tmpfs")),
        (str(place / "b"), (f"device:{place / 'b'}", "device_name:tmpfs")),
    ]


def test_network_filesystems_need_their_option(place: Path) -> None:
    mounts = [("nas:/x", str(place / "a"), "nfs", "rw"), ("s3fs", str(place / "b"), "fuse.s3fs", "rw")]
    assert devices(mounts, filesystems={"include": ["*"]}) == []
    assert devices(mounts, network_filesystems=True) == ["nas:/x", "s3fs"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["/dev/sda1", "/dev/sdb1", "/dev/nvme0n1p1"]),
        ({"filesystems": {"exclude": ["xfs"]}}, ["/dev/sda1", "/dev/nvme0n1p1"]),
        ({"filesystems": {"include": ["xfs", "btrfs"]}}, ["/dev/sdb1", "/dev/nvme0n1p1"]),
        ({"devices": {"exclude": ["sd*"]}}, ["/dev/nvme0n1p1"]),
        ({"devices": {"include": ["/dev/sd?1"]}}, ["/dev/sda1", "/dev/sdb1"]),
        ({"devices": {"include": ["sd*"], "exclude": ["sda*"]}}, ["/dev/sdb1"]),
        ({"mount_points": {"exclude": ["*/a"]}}, ["/dev/sdb1", "/dev/nvme0n1p1"]),
        ({"mount_points": {"include": ["*/c"]}}, ["/dev/nvme0n1p1"]),
    ],
)
def test_choice_by_options(place: Path, options: dict[str, object], expected: list[str]) -> None:
    mounts = [
        ("/dev/sda1", str(place / "a"), "ext4", "rw"),
        ("/dev/sdb1", str(place / "b"), "xfs", "rw"),
        ("/dev/nvme0n1p1", str(place / "c"), "btrfs", "rw"),
    ]
    assert devices(mounts, **options) == expected


async def test_figures_are_those_of_statvfs(machine: Machine, place: Path) -> None:
    spaced = place / "with space"
    spaced.mkdir()
    machine.write("self/mounts", f"/dev/sdc1 {place}/with\\040space ext4 rw,relatime 0 0\n")
    seen = await (await Session(**ONLY, procfs_path=str(machine.root)).open()).run()
    now = os.statvfs(spaced)
    tags = ("device:/dev/sdc1", "device_name:sdc1")
    total, used, free = (seen.value(f"system.disk.{name}", *tags) for name in ("total", "used", "free"))
    assert total == now.f_blocks * now.f_frsize / 1024
    slack = 512 * 1024  # other tests write to the same disk
    assert free == pytest.approx(now.f_bavail * now.f_frsize / 1024, abs=slack)
    assert used == pytest.approx((now.f_blocks - now.f_bfree) * now.f_frsize / 1024, abs=slack)
    assert seen.value("system.disk.in_use", *tags) == pytest.approx(used / (used + free))
    assert seen.value("system.disk.utilized", *tags) == pytest.approx(100 * used / (used + free))
    if now.f_files:
        inodes, inodes_used, inodes_free = (
            seen.value(f"system.fs.inodes.{name}", *tags) for name in ("total", "used", "free")
        )
        assert inodes == inodes_used + inodes_free
        assert inodes_free == pytest.approx(now.f_ffree, abs=100_000)
        assert seen.value("system.fs.inodes.in_use", *tags) == pytest.approx(inodes_used / inodes)
        assert seen.value("system.fs.inodes.utilized", *tags) == pytest.approx(100 * inodes_used / inodes)
    assert seen.dropped == {}


async def test_read_only_is_critical_unless_meant(machine: Machine, place: Path) -> None:
    lines = (("sda1", "a", "ext4", "rw"), ("sdb1", "b", "ext4", "ro,relatime"), ("sdc1", "c", "xfs", "ro"),
             ("sdd1", "d", "ext4", "relatime"))  # fmt: skip
    text = "".join(f"/dev/{device} {place / name} {kind} {mode} 0 0\n" for device, name, kind, mode in lines)
    machine.write("self/mounts", text + f"/dev/sde1 {place / 'e'} iso9660 ro 0 0\n")
    options = {**ONLY, "read_only": ["*/c"], "filesystems": {"include": ["*"]}, "procfs_path": str(machine.root)}
    seen = await (await Session(**options).open()).run()
    assert seen.statuses() == {
        "/dev/sda1": (Status.OK, ""),
        "/dev/sdb1": (Status.CRITICAL, f"{place / 'b'} is mounted read-only"),
        "/dev/sdc1": (Status.OK, ""),
        "/dev/sdd1": (Status.UNKNOWN, f"{place / 'd'}: its mount options name neither ro nor rw"),
    }
    assert ("device:/dev/sde1", "device_name:sde1") in seen.all("system.disk.total")


async def test_a_read_only_bind_mount_is_no_finding(machine: Machine, place: Path) -> None:
    machine.write("self/mounts", f"/dev/sda1 {place}/a ext4 ro 0 0\n/dev/sda1 {place}/b ext4 rw 0 0\n")
    seen = await (await Session(**ONLY, procfs_path=str(machine.root)).open()).run()
    assert seen.statuses() == {"/dev/sda1": (Status.OK, "")}


async def test_a_read_only_container_has_no_status(machine: Machine, place: Path) -> None:
    machine.write("self/mounts", f"overlay {place}/a overlay ro 0 0\noverlay {place}/b overlay rw 0 0\n")
    options = {**ONLY, "filesystems": {"include": ["overlay"]}, "procfs_path": str(machine.root)}
    seen = await (await Session(**options).open()).run()
    assert seen.statuses() == {str(place / "b"): (Status.OK, "")}
    assert len(seen.all("system.disk.total")) == 2


async def test_a_filesystem_that_went_is_absent(machine: Machine, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.write(
        "self/mounts",
        f"/dev/sda1 {place}/a ext4 rw 0 0\n/dev/sdb1 {place}/b ext4 rw 0 0\n/dev/sdx1 {place}/gone ext4 rw 0 0\n",
    )
    session = await Session(**ONLY, procfs_path=str(machine.root)).open()
    ask = os.statvfs

    def unplug_first(path: str) -> os.statvfs_result:
        if path.endswith("/a"):  # gone in the moment between the listing and this call
            (place / "a").rmdir()
        return ask(path)

    monkeypatch.setattr(os, "statvfs", unplug_first)
    seen = await session.run()
    assert list(seen.all("system.disk.total")) == [("device:/dev/sdb1", "device_name:sdb1")]
    assert list(seen.statuses()) == ["/dev/sdb1"]


async def test_what_a_sandbox_has_mounted_read_only_is_as_writable_as_the_machine_has_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for name in ("data", "my disk", "broken", "media"):
        (tmp_path / name).mkdir()
    inside = [
        ("/dev/sda1", "data", "ext4", "ro,relatime"),
        ("/dev/sdb1", "my\\040disk", "ext4", "ro"),
        ("/dev/sdc1", "broken", "xfs", "ro"),
        ("/dev/sdd1", "media", "ext4", "ro"),
    ]

    def table(rows: list[Mount]) -> str:
        return "".join(f"{source} {tmp_path}/{place} {kind} {options} 0 0\n" for source, place, kind, options in rows)

    machine.write("self/mounts", table(inside))
    session = await Session(**ONLY, procfs_path=str(tmp_path)).open()
    alone = (await session.run()).statuses()  # nobody knows better without the first process' mounts
    outside = [(*row[:3], "rw") for row in inside[:2]] + [inside[2], ("/dev/sdd1", "elsewhere", "ext4", "rw")]
    machine.write("1/mounts", table(outside))
    found = (await session.run()).statuses()
    assert {device: status for device, (status, _) in alone.items()} == dict.fromkeys(
        ("/dev/sda1", "/dev/sdb1", "/dev/sdc1", "/dev/sdd1"), Status.CRITICAL
    )
    assert {device: status for device, (status, _) in found.items()} == {
        "/dev/sda1": Status.OK,
        "/dev/sdb1": Status.OK,
        "/dev/sdc1": Status.CRITICAL,
        "/dev/sdd1": Status.CRITICAL,
    }
