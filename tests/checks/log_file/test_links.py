"""Files that are reached by links, or rotated into other folders: what a rotation makes is named by the file itself."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checks.log_file.parts import append, following

pytestmark = pytest.mark.anyio


class Layout:
    """A file that is written, and the folder of links by which it is found."""

    def __init__(self, folder: Path, real: str, link: str, form: str = "line {}\n") -> None:
        self.real, self.links, self.form = folder / real, folder / "links", form
        self.real.parent.mkdir(parents=True, exist_ok=True)
        self.links.mkdir()
        self.link = self.links / link
        self.written = 0
        self.write()
        self.link.symlink_to(self.real)

    def write(self, path: Path | None = None) -> None:
        """Five lines more."""
        append(path or self.real, "".join(self.form.format(n) for n in range(self.written, self.written + 5)))
        self.written += 5

    def rotate(self, name: str) -> Path:
        """Rename the file, and write a new one."""
        self.write()
        away = self.real.parent / name
        away.parent.mkdir(exist_ok=True)
        self.real.rename(away)
        self.write()
        return away


def pack(path: Path, *, keeps_time: bool = True) -> None:
    """Compress as `gzip` does, or as the kubelet does, which keeps no time."""
    packed, about = Path(f"{path}.gz"), path.stat()
    packed.write_bytes(gzip.compress(path.read_bytes()))
    if keeps_time:
        os.utime(packed, ns=(about.st_atime_ns, about.st_mtime_ns))
    path.unlink()


def pod(folder: Path) -> Layout:
    """As the kubelet has it."""
    real, link = "pods/ns_web-1_11111111-2222/app/0.log", f"web-1_ns_app-{'a' * 64}.log"
    return Layout(folder, real, link, "2026-11-26T23:00:00.{0:09d}Z stdout F line {0}\n")


def one(at: Layout) -> None:
    at.rotate("0.log.20261126-230001")


def two(at: Layout) -> None:
    one(at)
    at.rotate("0.log.20261126-230002")


def two_and_one_packed(at: Layout) -> None:
    first = at.rotate("0.log.20261126-230001")
    pack(first, keeps_time=False)
    at.rotate("0.log.20261126-230002")


def three(at: Layout) -> None:
    two_and_one_packed(at)
    pack(at.real.parent / "0.log.20261126-230002", keeps_time=False)
    at.rotate("0.log.20261126-230003")


def restart(at: Layout) -> None:
    """The container is started again: its file is another, and the link of the old one is gone."""
    one(at)
    at.link.unlink()
    at.write()
    (at.links / f"web-1_ns_app-{'b' * 64}.log").symlink_to(at.real.with_name("1.log"))
    at.write(at.real.with_name("1.log"))


def logrotated(folder: Path) -> Layout:
    return Layout(folder, "data/app.log", "web.log")


def shift(at: Layout) -> None:
    """Twice, as logrotate does it with `compress` and `delaycompress`."""
    first = at.rotate("app.log.1")
    pack(first)
    Path(f"{first}.gz").rename(at.real.parent / "app.log.2.gz")
    at.rotate("app.log.1")


def dated(folder: Path) -> Layout:
    return Layout(folder, "data/web-20261126.log", "current.log")


def switch(at: Layout) -> None:
    """To the file of the day after tomorrow; the one between was linked to for a moment."""
    at.write()
    between, last = (at.real.with_name(f"web-2026112{day}.log") for day in (7, 8))
    at.write(between)
    at.write(last)
    at.link.unlink()
    at.link.symlink_to(last)


def olddir(at: Layout) -> None:
    at.rotate("old/app.log.1")


def olddir_twice(at: Layout) -> None:
    at.rotate("old/app.log.2")
    at.rotate("old/app.log.1")


def olddir_packed(at: Layout) -> None:
    pack(at.rotate("old/app.log.1"))


CASES: list[tuple[Callable[[Path], Layout], Callable[[Layout], None]]] = [
    (pod, one),
    (pod, two),
    (pod, two_and_one_packed),
    (pod, three),
    (pod, restart),
    (logrotated, shift),
    (logrotated, olddir),
    (logrotated, olddir_twice),
    (logrotated, olddir_packed),
    (dated, switch),
]


@pytest.mark.parametrize("down", [False, True], ids=["live", "down"])
@pytest.mark.parametrize(("layout", "change"), CASES, ids=lambda one: one.__name__)
async def test_nothing_is_lost_or_doubled(
    tmp_path: Path, layout: Callable[[Path], Layout], change: Callable[[Layout], None], down: bool
) -> None:
    at, options = layout(tmp_path), dict[str, Any](paths=[str(tmp_path / "links" / "*.log")], poll=0.2)
    async with following(tmp_path, **options) as follow:
        await follow.wait_for(5)
        if not down:
            change(at)
            await follow.wait_for(at.written)
        state = follow.serving.state
    came = follow.messages
    if down:
        change(at)
    else:
        append(at.real if at.link.exists() else at.real.with_name("1.log"), at.form.format(at.written))
        at.written += 1
    async with following(tmp_path, state=state, **options) as follow:
        await follow.wait_for(at.written - len(came))
        await follow.looked()
    came += follow.messages
    assert sorted(came) == sorted(f"line {n}" for n in range(at.written))


async def test_what_was_read_long_ago_and_is_compressed_only_now_is_not_read_again(tmp_path: Path) -> None:
    at, options = pod(tmp_path), dict[str, Any](paths=[str(tmp_path / "links" / "*.log")])
    async with following(tmp_path, **options) as follow:
        await follow.wait_for(5)
        state = follow.serving.state
    old = at.real.with_name("0.log.20261126-220000")
    old.write_text(at.form.format(1_000))
    pack(old, keeps_time=False)
    one(at)
    async with following(tmp_path, state=state, **options) as follow:
        await follow.wait_for(10)
        await follow.looked()
    assert sorted(follow.messages) == sorted(f"line {n}" for n in range(5, 15))


async def test_a_folder_anywhere_that_was_seen_once_is_known_after_a_restart(tmp_path: Path) -> None:
    at, old = logrotated(tmp_path), tmp_path / "elsewhere" / "deep"
    old.mkdir(parents=True)
    options = dict[str, Any](paths=[str(tmp_path / "links" / "*.log")])
    async with following(tmp_path, **options) as follow:
        await follow.wait_for(5)
        at.rotate("../elsewhere/deep/app.log.1")
        await follow.wait_for(15)
        state = follow.serving.state
    (old / "app.log.1").rename(old / "app.log.3")
    at.rotate("../elsewhere/deep/app.log.2")
    at.rotate("../elsewhere/deep/app.log.1")
    async with following(tmp_path, state=state, **options) as follow:
        await follow.wait_for(20)
        await follow.looked()
    assert sorted(follow.messages) == sorted(f"line {n}" for n in range(15, 35))


async def test_a_state_without_what_the_link_led_to_is_taken_over(tmp_path: Path) -> None:
    at, options = pod(tmp_path), dict[str, Any](paths=[str(tmp_path / "links" / "*.log")])
    async with following(tmp_path, **options) as follow:
        await follow.wait_for(5)
        state = {slot: value[:12] if slot != "sources" else value for slot, value in follow.serving.state.items()}
    at.write()
    async with following(tmp_path, state=state, **options) as follow:
        await follow.wait_for(5)
        state = follow.serving.state
    two(at)
    async with following(tmp_path, state=state, **options) as follow:
        await follow.wait_for(20)
        await follow.looked()
    assert sorted(follow.messages) == sorted(f"line {n}" for n in range(10, 30))


async def test_what_is_gone_for_good_is_counted_as_far_as_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, size = tmp_path / "a.log", 4_000
    path.write_text("x" * 100 + "\n")
    async with following(tmp_path) as follow:
        await follow.wait_for(1)
        append(path, "y" * size)  # without an end, it waits
        await follow.looked()
        (tmp_path / "b.log").write_text("a position is stored when something was read\n")
        await follow.wait_for(2)
        state = {slot: list(value) for slot, value in follow.serving.state.items()}
    (slot,) = [slot for slot, value in state.items() if value[0] == str(path)]
    state[slot][-1] = 101 + size  # as of its last look
    path.unlink()
    async with following(tmp_path, state=state) as follow:
        await follow.until(lambda: follow.total("log_file.lost") == size)
    assert f"{path} was rotated and is gone" in caplog.text


async def test_files_with_numbers_in_their_names_are_no_rotations_of_each_other(tmp_path: Path) -> None:
    paths = [str(tmp_path / "app1.log")]
    (tmp_path / "app1.log").write_text("1\n")
    async with following(tmp_path, paths=paths) as follow:
        await follow.wait_for(1)
        (tmp_path / "app10.log").write_text("of another\n")
        (tmp_path / "app1.log").rename(tmp_path / "app1.log.1")
        (tmp_path / "app1.log").write_text("2\n")
        await follow.wait_for(2)
        await follow.looked()
    assert follow.messages == ["1", "2"]
