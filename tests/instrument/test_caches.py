"""redis-py on a real server: plain, asynchronous, pipelines, a cluster; what hits and misses."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from servers import RedisServer, valkey9
from sinks.parts import Port
from vedette.instrument import TechnicalMetrics, instrument_redis

from .parts import Line

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    made = RedisServer(valkey9(), tmp_path_factory.mktemp("redis"))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def server(shared: RedisServer) -> RedisServer:
    shared.command("FLUSHALL")
    return shared


@pytest.fixture
async def aio(server: RedisServer, technical: TechnicalMetrics) -> AsyncIterator[Any]:
    client = redis.asyncio.Redis(port=server.port)
    assert instrument_redis(client, metrics=technical) is client
    assert instrument_redis(client, metrics=technical) is client  # a second time changes nothing
    yield client
    await client.aclose()


async def told(technical: TechnicalMetrics, port: Port) -> tuple[list[str], list[str], list[str]]:
    """Operations with hit, results of the ratio, and operations with a time, so far."""
    assert await asyncio.to_thread(technical.flush, 10.0)
    await port.wait_for(technical.stats().sent)
    found = [Line.of(line) for line in port.lines]
    values = {
        name: [" ".join(tag.partition(":")[2] for tag in line.tags) for line in found if line.name == name]
        for name in ("cache.operations", "cache.hit_ratio", "cache.response_time")
    }
    assert technical.stats().failed == 0
    return values["cache.operations"], values["cache.hit_ratio"], values["cache.response_time"]


async def test_hits_and_misses(aio: Any, port: Port, technical: TechnicalMetrics) -> None:
    assert await aio.get("a") is None
    await aio.set("a", 1)
    assert await aio.get("a") == b"1"
    assert await aio.mget("a", "b", "c") == [b"1", None, None]
    await aio.hset("h", "f", 1)
    assert await aio.hget("h", "f") == b"1"
    assert await aio.hmget("h", "f", "g") == [b"1", None]
    await aio.delete("a")
    assert await told(technical, port) == (
        [
            "get false", "set none", "get true", "mget true", "mget false", "mget false", "hset none", "hget true",
            "hmget true", "hmget false", "del none",
        ],
        ["miss", "hit", "hit", "miss", "miss", "hit", "hit", "miss"],
        ["get", "set", "get", "mget", "hset", "hget", "hmget", "del"],
    )  # fmt: skip


async def test_pipelines(aio: Any, port: Port, technical: TechnicalMetrics) -> None:
    async with aio.pipeline(transaction=True) as pipeline:
        pipeline.set("a", 1).get("a").get("b").incr("n")
        assert await pipeline.execute() == [True, b"1", None, 1]
    async with aio.pipeline() as pipeline:
        assert await pipeline.execute() == []
    operations, ratio, times = await told(technical, port)
    assert operations == ["pipeline none", "get true", "get false", "pipeline none"]
    assert (ratio, times) == (["hit", "miss"], ["pipeline", "pipeline"])


async def test_errors_and_blocking_commands(aio: Any, port: Port, technical: TechnicalMetrics) -> None:
    await aio.rpush("list", 1)
    with pytest.raises(redis.ResponseError):
        await aio.get("list")
    await aio.blpop(["list"], timeout=1)
    await aio.config_get("maxmemory")
    operations, ratio, times = await told(technical, port)
    assert operations == ["rpush none", "get none", "other none"]
    assert (ratio, times) == ([], ["rpush", "get", "other"])


async def test_a_server_that_is_down(port: Port, technical: TechnicalMetrics) -> None:
    client = instrument_redis(redis.asyncio.Redis(port=1, retry=Retry(NoBackoff(), 0)), metrics=technical)
    with pytest.raises(redis.ConnectionError):
        await client.get("a")
    assert (await told(technical, port))[0] == ["get none"]
    await client.aclose()


async def test_a_plain_client(server: RedisServer, port: Port, technical: TechnicalMetrics) -> None:
    client = instrument_redis(redis.Redis(port=server.port), metrics=technical)
    client.set("a", 1)
    assert client.get("a") == b"1"
    with client.pipeline() as pipeline:
        pipeline.get("a")
        pipeline.get("b")
        assert pipeline.execute() == [b"1", None]
    client.close()
    operations, ratio, _ = await told(technical, port)
    assert operations == ["set none", "get true", "pipeline none", "get true", "get false"]
    assert ratio == ["hit", "hit", "miss"]


async def test_what_a_pipeline_asks_while_it_watches(aio: Any, port: Port, technical: TechnicalMetrics) -> None:
    await aio.set("a", 1)
    async with aio.pipeline() as pipeline:
        await pipeline.watch("a")
        assert await pipeline.get("a") == b"1"
        pipeline.multi()
        assert await pipeline.get("b").execute() == [None]
    operations, ratio, times = await told(technical, port)
    assert operations == ["set none", "watch none", "get true", "pipeline none", "get false"]
    assert (ratio, times) == (["hit", "miss"], ["set", "watch", "get", "pipeline"])


def test_a_pipeline_that_is_forgotten_is_gone_at_once(
    server: RedisServer, port: Port, technical: TechnicalMetrics
) -> None:
    """With the connection on which it watches."""
    client = instrument_redis(redis.Redis(port=server.port), metrics=technical)
    gc.disable()
    try:
        pipeline = client.pipeline()
        assert isinstance(pipeline, redis.client.Pipeline)
        pipeline.watch("a")
        assert len(client.connection_pool._in_use_connections) == 1
        gone = weakref.ref(pipeline)
        del pipeline
        assert gone() is None
        assert len(client.connection_pool._in_use_connections) == 0
    finally:
        gc.enable()
    client.close()
