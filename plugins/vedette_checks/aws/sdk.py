"""The SDK, set up for an agent: its descriptions of services are read once, and it never tries again by itself."""

from __future__ import annotations

import gc
import logging
import os
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.loaders import Loader, create_loader
from botocore.utils import parse_timestamp

_IDLE = 75.0
"""Seconds that a connection is kept for the next run: more than the minute between two."""


@lru_cache(maxsize=1)
def _loader() -> Loader:
    """What reads the descriptions of services, and keeps them: one for all instances."""
    return create_loader()


def session(profile: str) -> AioSession:
    """A session of its own, with its own credentials; blocks for some 20 ms.

    Raises:
        ProfileNotFound: there is no such profile.
    """
    for name in ("aiobotocore.credentials", "botocore.credentials"):  # with a traceback, what a finding says anyway
        logging.getLogger(name).setLevel(logging.CRITICAL)
    made = AioSession(profile=profile or None)
    if region := os.environ.get("AWS_REGION"):  # the name of all other SDKs; this one only knows AWS_DEFAULT_REGION
        made.set_config_variable("region", region)
    paths = [path for path in (made.get_config_variable("data_path") or "").split(":") if path]
    loader = create_loader(":".join(paths)) if paths else _loader()
    made.register_component("data_loader", loader)
    made.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time)
    if profile:
        made.get_scoped_config()
    return made


@lru_cache(maxsize=256)
def settle(service: str) -> None:
    """Once for each service: what the SDK has read of it stays, so full garbage collections need not walk it.

    They take 40 ms with four services, in whichever thread they fall.
    """
    gc.freeze()


def _time(value: Any) -> datetime:
    """A timestamp of an answer: the SDK's own way takes a hundred times as long."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(value, UTC)
    except (TypeError, ValueError):
        parsed: datetime = parse_timestamp(value)
        return parsed
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def options(connect_timeout: float, read_timeout: float) -> AioConfig:
    """How clients connect. They never try again by themselves: who calls knows until when that makes sense."""
    return AioConfig(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        retries={"total_max_attempts": 1, "mode": "standard"},
        parameter_validation=False,  # AWS does it too, and 500 queries take 50 ms
        tcp_keepalive=True,
        user_agent_extra="vedette",
        connector_args={"keepalive_timeout": _IDLE},
    )
