"""What of RabbitMQ's answers is emitted, and under which of Datadog's names.

Source: RabbitMQ's "HTTP API Reference" and "Monitoring"; the names are those of Datadog's rabbitmq integration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from vedette import Kind, Metric

Object = Mapping[str, Any]
"""One queue, exchange, node and so on, as the server describes it."""


class Field(NamedTuple):
    """One figure.

    Attributes:
        path: where it is in the answer.
        metric: what it is called here.
    """

    path: tuple[str, ...]
    metric: Metric


def _field(path: str, name: str, unit: str, help: str, tags: tuple[str, ...], per: str = "") -> Field:
    return Field(tuple(path.split(".")), Metric(f"rabbitmq.{name}", Kind.GAUGE, unit, help, tags, per=per))


_HAPPENED: Final = {
    "ack": "acknowledged",
    "confirm": "confirmed to publishers",
    "deliver": "delivered to consumers that acknowledge",
    "deliver_get": "delivered in any way",
    "drop_unroutable": "dropped, as no queue was bound for them",
    "publish": "published",
    "publish_in": "that came into exchanges",
    "publish_out": "that exchanges passed on",
    "redeliver": "delivered once more",
    "return_unroutable": "returned, as no queue was bound for them",
}


def _happened(of: str, tags: tuple[str, ...], *names: str) -> Iterator[Field]:
    """A total, which starts anew with the server, and how fast it grows by the server's own reckoning."""
    for name in names:
        path, said = f"message_stats.{name}", f"Messages {_HAPPENED[name]}"
        yield _field(path, f"{of}.messages.{name}.count", "message", f"{said}, in all.", tags)
        yield _field(f"{path}_details.rate", f"{of}.messages.{name}.rate", "message", f"{said}.", tags, "second")


_QUEUE_TAGS: Final = ("rabbitmq_vhost", "rabbitmq_queue", "rabbitmq_node", "rabbitmq_queue_type", "rabbitmq_policy")
_WAITING: Final = {
    "messages_ready": "Messages that wait",
    "messages_unacknowledged": "Messages delivered and not acknowledged yet",
}
DEPTHS: Final = (
    _field("messages", "queue.messages", "message", "Messages that are in it.", _QUEUE_TAGS),
    *(_field(name, f"queue.{name}", "message", f"{text}.", _QUEUE_TAGS) for name, text in _WAITING.items()),
)
"""What there is of a queue where the server is configured to keep no statistics."""
QUEUE: Final = (
    *DEPTHS,
    _field("messages_details.rate", "queue.messages.rate", "message", "How it grows.", _QUEUE_TAGS, "second"),
    *(
        _field(
            f"{name}_details.rate", f"queue.{name}.rate", "message", "How these grow.", _QUEUE_TAGS, "second"
        )
        for name in _WAITING
    ),
    _field("consumers", "queue.consumers", "", "Consumers.", _QUEUE_TAGS),
    _field("active_consumers", "queue.active_consumers", "", "Consumers that get messages at once.", _QUEUE_TAGS),
    _field(
        "consumer_utilisation", "queue.consumer_utilisation", "fraction",
        "How much of the time consumers could take more; of RabbitMQ before 3.10.", _QUEUE_TAGS,
    ),
    _field(
        "consumer_capacity", "queue.consumer_capacity", "fraction",
        "How much of the time consumers could take more.", _QUEUE_TAGS,
    ),
    _field(
        "head_message_timestamp", "queue.head_message_timestamp", "second",
        "When the oldest message was made, where its publisher says so.", _QUEUE_TAGS,
    ),
    _field("memory", "queue.memory", "byte", "Memory of its process.", _QUEUE_TAGS),
    _field("message_bytes", "queue.message_bytes", "byte", "Size of its messages.", _QUEUE_TAGS),
    *_happened("queue", _QUEUE_TAGS, "ack", "deliver", "deliver_get", "publish", "redeliver"),
)  # fmt: skip
EXCHANGE: Final = tuple(
    _happened(
        "exchange", ("rabbitmq_vhost", "rabbitmq_exchange"),
        "ack", "confirm", "deliver_get", "drop_unroutable", "publish", "publish_in", "publish_out", "redeliver",
        "return_unroutable",
    )
)  # fmt: skip
_NODE_TAGS: Final = ("rabbitmq_node",)
NODE: Final = (
    _field("running", "node.running", "", "Whether it runs: 1 or 0.", _NODE_TAGS),
    _field("partitions", "node.partitions", "", "Nodes that it has lost sight of.", _NODE_TAGS),
    _field("mem_alarm", "node.mem_alarm", "", "Whether it is short of memory: publishers wait.", _NODE_TAGS),
    _field("disk_free_alarm", "node.disk_alarm", "", "Whether it is short of disk: publishers wait.", _NODE_TAGS),
    _field("mem_used", "node.mem_used", "byte", "Memory in use.", _NODE_TAGS),
    _field("mem_limit", "node.mem_limit", "byte", "Where its alarm begins.", _NODE_TAGS),
    _field("disk_free", "node.disk_free", "byte", "Disk that is free.", _NODE_TAGS),
    _field("disk_free_limit", "node.disk_free_limit", "byte", "Where its alarm begins.", _NODE_TAGS),
    _field("fd_used", "node.fd_used", "", "File descriptors in use.", _NODE_TAGS),
    _field("fd_total", "node.fd_total", "", "How many there may be.", _NODE_TAGS),
    _field("sockets_used", "node.sockets_used", "", "Of these, sockets.", _NODE_TAGS),
    _field("proc_used", "node.proc_used", "process", "Erlang processes.", _NODE_TAGS),
    _field("proc_total", "node.proc_total", "process", "How many there may be.", _NODE_TAGS),
    _field("run_queue", "node.run_queue", "process", "Erlang processes that wait for a CPU.", _NODE_TAGS),
    _field("uptime", "node.uptime", "millisecond", "Since it was started.", _NODE_TAGS),
)
_ALL: Final = ("rabbitmq_cluster",)
OVERVIEW: Final = (
    *(
        _field(f"object_totals.{name}", f"overview.object_totals.{name}", "item", f"All {name}.", _ALL)
        for name in ("connections", "channels", "queues", "consumers")
    ),
    *(
        one
        for name, text in {"messages": "Messages in all queues", **_WAITING}.items()
        for one in (
            _field(f"queue_totals.{name}", f"overview.queue_totals.{name}.count", "message", f"{text}.", _ALL),
            _field(
                f"queue_totals.{name}_details.rate", f"overview.queue_totals.{name}.rate", "message",
                "How these grow.", _ALL, "second",
            ),
        )
    ),
    *_happened(
        "overview", _ALL,
        "ack", "confirm", "deliver_get", "drop_unroutable", "publish", "publish_in", "publish_out", "redeliver",
        "return_unroutable",
    ),
)  # fmt: skip
FURTHER: Final = (
    Metric("rabbitmq.queue.bindings.count", Kind.GAUGE, "", "Bindings, with `bindings: true`.", _QUEUE_TAGS),
    Metric("rabbitmq.queue.members", Kind.GAUGE, "", "Members of a quorum queue or stream.", _QUEUE_TAGS),
    Metric("rabbitmq.queue.members_online", Kind.GAUGE, "", "Of these, those that run.", _QUEUE_TAGS),
    Metric("rabbitmq.connections", Kind.GAUGE, "connection", "Connections.", ("rabbitmq_vhost",)),
    Metric("rabbitmq.connections.state", Kind.GAUGE, "connection", "Connections.", ("rabbitmq_conn_state",)),
    Metric("rabbitmq.queues_cut", Kind.GAUGE, "", "Queues left out because of `max_queues`."),
    Metric("rabbitmq.exchanges_cut", Kind.GAUGE, "", "Exchanges left out because of `max_exchanges`, at most."),
    Metric("rabbitmq.api.requests", Kind.GAUGE, "request", "Requests of the last run."),
    Metric("rabbitmq.api.bytes", Kind.GAUGE, "byte", "What was answered."),
)
METRICS: Final = (*(one.metric for table in (QUEUE, EXCHANGE, NODE, OVERVIEW) for one in table), *FURTHER)


def columns(fields: tuple[Field, ...], *more: str) -> str:
    """What to ask for: these figures and nothing else, as `columns=` has it."""
    return ",".join((*more, *(".".join(one.path) for one in fields)))


def figures(fields: tuple[Field, ...], given: Object) -> Iterator[tuple[str, float]]:
    """Each metric that the answer has a figure for; true and false are 1 and 0, a list is its length."""
    for path, metric in fields:
        value: Any = given
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, list):
            value = len(value)
        if isinstance(value, int | float):
            yield metric.name, int(value) if isinstance(value, bool) else value
