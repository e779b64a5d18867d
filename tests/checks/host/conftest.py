from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from .machine import Machine


@pytest.fixture(autouse=True)
def _real_procfs() -> Iterator[None]:
    """Undo what the check tells psutil."""
    before = psutil.PROCFS_PATH
    yield
    psutil.PROCFS_PATH = before


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "proc")
