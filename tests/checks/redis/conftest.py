"""Servers and a driver for the redis check's tests; every test of `server` runs on Redis 6.2 and on Valkey 9."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from servers import Certificates, RedisServer, redis62, valkey9

from .driver import Servers, Watches

BINARIES: dict[str, Callable[[], Path]] = {"redis6.2": redis62, "valkey9": valkey9}


@pytest.fixture(scope="session", params=sorted(BINARIES))
def binary(request: pytest.FixtureRequest) -> Path:
    return BINARIES[request.param]()


@pytest.fixture(scope="session")
def shared_server(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(binary, tmp_path_factory.mktemp("redis"), unix_socket=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(shared_server: RedisServer) -> RedisServer:
    """A running server without data; it is shared, so tests that harm theirs make their own."""
    with shared_server.client() as client:
        client.flushall()
        client.config_resetstat()
        for user in client.acl_users():
            if user not in ("default", b"default"):
                client.acl_deluser(user)
    return shared_server


@pytest.fixture
def servers(binary: Path, tmp_path: Path) -> Iterator[Servers]:
    made = Servers(binary, tmp_path)
    yield made
    made.end()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def watch() -> AsyncIterator[Watches]:
    made = Watches()
    yield made
    await made.end()
