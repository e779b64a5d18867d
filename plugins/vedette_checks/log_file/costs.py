"""How much the files grow: for `vedette plan`."""

from __future__ import annotations

import time

from vedette import Estimate
from vedette_checks.log_file.config import LogFileConfig
from vedette_checks.log_file.finding import find

_DAY = 86_400.0
_WATCHED = 1.0


def estimates(config: LogFileConfig) -> list[Estimate]:
    """The number of files, and the bytes that they grow by, watched for a second."""
    before = {one.identity: one.size for one in find(config.paths, config.exclude)}
    time.sleep(_WATCHED)
    after = find(config.paths, config.exclude)
    grown = sum(max(0, one.size - before.get(one.identity, 0)) for one in after)
    return [
        Estimate("files followed", float(min(len(after), config.max_files)), "files"),
        Estimate(
            "log volume",
            grown / _WATCHED * _DAY / 1e9,
            "GB/day",
            "what they grew by in a second; Datadog bills logs by the gigabyte and by the line" if grown else "",
        ),
    ]
