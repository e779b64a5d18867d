"""The state store: durable, locked, atomic, and visible when the disk is not what it should be."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vedette.errors import StateError
from vedette.state import StateStore, state_directory

pytestmark = pytest.mark.anyio


async def commit(directory: Path, instance: str, **values: object) -> None:
    store = StateStore(directory)
    store.apply(instance, values.items())
    await store.close()


async def test_commits_survive_and_belong_to_their_instance(tmp_path: Path) -> None:
    await commit(tmp_path, "sql/a", mark=17, text="ä", deep={"x": [1, None]})
    await commit(tmp_path, "sql/b", mark=18)
    await commit(tmp_path, "sql/a", mark=19)
    store = StateStore(tmp_path, writable=False)
    assert dict(store.view("sql/a")) == {"mark": 19, "text": "ä", "deep": {"x": [1, None]}}
    assert dict(store.view("sql/b")) == {"mark": 18}
    assert dict(store.view("sql/none")) == {}


async def test_a_view_follows_commits_and_cannot_be_written(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    view = store.view("sql/a")
    store.apply("sql/a", [("mark", 1)])
    assert view["mark"] == 1
    with pytest.raises(TypeError):
        view["mark"] = 2  # type: ignore[index]
    await store.close()


async def test_many_commits_at_once_end_with_the_last_value_of_each_key(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    for number in range(500):
        store.apply(f"i/{number % 10}", [("n", number)])
        if number % 50 == 0:
            await asyncio.sleep(0)
    await store.close()
    again = StateStore(tmp_path, writable=False)
    assert [again.view(f"i/{n}")["n"] for n in range(10)] == list(range(490, 500))


async def test_adopted_values_are_visible_at_once_and_on_disk_once_asked_for(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    first = store.adopt("sql/a", [("mark", 1), ("other", 1)])
    second = store.adopt("sql/a", [("mark", 2)])
    assert store.view("sql/a") == {"mark": 2, "other": 1}
    second()
    first()  # comes late: the newer mark stays
    await store.close()
    assert StateStore(tmp_path, writable=False).view("sql/a") == {"mark": 2, "other": 1}


async def test_adopted_values_that_nobody_asks_for_are_gone_after_the_stop(tmp_path: Path) -> None:
    await commit(tmp_path, "sql/a", mark=1)
    store = StateStore(tmp_path)
    store.adopt("sql/a", [("mark", 2)])
    assert await store.save("sql/a", "due", True)
    await store.close()
    assert StateStore(tmp_path, writable=False).view("sql/a") == {"mark": 1, "due": True}


async def test_a_saved_value_is_on_disk_when_save_returns(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.apply("sql/a", [("mark", 1)])
    assert await store.save("synthetic/pay", "due", {"payment": "p-1"}) is True
    with sqlite3.connect(tmp_path / "state.db") as database:
        rows = database.execute("SELECT instance, key, value FROM state ORDER BY key").fetchall()
    database.close()
    assert rows == [("synthetic/pay", "due", '{"payment": "p-1"}'), ("sql/a", "mark", "1")]
    assert await store.save("synthetic/pay", "due", object()) is False
    await store.close()
    reader = StateStore(tmp_path, writable=False)
    assert await reader.save("synthetic/pay", "due", 2) is False
    assert dict(reader.view("synthetic/pay")) == {"due": {"payment": "p-1"}}


async def test_saving_to_a_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = StateStore(tmp_path / "file" / "state")
    assert await store.save("synthetic/pay", "due", 1) is False
    assert store.view("synthetic/pay")["due"] == 1
    await store.close()


async def test_a_second_agent_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    import os

    store = StateStore(tmp_path)
    with pytest.raises(StateError, match=rf"another vedette agent \(process {os.getpid()}\) uses {tmp_path}"):
        StateStore(tmp_path)
    reader = StateStore(tmp_path, writable=False)  # `vedette check` beside a running agent
    assert dict(reader.view("x/y")) == {}
    await store.close()
    await StateStore(tmp_path).close()


async def test_a_value_that_json_cannot_hold_is_refused_and_the_others_are_kept(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.apply("i/a", [("bad", object()), ("nan", float("nan")), ("good", 1)])
    assert dict(store.view("i/a")) == {"good": 1}
    assert store.errors == 2
    assert store.trouble == "i/a committed a value under 'nan' that JSON cannot hold"
    await store.close()


async def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"this is no database at all" * 100)
    await commit(tmp_path, "i/a", n=1)
    assert len(list(tmp_path.glob("state.db.damaged-*"))) == 1  # noqa: ASYNC240
    assert dict(StateStore(tmp_path, writable=False).view("i/a")) == {"n": 1}


async def test_a_directory_that_cannot_be_made_keeps_values_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = StateStore(tmp_path / "file" / "state")
    assert store.trouble == f"state is kept in memory only: {tmp_path}/file/state: Not a directory"
    store.apply("i/a", [("n", 1)])
    assert store.view("i/a")["n"] == 1
    await store.close()


FULL_DISK = """
import asyncio, json, resource, signal, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from vedette.state import StateStore

async def main():
    store = StateStore(Path(sys.argv[1]))
    store.apply("i/a", [("before", "kept")])
    await store._writer
    size = (Path(sys.argv[1]) / "state.db").stat().st_size
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    store.apply("i/a", [("big", "x" * 200_000)])
    await store._writer
    during = [store.trouble, store.errors, len(store.view("i/a")["big"])]
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.apply("i/a", [("after", 1)])
    await store._writer
    print(json.dumps([during, store.trouble]))
    await store.close()

asyncio.run(main())
"""


def test_a_full_disk_shows_keeps_the_value_and_heals(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    (trouble, errors, length), after = json.loads(done.stdout)
    assert trouble.startswith(f"state is kept in memory only: {tmp_path}/state.db: ")
    assert (errors, length, after) == (1, 200_000, "")
    with sqlite3.connect(tmp_path / "state.db") as database:
        keys = [row[0] for row in database.execute("SELECT key FROM state ORDER BY key")]
    database.close()
    assert keys == ["after", "before", "big"]


@pytest.mark.parametrize(
    ("configured", "environ", "expected"),
    [
        ("/srv/state", {"STATE_DIRECTORY": "/var/lib/vedette"}, "/srv/state"),
        ("", {"STATE_DIRECTORY": "/var/lib/vedette:/other"}, "/var/lib/vedette"),
        ("", {"XDG_STATE_HOME": "/home/x/.state"}, "/home/x/.state/vedette"),
    ],
)
def test_where_state_lives(configured: str, environ: dict[str, str], expected: str) -> None:
    assert state_directory(configured, environ) == Path(expected)


def test_last_words_are_on_disk_at_once_and_from_any_thread(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(store.record, "vedette/watchdog", "a/b", {"reason": "x"}).result() is True
    assert store.view("vedette/watchdog") == {"a/b": {"reason": "x"}}
    store.release()
    reader = StateStore(tmp_path, writable=False)
    assert reader.view("vedette/watchdog") == {"a/b": {"reason": "x"}}
    assert reader.record("vedette/watchdog", "a/b", 1) is False


async def test_settled_waits_for_the_disk_and_not_for_a_disk_that_refuses(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    await store.settled("logs/a")  # nothing was committed
    land = store.adopt("logs/a", [("mark", 1)])
    waiting = asyncio.create_task(store.settled("logs/a"))
    await store.settled("logs/b")  # that of another is none of its business
    await asyncio.sleep(0)
    assert not waiting.done()
    land()
    await asyncio.wait_for(waiting, 10)
    assert StateStore(tmp_path, writable=False).view("logs/a")["mark"] == 1
    newer, older = store.adopt("logs/a", [("mark", 3)]), store.adopt("logs/a", [("mark", 4)])
    older()
    await asyncio.sleep(0)
    newer()  # superseded: there is nothing to write
    await asyncio.wait_for(store.settled("logs/a"), 10)
    (tmp_path / "state.db").unlink()
    (tmp_path / "state.db").mkdir()
    store.apply("logs/a", [("mark", 5)])
    await asyncio.wait_for(store.settled("logs/a"), 10)
    assert store.trouble
    (tmp_path / "state.db").rmdir()
    store.apply("logs/a", [("mark", 6)])
    await store.close()
    assert not store.trouble
