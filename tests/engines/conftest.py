"""One server of each kind for all tests; each test has a fleet of its own there."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest

from vedette import Engine, EngineUnavailable

from .backends import BACKENDS, Backend

T = TypeVar("T")
LONG = 20.0
"""Seconds: far more than any request may take here."""


async def answered(request: Callable[[], Awaitable[T]]) -> T:
    """What a request brings, once the server is there again."""
    async with asyncio.timeout(LONG):
        while True:
            try:
                return await request()
            except EngineUnavailable:
                await asyncio.sleep(0.01)


@pytest.fixture(scope="session", params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    made = BACKENDS[request.param](tmp_path_factory.mktemp(request.param))
    made.server.start()
    yield made
    made.server.kill()


@pytest.fixture
def fleet() -> str:
    return f"f{uuid.uuid4().hex[:12]}"


Opening = Callable[..., Awaitable[Engine[Any]]]


@pytest.fixture
async def opened(backend: Backend, fleet: str) -> AsyncIterator[Opening]:
    """Opens engines of one fleet, and closes them."""
    made: list[Engine[Any]] = []

    async def open_(**options: Any) -> Engine[Any]:
        engine = backend.engine(options.pop("fleet", fleet), **options)
        await engine.open()
        made.append(engine)
        return engine

    yield open_
    for engine in made:
        await engine.close()
    await asyncio.sleep(0)  # an aborted transport closes its socket in the loop's next turn
