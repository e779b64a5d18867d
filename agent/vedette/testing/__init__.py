"""Floor 5: what the author of a check tests it with.

Opt in from the top `conftest.py` with `pytest_plugins = ["vedette.testing"]`, which brings the `udp_capture`
fixture; the rest is imported in the tests: `from vedette.testing import run_check, assert_declared`.

    async def test_counts(tmp_path):
        (tmp_path / "job").touch()
        run = await run_check(QueueDepth, {"path": str(tmp_path)})
        assert run.value("queue_depth.files") == 1
        assert run.status("queue_depth.ok") is Status.OK
        assert_declared(run)

The check really runs: it opens, runs under the instance's deadline and closes, against whatever real server the
test has started. Nothing is replaced by a stand-in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vedette.testing.checks import CheckRun, run_check
from vedette.testing.declared import assert_declared
from vedette.testing.listeners import Serving, serve_check
from vedette.testing.udp import UdpCapture

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CheckRun", "Serving", "UdpCapture", "assert_declared", "run_check", "serve_check", "udp_capture"]


@pytest.fixture
def udp_capture() -> Iterator[UdpCapture]:
    """A UDP port on 127.0.0.1 that keeps every line it receives, closed after the test."""
    with UdpCapture() as capture:
        yield capture
