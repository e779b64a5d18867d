"""Datadog's endpoints: what each takes, how much of it at once, how old it may be.

Source: Datadog, API reference, "Submit metrics", "Submit distribution points", "Submit a Service Check", "Post an
event", "Send logs".
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.IntEnum):
    """What a record of the queue holds; the numbers are in files."""

    SERIES = 1
    LATE = 2
    """Points of metrics with historical ingestion."""
    DISTRIBUTION = 3
    STATUS = 4
    EVENT = 5
    LOG = 6


_HOUR = 3600.0
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Lane:
    """One endpoint.

    Attributes:
        name: what it takes, for people.
        path: below the intake's address.
        kinds: of the queue's records, the most urgent first.
        head: how a body begins; then come the items, separated by commas.
        tail: how it ends.
        codings: what it takes as Content-Encoding.
        most_items: in one request.
        most_raw: bytes of a body before compression.
        most_body: bytes of a body as it is sent.
        oldest: seconds; what is older is not taken.
        ahead: seconds; what is that far ahead of now is not taken.
        is_logs: whether it is at the intake for logs.
    """

    name: str
    path: str
    kinds: tuple[Kind, ...]
    head: bytes = b"["
    tail: bytes = b"]"
    codings: tuple[str, ...] = ()
    most_items: int = 20_000
    most_raw: int = 1_500_000
    most_body: int = 500_000
    oldest: float = _HOUR
    ahead: float = 10 * _MINUTE
    is_logs: bool = False


LANES = (
    Lane(
        "series",
        "/api/v2/series",
        (Kind.SERIES, Kind.LATE),
        b'{"series":[',
        b"]}",
        ("zstd", "gzip", "deflate"),
    ),
    Lane("distributions", "/api/v1/distribution_points", (Kind.DISTRIBUTION,), b'{"series":[', b"]}", ("deflate",)),
    Lane("service checks", "/api/v1/check_run", (Kind.STATUS,), most_items=1_000, oldest=10 * _MINUTE),
    Lane("events", "/api/v1/events", (Kind.EVENT,), b"", b"", most_items=1, oldest=18 * _HOUR),
    Lane(
        "logs",
        "/api/v2/logs",
        (Kind.LOG,),
        codings=("gzip",),
        most_items=1_000,
        most_raw=4_900_000,
        most_body=4_900_000,
        oldest=18 * _HOUR,
        ahead=2 * _HOUR,
        is_logs=True,
    ),
)
VALIDATE = "/api/v1/validate"
METADATA = "/api/v1/metrics"
HOST_TAGS = "/api/v1/tags/hosts"
