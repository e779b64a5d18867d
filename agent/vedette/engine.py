"""Floor 1: the contract of a coordination engine: where the agents of a fleet keep who they are and who runs what."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from vedette.check import model_of
from vedette.errors import VedetteError
from vedette.units import Duration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vedette.advice import Diagnosis


class EngineConfig(BaseModel):
    """The options of `fleet:` in agent.yaml. An engine subclasses it and adds its own; unknown options are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    backend: str = Field(description="Which engine keeps the fleet's records.")
    name: str = Field(
        "default",
        description="Name of the fleet: agents of several fleets may share an engine.",
        pattern=r"^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$",
    )
    identity: str = Field(
        "",
        description="Name of this agent in the fleet, unlike any other's. Default: the host name on its samples.",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,199})?$",
        examples=["node-7"],
    )
    ttl: Duration = Field(
        15.0, description="After so long without a sign of life an agent counts as dead.", ge=1, le=600
    )


class EngineRecord(NamedTuple):
    """What the engine keeps under a key.

    Attributes:
        key: `members/<id>`, `claims/<instance id>` or `catalogues/<digest>`.
        value: JSON text.
        revision: what the engine calls this version of it; only compared for equality, and never given twice. An
            engine that may lose writes it has answered (it restarts from an older copy, or a replica that lagged
            takes over) appends `@` and what is different after each such event, of all records: then every revision
            of before is void, though the record be the same.
    """

    key: str
    value: str
    revision: str

    @property
    def memory(self) -> str:
        """What is different once the engine may have lost writes: what follows the `@` in the revision."""
        return self.revision.partition("@")[2]


class EngineConflict(VedetteError):
    """The record is not at the revision that the writer knows, or not there, or there already."""


class EngineUnavailable(VedetteError):
    """The engine gave no answer, or not one that says what happened: a write may or may not have been made.

    Its text is one line for people: what was asked, of whom, and what came back.
    """


E = TypeVar("E", bound=EngineConfig)

_ROUTINE = frozenset({"seq", "state", "token"})
"""Fields of a record that its owner writes again and again, and that nobody waits for."""


class Engine(Generic[E]):
    """A few linearizable records with compare-and-set. Subclass it as `Engine[YourConfig]`, set `name`.

    Every method but `close` may raise `EngineUnavailable`, and has answered or raised within `timeout` seconds of
    its own (a third of the ttl): a server that is silent must not hold anybody. Reads must be as new as the last
    write that was answered to anyone; a cache or a replica that may lag behind is not good enough.
    """

    name: ClassVar[str] = ""
    """The entry point's name (group `vedette.engines`), and the word after `backend:` in agent.yaml."""
    config_class: ClassVar[type[EngineConfig]] = EngineConfig

    def __init__(self, config: E) -> None:
        self.config = config
        self.log = logging.getLogger("vedette.fleet")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        model = model_of(cls, EngineConfig)
        if model is not None:
            cls.config_class = model

    @staticmethod
    def gist(value: str) -> str:
        """Eight hex digits for what of a record's value is news to others: all but its `seq`, `state` and `token`.

        For `changes`: every member beats every few seconds, and watermarks move with every window; who reports that
        too makes everybody read all the time.
        """
        try:
            fields = json.loads(value)
        except ValueError:
            fields = value
        if isinstance(fields, dict):
            fields = {name: fields[name] for name in sorted(fields.keys() - _ROUTINE)}
        return hashlib.blake2b(json.dumps(fields).encode(), digest_size=4).hexdigest()

    async def open(self) -> None:
        """Get ready; called before all else, and again after a pause if it raised. It need not reach the server."""

    async def read(self, prefix: str) -> list[EngineRecord]:
        """All records whose key begins so, such as `members/`."""
        raise NotImplementedError

    async def get(self, key: str) -> EngineRecord | None:
        """One record, or None."""
        raise NotImplementedError

    async def write(self, key: str, value: str, revision: str | None, guard: EngineRecord | None = None) -> str:
        """Write a record if it is still at `revision` (None: if it is not there).

        Args:
            key: as in `EngineRecord`.
            value: JSON text, at most 200,000 bytes in UTF-8.
            revision: the version that is to be replaced.
            guard: a record that must be at its revision in the same moment. An engine that cannot forget what was
                written to it (etcd) may ignore it.

        Returns:
            The new revision; equal to the old one where nothing was different.

        Raises:
            EngineConflict: it is not so.
        """
        raise NotImplementedError

    async def remove(self, key: str, revision: str) -> None:
        """Remove a record if it is still at `revision`. One that is gone already is no conflict.

        Raises:
            EngineConflict: it was written meanwhile.
        """
        raise NotImplementedError

    def changes(self) -> AsyncIterator[None]:
        """Yields when records may have changed. Only a hint: nothing that must be right depends on it.

        An engine without such news never yields. It raises `EngineUnavailable` when the news end, and is then
        called again after a pause.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Drop the connections; called once, whatever came before."""

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """For `vedette doctor`: look at what the engine needs, and say how it came out.

        Called instead of all others, on an object of its own, inside a deadline. It must write nothing that stays.
        """
