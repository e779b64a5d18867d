"""Files that come, grow, are rotated in every way and go, and where a restart goes on."""

from __future__ import annotations

import gzip
import os
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from checks.log_file.parts import Following, append, copytruncate, following
from vedette import Status
from vedette_checks.log_file import copies
from vedette_checks.log_file.names import CAN_READ

pytestmark = pytest.mark.anyio


async def test_new_lines_of_old_and_new_files(tmp_path: Path) -> None:
    old, new = tmp_path / "old.log", tmp_path / "new.log"
    old.write_text("before\n")
    async with following(tmp_path, start_position="end", exclude=["*debug*"], tags=["team:x"]) as follow:
        await follow.looked()
        append(old, "first\n")
        await follow.wait_for(1)
        new.write_text("second\nhalf")
        (tmp_path / "debug.log").write_text("left out\n")
        (tmp_path / "app.log.gz").write_bytes(gzip.compress(b"packed\n"))
        await follow.wait_for(2)
        append(new, " a line\n\nthird\r\n")
        records = await follow.wait_for(4)
    assert [record.message for record in records] == ["first", "second", "half a line", "third"]
    assert records[3].tags == (f"dirname:{tmp_path}", "filename:new.log", "instance:log_file", "team:x")
    assert {record.time for record in records} == {None}
    assert follow.total("log_file.lines") <= 4


async def test_where_it_was_it_goes_on(tmp_path: Path) -> None:
    path, state = tmp_path / "a.log", dict[str, Any]()
    path.write_text("1\n2\n")
    async with following(tmp_path) as follow:
        await follow.wait_for(2)
        state = follow.serving.state
    append(path, "3\n")
    (tmp_path / "b.log").write_text("new while it was down\n")
    async with following(tmp_path, state=state, start_position="end") as follow:
        await follow.wait_for(2)
    assert sorted(follow.messages) == ["3", "new while it was down"]


async def test_a_path_that_is_added_begins_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("1\n")
    async with following(tmp_path) as follow:
        await follow.wait_for(1)
        state = follow.serving.state
    (tmp_path / "a.txt").write_text("old\n")
    paths = [str(tmp_path / "*.log"), str(tmp_path / "*.txt")]
    async with following(tmp_path, state=state, paths=paths, start_position="end") as follow:
        await follow.looked()
        append(tmp_path / "a.txt", "2\n")
        await follow.wait_for(1)
    assert follow.messages == ["2"]


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("how", ["rename", "truncate", "packed", "truncate and packed"])
async def test_what_was_not_read_before_a_rotation(tmp_path: Path, how: str, down: bool) -> None:
    path, kept = tmp_path / "a.log", tmp_path / "a.log.1"
    path.write_text("".join(f"line {n}\n" for n in range(10)))

    def rotate() -> None:
        append(path, "unread\n")
        if "truncate" in how:
            copytruncate(path, kept)
        else:
            path.rename(kept)
        if "packed" in how:
            (tmp_path / "a.log.1.gz").write_bytes(gzip.compress(kept.read_bytes()))
            kept.unlink()
        append(path, "after\n")

    async with following(tmp_path) as follow:
        await follow.wait_for(10)
        if not down:
            rotate()
            await follow.wait_for(12)
        state = follow.serving.state
    before = follow.messages
    if down:
        rotate()
    async with following(tmp_path, state=state) as follow:
        if down:
            await follow.wait_for(2)
        append(path, "last\n")
        await follow.wait_for(3 if down else 1)
    assert [*before, *follow.messages] == [*(f"line {n}" for n in range(10)), "unread", "after", "last"]


async def test_a_rotated_file_is_not_read_again_from_what_is_only_being_made_of_it(tmp_path: Path) -> None:
    path, kept, packed = tmp_path / "a.log", tmp_path / "a.log.1", tmp_path / "a.log.1.gz"
    path.write_text("1\n2\n")
    async with following(tmp_path) as follow:
        await follow.wait_for(2)
        packed.touch()
        path.rename(kept)
        await follow.looked()
        path.write_text("3\n")
        await follow.wait_for(3)
        packed.write_bytes(gzip.compress(kept.read_bytes()))
        kept.unlink()
        state = follow.serving.state
    async with following(tmp_path, state=state) as follow:
        append(path, "4\n")
        await follow.wait_for(1)
        await follow.looked()
    assert follow.messages == ["4"]


async def test_what_was_truncated_written_and_renamed_between_two_looks(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("1\n2\n")
    async with following(tmp_path, poll=0.5, discover=0.5) as follow:
        await follow.wait_for(2)
        copytruncate(path, tmp_path / "a.log.2")
        append(path, "longer than what was there before\n")
        path.rename(tmp_path / "a.log.1")
        path.write_text("3\n")
        await follow.wait_for(4)
        await follow.looked()
    assert sorted(follow.messages) == ["1", "2", "3", "longer than what was there before"]


async def test_paths_that_match_the_rotated_files_too(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("1\n")
    async with following(tmp_path, paths=[str(tmp_path / "a.log*")]) as follow:
        await follow.wait_for(1)
        path.rename(tmp_path / "a.log.1")
        path.write_text("2 and more\n")
        await follow.wait_for(2)
        copytruncate(path, tmp_path / "a.log.2")
        append(path, "3\n")
        await follow.wait_for(3)
        for _ in range(3):
            await follow.looked()
    assert follow.messages == ["1", "2 and more", "3"]


async def test_files_with_the_same_lines_are_all_read(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("OK\n" * 10)
    (tmp_path / "b.log").write_text("OK\n" * 10)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.log").write_text("OK\n" * 12)
    async with following(tmp_path, paths=[str(tmp_path / "**" / "*.log")]) as follow:
        await follow.wait_for(32)
        path.rename(tmp_path / "a.log.1")
        path.write_text("OK\n" * 4)
        await follow.wait_for(36)
        path.rename(tmp_path / "a.log.2")
        path.write_text("OK\n" * 3)
        await follow.wait_for(39)
        append(path, "OK\n" * 20)
        await follow.wait_for(59)
        os.truncate(path, 0)
        append(path, "OK\n" * 2)
        (tmp_path / "c.log").write_text("OK\n" * 50)  # begins as what was truncated
        await follow.wait_for(111)
        assert follow.total("log_file.copies") == 0


async def test_what_only_looks_like_a_copy_is_read_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_QUIET", 0.5)
    (tmp_path / "a.log").write_text("OK\n" * 10)
    async with following(tmp_path, paths=[str(tmp_path / "a.log*")]) as follow:
        await follow.wait_for(10)
        (tmp_path / "a.log.1").write_text("OK\n" * 5)
        await follow.wait_for(15)
        await follow.until(lambda: follow.total("log_file.copies") == 1)


async def test_an_inode_that_is_used_again_is_another_file(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("the first file\n")
    async with following(tmp_path) as follow:
        await follow.wait_for(1)
        state = follow.serving.state
    path.write_text("another, that is longer than the one before\n")
    async with following(tmp_path, state=state) as follow:
        await follow.wait_for(1)
    assert follow.messages == ["another, that is longer than the one before"]


async def test_a_truncated_file_that_has_grown_beyond_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("short\n")
    async with following(tmp_path) as follow:
        await follow.wait_for(1)
        with path.open("r+b") as file:  # at once, as far as anybody sees
            file.write(b"first of many\nsecond\n")
        await follow.wait_for(3)
    assert follow.messages[1:] == ["first of many", "second"]


async def test_a_deleted_file_is_read_to_its_end_through_a_reload(tmp_path: Path) -> None:
    from vedette.emit import Emit
    from vedette.testing.checks import channel_of
    from vedette_checks.log_file import LogFile, LogFileConfig

    path = tmp_path / "a.log"
    path.write_text("1\n")
    async with following(tmp_path) as follow:
        await follow.wait_for(1)
        with path.open("ab") as file:
            path.unlink()
            file.write(b"2\n")
            file.flush()
            await follow.wait_for(2)
            config = LogFileConfig.model_validate({"name": "log_file", "paths": [str(tmp_path / "*.log")]})
            successor = LogFile(config, follow.serving.state)
            file.write(b"3\n")
            file.flush()
            successor.succeed(follow.serving.check)
            files = await successor._begin(Emit(channel_of(LogFile, config), 0.0))
            assert [tail.path for tail in files.tails] == [str(path)]
            assert files.tails[0].read(10) == b"3\n"
            await successor.close()


async def test_what_cannot_be_read_shows(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        (tmp_path / "loop.log").symlink_to(tmp_path / "loop.log")
    async with following(tmp_path) as follow:
        await follow.until(lambda: follow.serving.statuses)
        status = follow.serving.statuses[-1]
        assert (status.name, status.status, status.message) == (CAN_READ, Status.WARNING, "no file matches paths")
        (tmp_path / "a.log").write_text("1\n")
        await follow.until(lambda: follow.serving.statuses[-1].status is Status.OK)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_that_may_not_be_read_is_critical(tmp_path: Path) -> None:
    (tmp_path / "a.log").touch(0)
    async with following(tmp_path) as follow:
        await follow.until(lambda: follow.serving.statuses)
        assert follow.serving.statuses[-1].message == f"{tmp_path}/a.log: Permission denied"


async def test_more_files_than_may_be_followed(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.log").write_text(f"{number}\n")
        os.utime(tmp_path / f"{number}.log", (1e9 + number, 1e9 + number))
    async with following(tmp_path, max_files=2) as follow:
        await follow.wait_for(2)
        await follow.until(lambda: 2 in follow.serving.values("log_file.files.over_budget"))
    assert sorted(follow.messages) == ["2", "3"]


@pytest.mark.parametrize("over", ["wait", "drop"])
async def test_a_budget(tmp_path: Path, over: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.log").write_text("".join(f"line {n:195}\n" for n in range(3_000)))
    async with following(tmp_path, max_lines_per_second=100, over_budget=over) as follow:
        if over == "drop":
            dropped, kept = ("log_file.dropped", "reason:budget"), ("log_file.lines",)
            await follow.until(lambda: follow.total(*dropped) + follow.total(*kept) == 3_000)
            assert 1_000 <= follow.total(*kept) < 2_000
            assert follow.messages[:1_000] == [f"line {n:195}" for n in range(1_000)]
            assert "lines dropped: more than the budget" in caplog.text
        else:
            await follow.until(lambda: follow.total("log_file.over_budget") > 0)
            lag = follow.serving.values("log_file.lag")[-1]
            assert 0 < lag < (tmp_path / "a.log").stat().st_size
            assert follow.total("log_file.dropped") == 0


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 20))])
async def test_rotations_restarts_and_pauses_in_any_order(tmp_path: Path, seed: int) -> None:
    source, path, number, written = random.Random(seed), tmp_path / "a.log", 0, list[str]()
    written.append("begin")
    path.write_text("begin\n")
    paths = [str(tmp_path / source.choice(["a.log", "a.log*"]))]
    async with following(tmp_path, paths=paths) as follow:
        (record,) = await follow.wait_for(1)  # of a file of which nothing was ever read nobody knows its copies
    came, state = [record.message], follow.serving.state
    for _ in range(5):
        async with following(tmp_path, state=state, paths=paths) as follow:
            await follow.looked()
            for _ in range(8):
                match source.choice(["write", "write", "rename", "truncate", "look"]):
                    case "write":
                        lines = [
                            f"{len(written) + n} {'x' * source.randrange(200)}" for n in range(source.randrange(50))
                        ]
                        append(path, "".join(f"{line}\n" for line in lines))
                        written += lines
                    case "rename":
                        number += 1
                        path.rename(tmp_path / f"a.log.{number}")
                        path.touch()
                    case "truncate":
                        number += 1
                        copytruncate(path, tmp_path / f"a.log.{number}")
                    case "look":
                        await follow.looked()
            if source.random() < 0.5:
                await follow.until(partial(_enough, follow, len(written) - len(came)))
        came += follow.messages
        state = follow.serving.state
    async with following(tmp_path, state=state, paths=paths) as follow:
        await follow.until(partial(_enough, follow, len(written) - len(came)))
        await follow.looked()
    came += follow.messages
    assert sorted(came) == sorted(written)


def _enough(follow: Following, number: int) -> bool:
    return len(follow.messages) >= number
