"""No connection, and connections that end: what is said, and that totals stay level. More trouble: test_trouble.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from postgres_servers import PostgresServer
from vedette import Status
from vedette_checks.postgres.target import parse_dsn

from .conftest import Watch, run

pytestmark = pytest.mark.anyio


async def test_nothing_listens(closed_port: int) -> None:
    class Nowhere:
        port = closed_port

    outcome = await run(Nowhere)
    assert str(outcome.error).startswith(f"nothing listens on 127.0.0.1:{Nowhere.port}")
    assert outcome.status("postgres.can_connect", port=Nowhere.port, db="postgres") is Status.CRITICAL


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dbname": "no_such"}, "{place} has no database no_such"),
        ({"username": "no_such"}, "{place} refused no_such"),
        ({"sslmode": "require"}, "{place} does not speak TLS"),
    ],
)
async def test_refused(server: PostgresServer, options: dict[str, str], message: str) -> None:
    outcome = await run(server, **options)
    assert str(outcome.error).startswith(message.format(place=f"127.0.0.1:{server.port}"))


async def test_a_restart_between_two_runs_keeps_totals_level(servers: Callable[..., PostgresServer]) -> None:
    server = await asyncio.to_thread(servers)
    watch = Watch(server)
    before = {(s.name, s.tags): s.value for s in (await watch.run())[0].samples if s.kind in ("counter", "rate")}
    await asyncio.to_thread(server.kill)
    assert (await watch.run())[1].startswith(f"nothing listens on 127.0.0.1:{server.port}")
    await asyncio.to_thread(server.start)
    batch, error = await watch.run()
    assert error == ""
    after = {(s.name, s.tags): s.value for s in batch.samples if s.kind in ("counter", "rate")}
    assert {key: after[key] for key in before} == before
    await watch.check.close()


async def test_a_restart_between_two_runs_goes_unnoticed(servers: Callable[..., PostgresServer]) -> None:
    server = await asyncio.to_thread(servers)
    watch = Watch(server)
    assert (await watch.run())[1] == ""
    await asyncio.to_thread(server.restart)
    batch, error = await watch.run()
    assert error == ""
    assert [status.status for status in batch.statuses] == [Status.OK] * 3
    await watch.check.close()


@pytest.mark.parametrize(
    ("dsn", "message"),
    [
        ("mysql://db1/x", "must look like postgresql://"),
        ("postgresql://a,b/x", "names several hosts"),
        ("postgresql://db1/x?sslmode=maybe", "sslmode must be one of"),
        ("postgresql://db1/x?target_session_attrs=any", "has the parameter target_session_attrs"),
        ("postgresql://u:p/w@db1:x/y", "is not a URL"),
    ],
)
async def test_a_bad_dsn_says_what_is_wrong(dsn: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_dsn(dsn)
