"""AWS for the tests of its secrets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aws_servers import Aws, sdk_environment


@pytest.fixture(scope="session")
def running_aws() -> Iterator[Aws]:
    made = Aws()
    made.start()
    yield made
    made.close()


@pytest.fixture
def aws(running_aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """AWS without secrets, which the SDK's environment names."""
    sdk_environment(monkeypatch, running_aws.url)
    running_aws.forget("secretsmanager", "ssm")
    return running_aws
