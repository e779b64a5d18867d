"""What is known of the objects of one resource: decoded in part, kept by UID, replaced as a whole by a new list."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import msgspec

from vedette_checks.k8s.decode import Id, Identified

_WHOLE = msgspec.json.Decoder(msgspec.Raw)
_IDENTIFIED = msgspec.json.Decoder(Identified)
_ODD = (msgspec.ValidationError, UnicodeDecodeError)
"""What an object that is whole, but not as the API's documentation has it, makes of its decoding."""


class _Meta(Protocol):
    @property
    def uid(self) -> str: ...
    @property
    def resource_version(self) -> str: ...


class _HasMeta(Protocol):
    @property
    def metadata(self) -> _Meta: ...


O = TypeVar("O", bound=_HasMeta)  # noqa: E741
R = TypeVar("R")


class Store(Protocol):
    """Whoever wants the objects that a watch keeps up to date."""

    def begin(self) -> None:
        """A full list begins; until `finish` what was known stays."""

    def collect(self, raw: bytes | memoryview) -> None:
        """An object of the full list; msgspec.DecodeError if it is no JSON, or not all of it."""

    def uncollect(self, raw: bytes | memoryview) -> None:
        """An object went while the full list was still coming, as a streaming list may tell."""

    def finish(self) -> None:
        """The list is complete: what is not in it is gone."""

    def put(self, raw: bytes | memoryview) -> str:
        """An object is new or has changed; its resourceVersion."""
        ...

    def remove(self, raw: bytes | memoryview) -> str:
        """An object is gone, or no longer matches the selector; the resourceVersion of that."""
        ...


class Table(Generic[O, R]):
    """Objects of one resource, each kept as a row; the base keeps what was decoded.

    Args:
        model: the fields that are used.
    """

    def __init__(self, model: type[O]) -> None:
        self._decoder = msgspec.json.Decoder(model)
        self._collected: dict[str, R] = {}
        self.rows: dict[str, R] = {}
        """By UID."""
        self._odd: set[str] = set()
        self.unreadable: set[str] = set()
        """UIDs of the objects that cannot be decoded as they are now, and are left out."""
        self.changes = 0
        """Events so far."""

    def digest(self, found: O) -> R:
        """The row that stands for an object."""
        raise NotImplementedError

    def changed(self, uid: str, old: R | None, new: R | None) -> None:
        """A row came, changed or went: what is kept besides must follow."""

    def begin(self) -> None:
        """See `Store`."""
        self._collected = {}
        self._odd = set()

    def collect(self, raw: bytes | memoryview) -> None:
        """See `Store`."""
        found = self._decode(raw)
        if found is not None:
            self._collected[found.metadata.uid] = self.digest(found)

    def uncollect(self, raw: bytes | memoryview) -> None:
        """See `Store`; `finish` takes it out of what was known before."""
        uid = self._id(raw).uid
        self._odd.discard(uid)
        there = self._collected.pop(uid, None)
        known = self.rows.get(uid)
        found = self._decode(raw) if there is not None or known is not None else None
        if found is None:
            return
        row = self.digest(found)  # what happened last to it, for what is counted
        self.changed(uid, known, row)
        if known is not None:
            self.rows[uid] = row
        else:
            self.changed(uid, row, None)

    def finish(self) -> None:
        """See `Store`."""
        old, self.rows, self._collected = self.rows, self._collected, {}
        self.unreadable = self._odd
        self.replaced(old)

    def replaced(self, old: dict[str, R]) -> None:
        """All rows may have changed."""
        for uid, row in old.items():
            if uid not in self.rows:
                self.changed(uid, row, None)
        for uid, row in self.rows.items():
            self.changed(uid, old.get(uid), row)

    def put(self, raw: bytes | memoryview) -> str:
        """See `Store`."""
        self.changes += 1
        found = self._decode(raw)
        if found is None:  # one that does not even say which it is makes for a new list
            return self._id(raw).resource_version
        uid, row = found.metadata.uid, self.digest(found)
        self.changed(uid, self.rows.get(uid), row)
        self.rows[uid] = row
        return found.metadata.resource_version

    def remove(self, raw: bytes | memoryview) -> str:
        """See `Store`."""
        self.changes += 1
        named = self._id(raw)
        uid = named.uid
        if uid in self.rows:
            old: R | None = self.rows.pop(uid)
            found = self._decode(raw)
            if found is not None:  # what happened last to it, for what is counted
                row = self.digest(found)
                self.changed(uid, old, row)
                old = row
            self.changed(uid, old, None)
        self.unreadable.discard(uid)
        self._odd.discard(uid)
        return named.resource_version

    def _decode(self, raw: bytes | memoryview) -> O | None:
        try:
            found = self._decoder.decode(raw)
            self.unreadable.discard(found.metadata.uid)
            return found
        except _ODD:  # not as the API's documentation has it: the others must not suffer
            _WHOLE.decode(raw)
            uid = self._uid(raw)
            self.unreadable.add(uid)
            self._odd.add(uid)
            return None

    def _id(self, raw: bytes | memoryview) -> Id:
        return _IDENTIFIED.decode(raw).metadata

    def _uid(self, raw: bytes | memoryview) -> str:
        try:
            return self._id(raw).uid
        except _ODD:
            return ""


class Plain(Table[O, O]):
    """A table whose rows are the decoded objects themselves: for resources of which there are few."""

    def digest(self, found: O) -> O:
        """The object."""
        return found
