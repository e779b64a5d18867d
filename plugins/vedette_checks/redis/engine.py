"""The fleet's records in Redis: hashes behind scripts that compare and set.

`vedette:fleet:{NAME}:members` and its siblings are hashes from a record's id to revision, gist and value, in one text.
All keys of a fleet share a hash tag, so that in a cluster they live on one node and a script may look at two of them.
A revision is random, and ends with what the server calls its present run: one that went back to an older copy of its
data, or took over from another one, never gives it out again, and takes none of before.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from pydantic import Field
from redis import exceptions

from vedette import Diagnosis, Engine, EngineConfig, EngineConflict, EngineRecord, EngineUnavailable, hookimpl
from vedette_checks.redis.address import ServerOptions
from vedette_checks.redis.primary import Primary, Refused
from vedette_checks.redis.scripts import GET, READ, REMOVE, WRITE, Script
from vedette_checks.redis.topology import ClusterPlace, SentinelConfig

KINDS = ("members", "claims", "catalogues")
"""What comes before the slash of a key."""
_REVISION, _GIST = 24, 8  # hex digits
_SHARE = 0.8  # of the patience, for replicas to confirm


class RedisEngineConfig(ServerOptions, EngineConfig):
    """The options of `fleet:` with `backend: redis`."""

    sentinel: SentinelConfig | None = Field(
        None, description="Ask sentinels for the server that is the master, instead of a host."
    )
    cluster: ClusterPlace | None = Field(None, description="Nodes of a cluster, instead of a host.")
    db: int = Field(0, description="Database of the records.", ge=0)
    replicas: int = Field(
        0,
        description="How many replicas must have a write before it counts (WAIT). With sentinels or a cluster, so many "
        "that a server that is cut off from the others has too few: then nobody stays in office by it.",
        ge=0,
        le=100,
    )


class RedisEngine(Engine[RedisEngineConfig]):
    """Keeps the fleet's records in Redis or Valkey: a server, a master behind sentinels, or a cluster."""

    name = "redis"

    def __init__(self, config: RedisEngineConfig) -> None:
        super().__init__(config)
        self._patience = config.ttl / 3
        self._primary = Primary(config, self._key("members"), self._patience)
        self._channel = self._key("changes")

    async def read(self, prefix: str) -> list[EngineRecord]:
        """See `Engine`: one hash, or all that the prefix may mean."""
        found: list[EngineRecord] = []
        for kind in KINDS:
            if not (f"{kind}/".startswith(prefix) or prefix.startswith(f"{kind}/")):
                continue
            memory, flat = await self._run(READ, [self._key(kind)], [])
            pairs = zip(flat[::2], flat[1::2], strict=True)
            found += [_record(f"{kind}/{name.decode()}", kept, memory) for name, kept in pairs]
        return [record for record in found if record.key.startswith(prefix)]

    async def get(self, key: str) -> EngineRecord | None:
        """See `Engine`."""
        home, name = self._place(key)
        memory, kept = await self._run(GET, [home], [name])
        return None if kept is None else _record(key, kept, memory)

    async def write(self, key: str, value: str, revision: str | None, guard: EngineRecord | None = None) -> str:
        """See `Engine`. Sent twice, where a connection broke, it is made once."""
        home, name = self._place(key)
        guarded = self._place(guard.key) if guard is not None else (home, "")
        made = secrets.token_hex(_REVISION // 2)
        arguments = [name, revision or "", made, self.gist(value), value, self._channel, guarded[1]]
        arguments.append(guard.revision if guard is not None else "")
        outcome, *memory = await self._run(WRITE, [home, guarded[0]], arguments, writes=True)
        if outcome == -1:
            raise EngineConflict(f"{guard.key if guard else ''} is not what it was, so {key} was not written")
        if outcome != 1:
            raise EngineConflict(f"{key} is there already" if revision is None else f"{key} is not what it was")
        return f"{made}{memory[0].decode()}"

    async def remove(self, key: str, revision: str) -> None:
        """See `Engine`."""
        home, name = self._place(key)
        if await self._run(REMOVE, [home], [name, revision, self._channel], writes=True) != [1]:
            raise EngineConflict(f"{key} was written meanwhile")

    async def changes(self) -> AsyncIterator[None]:
        """See `Engine`: the messages of a channel on a connection of its own, which a ping keeps honest."""
        async with aclosing(self._primary.news(self._channel)) as news:
            async for _ in news:
                yield

    async def close(self) -> None:
        """Drop the connections."""
        self._primary.close()

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """The way to the servers, the login, the rights, and whether the records last."""
        from vedette_checks.redis.engine_doctor import diagnose

        await diagnose(self.config, self._key, self._primary, diagnosis)

    def _key(self, kind: str) -> str:
        return f"vedette:fleet:{{{self.config.name}}}:{kind}"

    def _place(self, key: str) -> tuple[str, str]:
        """The hash of a record, and its field there."""
        kind, slash, name = key.partition("/")
        if kind not in KINDS or not slash or not name:
            raise ValueError(f"no key of a fleet's record: {key}")
        return self._key(kind), name

    async def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[str], *, writes: bool = False) -> Any:
        """What a script returns.

        Raises:
            EngineUnavailable: the server did not answer in time, or refused.
        """
        wait = self.config.replicas if writes else 0
        async with self._primary.attempt() as attempt:
            for command in (script.by_digest(keys, arguments), script.whole(keys, arguments)):
                commands = [command]
                if wait:
                    commands.append(("WAIT", wait, int(self._patience * _SHARE * 1000)))
                outcome, *waited = await self._primary.ask(commands, attempt)
                if not isinstance(outcome, exceptions.NoScriptError):
                    break
            if isinstance(outcome, Exception):
                raise Refused(outcome, "eval" if command[0] == "EVAL" else "evalsha")
            if wait and outcome[0] == 1:
                _confirmed(waited[0], wait)
            return outcome


def _confirmed(reply: Any, wanted: int) -> None:
    if isinstance(reply, Exception):
        raise Refused(reply, "wait")
    if reply < wanted:
        raise EngineUnavailable(
            f"{reply} of {wanted} replicas have what was written; see the replication, or lower `replicas`"
        )


def _record(key: str, kept: bytes, memory: bytes) -> EngineRecord:
    text = kept.decode("utf-8", "replace")
    return EngineRecord(key, text[_REVISION + _GIST :], f"{text[:_REVISION]}{memory.decode()}")


@hookimpl
def register_engines(register: Callable[[type[Engine[Any]]], None]) -> None:
    """Offer the engine to the agent."""
    register(RedisEngine)
