"""Leases as an API server keeps them: what it refuses, and in which words. Recorded from one: data/kubernetes/lease.

What no recording has is from its source: a PUT creates what is not there (AllowCreateOnUpdate of leases), the uid in a
body is a precondition, and those of a DELETE (k8s.io/apiserver: registry/generic/registry/store.go, rest/delete.go).
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Object = dict[str, Any]
GROUP = "coordination.k8s.io"
_TOTAL_ANNOTATIONS = 256 << 10
_TIMES = ("acquireTime", "renewTime")
_SPEC = ("holderIdentity", "leaseDurationSeconds", "acquireTime", "renewTime", "leaseTransitions", "strategy",
         "preferredHolder")  # fmt: skip
_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


class Refusal(Exception):
    """A metav1.Status with which a request fails."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        self.status |= {"message": message, "reason": reason}
        if details is not None:
            self.status["details"] = details
        self.status["code"] = code


def _details(name: str, kind: str = "leases", causes: list[Object] | None = None) -> Object:
    made: Object = {"name": name, "group": GROUP, "kind": kind}
    return made if causes is None else {**made, "causes": causes}


def not_found(name: str) -> Refusal:
    return Refusal(404, "NotFound", f'leases.{GROUP} "{name}" not found', _details(name))


def conflict(name: str, why: str = _MODIFIED, kind: str = "leases") -> Refusal:
    text = f'Operation cannot be fulfilled on {kind}.{GROUP} "{name}": {why}'
    return Refusal(409, "Conflict", text, _details(name, kind))


def invalid(name: str, where: str, why: str, kind: str = "Lease", reason: str = "FieldValueInvalid") -> Refusal:
    cause = {"reason": reason, "message": why, "field": where}
    return Refusal(422, "Invalid", f'{kind}.{GROUP} "{name}" is invalid: {where}: {why}', _details(name, kind, [cause]))


def parse_micro_time(text: str) -> str:
    """A MicroTime as the server writes it; refused in the words of Go's time.Parse."""
    begin = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", text)
    rest = text[begin.end() :] if begin else text
    wrong = ""
    if begin is None:
        wrong = f'cannot parse "{text}" as "2006"'
    elif not re.match(r"\.\d{6}", rest):
        wrong = f'cannot parse "{rest}" as ".000000"'
    elif not re.fullmatch(r"Z|[+-]\d\d:\d\d", rest[7:]):
        wrong = f'cannot parse "{rest[7:]}" as "Z07:00"'
    if wrong:
        why = f'parsing time "{text}" as "2006-01-02T15:04:05.000000Z07:00": {wrong}'
        raise Refusal(400, "BadRequest", f'Lease in version "v1" cannot be handled as a Lease: {why}')
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def spec_of(body: Object, name: str) -> Object:
    """The spec of a body, in the server's order of fields."""
    given = body.get("spec") or {}
    spec = {key: given[key] for key in _SPEC if given.get(key) is not None}
    for key in _TIMES:
        if key in spec:
            spec[key] = parse_micro_time(spec[key])
    if spec.get("leaseDurationSeconds", 1) <= 0:
        raise invalid(name, "spec.leaseDurationSeconds", f"Invalid value: {spec['leaseDurationSeconds']}: must be greater than 0")  # fmt: skip  # noqa: E501
    if spec.get("leaseTransitions", 0) < 0:
        raise invalid(name, "spec.leaseTransitions", f"Invalid value: {spec['leaseTransitions']}: must be greater than or equal to 0")  # fmt: skip  # noqa: E501
    return spec


@dataclass(frozen=True)
class Change:
    """One event of the history."""

    version: int
    kind: str
    object: Object


@dataclass
class LeaseStore:
    """The Leases of a cluster.

    Attributes:
        journal: file from which a restarted server goes on; None begins empty each time.
        namespaces: those that exist; None stands for all.
    """

    journal: Path | None = None
    namespaces: frozenset[str] | None = None
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    version: int = 1700
    history: list[Change] = field(default_factory=list)
    oldest: int = 1700
    """A watch from before this version is too old."""
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        if self.journal is not None and self.journal.exists():
            for line in self.journal.read_text().splitlines():
                event = json.loads(line)
                self._apply(Change(event["version"], event["kind"], event["object"]))
            self.compact()

    def compact(self) -> None:
        """Forget what came before now."""
        self.history.clear()
        self.oldest = self.version

    def get(self, namespace: str, name: str) -> Object:
        found = self.objects.get((namespace, name))
        if found is None:
            raise not_found(name)
        return found

    def create(self, namespace: str, body: Object, manager: str) -> Object:
        meta = body.get("metadata") or {}
        name = meta.get("name", "")
        self._fits(namespace, body, name)
        if not name:
            raise invalid("", "metadata.name", "Required value: name or generateName is required")
        if meta.get("resourceVersion"):
            raise Refusal(400, "BadRequest", "resourceVersion should not be set on objects to be created")
        made = self._made(namespace, name, body, manager)
        if (namespace, name) in self.objects:
            raise Refusal(409, "AlreadyExists", f'leases.{GROUP} "{name}" already exists', _details(name))
        return self._put("ADDED", made)

    def replace(self, namespace: str, name: str, body: Object, manager: str) -> tuple[Object, bool]:
        """PUT; the object, and whether it was created."""
        meta = body.get("metadata") or {}
        if meta.get("name") != name:
            given = meta.get("name", "")
            why = f"the name of the object ({given}) does not match the name on the URL ({name})"
            raise Refusal(400, "BadRequest", why)
        self._fits(namespace, body, name)
        spec_of(body, name)
        existing = self.objects.get((namespace, name))
        uid, has = meta.get("uid", ""), existing["metadata"]["uid"] if existing else ""
        if uid and uid != has:
            raise conflict(
                name,
                f"StorageError: invalid object, Code: 4, Key: /registry/leases/{namespace}/{name}, ResourceVersion: 0, "
                f"AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {has}",
            )
        if existing is None:
            return self._put("ADDED", self._made(namespace, name, body, manager)), True
        given = str(meta.get("resourceVersion") or "")
        if not given:
            why = "Invalid value: 0: must be specified for an update"
            raise invalid(name, "metadata.resourceVersion", why, "leases")
        if given != existing["metadata"]["resourceVersion"]:
            raise conflict(name)
        return self._changed(existing, self._made(namespace, name, body, manager)), False

    def patch(self, namespace: str, name: str, patch: Object, manager: str) -> Object:
        """A merge patch (RFC 7386), which needs no resourceVersion."""
        existing = self.get(namespace, name)
        body = _merged(existing, patch)
        if body["metadata"]["resourceVersion"] != existing["metadata"]["resourceVersion"]:
            raise conflict(name)
        return self._changed(existing, self._made(namespace, name, body, manager))

    def delete(self, namespace: str, name: str, options: Object) -> Object:
        existing = self.get(namespace, name)
        meta, wanted = existing["metadata"], options.get("preconditions") or {}
        if wanted.get("uid") not in (None, meta["uid"]):
            why = f"the UID in the precondition ({wanted['uid']}) does not match the UID in record ({meta['uid']}). "
            raise conflict(name, f"{why}The object might have been deleted and then recreated", "Lease")
        if wanted.get("resourceVersion") not in (None, meta["resourceVersion"]):
            why = f"the ResourceVersion in the precondition ({wanted['resourceVersion']}) does not match the "
            why += f"ResourceVersion in record ({meta['resourceVersion']}). The object might have been modified"
            raise conflict(name, why, "Lease")
        gone = deepcopy(existing)
        self._put("DELETED", gone)
        details = {**_details(name), "uid": meta["uid"]}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def _fits(self, namespace: str, body: Object, name: str) -> None:
        given = (body.get("metadata") or {}).get("namespace") or namespace
        if given != namespace:
            why = "the namespace of the provided object does not match the namespace sent on the request"
            raise Refusal(400, "BadRequest", why)
        if self.namespaces is not None and namespace not in self.namespaces:
            details = {"name": namespace, "kind": "namespaces"}
            raise Refusal(404, "NotFound", f'namespaces "{namespace}" not found', details)

    def _made(self, namespace: str, name: str, body: Object, manager: str) -> Object:
        """A new object out of a body."""
        spec, given = spec_of(body, name), body.get("metadata") or {}
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        notes = given.get("annotations") or {}
        if sum(len(key.encode()) + len(value.encode()) for key, value in notes.items()) > _TOTAL_ANNOTATIONS:
            why = f"Too long: may not be more than {_TOTAL_ANNOTATIONS} bytes"
            raise invalid(name, "metadata.annotations", why, reason="FieldValueTooLong")
        meta: Object = {"name": name, "namespace": namespace, "uid": str(uuid.uuid4()), "resourceVersion": ""}
        meta["creationTimestamp"] = now
        for key in ("labels", "annotations"):
            if given.get(key):
                meta[key] = dict(sorted(given[key].items()))
        fields: Object = {}
        for key in ("annotations", "labels"):
            if key in meta:
                part: Object = {".": {}} | {f"f:{one}": {} for one in meta[key]}
                fields.setdefault("f:metadata", {})[f"f:{key}"] = part
        if spec:
            fields["f:spec"] = {f"f:{key}": {} for key in sorted(spec)}
        entry = {"manager": manager, "operation": "Update", "apiVersion": f"{GROUP}/v1", "time": now}
        meta["managedFields"] = [{**entry, "fieldsType": "FieldsV1", "fieldsV1": fields}]
        return {"kind": "Lease", "apiVersion": f"{GROUP}/v1", "metadata": meta, "spec": spec}

    def _changed(self, existing: Object, made: Object) -> Object:
        for key in ("uid", "creationTimestamp"):
            made["metadata"][key] = existing["metadata"][key]
        if _essence(made) == _essence(existing):
            return existing
        return self._put("MODIFIED", made)

    def _put(self, kind: str, made: Object) -> Object:
        made["metadata"]["resourceVersion"] = str(self.version + 1)
        change = Change(self.version + 1, kind, made)
        if self.journal is not None:
            with self.journal.open("a") as file:
                file.write(json.dumps(vars(change)) + "\n")
        self._apply(change)
        return made

    def _apply(self, change: Change) -> None:
        meta = change.object["metadata"]
        place = (meta["namespace"], meta["name"])
        if change.kind == "DELETED":
            self.objects.pop(place, None)
        else:
            self.objects[place] = change.object
        self.version = change.version
        self.history.append(change)


def _essence(made: Object) -> Object:
    meta = {key: made["metadata"].get(key) for key in ("labels", "annotations", "uid")}
    return {"metadata": meta, "spec": made["spec"]}


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    made = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = _merged(made.get(key), value)
    return made


def selects(selector: str, labels: dict[str, str]) -> bool:
    """Whether a label selector of equalities and sets takes these labels."""
    for part in re.findall(r"[^,(]+(?:\([^)]*\))?", selector):
        if found := re.fullmatch(r"\s*([\w./-]+)\s+in\s+\(([^)]*)\)\s*", part):
            if labels.get(found[1]) not in [word.strip() for word in found[2].split(",")]:
                return False
        elif found := re.fullmatch(r"\s*([\w./-]+)\s*==?\s*([\w.-]*)\s*", part):
            if labels.get(found[1]) != found[2]:
                return False
        else:
            raise Refusal(400, "BadRequest", f"unable to parse requirement: {part}")
    return True
