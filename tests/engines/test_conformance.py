"""What every coordination engine must do, whatever happens to its server: the contract of `vedette.Engine`."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import aclosing, suppress
from typing import Any

import pytest

from proxies import silent_proxy
from servers import eventually
from vedette import Engine, EngineConflict, EngineRecord, EngineUnavailable

from .backends import Backend
from .conftest import LONG, Opening, answered

pytestmark = pytest.mark.anyio

SHORT = 1.0  # seconds of ttl: a third of it is how long a request waits for a silent server
ODD = 'claims/postgres/payments "primary" {ä}*?[x]/2'


def member(seq: int, **more: Any) -> str:
    return json.dumps({"identity": "node-7", "seq": seq, **more})


async def unavailable(request: Any) -> str:
    """The sentence of a request that fails, in time."""
    async with asyncio.timeout(LONG):
        with pytest.raises(EngineUnavailable) as caught:
            await request
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return text


async def test_a_record_is_what_was_written_last(opened: Opening) -> None:
    engine = await opened()
    assert await engine.get(ODD) is None
    assert await engine.read("claims/") == []
    first = await engine.write(ODD, '{"owner":"ä€"}', None)
    second = await engine.write(ODD, '{"owner":"b"}', first)
    assert first != second
    assert await engine.get(ODD) == EngineRecord(ODD, '{"owner":"b"}', second)
    assert await engine.read("claims/") == [EngineRecord(ODD, '{"owner":"b"}', second)]
    for key, revision, value in (
        (ODD, None, "is there already"),
        (ODD, first, "is of yesterday"),
        ("claims/other", second, "is not there"),
    ):
        with pytest.raises(EngineConflict):
            await engine.write(key, json.dumps(value), revision)
    assert await engine.read("") == [EngineRecord(ODD, '{"owner":"b"}', second)]


async def test_a_removed_record_does_not_come_back(opened: Opening) -> None:
    engine = await opened()
    first = await engine.write("members/a", member(1), None)
    second = await engine.write("members/a", member(2), first)
    with pytest.raises(EngineConflict):
        await engine.remove("members/a", first)
    await engine.remove("members/a", second)
    await engine.remove("members/a", second)
    for revision in (first, second):
        with pytest.raises(EngineConflict):
            await engine.write("members/a", member(3), revision)
    assert await engine.get("members/a") is None
    again = await engine.write("members/a", member(4), None)
    assert again not in (first, second)
    with pytest.raises(EngineConflict):
        await engine.remove("members/a", second)


async def test_prefixes_and_fleets_keep_records_apart(opened: Opening, fleet: str) -> None:
    engine, other = await opened(), await opened(fleet=f"{fleet}-2")
    keys = ["members/a", "members/ab", "claims/a", "catalogues/a"]
    for key in keys:
        await engine.write(key, json.dumps({"of": key}), None)
    await other.write("members/a", "{}", None)
    assert {one.key: json.loads(one.value)["of"] for one in await engine.read("")} == {key: key for key in keys}
    assert [one.key for one in await engine.read("claims/")] == ["claims/a"]
    assert [one.key for one in await engine.read("members/ab")] == ["members/ab"]
    assert await engine.read("memberships/") == []
    assert [one.value for one in await other.read("")] == ["{}"]


async def test_of_many_writers_one_wins(opened: Opening) -> None:
    engines = [await opened() for _ in range(3)]

    async def attempt(engine: Engine[Any], number: int, revision: str | None) -> str | None:
        try:
            return await engine.write("claims/x", json.dumps({"owner": f"{number}"}), revision)
        except EngineConflict:
            return None

    revision: str | None = None
    for _ in range(3):
        results = await asyncio.gather(*(attempt(engines[n % 3], n, revision) for n in range(12)))
        (winner,) = [n for n, made in enumerate(results) if made is not None]
        record = await engines[0].get("claims/x")
        assert record == EngineRecord("claims/x", json.dumps({"owner": f"{winner}"}), results[winner])
        revision = record.revision if record else None


async def test_no_write_of_many_is_lost(opened: Opening) -> None:
    engines = [await opened() for _ in range(3)]
    await engines[0].write("claims/x", json.dumps({"state": 0}), None)

    async def add(engine: Engine[Any]) -> None:
        while True:
            record = await engine.get("claims/x")
            assert record is not None
            try:
                value = json.dumps({"state": json.loads(record.value)["state"] + 1})
                await engine.write("claims/x", value, record.revision)
                return
            except EngineConflict:
                continue

    await asyncio.gather(*(add(engine) for engine in engines for _ in range(6)))
    record = await engines[0].get("claims/x")
    assert record is not None
    assert json.loads(record.value) == {"state": 18}


async def test_a_guard_must_be_as_it_was(backend: Backend, opened: Opening) -> None:
    if not backend.guards:
        pytest.skip("it does not forget what it has acknowledged")
    engine = await opened()
    mine = EngineRecord("members/a", member(1), await engine.write("members/a", member(1), None))
    claim = await engine.write("claims/x", '{"owner":"a"}', None, mine)
    await engine.remove("members/a", mine.revision)
    for key, revision in (("claims/x", claim), ("claims/y", None)):
        with pytest.raises(EngineConflict, match="members/a is not what it was"):
            await engine.write(key, '{"owner":"a","token":2}', revision, mine)
    assert [one.revision for one in await engine.read("claims/")] == [claim]


async def test_big_values(opened: Opening) -> None:
    engine = await opened()
    big = json.dumps({"state": {"text": "x" * 199_900}})
    revision = await engine.write("claims/big", big, None)
    assert await engine.get("claims/big") == EngineRecord("claims/big", big, revision)


@pytest.mark.parametrize("many", [60, pytest.param(1000, marks=pytest.mark.soak)])
async def test_many_records(opened: Opening, many: int) -> None:
    engine = await opened()
    keys = [f"claims/check/{number}" for number in range(many)]
    await asyncio.gather(*(engine.write(key, '{"owner":""}', None) for key in keys))
    assert sorted(one.key for one in await engine.read("claims/check/")) == sorted(keys)


async def test_a_write_whose_answer_is_lost_was_made_or_not(backend: Backend, opened: Opening) -> None:
    async with silent_proxy(backend.server.port) as proxy:
        through, direct = await opened(port=proxy.port, ttl=SHORT * 2), await opened()
        known = await direct.write("members/a", member(1), None)
        assert await through.get("members/a") is not None
        proxy.speak(replies=False)
        await unavailable(through.write("members/a", member(2), known))
        record = await direct.get("members/a")
        assert record is not None
        assert record.value == member(2)

        proxy.speak()
        with pytest.raises(EngineConflict):  # nobody learnt the new revision
            await through.write("members/a", member(3), known)
        assert await through.get("members/a") == record
        proxy.speak(requests=False)
        await unavailable(through.write("members/a", member(3), record.revision))
        assert await direct.get("members/a") == record
        proxy.speak()
        assert await through.write("members/a", member(3), record.revision) != record.revision


async def test_a_broken_connection_costs_no_write(backend: Backend, opened: Opening) -> None:
    async with silent_proxy(backend.server.port) as proxy:
        engine = await opened(port=proxy.port)
        revision = await engine.write("members/a", member(0), None)
        for seq in range(1, 6):
            proxy.cut()
            async with asyncio.timeout(LONG):
                while True:
                    try:
                        revision = await engine.write("members/a", member(seq), revision)
                        break
                    except EngineUnavailable:
                        found = await engine.get("members/a")
                        assert found is not None
                        revision = found.revision
        record = await engine.get("members/a")
        assert record == EngineRecord("members/a", member(5), revision)


async def test_a_frozen_server_holds_nobody(backend: Backend, opened: Opening) -> None:
    patient, engine = await opened(), await opened(ttl=SHORT)
    record = EngineRecord("members/a", member(1), await patient.write("members/a", member(1), None))
    backend.server.pause()
    try:
        requests = [
            engine.read("members/"),
            engine.get("members/a"),
            engine.write("members/a", member(2), record.revision),
            engine.write("members/b", member(1), None),
            engine.remove("members/a", "0/0"),
            *(engine.get(f"members/{number}") for number in range(10)),
        ]
        for text in await asyncio.gather(*map(unavailable, requests)):
            assert re.search(r"127\.0\.0\.1|the API server", text), text
            assert re.search(r"no answer|did not answer", text), text
    finally:
        backend.server.resume()
    written = ""
    while not written:
        found = await patient.get("members/a")
        assert found is not None
        with suppress(EngineConflict):  # what was asked of the frozen server got through just now
            written = await patient.write("members/a", member(3), found.revision)


async def test_a_crash_loses_nothing_and_hints_begin_again(backend: Backend, opened: Opening) -> None:
    engine = await opened()
    known = await engine.write("members/a", member(1), None)
    changes = engine.changes()
    async with asyncio.timeout(LONG):
        await anext(changes)
    backend.server.kill()
    await unavailable(anext(changes))
    await unavailable(anext(engine.changes()))
    backend.server.start()
    await answered(lambda: anext(engine.changes()))
    record = await engine.get("members/a")
    assert record is not None
    assert (record.value, record.revision == known) == (member(1), backend.remembers)
    if not backend.remembers:  # a restart may have lost writes: nothing counts that was known before
        assert record.memory not in ("", known.partition("@")[2])
        for stale in (engine.write("members/a", member(2), known), engine.remove("members/a", known)):
            with pytest.raises(EngineConflict):
                await stale
        with pytest.raises(EngineConflict):
            await engine.write("claims/x", "{}", None, record._replace(revision=known))
    assert await engine.write("members/a", member(2), record.revision) != known


async def test_a_server_that_is_gone_and_comes_back_empty(backend: Backend, opened: Opening) -> None:
    engine = await opened()
    known = await engine.write("members/a", member(1), None)
    backend.server.stop()
    text = await unavailable(engine.read("members/"))
    assert "nothing listens" in text
    backend.forget()
    backend.server.start()
    assert await answered(lambda: engine.get("members/a")) is None
    assert await engine.read("members/") == []
    with pytest.raises(EngineConflict):
        await engine.write("members/a", member(2), known)
    assert await engine.write("members/a", member(2), None) != known


async def test_hints_tell_of_what_others_wait_for(opened: Opening) -> None:
    engine, other = await opened(), await opened()
    await other.write("claims/old", '{"owner":"a"}', None)
    heard = 0

    async def listen() -> None:
        nonlocal heard
        async with aclosing(engine.changes()) as changes:
            async for _ in changes:
                heard += 1

    async def told(before: int) -> None:
        await eventually(lambda: heard > before, "a hint", LONG)

    task = asyncio.create_task(listen())
    try:
        await told(0)  # that it listens now
        before = heard
        member_ = await other.write("members/a", member(1), None)
        await told(before)
        claim = await other.write("claims/x", '{"owner":"a","token":1,"state":{}}', None)
        await told(before + 1)
        before = heard
        for seq in range(2, 12):  # nobody waits for these
            member_ = await other.write("members/a", member(seq), member_)
            state = json.dumps({"owner": "a", "token": 1, "state": {"seq": seq}})
            claim = await other.write("claims/x", state, claim)
        claim = await other.write("claims/x", '{"owner":"","token":1,"state":{}}', claim)
        await told(before)
        assert heard == before + 1
        await other.write("members/a", member(20, ready=True), member_)
        await told(before + 1)
        record = await other.get("claims/old")
        assert record is not None
        await other.remove("claims/old", record.revision)
        await told(before + 2)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
