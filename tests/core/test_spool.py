"""The queue on disk: nothing that was put is lost, counted twice or brought back, whatever happens to its files."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from vedette.kit import DamagedError, Entry, Outcome, Piece, Record, Spool, SpoolTakenError
from vedette.spool import segment as segment_module
from vedette.spool.records import FRAME_SIZE
from vedette.spool.totals import Totals

MB = 1024 * 1024


def entry(number: int, count: int = 10, size: int = 100, kind: int = 1) -> Entry:
    body = f"{number:08d}".encode() * (size // 8)
    return Entry(kind, 2, count, 3 * len(body), float(number), number + 1.0, body)


def opened(folder: Path, budget: int = 100 * MB) -> Spool:
    spool = Spool(folder, budget)
    spool.open()
    return spool


def numbers(spool: Spool, kind: int = 1) -> list[int]:
    return [int(record.oldest) for record in spool.pending.get(kind, {})]


def first(spool: Spool) -> Record:
    return next(iter(spool.pending[1]))


def whole(record: Record) -> Piece:
    return Piece(record, 0, record.count)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_was_put_is_there_after_a_restart_as_it_was(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool")
    spool.put([entry(1), entry(2, kind=7)])
    spool.put([entry(3)])
    assert (spool.left, spool.trouble) == (30, "")
    spool.close()
    spool = opened(tmp_path / "spool")
    assert (numbers(spool), numbers(spool, 7), spool.left) == ([1, 3], [2], 30)
    record = first(spool)
    assert (record.form, record.count, record.raw, record.newest) == (2, 10, 288, 2.0)
    assert spool.read(record) == entry(1).body
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "spool").glob("*.seg"))
    spool.close()


def test_what_is_settled_in_parts_stays_settled(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    record = spool.put([entry(1)])[0]
    assert spool.settle([Piece(record, 2, 5)], Outcome.SENT) == 3
    assert spool.settle([Piece(record, 4, 6)], Outcome.EXPIRED) == 1  # one of them was sent already
    assert record.rest == [(0, 2), (6, 10)]
    spool.close()
    spool = opened(tmp_path)
    record = first(spool)
    assert (record.rest, spool.left) == ([(0, 2), (6, 10)], 6)
    assert (spool.tally[Outcome.SENT], spool.tally[Outcome.EXPIRED]) == (3, 1)
    spool.settle([whole(record)], Outcome.REFUSED)
    assert (spool.pending[1], spool.left, spool.tally[Outcome.REFUSED]) == ({}, 0, 6)
    spool.close()


def test_files_go_when_all_of_them_is_settled_and_the_counts_stay(tmp_path: Path) -> None:
    spool = opened(tmp_path, MB)  # segments of 64 KB
    records = [spool.put([entry(number, size=40_000)])[0] for number in range(6)]
    assert len(list(tmp_path.glob("*.seg"))) == 3
    spool.settle(map(whole, reversed(records)), Outcome.SENT)  # the newest first
    newest = {f"{2:016x}.seg", f"{2:016x}.ack", f"{3:016x}.seg", f"{3:016x}.ack"}  # their sources may not know yet
    assert files(tmp_path) == {"lock", "totals.json"} | newest
    spool.close()
    for _ in range(2):
        spool = opened(tmp_path)
        assert (spool.tally[Outcome.SENT], spool.left) == (60, 0)
        assert files(tmp_path) == {"lock", "totals.json"} | newest
        spool.close()
    spool = opened(tmp_path, MB)
    records = [spool.put([entry(number, size=40_000)])[0] for number in range(6)]
    spool.settle(map(whole, records), Outcome.SENT)
    assert files(tmp_path) == {"lock", "totals.json"} | {f"{n:016x}.{kind}" for n in (5, 6) for kind in ("seg", "ack")}
    assert spool.tally[Outcome.SENT] == 120
    spool.close()


def test_what_was_queued_just_before_a_kill_is_known_to_each_of_the_next_processes(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.settle([whole(spool.put([entry(1)])[0])], Outcome.EXPIRED)
    spool.close()
    for _ in range(3):  # each is killed before it has put anything
        spool = Spool(tmp_path, MB)
        assert [body for _, body in spool.open()] == [entry(1).body]
        assert spool.left == 0
        spool.close()


def test_beyond_the_budget_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    spool = opened(tmp_path, MB)
    for number in range(40):
        spool.put([entry(number, size=40_000)])
    assert spool.size <= MB + 80_000
    gone = 40 - len(numbers(spool))
    assert numbers(spool) == list(range(gone, 40))
    assert gone >= 14
    assert (spool.tally[Outcome.EVICTED], spool.left) == (gone * 10, 400 - gone * 10)
    spool.close()


def test_what_is_being_sent_is_not_evicted(tmp_path: Path) -> None:
    spool = opened(tmp_path, MB)
    sending = spool.put([entry(0, size=40_000)])[0]
    sending.hold(0, 10)
    for number in range(1, 40):
        spool.put([entry(number, size=40_000)])
    assert numbers(spool)[0] == 0
    assert spool.read(sending) == entry(0, size=40_000).body
    spool.close()


def test_one_half_that_arrived_does_not_let_the_other_be_evicted(tmp_path: Path) -> None:
    spool = opened(tmp_path, MB)
    sending = spool.put([entry(0, size=40_000)])[0]
    sending.hold(0, 10)
    for half in ((0, 5), (5, 10)):
        sending.hold(*half)
    spool.settle([Piece(sending, 0, 5)], Outcome.SENT)
    for number in range(1, 40):
        spool.put([entry(number, size=40_000)])
    assert spool.settle([Piece(sending, 5, 10)], Outcome.SENT) == 5
    assert (spool.tally[Outcome.SENT], sending.busy) == (10, False)
    assert spool.left + spool.tally.total() == 400
    spool.close()


def test_two_processes_do_not_share_it(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.put([entry(1)])
    other = Spool(tmp_path, MB)
    with pytest.raises(SpoolTakenError, match="another process uses the queue on disk"):
        other.open()
    (record,) = other.put([entry(2)])
    assert (record.segment, other.trouble) == (None, "another process uses the queue on disk")
    spool.close()
    other.rescue()  # the other one is gone
    assert (other.trouble, other.left, record.safe) == ("", 20, True)
    other.close()
    spool = opened(tmp_path)
    assert numbers(spool) == [1, 2]
    spool.close()


# Damage


def last_segment(folder: Path) -> Path:
    return max(folder.glob("*.seg"))


def test_every_way_to_be_torn_leaves_what_was_whole(tmp_path: Path) -> None:
    """A kill in the middle of a write: the file ends anywhere."""
    spool = opened(tmp_path / "good")
    spool.put([entry(1)])
    before = last_segment(tmp_path / "good").stat().st_size
    spool.put([entry(2)])
    spool.close()
    data = last_segment(tmp_path / "good").read_bytes()
    folder = tmp_path / "torn"
    for size in (*range(20), *range(20, len(data), 7), before - 1, before, len(data) - 1):
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        (folder / "0000000000000001.seg").write_bytes(data[:size])
        spool = opened(folder)
        assert numbers(spool) == ([1] if size >= before else []), size
        spool.put([entry(3)])  # to a file of its own: nothing is appended to a torn end
        assert spool.aside == []
        spool.close()
        spool = opened(folder)
        assert numbers(spool) == ([1, 3] if size >= before else [3]), size
        spool.close()


def test_a_flipped_bit_costs_one_record_and_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = opened(tmp_path)
    spool.put([entry(1), entry(2), entry(3)])
    spool.close()
    path = last_segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"00000002")] ^= 1
    path.write_bytes(data)
    spool = opened(tmp_path)
    assert (numbers(spool), spool.tally[Outcome.DAMAGED]) == ([1, 3], 10)
    assert spool.aside == [f"{path.name} (damaged in part)"]
    spool.settle([whole(record) for record in list(spool.pending[1])], Outcome.SENT)
    spool.close()
    monkeypatch.setattr("vedette.spool.spool._TAIL", 0)
    spool = opened(tmp_path)
    assert f"{path.name}.aside" in files(tmp_path)
    assert (spool.left, spool.tally[Outcome.DAMAGED], spool.tally[Outcome.SENT]) == (0, 10, 20)
    spool.close()


@pytest.mark.parametrize("field", [0, 4, 8, 12, 16, 20, 24, 28, 32, 50])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_damaged_head_costs_one_record_wherever_it_is(tmp_path: Path, place: int, field: int) -> None:
    """A place in the first, a middle, and the last frame: its magic, checksums, sizes, counts, kind and times."""
    spool = opened(tmp_path)
    records = spool.put([entry(number, count=10 + number) for number in range(4)])
    spool.settle([Piece(records[place], 2, 5)], Outcome.SENT)
    spool.close()
    path = last_segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[records[place].offset - FRAME_SIZE + field] ^= 0x10
    path.write_bytes(data)
    spool = opened(tmp_path)
    assert numbers(spool) == [number for number in range(4) if number != place]
    assert (spool.tally[Outcome.DAMAGED], spool.tally[Outcome.SENT]) == (10 + place - 3, 3)
    assert spool.aside == [f"{path.name} (damaged in part)"]
    last = list(spool.pending[1])[-1]
    assert spool.read(last) == entry(int(last.oldest)).body
    spool.settle([whole(last)], Outcome.SENT)
    spool.close()
    spool = opened(tmp_path)
    assert len(numbers(spool)) == 2  # the note was of the right record
    assert spool.left + sum(spool.tally.values()) == 46
    spool.close()


def test_a_hole_over_several_records_is_counted(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    records = spool.put([entry(number) for number in range(6)])
    spool.settle([whole(records[2]), Piece(records[3], 0, 4)], Outcome.SENT)
    spool.close()
    path = last_segment(tmp_path)
    data = bytearray(path.read_bytes())
    start, stop = records[1].offset - 10, records[4].offset - 10
    data[start:stop] = bytes(stop - start)
    path.write_bytes(data)
    spool = opened(tmp_path)
    assert numbers(spool) == [0, 5]
    assert (spool.tally[Outcome.DAMAGED], spool.tally[Outcome.SENT]) == (26, 14)
    spool.close()


def test_a_damaged_beginning_of_a_file_costs_nothing(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.put([entry(1), entry(2)])
    spool.close()
    path = last_segment(tmp_path)
    path.write_bytes(b"V" + path.read_bytes()[1:])
    spool = opened(tmp_path)
    assert (numbers(spool), spool.tally[Outcome.DAMAGED]) == ([1, 2], 0)
    assert spool.aside == [f"{path.name} (damaged in part)"]
    spool.close()


def test_notes_that_cannot_be_read_have_items_sent_once_more(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.put([entry(1)])
    spool.close()
    notes = last_segment(tmp_path).with_suffix(".ack")
    notes.mkdir()
    spool = opened(tmp_path)
    assert (numbers(spool), spool.left) == ([1], 10)
    assert spool.aside == [f"{notes.name} (it is not a file; its items are sent once more)"]
    spool.settle([Piece(first(spool), 0, 4)], Outcome.SENT)
    spool.close()
    spool = opened(tmp_path)
    assert (spool.left, spool.trouble, spool.aside) == (6, "", [])
    spool.close()


def test_damage_that_comes_later_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    record = spool.put([entry(1)])[0]
    path = last_segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="its checksum is wrong"):
        spool.read(record)
    path.unlink()
    with pytest.raises(DamagedError, match="No such file"):
        spool.read(record)
    spool.close()


def test_a_segment_that_cannot_be_read_stays_and_is_read_once_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(tmp_path)
    spool.put([entry(1), entry(2)])
    spool.close()
    path, refused = last_segment(tmp_path), [True]
    sound = segment_module.read_file

    def read(at: Path) -> bytes:
        if at == path and refused:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return sound(at)

    monkeypatch.setattr(segment_module, "read_file", read)
    spool = opened(tmp_path)
    assert (numbers(spool), spool.aside, list(spool.unread.values())) == ([], [], ["Too many open files"])
    assert path.exists()
    spool.put([entry(3)])
    assert numbers(spool) == [3]
    refused.clear()
    spool._look_again_at = 0.0
    spool.rescue()
    assert (sorted(numbers(spool)), spool.left, spool.unread) == ([1, 2, 3], 30, {})
    spool.settle([whole(record) for record in list(spool.pending[1])], Outcome.SENT)
    assert (spool.left, spool.tally[Outcome.SENT]) == (0, 30)
    spool.close()


def test_what_is_set_aside_goes_only_when_it_takes_too_much_room(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number + 1:016x}.seg").write_bytes(b"another version's" + os.urandom(40_000))
    spool = Spool(tmp_path, 4 << 20)
    spool.open()
    assert (len(spool.aside), spool.removed) == (20, 0)
    assert sum(name.endswith(".aside") for name in files(tmp_path)) == 20
    spool.close()
    small = Spool(tmp_path, 1 << 20)
    small.open()
    assert (small.removed, sum(name.endswith(".aside") for name in files(tmp_path))) == (14, 6)
    small.close()


@pytest.mark.parametrize("content", [b"", b"vedette", b"PK\x03\x04 something else entirely", os.urandom(300), None])
def test_a_foreign_file_is_set_aside(tmp_path: Path, content: bytes | None) -> None:
    spool = opened(tmp_path)
    spool.put([entry(1)])
    spool.close()
    foreign = tmp_path / "00000000000000ff.seg"
    if content is None:
        foreign.mkdir()
    else:
        foreign.write_bytes(content)
    (tmp_path / "readme.txt").write_text("somebody's")
    (tmp_path / "totals.json").write_text("[1, 2")
    spool = opened(tmp_path)
    assert numbers(spool) == [1]
    assert "totals.json.aside" in files(tmp_path)
    assert ("00000000000000ff.seg.aside" in files(tmp_path)) == (content not in (b"", b"vedette"))
    assert "readme.txt" in files(tmp_path)
    record = spool.put([entry(2)])[0]
    assert record.segment is not None
    assert record.segment.number > 0xFF
    spool.close()


@pytest.mark.parametrize(
    "totals",
    [
        '{"items": {}, "folded": [], "next": 1e999}',
        '{"items": {}, "folded": [], "next": 99999999999999999999}',
        '{"items": {"SENT": -5}, "folded": [], "next": 1}',
        '{"items": {"SENT": 5}, "folded": [-1], "next": 1}',
        '{"items": {"SENT": 5.5}, "folded": [], "next": 1}',
        "[" * 100_000,
        None,
    ],
)
def test_counts_that_somebody_changed_are_set_aside(tmp_path: Path, totals: str | None) -> None:
    if totals is None:
        os.mkfifo(tmp_path / "totals.json")
    else:
        (tmp_path / "totals.json").write_text(totals)
    spool = opened(tmp_path)
    assert spool.aside == ["totals.json (the counts are damaged)"]
    assert spool.tally.total() == 0
    spool.put([entry(1)])
    spool.close()
    spool = opened(tmp_path)
    assert numbers(spool) == [1]
    spool.close()


@pytest.mark.parametrize("number", ["3fffffffffffffff", "4000000000000000", "ffffffffffffffff"])
def test_a_file_of_the_highest_number_loses_nothing(tmp_path: Path, number: str) -> None:
    spool = opened(tmp_path)
    spool.put([entry(1)])
    spool.close()
    last_segment(tmp_path).rename(tmp_path / f"{number}.seg")
    for place in (2, 3):
        spool = opened(tmp_path)
        spool.put([entry(place)])
        assert spool.trouble == ""
        spool.close()
    spool = opened(tmp_path)
    assert set(numbers(spool)) == ({1, 2, 3} if number.startswith("3") else {2, 3})
    spool.close()


def test_pipes_in_place_of_files_hold_nothing_up(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.put([entry(1)])
    spool.close()
    os.mkfifo(tmp_path / "00000000000000ff.seg")
    os.mkfifo(last_segment(tmp_path).with_name(f"{1:016x}.ack"))
    spool = opened(tmp_path)
    assert spool.aside == [
        f"{1:016x}.ack (it is not a file; its items are sent once more)",
        "00000000000000ff.seg (it is not a file)",
    ]
    spool.settle([whole(first(spool))], Outcome.SENT)
    assert (spool.left, spool.trouble) == (0, "")
    spool.close()


def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / "0000000000000001.seg").symlink_to(target)
    spool = opened(folder)
    assert len(spool.aside) == 1
    spool.put([entry(1)])
    spool.close()
    assert target.read_text() == "precious"


def test_notes_with_a_torn_end_or_nonsense_hold_as_far_as_they_are_whole(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    record = spool.put([entry(1)])[0]
    spool.settle([Piece(record, 0, 3)], Outcome.SENT)
    spool.settle([Piece(record, 3, 6)], Outcome.SENT)
    spool.close()
    notes = next(tmp_path.glob("*.ack"))
    notes.write_bytes(notes.read_bytes()[:-1])
    spool = opened(tmp_path)
    record = first(spool)
    assert record.rest == [(3, 10)]
    spool.settle([Piece(record, 5, 6)], Outcome.EXPIRED)
    spool.close()
    spool = opened(tmp_path)
    assert first(spool).rest == [(3, 5), (6, 10)]
    assert (spool.tally[Outcome.SENT], spool.tally[Outcome.EXPIRED]) == (3, 1)
    spool.close()
    with notes.open("ab") as stream:
        stream.write(b"\xff" * 20)
    spool = opened(tmp_path)
    assert first(spool).rest == [(3, 5), (6, 10)]
    spool.close()


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished files go at once."""
    monkeypatch.setattr("vedette.spool.spool._TAIL", 0)


@pytest.mark.usefixtures("forgetful")
def test_a_kill_between_the_counts_and_the_deletion_counts_nothing_twice(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.settle([whole(spool.put([entry(1)])[0])], Outcome.SENT)
    spool.close()
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix in (".seg", ".ack")}
    spool = opened(tmp_path)  # folds the finished segment
    assert json.loads((tmp_path / "totals.json").read_text())["items"]["SENT"] == 10
    spool.close()
    totals = json.loads((tmp_path / "totals.json").read_text())
    (tmp_path / "totals.json").write_text(json.dumps({**totals, "folded": [1]}))
    for name, data in kept.items():  # as if they had not been deleted any more
        (tmp_path / name).write_bytes(data)
    spool = opened(tmp_path)
    assert spool.tally[Outcome.SENT] == 10
    assert files(tmp_path) == {"lock", "totals.json"}
    spool.close()


@pytest.mark.usefixtures("forgetful")
def test_the_number_of_a_file_that_is_gone_is_not_used_again(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.settle([whole(spool.put([entry(1)])[0])], Outcome.SENT)
    spool.close()
    for _ in range(3):  # the first one folds it, the others find nothing
        opened(tmp_path).close()
    spool = opened(tmp_path)
    spool.put([entry(2)])
    spool.close()
    spool = opened(tmp_path)
    assert (numbers(spool), spool.tally[Outcome.SENT]) == ([2], 10)
    spool.close()


# Disks


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond 4096 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_degrades_to_memory_and_back(tmp_path: Path, full_disk: None) -> None:
    spool = opened(tmp_path)
    (small,) = spool.put([entry(1)])
    (large,) = spool.put([entry(2, size=8000)])
    assert (small.safe, large.safe, spool.in_memory) == (True, False, 8000)
    assert spool.trouble == f"the queue is in memory only: {tmp_path}: File too large"
    assert spool.read(large) == entry(2, size=8000).body
    spool.settle([Piece(large, 0, 4)], Outcome.SENT)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    (third,) = spool.put([entry(3)])
    assert (large.safe, third.safe, spool.in_memory, spool.trouble) == (True, True, 0, "")
    spool.close()
    spool = opened(tmp_path)
    assert numbers(spool) == [1, 2, 3]
    assert [record.rest for record in spool.pending[1]] == [[(0, 10)], [(4, 10)], [(0, 10)]]
    spool.close()


@pytest.mark.usefixtures("forgetful")
def test_a_file_stays_until_its_counts_are_written(tmp_path: Path, full_disk: None) -> None:
    spool = opened(tmp_path)
    spool.settle([whole(spool.put([entry(1)])[0])], Outcome.SENT)
    spool.close()
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, most))
    spool = opened(tmp_path)
    assert spool.tally[Outcome.SENT] == 10
    spool.close()
    assert last_segment(tmp_path).name == f"{1:016x}.seg"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, most))
    (tmp_path / "totals.new").unlink()
    (tmp_path / "totals.new").mkdir()  # somebody's
    for _ in range(2):
        spool = opened(tmp_path)
        assert (spool.tally[Outcome.SENT], list(tmp_path.glob("*.seg"))) == (10, [])
        spool.close()


@pytest.mark.usefixtures("forgetful")
def test_on_a_full_disk_a_file_makes_room_for_its_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = opened(tmp_path)
    spool.settle([whole(spool.put([entry(1)])[0])], Outcome.SENT)
    spool.close()
    written = Totals.save

    def save(totals: Totals, path: Path) -> None:
        if list(tmp_path.glob("*.seg")):
            raise OSError(errno.ENOSPC, "No space left on device")
        written(totals, path)

    monkeypatch.setattr(Totals, "save", save)
    for _ in range(2):
        spool = opened(tmp_path)
        assert (spool.tally[Outcome.SENT], list(tmp_path.glob("*.seg"))) == (10, [])
        spool.close()


def test_a_folder_that_cannot_be_made_works_in_memory_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spool = Spool(tmp_path / "file" / "spool", MB)
    with pytest.raises(OSError):
        spool.open()
    (record,) = spool.put([entry(1)])
    assert (record.safe, spool.trouble != "") == (False, True)
    (tmp_path / "file").unlink()
    (tmp_path / "file").mkdir()
    spool.rescue()
    assert (record.safe, spool.trouble) == (True, "")
    spool.close()


def test_without_a_folder_it_is_a_queue_in_memory() -> None:
    spool = Spool(None, MB)
    assert spool.open() == []
    first_, second = spool.put([entry(1), entry(2)])
    assert (spool.left, spool.trouble, spool.size, spool.in_memory) == (20, "", 0, 192)
    spool.settle([whole(second)], Outcome.SENT)
    assert (numbers(spool), spool.in_memory, spool.tally[Outcome.SENT]) == ([1], 96, 10)
    assert spool.read(first_) == entry(1).body
    spool.close()


# Kills

WRITER = textwrap.dedent("""
    import os, random, sys
    from pathlib import Path
    from vedette.kit import Entry, Outcome, Piece, Spool
    spool = Spool(Path(sys.argv[1]), 1024 * 1024 * 1024)
    spool._share = 20_000
    spool.open()
    dice = random.Random(int(sys.argv[2]))
    number = int(sys.argv[3])
    while True:
        entries = []
        for _ in range(dice.randint(1, 3)):
            body = b"%08d" % number * dice.randint(1, 200)
            entries.append(Entry(1, 0, 10, len(body), number, number, body))
            number += 1
        spool.put(entries)
        os.write(1, b"put %d\\n" % number)
        pending = list(spool.pending[1])
        for record in dice.sample(pending, min(len(pending), dice.randint(0, 4))):
            start = dice.randint(0, 9)
            piece = Piece(record, start, dice.randint(start + 1, 10))
            outcome = dice.choice([Outcome.SENT, Outcome.EXPIRED])
            settled = spool.settle([piece], outcome)
            os.write(1, b"settled %d %d\\n" % (outcome, settled))
""")


def killed(folder: Path, seed: int, number: int, lines: int) -> tuple[int, Counter[int]]:
    """Run the writer, kill it after so many lines; returns what it said: the next number, and what it settled."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(seed), str(number)], stdout=subprocess.PIPE
    )
    said: Counter[int] = Counter()
    put = number
    assert process.stdout is not None
    for place, line in enumerate(process.stdout):
        word, *figures = line.split()
        if word == b"put":
            put = int(figures[0])
        else:
            said[int(figures[0])] += int(figures[1])
        if place == lines:
            process.kill()
    process.stdout.close()
    process.wait()
    return put, said


def survives(folder: Path, kills: int) -> None:
    dice = random.Random(1)
    number, said = 0, Counter[int]()
    for kill in range(kills):
        number, more = killed(folder, kill, number, dice.randint(1, 200))
        said += more
        spool = opened(folder, 1024 * MB)
        tally = sum(spool.tally.values())
        # one record may have been put, and one settled, without a word about it
        everything = {int(record.oldest) for segment in spool._segments.values() for record in segment.records}
        most = max(everything, default=number - 1) + 1
        assert number <= most <= number + 3
        assert 0 <= tally - sum(said.values()) <= 10
        assert spool.left + tally == most * 10
        for record in spool.pending[1]:
            assert spool.read(record).startswith(b"%08d" % int(record.oldest))
        said = Counter({int(outcome): count for outcome, count in spool.tally.items()})
        number = most
        spool.close()
        assert spool.aside == []


def test_it_survives_kills_in_the_middle_of_its_work(tmp_path: Path) -> None:
    survives(tmp_path, 3)


@pytest.mark.soak
def test_it_survives_many_kills_in_the_middle_of_its_work(tmp_path: Path) -> None:
    survives(tmp_path, 60)
