"""Floor 0: cron expressions and time zones, checked where they are read."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic_core import PydanticCustomError


def zone(name: str) -> ZoneInfo:
    """The time zone of this IANA name.

    Raises:
        ValueError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise PydanticCustomError("vedette", "must be a time zone such as UTC or Europe/Berlin") from None


def check_cron(expression: str) -> None:
    """Raise ValueError unless this is a cron expression of five fields that ever falls due."""
    try:
        next(CronSim(expression, datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC"))))
    except CronSimError:
        raise PydanticCustomError("vedette", "must be a cron expression of five fields, such as '5 * * * *'") from None
    except StopIteration:
        raise PydanticCustomError("vedette", "is a cron expression that never falls due") from None


def next_cron(expression: str, timezone: str, after: float) -> float:
    """The next Unix time after `after` that matches the expression in this time zone."""
    return next(CronSim(expression, datetime.fromtimestamp(after, zone(timezone)))).timestamp()
