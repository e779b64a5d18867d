"""The AWS of these tests, which the SDK's environment names."""

from __future__ import annotations

import pytest

from aws import REGION, AwsServer, aws, aws_server

__all__ = ["aws", "aws_server"]


@pytest.fixture
def named(aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> AwsServer:
    """The same, as the SDK finds it: address and region are in the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    monkeypatch.setenv("AWS_REGION", REGION)
    return aws
