"""What the listener says of itself."""

from __future__ import annotations

from vedette import Kind, Metric

METRICS = (
    Metric("vedette.statsd.packets", Kind.COUNT, "packet", "Packets that came.", ("listener",)),
    Metric("vedette.statsd.bytes", Kind.COUNT, "byte", "Bytes of these packets.", ("listener",)),
    Metric("vedette.statsd.values", Kind.COUNT, "", "Values of metrics that came; packed ones count once."),
    Metric("vedette.statsd.events", Kind.COUNT, "event", "Events that came."),
    Metric("vedette.statsd.service_checks", Kind.COUNT, "check", "Service checks that came."),
    Metric(
        "vedette.statsd.malformed", Kind.COUNT, "", "Lines that are not DogStatsD; the log shows one a minute of them."
    ),
    Metric("vedette.statsd.contexts", Kind.GAUGE, "", "Series that are alive."),
    Metric(
        "vedette.statsd.over_budget",
        Kind.COUNT,
        "",
        "Values beyond the origin's `max_contexts`, or beyond `max_total_contexts`.",
        ("origin",),
    ),
    Metric(
        "vedette.statsd.dropped",
        Kind.COUNT,
        "",
        "Values dropped: by a rule (`mapping`), a gauge or too many names beyond the budget (`overflow`), too many "
        "or too long members of a set (`set_members`), too many values with a time (`timed`), too many events "
        "(`events`); and idle connections of `stream_socket` that made room for others (`connections`).",
        ("reason",),
    ),
    Metric(
        "vedette.statsd.socket.dropped",
        Kind.COUNT,
        "packet",
        "Packets that the kernel had no room for (Linux); more `receive_buffer` helps.",
        ("listener",),
    ),
)  # fmt: skip
"""The metrics; those of the applications have the names that they give them."""
