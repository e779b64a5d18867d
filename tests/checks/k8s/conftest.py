"""Servers that replay a real API server, and checks over them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from checks.k8s.driver import Cluster, Drive, few


@pytest.fixture(scope="session")
def _read() -> None:
    """Read the recordings before the first test, which must not block its loop for that."""
    Cluster()
    few()


@pytest.fixture
async def drive(tmp_path: Path, _read: None) -> AsyncIterator[Drive]:
    async with AsyncExitStack() as stack:
        yield Drive(tmp_path, stack)
