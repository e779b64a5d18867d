"""A master behind sentinels: found anew at each run, and the sentinels watched with it.

All sentinels are asked at once. Of those that know the master the one with the newest configuration is believed: a
sentinel that was cut off may still name the master of yesterday. Protocol:
https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis import exceptions

from vedette import Emit, Status
from vedette_checks.redis.address import Address
from vedette_checks.redis.config import RedisConfig
from vedette_checks.redis.counters import Counter
from vedette_checks.redis.findings import Advisor, Finding
from vedette_checks.redis.info import number, parse_info
from vedette_checks.redis.keys import KeyLength
from vedette_checks.redis.nodes import UNREACHABLE, Levels, Node, OptionAdvisor
from vedette_checks.redis.topology import SENTINEL_PORT, SentinelConfig, split_address

_SHARE, _LONGEST = 0.25, 2.0  # of the run's patience, and seconds: longest wait for sentinels, and for the role
_OPTIONS = (
    ("`host`", "`sentinel.addresses`"),
    ("`password`", "`sentinel.password`"),
    ("`username`", "`sentinel.username`"),
)
_DOWN = {"s_down", "o_down"}


@dataclass(frozen=True, slots=True)
class MasterAdvisor(Advisor):
    """Explains errors of the server that the sentinels name as the master.

    Attributes:
        master: the master's name.
    """

    master: str

    def failure(self, error: BaseException, *, greeted: bool) -> Finding:
        """Why there is no talking to it."""
        found = Advisor.failure(self, error, greeted=greeted)
        hint = "a failover may be under way: the next run asks the sentinels again"
        where = f"{found.message} (the master {self.master} according to its sentinels)"
        return replace(found, message=where, hint=f"{hint}; else: {found.hint}" if found.hint else hint)


@dataclass(frozen=True, slots=True)
class View:
    """What one sentinel says of the master.

    Attributes:
        sentinel: the sentinel's address.
        address: host and port of the master.
        master: fields of SENTINEL MASTER.
        replicas: fields of each of SENTINEL REPLICAS.
        others: fields of each of SENTINEL SENTINELS, this one not among them.
        quorum: why there is no quorum, or None if there is.
    """

    sentinel: Address
    address: tuple[str, int]
    master: Mapping[str, str]
    replicas: Sequence[Mapping[str, str]]
    others: Sequence[Mapping[str, str]]
    quorum: Finding | None

    @property
    def epoch(self) -> float:
        """Version of the configuration that the sentinel knows."""
        return number(self.master.get("config-epoch", "")) or 0


class SentinelWatch:
    """Watches the master of one name, and its sentinels.

    Args:
        config: the instance's options.
        options: its option `sentinel`.
        patience: seconds that a run may take.
        keys: keys whose length to report.
        counters: numbers to read.
        state: what the instance committed.
    """

    def __init__(
        self,
        config: RedisConfig,
        options: SentinelConfig,
        patience: float,
        keys: Sequence[KeyLength],
        counters: Sequence[Counter],
        state: Mapping[str, Any],
    ) -> None:
        self._config = config
        self._options = options
        self._name = options.master
        self._tags = (f"redis_name:{options.master}",)
        self._limit = min(patience * _SHARE, _LONGEST)
        self._patience = patience - 2 * self._limit
        self._keys, self._counters, self._state = keys, counters, state
        self._levels = Levels()
        self._master: Node | None = None
        password = options.password.reveal() if options.password else ""
        login = replace(config.address, db=0, username=options.username, password=password, minted=None)
        places = (split_address(text, SENTINEL_PORT) for text in options.addresses)
        self._sentinels = [
            Node(config, OptionAdvisor(replace(login, host=host, port=port), self._limit, _OPTIONS))
            for host, port in places
        ]

    def open(self) -> None:
        """See `Watch`."""
        for node in (*self._sentinels, self._master):
            if node is not None:
                node.open()

    def nodes(self) -> Iterable[Node]:
        """See `Watch`."""
        return (*self._sentinels, *filter(None, (self._master,)))

    async def run(self, emit: Emit, now: float) -> None:
        """Ask the sentinels, then visit the master: the last one known if no sentinel answers.

        Raises:
            vedette.CheckError: no master is known, or there is no talking to it.
        """
        answers = await asyncio.gather(*(self._ask(sentinel) for sentinel in self._sentinels))
        views = [answer for answer in answers if isinstance(answer, View)]
        findings = [answer for answer in answers if isinstance(answer, Finding)]
        view = max(views, key=lambda one: one.epoch, default=None)
        self._judge_sentinels(emit, views, view, findings)
        if view is not None:
            report(emit, view, self._tags)
            self._follow(emit, view.address)
        if self._master is None:
            raise self._failed(emit, findings[0])
        if unfit := await self._not_a_master(self._master):
            raise self._failed(emit, unfit)
        await self._master.visit(emit, now, round_trip=self._config.round_trip)

    def _failed(self, emit: Emit, finding: Finding) -> Exception:
        emit.status("redis.can_connect", Status.CRITICAL, str(finding), self._tags)
        return finding.error()

    async def _ask(self, sentinel: Node) -> View | Finding:
        name, advisor = self._name, sentinel.advisor
        commands = [("SENTINEL", word, name) for word in ("GET-MASTER-ADDR-BY-NAME", "MASTER", "REPLICAS", "SENTINELS")]
        greeted = sentinel.session.greeted
        try:
            replies = await sentinel.ask([*commands, ("SENTINEL", "CKQUORUM", name)], self._limit)
        except UNREACHABLE as error:
            return advisor.failure(error, greeted=greeted)
        *values, quorum = replies.values
        for value in values:
            if isinstance(value, Exception):
                return self._refused(value, advisor)
        address, master, replicas, others = values
        if address is None:
            return self._unknown(advisor)
        return View(
            sentinel.address,
            (address[0].decode(), int(address[1])),
            _fields(master),
            [_fields(one) for one in replicas],
            [_fields(one) for one in others],
            _no_quorum(quorum, advisor) if isinstance(quorum, Exception) else None,
        )

    def _refused(self, error: Exception, advisor: Advisor) -> Finding:
        text = str(error)
        if "No such master" in text:
            return self._unknown(advisor)
        if "unknown command" in text:
            return Finding(f"{advisor.address} is no sentinel", "check `sentinel.addresses`: the usual port is 26379")
        return advisor.refusal(error, "sentinel", "")

    def _unknown(self, advisor: Advisor) -> Finding:
        return Finding(f"the sentinel {advisor.address} knows no master {self._name}", "check `sentinel.master`")

    def _judge_sentinels(self, emit: Emit, views: list[View], newest: View | None, findings: list[Finding]) -> None:
        strays = [view for view in views if newest is not None and view.address != newest.address]
        for view in strays:
            where = Address(*view.address)
            findings.append(Finding(f"the sentinel {view.sentinel} still names {where} as {self._name}"))
        status = Status.OK if not findings else Status.WARNING if views else Status.CRITICAL
        emit.status("redis.sentinel.can_connect", status, "; ".join(map(str, findings)), self._tags)

    def _follow(self, emit: Emit, address: tuple[str, int]) -> None:
        """Keep the connection while the address stays the same; else begin anew at the new one."""
        last = self._master
        if last is not None:
            if (last.address.host, last.address.port) == address:
                return
            last.close()
        where = replace(self._config.address, host=address[0], port=address[1])
        advisor = MasterAdvisor(where, self._patience, self._name)
        self._master = Node(
            self._config,
            advisor,
            keys=self._keys,
            counters=self._counters,
            place=self._tags,
            state=self._state,
            totals=self._levels.at(*address),
        ).open()
        if last is not None:
            emit.count("redis.sentinel.failover", 1, self._tags)
            text = f"{self._name} is {where} now; it was {last.address} before"
            emit.event(f"Redis failover of {self._name}", text, alert_type="warning", tags=self._tags)

    async def _not_a_master(self, node: Node) -> Finding | None:
        """Why the server is not the master that it should be, or None if it is or does not say.

        INFO says the same as ROLE, which needs a right of its own.
        """
        greeted = node.session.greeted
        try:
            reply = (await node.ask([("INFO", "replication")], self._limit)).values[0]
        except UNREACHABLE as error:
            return replace(node.advisor, patience=self._limit).failure(error, greeted=greeted)
        role = "" if isinstance(reply, Exception) else parse_info(reply).get("role", "")
        if role in ("", "master"):
            return None
        return Finding(
            f"the sentinels name {node.address} as the master {self._name}, but it is a replica",
            "a failover is under way, or the sentinels have lost touch: the next run asks them again",
        )

    def close(self) -> None:
        """See `Watch`."""
        for node in (*self._sentinels, self._master):
            if node is not None:
                node.close()


def report(emit: Emit, view: View, name: tuple[str, ...]) -> None:
    """Emit what a sentinel knows of the master, its replicas and the other sentinels.

    Args:
        emit: where to.
        view: what it says.
        name: the tag with the master's name.
    """
    tags = (*name, f"master_ip:{view.address[0]}")
    known = {"known_sentinels": ("num-other-sentinels", 1), "known_slaves": ("num-slaves", 0)}
    for metric, (field, more) in known.items():
        if (value := number(view.master.get(field, ""))) is not None:
            emit.gauge(f"redis.sentinel.{metric}", value + more, tags)
    _pending(emit, view.master, ("master", *tags))
    _judge_master(emit, view, name)
    _report_replicas(emit, view, name, tags)
    alive = 1
    for one in view.others:
        there = (*name, f"sentinel_ip:{one.get('ip', '')}", f"sentinel_port:{one.get('port', '')}")
        _pending(emit, one, ("sentinel", *there))
        if (since := number(one.get("last-ok-ping-reply", ""))) is not None:
            emit.gauge("redis.sentinel.last_ok_ping_latency", since / 1000, there)
        alive += not _flags(one) & _DOWN
    emit.gauge("redis.sentinel.ok_sentinels", alive, tags)


def _judge_master(emit: Emit, view: View, name: tuple[str, ...]) -> None:
    # tagged with the name alone: an address that is master no more would never be reported well again
    flags, where = _flags(view.master), Address(*view.address)
    status, message = Status.OK, ""
    if "o_down" in flags:
        status, message = Status.CRITICAL, f"the sentinels agree that {where} is down"
    elif "s_down" in flags:
        status, message = Status.WARNING, f"the sentinel {view.sentinel} gets no answer from {where}"
    emit.status("redis.sentinel.master_is_down", status, message, name)
    cut = "disconnected" in flags
    message = f"the sentinel {view.sentinel} is not connected to {where}" if cut else ""
    emit.status("redis.sentinel.master_is_disconnected", Status.CRITICAL if cut else Status.OK, message, name)
    status = Status.OK if view.quorum is None else Status.WARNING if view.quorum.mild else Status.CRITICAL
    emit.status("redis.sentinel.quorum", status, str(view.quorum or ""), name)


def _report_replicas(emit: Emit, view: View, name: tuple[str, ...], tags: tuple[str, ...]) -> None:
    subjective = objective = 0
    for one in view.replicas:
        there = (*name, f"slave_ip:{one.get('ip', '')}", f"slave_port:{one.get('port', '')}")
        where, flags = one.get("name", "?"), _flags(one)
        subjective += "s_down" in flags and "o_down" not in flags
        objective += "o_down" in flags
        _pending(emit, one, ("slave", *there))
        cut, broken = "disconnected" in flags or bool(flags & _DOWN), one.get("master-link-status") != "ok"
        message = f"the sentinel {view.sentinel} has lost the replica {where}" if cut else ""
        emit.status("redis.sentinel.slave_is_disconnected", Status.CRITICAL if cut else Status.OK, message, there)
        message = f"the replica {where} has lost its master" if broken else ""
        emit.status("redis.sentinel.slave_master_link_down", Status.CRITICAL if broken else Status.OK, message, there)
    emit.gauge("redis.sentinel.sdown_slaves", subjective, tags)
    emit.gauge("redis.sentinel.odown_slaves", objective, tags)
    emit.gauge("redis.sentinel.ok_slaves", len(view.replicas) - subjective - objective, tags)


def _pending(emit: Emit, fields: Mapping[str, str], tags: tuple[str, ...]) -> None:
    if (value := number(fields.get("link-pending-commands", ""))) is not None:
        emit.gauge("redis.sentinel.link_pending_commands", value, tags)


def _fields(reply: list[bytes]) -> dict[str, str]:
    """A flat list of names and values as a mapping."""
    words = [word.decode("utf-8", "replace") for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))


def _flags(fields: Mapping[str, str]) -> set[str]:
    return set(fields.get("flags", "").split(","))


def _no_quorum(error: Exception, advisor: Advisor) -> Finding:
    text = str(error)
    if isinstance(error, exceptions.NoPermissionError) or "NOQUORUM" not in text:
        return advisor.refusal(error, "sentinel|ckquorum", "")
    return Finding(
        f"the sentinel {advisor.address} says: {text.removeprefix('NOQUORUM').strip()}",
        "no failover will happen: start the sentinels that are down",
    )
