"""More files than may be open at once, and what it costs to take them up."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from checks.log_file.parts import append, following
from vedette_checks.log_file import LogFile, files
from vedette_checks.log_file.config import LogFileConfig

NUMBER = 20


def opened(check: object) -> int:
    assert isinstance(check, LogFile)
    assert check._files is not None
    return sum(tail.content is not None for tail in check._files.tails)


@pytest.mark.anyio
@pytest.mark.parametrize("options", [{}, {"multiline": {"start": "^.", "timeout": "200ms"}}], ids=["lines", "events"])
async def test_all_are_read_though_few_may_be_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    monkeypatch.setattr(files, "_OPEN", 3)
    monkeypatch.setattr(files, "_LEAST_OPEN", 1)
    paths = [tmp_path / f"{n}.log" for n in range(NUMBER)]
    for path in paths:
        path.write_text(f"{path.stem} a\n{path.stem} b")  # the last one has no end
    async with following(tmp_path, **options) as follow:
        await follow.wait_for(NUMBER)
        assert opened(follow.serving.check) <= 3
        for path in paths:
            append(path, f"{path.stem}\n{path.stem} c\n")
        await follow.wait_for(3 * NUMBER)
        paths[4].rename(tmp_path / "4.log.1")
        append(paths[4], "new\n")
        await follow.wait_for(3 * NUMBER + 1)
        assert opened(follow.serving.check) <= 4
        state = follow.serving.state
    expected = {f"{n} {text}" for n in range(NUMBER) for text in ("a", f"b{n}", "c")} | {"new"}
    assert set(follow.messages) == expected
    for path in paths:
        append(path, "after\n")
    async with following(tmp_path, state=state, **options) as follow:
        await follow.wait_for(NUMBER)
        assert opened(follow.serving.check) <= 4


class Counting(set[str]):
    """A set that counts how often it is asked."""

    asked = 0

    def __contains__(self, one: object) -> bool:
        self.asked += 1
        return super().__contains__(one)


def test_each_file_is_given_a_place_at_once(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"{number}.log").touch()
    config = LogFileConfig.model_validate({"name": "x", "paths": [str(tmp_path / "*.log")]})
    there = files.Files(config, {})
    there._slots = counting = Counting()
    there.discover()
    assert len({tail.slot for tail in there.tails}) == 600
    assert counting.asked <= 1_200
    there.close()


def test_no_more_are_open_than_a_part_of_what_the_process_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (128, 4_096))
    for number in range(60):
        (tmp_path / f"{number}.log").write_text("x\n")
    options = {"name": "x", "paths": [str(tmp_path / "*.log")], "start_position": "beginning"}
    there = files.Files(LogFileConfig.model_validate(options), {})
    there.discover()
    assert (len(there.tails), there.trouble) == (60, {})
    assert sum(tail.content is not None for tail in there.tails) == 32
    there.look()
    assert there.waiting == 28
    there.close()
