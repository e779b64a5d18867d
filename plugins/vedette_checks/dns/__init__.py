"""The dns check: does a name resolve, as what, and how fast is each server?"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING

from vedette import Check, CheckError, Estimate, Kind, Metric, Status, hookimpl
from vedette.kit import given
from vedette_checks.dns.answer import read
from vedette_checks.dns.asking import ask
from vedette_checks.dns.config import MOST_SERVERS, DnsConfig
from vedette_checks.dns.judging import ask_for, judge

if TYPE_CHECKING:
    from pathlib import Path

    from vedette import Diagnosis, Emit

__all__ = ["Dns", "DnsConfig", "register_checks"]

_STATUS = "dns.can_resolve"
_TAGS = ("nameserver", "resolved_hostname", "record_type", "resolved_as")
_DAY = 86_400.0
_MANY = 200
"""Records from which on they are read in a thread."""


class Dns(Check[DnsConfig]):
    """Asks DNS servers for a name, each on its own: how long it takes, and whether the answer is the right one."""

    name = "dns"
    metrics = (
        Metric("dns.response_time", Kind.GAUGE, unit="second", tags=_TAGS, help="Time until the answer was there."),
        Metric("dns.answers", Kind.GAUGE, unit="record", tags=_TAGS, help="Records in the answer."),
        Metric("dns.ttl", Kind.GAUGE, unit="second", tags=_TAGS, help="How long others may remember the answer."),
    )  # fmt: skip
    statuses = (_STATUS,)

    @classmethod
    def reaches(cls, config: DnsConfig) -> Iterable[str]:
        """The servers, which others than the operator must name."""
        if refused := given(config, ("resolv_conf",)):
            raise ValueError(f"only the operator may set {', '.join(refused)}")
        if not config.nameservers:
            raise ValueError("nameservers must be given: the machine's own are for the operator")
        return config.nameservers

    async def run(self, emit: Emit) -> None:
        """Ask all servers at once.

        Raises:
            CheckError: there is no server, or one does not answer as it should.
        """
        config = self.config
        try:
            servers = await self._servers()
        except CheckError as error:
            emit.status(_STATUS, Status.CRITICAL, error.message, self._tags())
            raise
        said = await asyncio.gather(*(self._measure(emit, one, self._tags(one)) for one in servers))
        if faults := [f"{server}: {fault}" for server, fault in zip(servers, said, strict=True) if fault]:
            raise CheckError(f"{config.hostname}: {'; '.join(faults)}", hint="`vedette doctor` asks step by step")

    async def estimate(self) -> Iterable[Estimate]:
        """Questions of a day."""
        servers = len(await self._servers())
        each = _DAY / self.config.cadence if self.config.cadence else None
        return [Estimate("questions per day", None if each is None else each * servers, "questions/day")]

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """Each server, over UDP and over TCP."""
        from vedette_checks.dns.doctor import diagnose

        try:
            servers = await self._servers()
        except CheckError as error:
            diagnosis.failed("servers", error.message, error.hint)
            return
        await diagnose(self.config, servers, diagnosis)

    async def _servers(self) -> tuple[str, ...]:
        path = self.config.resolv_conf
        if self.config.nameservers:
            return self.config.nameservers
        try:
            found = await asyncio.to_thread(system_servers, path)
        except OSError as error:
            raise CheckError(f"{path}: {error.strerror}", hint="or name the servers: `nameservers`") from error
        if not found:
            raise CheckError(f"{path} names no server", hint="or name the servers: `nameservers`")
        return found

    def _tags(self, server: str = "") -> tuple[str, ...]:
        config = self.config
        return (
            *((f"nameserver:{server}",) if server else ()),
            f"resolved_hostname:{config.hostname}",
            f"record_type:{config.record_type}",
            *((f"resolved_as:{','.join(config.resolves_as)}",) if config.resolves_as else ()),
        )

    async def _measure(self, emit: Emit, server: str, tags: tuple[str, ...]) -> str:
        """Ask one server; what is wrong, or nothing."""
        config, started = self.config, perf_counter()
        try:
            message = await ask(ask_for(config), server, config.nameserver_port, config.transport, config.patience)
        except CheckError as error:
            emit.status(_STATUS, Status.CRITICAL, error.message, tags)
            return error.message
        took = perf_counter() - started
        many = sum(map(len, message.answer)) > _MANY
        answer = (
            await asyncio.to_thread(read, message, config.record_type) if many else read(message, config.record_type)
        )
        fault = judge(answer, config)
        if answer.records or not fault:
            emit.gauge("dns.response_time", took, tags)
        if answer.records:
            emit.gauge("dns.answers", len(answer.records), tags)
        if answer.ttl is not None:
            emit.gauge("dns.ttl", answer.ttl, tags)
        emit.status(_STATUS, Status.CRITICAL if fault else Status.OK, fault, tags)
        return fault


def system_servers(path: Path) -> tuple[str, ...]:
    """The servers that a resolv.conf lists.

    Source: resolv.conf(5).

    Raises:
        OSError: it cannot be read.
    """
    found: dict[str, None] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            with suppress(ValueError):
                found[str(ipaddress.ip_address(words[1]))] = None
    return tuple(found)[:MOST_SERVERS]


@hookimpl
def register_checks(register: Callable[[type[Dns]], None]) -> None:
    """Offer the dns check."""
    register(Dns)
