"""What every object has, decoded from raw bytes; all other fields, `managedFields` first of all, are skipped."""

from __future__ import annotations

import msgspec

END_OF_LIST = "k8s.io/initial-events-end"
"""Annotation of the bookmark with which a streaming list is complete (KEP-3157)."""


class Owner(msgspec.Struct, frozen=True):
    """An ownerReference."""

    kind: str = ""
    name: str = ""
    controller: bool = False


class Labels(msgspec.Struct, frozen=True):
    """The one label that is used: what a Deployment's ReplicaSet adds to its name."""

    hash: str = msgspec.field(default="", name="pod-template-hash")


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """What of metav1.ObjectMeta is used."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: Labels | None = None
    owner_references: tuple[Owner, ...] | None = None


class Condition(msgspec.Struct, frozen=True):
    """What of a condition is used; what it says of time may be null."""

    type: str = ""
    status: str = ""
    reason: str | None = None


class Event(msgspec.Struct):
    """One line of a watch. What `object` is, `type` decides: a BOOKMARK's would not pass for a Pod."""

    type: str
    object: msgspec.Raw


_TYPE, _OBJECT = b'{"type":"', b'","object":'


def event_of(line: bytes) -> tuple[str, bytes | memoryview]:
    """Type and object of a line of a watch; how the server writes it makes decoding the line unnecessary.

    Raises:
        msgspec.MsgspecError: it is no event.
    """
    if line.startswith(_TYPE) and line.endswith(b"}"):
        end = line.find(b'"', len(_TYPE))
        begin = end + len(_OBJECT)
        if line[end:begin] == _OBJECT:
            return line[len(_TYPE) : end].decode("ascii", "replace"), memoryview(line)[begin:-1]
    event = _EVENT.decode(line)
    return event.type, memoryview(event.object)


class _MarkMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class Mark(msgspec.Struct):
    """What of a BOOKMARK's object is used."""

    metadata: _MarkMeta = msgspec.field(default_factory=_MarkMeta)

    @property
    def version(self) -> str:
        """The resourceVersion up to which everything was sent."""
        return self.metadata.resource_version

    @property
    def complete(self) -> bool:
        """Whether it ends a streaming list."""
        return (self.metadata.annotations or {}).get(END_OF_LIST) == "true"


_EVENT = msgspec.json.Decoder(Event)
MARK = msgspec.json.Decoder(Mark)


class Id(msgspec.Struct, frozen=True, rename="camel"):
    """By what an object is known: nothing else of its metadata may be in the way."""

    uid: str = ""
    resource_version: str = ""


class Identified(msgspec.Struct, frozen=True):
    """An object of which only that is used."""

    metadata: Id
