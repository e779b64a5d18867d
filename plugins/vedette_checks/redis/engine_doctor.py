"""What the fleet needs of its Redis, and what it lacks: for `vedette doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis import exceptions

from vedette import Diagnosis, EngineUnavailable
from vedette_checks.redis.address import Address
from vedette_checks.redis.doctor import reach
from vedette_checks.redis.info import parse_info
from vedette_checks.redis.primary import Primary
from vedette_checks.redis.session import Command
from vedette_checks.redis.topology import REDIS_PORT, SENTINEL_PORT, split_address

if TYPE_CHECKING:
    from vedette_checks.redis.engine import RedisEngineConfig

_TRIAL = "doctor"
"""Name of the field, key and message that are tried."""


@dataclass(frozen=True, slots=True)
class _Right:
    """A command that the engine sends, or a script of it.

    Attributes:
        name: as ACL rules have it.
        command: what is tried; it leaves nothing behind.
    """

    name: str
    command: Command


async def diagnose(
    config: RedisEngineConfig, key: Callable[[str], str], primary: Primary, diagnosis: Diagnosis
) -> None:
    """Look at the way to the servers, the login, the rights, and whether the records last.

    Args:
        config: the options.
        key: makes a key of the fleet out of a word.
        primary: where the records are.
        diagnosis: where to say it.
    """
    reached = [await reach(config, address, diagnosis) for address in _addresses(config)]
    if any(reached):
        try:
            await _talk(config, key, primary, diagnosis)
        except EngineUnavailable as error:
            diagnosis.failed("login", str(error))
            diagnosis.not_reached("rights")
    else:
        for what in ("login", "rights"):
            diagnosis.not_reached(what)
    primary.close()


def _addresses(config: RedisEngineConfig) -> Iterator[Address]:
    if config.sentinel is not None:
        places = [split_address(text, SENTINEL_PORT) for text in config.sentinel.addresses]
    elif config.cluster is not None:
        places = [split_address(text, REDIS_PORT) for text in config.cluster.addresses]
    else:
        yield config.address
        return
    for host, port in places:
        yield Address(host, port, tls=config.address.tls)


async def _talk(config: RedisEngineConfig, key: Callable[[str], str], primary: Primary, diagnosis: Diagnosis) -> None:
    records, channel = key("members"), key("changes")
    rights = [
        _Right("hget", ("HGET", records, "")),
        _Right("hgetall", ("HGETALL", key(_TRIAL))),
        _Right("hdel", ("HDEL", records, "")),
        _Right("eval", ("EVAL", "return 1", 1, records)),
        _Right("evalsha", ("EVALSHA", "0" * 40, 1, records)),
        _Right("info", ("INFO", "server")),
        _Right("hset", ("HSET", key(_TRIAL), _TRIAL, "")),
        _Right("hdel", ("HDEL", key(_TRIAL), _TRIAL)),
    ]
    if config.replicas:
        rights.append(_Right("wait", ("WAIT", 0, 1)))
    news = [_Right("publish", ("PUBLISH", channel, _TRIAL))]
    asked = [right.command for right in (*rights, *news)]
    infos: list[Command] = [("INFO", section) for section in ("persistence", "memory", "replication")]
    async with primary.attempt() as attempt:
        replies = await primary.ask([*asked, *infos, ("CONFIG", "GET", "save")], attempt)
        address = attempt.address
    if (wrong := _unfit(replies[: len(rights)])) is not None:
        found = primary.why(wrong, attempt)
        diagnosis.failed("login", found.message, found.hint)
        diagnosis.not_reached("rights")
        return
    user = address.username or "default"
    diagnosis.ok("login", f"{address} as the user {user}")
    _judge_rights(rights, news, replies, user, key("*"), diagnosis)
    persistence, memory, replication, save = replies[len(asked) :]
    _judge_persistence(persistence, save, diagnosis)
    _judge_memory(memory, diagnosis)
    _judge_replicas(config, replication, diagnosis)


def _denied(reply: Any) -> bool:
    return isinstance(reply, exceptions.NoPermissionError) or "NOPERM" in str(reply)


def _unfit(replies: Sequence[Any]) -> Exception | None:
    """The error reply that says that this server will not do, such as that it is a replica; None if it will."""
    for reply in replies:
        if isinstance(reply, Exception) and not _denied(reply) and not isinstance(reply, exceptions.NoScriptError):
            return reply
    return None


def _judge_rights(
    rights: Sequence[_Right], news: Sequence[_Right], replies: Sequence[Any], user: str, keys: str, diagnosis: Diagnosis
) -> None:
    pairs = list(zip((*rights, *news), replies, strict=False))
    texts = {right.name: str(reply) for right, reply in pairs if _denied(reply)}
    commands = [name for name, text in texts.items() if "to access" not in text]
    places = [f"~{keys}"] if any("key" in text for text in texts.values() if "to access" in text) else []
    channels = [f"&{keys}"] if "channel" in texts.get("publish", "") else []
    if not texts:
        diagnosis.ok("rights", f"the user {user} may do all that the fleet needs")
        return
    rules = " ".join((*(f"+{name}" for name in commands), *places, *channels))
    what = ", ".join((*(name.upper() for name in commands), *(f"use {keys}" for _ in places[:1] or channels[:1])))
    snippet = f"ACL SETUSER {user} {rules}"
    if set(texts) == {"publish"}:
        diagnosis.warning(
            "rights", f"the user {user} may not publish: others hear of changes late", "allow it", snippet
        )
    else:
        diagnosis.failed("rights", f"the user {user} may not {what}", "allow it", snippet)


def _judge_persistence(reply: Any, save: Any, diagnosis: Diagnosis) -> None:
    if isinstance(reply, Exception):
        diagnosis.info("persistence", "the server does not tell", "allow INFO to the user")
        return
    fields = parse_info(reply)
    log = fields.get("aof_enabled") == "1"
    snapshots = not isinstance(save, Exception) and len(save) > 1 and bool(save[1])
    told = "appendonly" if log else "snapshots only" if snapshots else "none"
    if fields.get("aof_last_write_status") == "err" or fields.get("rdb_last_bgsave_status") == "err":
        diagnosis.warning("persistence", "the last write to disk failed", "see the server's log and its disk")
    elif log:
        diagnosis.ok("persistence", told)
    elif isinstance(save, Exception):
        diagnosis.info("persistence", "no append-only file; of snapshots the server does not tell")
    else:
        lost = "all" if told == "none" else "what came after the last snapshot"
        diagnosis.warning(
            "persistence",
            f"{told}: a restart forgets {lost} of who runs what and how far it came",
            "the fleet finds itself anew after one ttl; to keep the watermarks, turn on the append-only file",
            "CONFIG SET appendonly yes",
        )


def _judge_memory(reply: Any, diagnosis: Diagnosis) -> None:
    if isinstance(reply, Exception):
        return
    fields = parse_info(reply)
    policy, limit = fields.get("maxmemory_policy", ""), fields.get("maxmemory", "0")
    if not policy.startswith("allkeys-"):  # the records have no time to live, which `volatile-` policies go by
        diagnosis.ok("eviction", policy or "the server does not tell")
    elif limit == "0":
        diagnosis.info("eviction", f"{policy}, which would evict the records if there were a `maxmemory`")
    else:
        diagnosis.failed(
            "eviction",
            f"{policy}: when memory is short the server throws away who runs what",
            "use a server of its own, or a policy that keeps what has no time to live",
            "CONFIG SET maxmemory-policy noeviction",
        )


def _judge_replicas(config: RedisEngineConfig, reply: Any, diagnosis: Diagnosis) -> None:
    if isinstance(reply, Exception):
        return
    count = int(parse_info(reply).get("connected_slaves", "0") or 0)
    if config.replicas > count:
        diagnosis.failed(
            "replicas", f"{count} are connected, and `replicas` asks for {config.replicas}", "no write will count"
        )
    elif count and not config.replicas:
        diagnosis.warning(
            "replicas",
            f"{count} connected, and no write waits for them: a failover may forget the newest",
            "set `replicas`, so that a server cut off from the others keeps nobody in office",
            "replicas: 1",
        )
    elif count:
        diagnosis.ok("replicas", f"{count} connected, {config.replicas} must have each write")
