"""What the server's answers amount to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from vedette import Status
from vedette_checks.rabbitmq.choice import halves
from vedette_checks.rabbitmq.names import Object

if TYPE_CHECKING:
    from vedette_checks.rabbitmq.config import RabbitMQConfig

_BROKEN: Final = frozenset({"crashed", "down", "minority", "nodedown", "stopped", "timeout"})
"""States of a queue in which nobody gets at its messages."""


def judge_queue(one: Object, config: RabbitMQConfig) -> tuple[Status, str]:
    """The status of a queue, and why it is not OK."""
    found: list[tuple[Status, str]] = []
    state = one.get("state")
    if isinstance(state, str) and state in _BROKEN:
        found.append((Status.CRITICAL, f"its state is {state}"))
    members, online = length(one.get("members")), length(one.get("online"))
    if members and online * 2 <= members:
        found.append((Status.CRITICAL, f"{online} of {members} members are online, which is no majority"))
    elif members and online < members:
        found.append((Status.WARNING, f"{online} of {members} members are online"))
    waiting, warning, critical = one.get("messages_ready"), config.depth_warning, config.depth_critical
    if not isinstance(waiting, int):
        if warning or critical:
            found.append((Status.UNKNOWN, "the server does not say yet how many messages wait"))
    elif critical and waiting >= critical:
        found.append((Status.CRITICAL, f"{waiting:,} messages wait (critical from {critical:,} on)"))
    elif warning and waiting >= warning:
        found.append((Status.WARNING, f"{waiting:,} messages wait (a warning from {warning:,} on)"))
    consumers, least = one.get("consumers"), config.consumers_least
    if least and isinstance(consumers, int) and consumers < least:
        found.append((Status.CRITICAL, f"{consumers} consumers are there (at least {least} are to be)"))
    return _worst(found)


def judge_names(
    found: Mapping[str, bool], vhosts: Sequence[str], *, everything: bool
) -> Iterator[tuple[Status, str, tuple[str, ...]]]:
    """Whether each queue that was named is there, with tags that are the same where it is not.

    Args:
        found: by name or `vhost/name`, as it was given.
        vhosts: the only ones that are looked at; empty for all.
        everything: whether all queues were seen.
    """
    only = vhosts[0] if len(vhosts) == 1 else "any"
    for text, there in found.items():
        vhost, name = halves(text)
        tags = (f"rabbitmq_vhost:{vhost or only}", f"rabbitmq_queue:{name}")
        if there:
            yield Status.OK, "", tags
        elif everything:
            yield Status.CRITICAL, "there is no such queue, or the user has no permissions on its vhost", tags
        else:
            yield Status.UNKNOWN, "not all queues could be looked at", tags


def judge_vhost(one: Object) -> tuple[Status, str]:
    """A vhost is alive where it runs on every node that has it; a node that is down is the cluster's matter."""
    states = one.get("cluster_state")
    if not isinstance(states, Mapping) or not states:  # servers before 3.7 do not say
        return Status.OK, ""
    stopped = sorted(str(node) for node, state in states.items() if state == "stopped")
    if stopped:
        return Status.CRITICAL, f"it is stopped on {', '.join(stopped[:5])}: rabbitmqctl restart_vhost"
    if "running" not in states.values():
        return Status.CRITICAL, "it runs on no node"
    return Status.OK, ""


def judge_cluster(nodes: Iterable[Object]) -> tuple[Status, str]:
    """Nodes that are down, that lost sight of others, that are short of something."""
    found: list[tuple[Status, str]] = []
    for node in nodes:
        name = str(node.get("name", ""))
        if node.get("running") is False:
            found.append((Status.CRITICAL, f"{name} is down"))
        if length(node.get("partitions")):
            found.append((Status.CRITICAL, f"{name} is partitioned from {length(node['partitions'])} others"))
        if node.get("mem_alarm") is True:
            found.append((Status.CRITICAL, f"{name} is short of memory: publishers are blocked"))
        if node.get("disk_free_alarm") is True:
            found.append((Status.CRITICAL, f"{name} is short of disk: publishers are blocked"))
    return _worst(found)


def length(value: object) -> int:
    """Of a list; of anything else 0."""
    return len(value) if isinstance(value, list) else 0


def _worst(found: list[tuple[Status, str]]) -> tuple[Status, str]:
    rank = {Status.OK: 0, Status.UNKNOWN: 1, Status.WARNING: 2, Status.CRITICAL: 3}
    found = sorted(found, key=lambda one: -rank[one[0]])
    return (found[0][0] if found else Status.OK), "; ".join(text for _, text in found[:10])
