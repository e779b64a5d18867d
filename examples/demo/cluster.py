"""A cluster that begins as it was recorded and can be changed: lists and watches as the API server makes them of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import msgspec
from recordings import body, recording

FIRST_VERSION = 1751
_LISTS = {
    "pods": "list/pods.rv0.json",
    "nodes": "list/nodes.rv0.json",
    "deployments": "list/deployments.rv0.json",
    "daemonsets": "list/daemonsets.rv0.json",
    "statefulsets": "list/statefulsets.rv0.json",
    "jobs": "list/jobs.rv0.json",
    "cronjobs": "list/cronjobs.rv0.json",
    "horizontalpodautoscalers": "list/hpas.rv0.json",
    "persistentvolumeclaims": "list/persistentvolumeclaims.rv0.json",
    "resourcequotas": "list/resourcequotas.rv0.json",
    "poddisruptionbudgets": "list/poddisruptionbudgets.rv0.json",
}


class _Meta(msgspec.Struct):
    name: str
    namespace: str = ""


class _Spec(msgspec.Struct):
    node: str = msgspec.field(default="", name="nodeName")


class _Selected(msgspec.Struct):
    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)


class _List(msgspec.Struct):
    kind: str
    version: str = msgspec.field(name="apiVersion")
    items: list[msgspec.Raw]


_ITEM = msgspec.json.Decoder(_Selected)


@dataclass(frozen=True, slots=True)
class Item:
    """An object as its list has it, and what selectors ask for."""

    raw: bytes
    name: str
    namespace: str
    node: str

    def matches(self, namespace: str, selector: str) -> bool:
        if namespace and self.namespace != namespace:
            return False
        field_, _, value = selector.partition("=")
        return not selector or {"spec.nodeName": self.node, "metadata.name": self.name}[field_] == value


@dataclass(frozen=True, slots=True)
class Change:
    """An event of a watch: the object before (for selectors) and after."""

    version: int
    type: str
    new: Item
    old: Item | None


@dataclass
class Collection:
    """The objects of one resource, what happened to them, and who watches."""

    resource: str
    kind: str
    api_version: str
    items: dict[tuple[str, str], Item]
    changes: list[Change] = field(default_factory=list)
    oldest: int = 0
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def listed(self, namespace: str, selector: str, version: int) -> bytes:
        """The body of a list."""
        those = b",".join(item.raw for item in self.items.values() if item.matches(namespace, selector))
        head = (
            f'{{"kind":"{self.kind}List","apiVersion":"{self.api_version}","metadata":{{"resourceVersion":"{version}"}}'
        )
        return b"%b,%b[%b]}\n" % (head.encode(), b'"items":', those)

    def event(self, type_: str, raw: bytes) -> bytes:
        """A line of a watch: items of lists are without kind and apiVersion, objects of events have them."""
        head = f'{{"type":"{type_}","object":{{"kind":"{self.kind}","apiVersion":"{self.api_version}",'
        return b"%b%b}\n" % (head.encode(), raw[1:])

    def bookmark(self, version: int, *, end: bool = False) -> bytes:
        """A bookmark, with all that a zero object of the kind has."""
        more = ',"annotations":{"k8s.io/initial-events-end":"true"}' if end else ""
        spec = '"spec":{"containers":null},"status":{}' if self.kind == "Pod" else '"spec":{},"status":{}'
        return self.event("BOOKMARK", f'{{"metadata":{{"resourceVersion":"{version}"{more}}},{spec}}}'.encode())

    def seen(self, change: Change, namespace: str, selector: str) -> bytes | None:
        """The event that a watch with these selectors gets of a change; None for none."""
        matches = change.new.matches(namespace, selector)
        matched = change.old is not None and change.old.matches(namespace, selector)
        if change.type == "DELETED" or not matches:
            return self.event("DELETED", change.new.raw) if matched else None
        return self.event("MODIFIED" if matched else "ADDED", change.new.raw)


class Cluster:
    """The recorded cluster's state.

    Args:
        lists: the list that a resource begins with, by plural name; default: the recorded ones.
    """

    def __init__(self, lists: dict[str, bytes] | None = None) -> None:
        self.version = FIRST_VERSION
        self.collections: dict[str, Collection] = {}
        self.watching = 0
        for resource, file in _LISTS.items():
            found = msgspec.json.decode((lists or {}).get(resource) or body(file), type=_List)
            items = {}
            for raw in found.items:
                item = _item(bytes(raw))
                items[item.namespace, item.name] = item
            self.collections[resource] = Collection(resource, found.kind.removesuffix("List"), found.version, items)

    def objects(self, resource: str) -> list[dict[str, Any]]:
        """The objects of a resource by plain json, as they are now."""
        return [json.loads(item.raw) for item in self.collections[resource].items.values()]

    async def put(self, resource: str, changed: dict[str, Any]) -> None:
        """Add or replace an object, and tell who watches."""
        await self._change(resource, changed, "MODIFIED")

    async def delete(self, resource: str, gone: dict[str, Any]) -> None:
        """Delete an object, and tell who watches."""
        await self._change(resource, gone, "DELETED")

    async def _change(self, resource: str, changed: dict[str, Any], type_: str) -> None:
        there = self.collections[resource]
        self.version += 1
        changed["metadata"]["resourceVersion"] = str(self.version)
        new = _item(json.dumps(changed, separators=(",", ":"), ensure_ascii=False).encode())
        place = (new.namespace, new.name)
        old = there.items.get(place)
        if type_ == "DELETED":
            there.items.pop(place, None)
        else:
            there.items[place] = new
        there.changes.append(Change(self.version, type_, new, old))
        async with there.news:
            there.news.notify_all()

    def compact(self) -> None:
        """Forget what happened so far, as a restart of the API server does: older watches are too old."""
        for there in self.collections.values():
            there.changes.clear()
            there.oldest = self.version + 1


def _item(raw: bytes) -> Item:
    found = _ITEM.decode(raw)
    return Item(raw, found.metadata.name, found.metadata.namespace, found.spec.node)


def node_metrics(nodes: list[dict[str, Any]], *, without: str = "", load: float = 1.0) -> dict[str, Any]:
    """A stand-in for metrics.k8s.io, written from the API's documentation (k8s.io/metrics v1beta1 NodeMetricsList):
    none was recorded, since the recorded server does not serve it."""
    items = [
        {
            "metadata": {"name": node["metadata"]["name"], "creationTimestamp": "2026-11-23T20:36:00Z"},
            "timestamp": "2026-11-23T20:35:48Z",
            "window": "20.043s",
            "usage": {
                "cpu": f"{int((417_123_456 + 97_000_001 * place) * load)}n",
                "memory": f"{int((1_234_567 + 300_001 * place) * load)}Ki",
            },
        }
        for place, node in enumerate(nodes)
        if node["metadata"]["name"] != without
    ]
    return {"kind": "NodeMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items}


EXPIRED = "watch/410-error-event.after-restart.ndjson"
OLD_ETCD = "watch/500-error-event.old-etcd.streaming-list.ndjson"


def line_of(file: str) -> bytes:
    """The one line of a recorded stream."""
    return recording(file).body
