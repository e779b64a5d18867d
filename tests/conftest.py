"""Fixtures that every test may use."""

from __future__ import annotations

import pytest

pytest_plugins = ["vedette.testing"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
