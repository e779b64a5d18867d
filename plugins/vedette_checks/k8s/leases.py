"""The fleet's records as Leases: what is written for the engine, and beside it what `kubectl get lease` shows people.

Name, labels and annotations are the record's; holder, times and transitions only say the same in the API's own words.
https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/lease-v1/
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from vedette import EngineRecord
from vedette_checks.k8s.splitting import ListHead

KINDS = {"members": "member", "claims": "claim", "catalogues": "catalogue"}
"""Value of the label for what comes before the slash of a key."""
FLEET, KIND = "vedette.dev/fleet", "vedette.dev/kind"
"""Labels."""
_KEY, _VALUE, _GIST, _WRITE = "vedette.dev/key", "vedette.dev/value", "vedette.dev/gist", "vedette.dev/write"
"""Annotations."""
_LETTERS = {"members": "m", "claims": "c", "catalogues": "k"}
_MOST = 2**31 - 1  # of an int32


class _Notes(msgspec.Struct, frozen=True):
    key: str = msgspec.field(default="", name=_KEY)
    value: str = msgspec.field(default="", name=_VALUE)
    gist: str = msgspec.field(default="", name=_GIST)
    write: str = msgspec.field(default="", name=_WRITE)


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    uid: str = ""
    resource_version: str = ""
    annotations: _Notes | None = None


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    holder_identity: str = ""
    lease_transitions: int = 0
    acquire_time: str = ""


class Lease(msgspec.Struct, frozen=True):
    """What of a coordination.k8s.io/v1 Lease is used."""

    metadata: _Meta = _Meta()
    spec: _Spec = _Spec()

    @property
    def revision(self) -> str:
        """Which version of which object: a Lease of the same name that was made anew is another one."""
        return f"{self.metadata.uid}/{self.metadata.resource_version}"

    @property
    def notes(self) -> _Notes:
        """The record's annotations."""
        return self.metadata.annotations or _Notes()

    @property
    def record(self) -> EngineRecord:
        """The fleet's record."""
        return EngineRecord(self.notes.key, self.notes.value, self.revision)


class LeaseList(msgspec.Struct, frozen=True):
    """A page of Leases."""

    metadata: ListHead = ListHead()
    items: list[Lease] | None = None


LEASE = msgspec.json.Decoder(Lease)
LEASES = msgspec.json.Decoder(LeaseList)


def kind_of(key: str) -> str:
    """What comes before the slash of a key.

    Raises:
        ValueError: it is no key of a fleet's record.
    """
    kind, slash, name = key.partition("/")
    if kind not in KINDS or not slash or not name:
        raise ValueError(f"no key of a fleet's record: {key}")
    return kind


def name_of(fleet: str, key: str) -> str:
    """The Lease's name: an instance id may hold what a name may not."""
    digest = hashlib.blake2b(key.encode(), digest_size=10).hexdigest()
    return f"vedette-{fleet}-{_LETTERS[kind_of(key)]}-{digest}"


@dataclass(frozen=True, slots=True)
class Writing:
    """One write of a record.

    Attributes:
        fleet: the fleet's name.
        namespace: where the Lease is.
        ttl: seconds.
        key: the record's.
        value: its JSON text.
        gist: what of it is news.
        nonce: tells this write from all others.
    """

    fleet: str
    namespace: str
    ttl: float
    key: str
    value: str
    gist: str
    nonce: str

    def lease(self, revision: str | None, before: Lease | None) -> dict[str, Any]:
        """The Lease to send.

        Args:
            revision: what it replaces; None creates it.
            before: that Lease, as far as it is known: while the holder stays, so does the time of its beginning.
        """
        metadata: dict[str, Any] = {
            "name": name_of(self.fleet, self.key),
            "namespace": self.namespace,
            "labels": {FLEET: self.fleet, KIND: KINDS[kind_of(self.key)]},
            "annotations": {_KEY: self.key, _VALUE: self.value, _GIST: self.gist, _WRITE: self.nonce},
        }
        if revision is not None:
            metadata["uid"], _, metadata["resourceVersion"] = revision.partition("/")
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": self._spec(before),
        }

    def _spec(self, before: Lease | None) -> dict[str, Any]:
        now = micro_time()
        fields = _fields(self.value)
        spec: dict[str, Any] = {"renewTime": now}
        holder = fields.get("owner", fields.get("identity"))
        if isinstance(holder, str):
            token = fields.get("token", 0)
            moves = min(token, _MOST) if isinstance(token, int) and token > 0 else 0
            same = before is not None and (before.spec.holder_identity, before.spec.lease_transitions) == (
                holder,
                moves,
            )
            spec |= {
                "holderIdentity": holder,
                "leaseDurationSeconds": math.ceil(self.ttl),
                "acquireTime": (before.spec.acquire_time if before is not None and same else "") or now,
                "leaseTransitions": moves,
            }
        return spec


def _fields(value: str) -> dict[str, Any]:
    try:
        fields = json.loads(value)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def micro_time() -> str:
    """The time of day as the API takes it: exactly six digits after the point, or it is refused."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
