"""Servers that replay a real API server, and checks over them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from checks.k8s.driver import Drive


@pytest.fixture
async def drive(tmp_path: Path) -> AsyncIterator[Drive]:
    async with AsyncExitStack() as stack:
        yield Drive(tmp_path, stack)
