"""What an instance needs of its servers, and what it lacks: for `vedette doctor`."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from redis import exceptions

from vedette import CheckError, Diagnosis
from vedette.kit import probe_clock, probe_tcp, probe_tls, probe_unix, tls_context
from vedette_checks.redis.address import Address, ServerOptions
from vedette_checks.redis.config import RedisConfig
from vedette_checks.redis.counters import Counter
from vedette_checks.redis.findings import Advisor
from vedette_checks.redis.info import parse_info
from vedette_checks.redis.keys import LENGTH
from vedette_checks.redis.nodes import UNREACHABLE, Node
from vedette_checks.redis.parts import parts_of
from vedette_checks.redis.session import Command
from vedette_checks.redis.topology import REDIS_PORT, SENTINEL_PORT, split_address

_CONTAINERS = frozenset({"acl", "client", "cluster", "command", "config", "latency", "sentinel", "slowlog", "xinfo"})
"""Commands whose subcommands have rights of their own."""
_GLOB = re.compile(r"[*?\[\]\\]")
_TRIAL_KEY = "vedette:round_trip:doctor"
_OWN_KEYS = "vedette:*"
_FIRST: tuple[Command, ...] = (("PING",), ("TIME",), ("INFO", "server"))


@dataclass(frozen=True, slots=True)
class Need:
    """A command that the runs of an instance send.

    Attributes:
        command: one of its kind that changes nothing.
        key: glob pattern of the keys that it asks for, or empty.
    """

    command: Command
    key: str = ""

    @property
    def right(self) -> str:
        """The command as ACL rules have it: `slowlog|get`."""
        words = [str(word).lower() for word in self.command[:2]]
        return "|".join(words) if words[0] in _CONTAINERS else words[0]


async def diagnose(config: RedisConfig, diagnosis: Diagnosis) -> None:
    """Look at each address of an instance, layer by layer."""
    patience = config.deadline / 2
    if config.sentinel is not None:
        options = config.sentinel
        password = options.password.reveal() if options.password else ""
        login = replace(config.address, db=0, username=options.username, password=password, minted=None)
        for text in options.addresses:
            host, port = split_address(text, SENTINEL_PORT)
            asked = ("MASTER", "REPLICAS", "SENTINELS")
            needs = [Need(("SENTINEL", word, options.master)) for word in asked]
            await _look(config, replace(login, host=host, port=port), patience, [Need(("PING",)), *needs], diagnosis)
        return
    needs = list(needs_of(config))
    if config.cluster is None:
        await _look(config, config.address, patience, needs, diagnosis)
        return
    needs += [Need(("CLUSTER", word)) for word in ("INFO", "NODES", "SLOTS")]
    for text in config.cluster.addresses:
        host, port = split_address(text, REDIS_PORT)
        await _look(config, replace(config.address, host=host, port=port), patience, needs, diagnosis)


async def _look(
    config: RedisConfig, address: Address, patience: float, needs: Sequence[Need], diagnosis: Diagnosis
) -> None:
    if not await reach(config, address, diagnosis):
        for what in ("login", "rights"):
            diagnosis.not_reached(what)
        return
    try:
        node = Node(config, Advisor(address, patience)).open()
    except OSError as error:  # of which ssl.SSLError is one
        diagnosis.failed("certificates", f"they cannot be used: {error.strerror or type(error).__name__}")
        return
    try:
        await _talk(config, node, needs, diagnosis)
    finally:
        node.close()


async def reach(config: ServerOptions, address: Address, diagnosis: Diagnosis) -> bool:
    """Whether the server's port or socket takes connections, and its certificate is good; says so in lines."""
    if address.path:
        return await probe_unix(diagnosis, Path(address.path))
    if not await probe_tcp(diagnosis, address.host, address.port):
        if address.tls:
            diagnosis.not_reached("TLS")
        return False
    if not address.tls:
        return True
    try:
        context = tls_context(config, verify=config.verify)
    except CheckError as error:
        diagnosis.failed("TLS", error.message, error.hint)
        return False
    return await probe_tls(diagnosis, address.host, address.port, context)


async def _talk(config: RedisConfig, node: Node, needs: Sequence[Need], diagnosis: Diagnosis) -> None:
    try:
        asked = time.time()
        first = (await node.ask(_FIRST, node.advisor.patience)).values
        answered = time.time()
    except exceptions.NoPermissionError:  # to SELECT the database, which the client does as it logs in
        user = node.address.username or "default"
        diagnosis.failed("login", f"the user {user} may not SELECT", snippet=f"ACL SETUSER {user} +select")
        diagnosis.not_reached("rights")
        return
    except UNREACHABLE as error:
        first, asked, answered = [error], 0.0, 0.0
    if isinstance(first[0], Exception) and not isinstance(first[0], exceptions.NoPermissionError):
        found = node.advisor.failure(first[0], greeted=node.session.greeted)
        diagnosis.failed("login", found.message, found.hint)
        diagnosis.not_reached("rights")
        return
    diagnosis.ok("login", f"as the user {node.address.username or 'default'}")
    if (theirs := _time(first[1], first[2])) is not None:
        probe_clock(diagnosis, theirs, asked, answered)
    await _rights(config, node, needs, diagnosis)


def _time(time_reply: Any, info_reply: Any) -> float | None:
    """The server's clock, Unix seconds; None if it may not be asked for."""
    if not isinstance(time_reply, Exception):
        return int(time_reply[0]) + int(time_reply[1]) / 1e6
    if isinstance(info_reply, Exception):
        return None
    microseconds = parse_info(info_reply).get("server_time_usec", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() else None


async def _rights(config: RedisConfig, node: Node, needs: Sequence[Need], diagnosis: Diagnosis) -> None:
    user = node.address.username or "default"
    lacks = Lacks()
    types = [Need(("TYPE", key), _pattern(key)) for key in config.keys if config.sentinel is None]
    try:
        replies = (await node.ask([need.command for need in (*needs, *types)], node.advisor.patience)).values
        for need, reply in zip((*needs, *types), replies, strict=True):
            lacks.note(need, reply)
        lengths = [need for type_, reply in zip(types, replies[len(needs) :], strict=True)
                   for need in _lengths(type_, reply)]  # fmt: skip
        if lengths:
            for need, reply in zip(lengths, await _ask(node, lengths), strict=True):
                lacks.note(need, reply)
        if lacks.doubtful and await _has_all_keys(node, user):
            lacks.doubtful.clear()
    except UNREACHABLE as error:
        found = node.advisor.failure(error, greeted=True)
        diagnosis.failed("rights", found.message, found.hint)
        return
    if lacks:
        doubt = "the second line is refused where the user has all keys already" if lacks.doubtful else ""
        diagnosis.failed("rights", f"the user {user} may not {lacks}", doubt, lacks.snippet(user))
    else:
        diagnosis.ok("rights", f"the user {user} may do all that is asked of it")


async def _ask(node: Node, needs: Sequence[Need]) -> list[Any]:
    return (await node.ask([need.command for need in needs], node.advisor.patience)).values


def _lengths(type_: Need, reply: Any) -> Iterator[Need]:
    """What reads a key's length: of its type, or of any if that is not known."""
    key = type_.command[1]
    if isinstance(reply, Exception):
        commands: Iterable[str] = LENGTH.values()
    else:
        commands = filter(None, (LENGTH.get(reply.decode("utf-8", "replace")),))
    for command in commands:
        yield Need((command, key), type_.key)


async def _has_all_keys(node: Node, user: str) -> bool:
    (reply,) = await _ask(node, [Need(("ACL", "GETUSER", user))])
    if isinstance(reply, Exception) or reply is None:
        return False
    fields = dict(zip(reply[::2], reply[1::2], strict=False))
    keys = fields.get(b"keys", b"")
    return b"allkeys" in fields.get(b"flags", ()) or keys == b"~*" or b"*" in (keys if isinstance(keys, list) else ())


class Lacks:
    """The rights that a user lacks.

    Attributes:
        commands: in the words of ACL rules.
        keys: patterns of keys that it may not read.
        doubtful: patterns of which that is not known, because no command that reads them was allowed.
    """

    def __init__(self) -> None:
        self.commands: dict[str, None] = {}
        self.keys: dict[str, None] = {}
        self.doubtful: dict[str, None] = {}
        self._fine: set[str] = set()

    def note(self, need: Need, reply: Any) -> None:
        """Take note of the reply to a command."""
        text = str(reply) if isinstance(reply, Exception) else ""
        denied = isinstance(reply, exceptions.NoPermissionError) or "NOPERM" in text
        if not denied:
            self._fine.add(need.key)
            self.doubtful.pop(need.key, None)
        elif need.key and "to access" in text:
            self.keys[need.key] = None
            self.doubtful.pop(need.key, None)
        else:
            self.commands[need.right] = None
            if need.key and need.key not in self.keys and need.key not in self._fine:
                self.doubtful[need.key] = None

    def __bool__(self) -> bool:
        return bool(self.commands or self.keys)

    def __str__(self) -> str:
        run = ", ".join(right.upper().replace("|", " ") for right in self.commands)
        keys = ", ".join(self.keys)
        return " and may not ".join(filter(None, (f"run {run}" if run else "", f"access {keys}" if keys else "")))

    def snippet(self, user: str) -> str:
        """The rules that give them."""
        rules = [*(f"+{right}" for right in self.commands), *(_word(f"~{key}") for key in self.keys)]
        lines = [f"ACL SETUSER {user} {' '.join(rules)}"]
        if self.doubtful:
            lines.append(f"ACL SETUSER {user} {' '.join(_word(f'~{key}') for key in self.doubtful)}")
        return "\n".join(lines)


def _word(text: str) -> str:
    """One argument as redis-cli reads it."""
    if not any(character in text for character in "\"'\\"):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _pattern(key: str) -> str:
    """A pattern of ACL rules that this key matches; they cannot hold blanks, for which `?` stands."""
    return "".join("?" if one.isspace() or not one.isprintable() else one for one in _GLOB.sub(r"\\\g<0>", key))


def needs_of(config: RedisConfig) -> Iterator[Need]:
    """What the runs of an instance send to a server that holds data, but for what `keys` needs."""
    yield Need(("INFO",))
    yield Need(("PING",))
    for part in parts_of(config, {}):
        for command in part.commands():
            yield Need(command, _pattern(str(command[2])) if command[0] == "XINFO" else "")
    for stream in config.streams:
        yield Need(("XPENDING", stream, "vedette"), _pattern(stream))
    now, zone = time.time(), ZoneInfo(config.timezone)
    for counter in config.counters:
        pattern = counter.template(config.tags).glob.replace(" ", "?")
        for command in Counter(counter, config.tags, zone).commands(now):
            yield Need(command, pattern)
    if config.scan is not None:
        yield Need(("SCAN", 0, "COUNT", 1))
    if config.round_trip:
        yield Need(("SET", _TRIAL_KEY, "", "NX", "XX"), _OWN_KEYS)  # contradicts itself: rights are checked, no more
        yield Need(("GET", _TRIAL_KEY), _OWN_KEYS)
        yield Need(("DEL", _TRIAL_KEY), _OWN_KEYS)
