"""What of a Pod is decoded, and what it asks for: sums of its containers, and what the scheduler reserves."""

from __future__ import annotations

import msgspec

from vedette_checks.k8s.decode import Condition, Meta
from vedette_checks.k8s.quantities import billionths


class Amounts(msgspec.Struct, frozen=True):
    """CPU and memory as quantities."""

    cpu: str = "0"
    memory: str = "0"


class Resources(msgspec.Struct, frozen=True):
    """What a container or a pod asks for, and may have."""

    requests: Amounts | None = None
    limits: Amounts | None = None


class Container(msgspec.Struct, frozen=True, rename="camel"):
    """What of a container is used."""

    resources: Resources | None = None
    restart_policy: str = ""


class Spec(msgspec.Struct, frozen=True, rename="camel"):
    """What of a pod's spec is used."""

    node_name: str = ""
    containers: tuple[Container, ...] | None = None
    init_containers: tuple[Container, ...] | None = None
    overhead: Amounts | None = None
    resources: Resources | None = None

    @property
    def looks(self) -> tuple[object, ...]:
        """What pods of one workload have in common."""
        return self.containers, self.init_containers, self.overhead, self.resources


class Why(msgspec.Struct, frozen=True):
    """Why a container is in a state."""

    reason: str | None = None


class State(msgspec.Struct, frozen=True):
    """A container's state: one of them is set."""

    waiting: Why | None = None
    running: Why | None = None
    terminated: Why | None = None


class ContainerStatus(msgspec.Struct, frozen=True, rename="camel"):
    """What of a container's status is used."""

    ready: bool = False
    restart_count: int = 0
    state: State | None = None
    last_state: State | None = None


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """What of a pod's status is used."""

    phase: str = ""
    reason: str | None = None
    conditions: tuple[Condition, ...] | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None
    init_container_statuses: tuple[ContainerStatus, ...] | None = None


class Pod(msgspec.Struct, frozen=True):
    """What of a Pod is used."""

    metadata: Meta
    spec: Spec = Spec()
    status: Status = Status()


def _amount(amounts: Amounts | None, part: str) -> int:
    return billionths(getattr(amounts, part)) or 0 if amounts is not None else 0


def total(spec: Spec, side: str, part: str) -> int:
    """What the containers have as `requests` or `limits` of cpu or memory, in billionths; 0 where nothing is set."""
    amounts = [getattr(one.resources, side) for one in spec.containers or () if one.resources is not None]
    return sum(_amount(each, part) for each in amounts)


def reserved(spec: Spec, part: str) -> int:
    """What the scheduler reserves for a pod, in billionths.

    Init containers run before the others and sidecars beside them (KEP-753); what is said of the whole pod counts
    instead (KEP-2837).
    """
    overhead = _amount(spec.overhead, part)
    whole = _amount(spec.resources.requests, part) if spec.resources is not None else 0
    if whole:
        return whole + overhead
    beside, most = 0, 0
    for one in spec.init_containers or ():
        amount = _request(one, part)
        if one.restart_policy == "Always":
            beside += amount
            most = max(most, beside)
        else:
            most = max(most, beside + amount)
    return max(most, beside + sum(_request(one, part) for one in spec.containers or ())) + overhead


def _request(one: Container, part: str) -> int:
    return _amount(one.resources.requests, part) if one.resources is not None else 0
