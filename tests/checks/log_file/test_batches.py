"""How much is handed on at once: batches of a thousand lines however short they are, and budgets to the line."""

from __future__ import annotations

import gzip
import time
from pathlib import Path
from typing import Any

import pytest

from checks.log_file.parts import append, following
from vedette_checks.log_file.codec import Codec
from vedette_checks.log_file.config import MultilineConfig
from vedette_checks.log_file.content import Packed
from vedette_checks.log_file.lines import Splitter

pytestmark = pytest.mark.anyio

NUMBER = 3_500
FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "plain": ({}, "{}\n"),
    "windows": ({}, "{}\r\n"),
    "utf-16": ({"encoding": "utf-16-le"}, "{}\n"),
    "events": ({"multiline": {"start": r"^\d", "timeout": "100ms"}}, "{}\n more\n"),
    "container": ({"format": "container"}, "2026-10-05T12:00:00Z stdout F {}\n"),
}


@pytest.mark.parametrize("form", FORMS)
async def test_no_batch_has_more_than_a_thousand_lines(tmp_path: Path, form: str) -> None:
    options, line = FORMS[form]
    content = "".join(line.format(n) for n in range(NUMBER)).encode(options.get("encoding", "utf-8"))
    append(tmp_path / "a.log", content)
    (tmp_path / "b.log").write_bytes(content)
    async with following(tmp_path, **options) as follow:
        await follow.wait_for(2 * NUMBER)
    sizes = [len(batch.logs) for batch in follow.serving.batches]
    assert max(sizes) <= 1_000
    for name in ("a", "b"):
        of_file = [record.message for record in follow.records if f"filename:{name}.log" in record.tags]
        assert of_file == [f"{n}\n more" if form == "events" else str(n) for n in range(NUMBER)]


def test_events_are_counted_where_those_of_two_streams_overlap() -> None:
    def line(stream: str, tag: str, text: str) -> str:
        return f"2026-10-05T12:00:00Z {stream} {tag} {text}\n"

    lines = [
        line("stdout", "F", "1"), line("stdout", "P", "2"), line("stderr", "F", "3"), line("stdout", "F", "."),
        line("stdout", "F", "4"), line("stdout", "F", "5"),
    ]  # fmt: skip
    data = "".join(lines).encode()
    given: dict[str, Any] = {"container": True, "skipping": False, "at_end": True, "quiet": False, "final": False}
    taken = Splitter(1_000).take(data, Codec(), most=2, **given)
    assert (sorted(taken.events), taken.more) == ([b"1", b"2.", b"3"], True)
    assert data[taken.consumed :] == "".join(lines[4:]).encode()
    taken = Splitter(1_000, MultilineConfig(start="^[14]")).take(data, Codec(), most=1, **{**given, "quiet": True})
    assert (taken.events[0], taken.more) == (b"1", True)


def test_a_last_line_without_its_end_counts_too() -> None:
    whole = "".join(f"{n}\n" for n in range(1_000)).encode()
    given: dict[str, Any] = {"container": False, "skipping": False, "at_end": True, "quiet": True, "final": True}
    taken = Splitter(100_000).take(whole + b"last", Codec(), most=1_000, **given)
    assert (taken.text, taken.consumed, taken.more) == (whole, len(whole), True)
    taken = Splitter(100_000).take(whole, Codec(), most=1_000, **given)
    assert (taken.text, taken.consumed, taken.more) == (whole, len(whole), False)


async def test_a_budget_holds_to_the_line_however_short_they_are(tmp_path: Path) -> None:
    append(tmp_path / "a.log", "".join(f"{n}\n" for n in range(300)))
    begun = time.monotonic()
    async with following(tmp_path, max_lines_per_second=10) as follow:
        await follow.until(lambda: follow.total("log_file.over_budget") > 0)
        came = len(follow.messages)
        assert 100 <= came <= 101 + 10 * (time.monotonic() - begun)
        assert follow.messages == [str(n) for n in range(came)]


async def test_a_budget_that_is_used_up_is_no_trouble_where_nothing_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    append(tmp_path / "a.log", f"{'x' * 20_000}\n")
    async with following(tmp_path, max_bytes_per_second="1KB") as follow:
        await follow.wait_for(1)
        for _ in range(3):
            await follow.looked()
        assert follow.total("log_file.over_budget") == 0
    assert "more lines than the budget" not in caplog.text


class Counting:
    """A file that counts how often one goes to another place in it."""

    def __init__(self, file: Any) -> None:
        self.read, self._file, self.seeks = file.read, file, 0

    def seek(self, offset: int) -> int:
        self.seeks += 1
        return int(self._file.seek(offset))


def test_a_compressed_file_is_not_begun_again_for_each_block(tmp_path: Path) -> None:
    data = "".join(f"{n}\n" for n in range(20_000)).encode()
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(data))
    packed = Packed(str(path))
    packed._file = counting = Counting(packed._file)
    for offset in range(0, len(data), 900):  # most of a block is read once more, as only its first lines were taken
        begin = max(0, offset - 128)
        assert packed.read(5_000, begin) == data[begin : begin + 5_000]
    assert counting.seeks == 0
    assert packed.read(100, 0) == data[:100]
    assert packed.read(100, 70_000) == data[70_000:70_100]
    assert packed.read(10, len(data) + 5) == b""
    counting._file.close()
