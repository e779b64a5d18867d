"""The AWS of these tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from aws import aws, aws_server

__all__ = ["aws", "aws_server"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    left = [thread for thread in threading.enumerate() if thread.name == "vedette-aws"]
    for thread in left:
        thread.join(5.0)
    assert not any(thread.is_alive() for thread in left)
