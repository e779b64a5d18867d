"""What the listener says of itself."""

from __future__ import annotations

from vedette import Kind, Metric

CAN_READ = "log_file.can_read"
"""OK, WARNING where a path matches nothing, CRITICAL where a file may not be read."""

METRICS = (
    Metric("log_file.lines", Kind.COUNT, "", "Lines handed on (with `multiline`, events)."),
    Metric("log_file.bytes", Kind.COUNT, "byte", "Bytes of the files that were read for that."),
    Metric(
        "log_file.dropped",
        Kind.COUNT,
        "",
        "Lines dropped: by `include_lines` or `exclude_lines` (`rule`), beyond the budget (`budget`), because their "
        "treatment failed (`error`).",
        ("reason",),
    ),
    Metric("log_file.redacted", Kind.COUNT, "", "Places that were replaced, by what they were.", ("rule",)),
    Metric("log_file.truncated", Kind.COUNT, "", "Lines that were cut at `max_line`."),
    Metric(
        "log_file.lost",
        Kind.COUNT,
        "byte",
        "Bytes that were cut off a file or went with it before they were read, as far as known.",
    ),
    Metric(
        "log_file.copies",
        Kind.COUNT,
        "file",
        "Files taken for a copy of one that is followed: left alone until that one is truncated, or for five seconds.",
    ),
    Metric("log_file.rotations", Kind.COUNT, "", "Rotations seen, by how.", ("how",)),
    Metric("log_file.lag", Kind.GAUGE, "byte", "Bytes in the files that are not read yet."),
    Metric("log_file.files", Kind.GAUGE, "file", "Files that are followed."),
    Metric("log_file.files.over_budget", Kind.GAUGE, "file", "Files beyond `max_files`."),
    Metric("log_file.over_budget", Kind.COUNT, "second", "Time spent waiting because of the budget."),
)
"""The metrics."""
