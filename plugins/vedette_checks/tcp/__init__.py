"""The tcp check: does something accept connections there, and how fast?"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING

from vedette import Check, CheckError, Kind, Metric, Status, hookimpl
from vedette.kit import probe_dns, probe_tcp
from vedette_checks.tcp.config import TcpConfig

if TYPE_CHECKING:
    from vedette import Diagnosis, Emit

__all__ = ["Tcp", "TcpConfig", "register_checks"]

_STATUS = "tcp.can_connect"
_TAGS = ("target_host", "port", "address")


class Tcp(Check[TcpConfig]):
    """Connects to a TCP port and hangs up: all addresses of a name, if you want."""

    name = "tcp"
    metrics = (
        Metric("network.tcp.response_time", Kind.GAUGE, unit="second", tags=_TAGS, help="Time until it came about."),
        Metric("network.tcp.can_connect", Kind.GAUGE, tags=_TAGS, help="1 if a connection came about, else 0."),
    )  # fmt: skip
    statuses = (_STATUS,)

    @classmethod
    def reaches(cls, config: TcpConfig) -> Iterable[str]:
        """The one host."""
        return (config.host,)

    async def run(self, emit: Emit) -> None:
        """Connect to each address.

        Raises:
            CheckError: the name has no address, or one did not accept.
        """
        config = self.config
        common = (f"target_host:{config.host}", f"port:{config.port}")
        try:
            addresses = await _addresses(config.host, config.port)
        except (OSError, UnicodeError) as error:
            emit.status(_STATUS, Status.CRITICAL, f"{config.host} has no address", common)
            raise CheckError(f"{config.host} has no address", hint="is the name right, and does DNS answer?") from error
        if not config.all_addresses:
            addresses = addresses[:1]
        said = await asyncio.gather(*(self._ask(emit, one, (*common, f"address:{one}")) for one in addresses))
        refused = [one for one in said if one]
        if config.all_addresses:
            for address, reason in zip(addresses, said, strict=True):
                status = Status.CRITICAL if reason else Status.OK
                emit.status(_STATUS, status, reason, (*common, f"address:{address}"))
        # Under the same tags whatever the resolver says today: an address that is gone would never be OK again.
        emit.status(_STATUS, Status.CRITICAL if refused else Status.OK, "; ".join(refused), common)
        if refused:
            raise CheckError("; ".join(refused), hint="is the service up, and is this its port?")

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """The name, and the port."""
        if await probe_dns(diagnosis, self.config.host):
            await probe_tcp(diagnosis, self.config.host, self.config.port)

    async def _ask(self, emit: Emit, address: str, tags: tuple[str, ...]) -> str:
        """Connect to one address; what is wrong, or nothing."""
        config = self.config
        started = perf_counter()
        try:
            async with asyncio.timeout(config.patience):
                _, writer = await asyncio.open_connection(address, config.port)
        except (OSError, TimeoutError) as error:
            known = isinstance(error, OSError) and error.errno
            why = os.strerror(error.errno).lower() if known else "no answer"  # type: ignore[arg-type]
            reason = f"{address} port {config.port}: {why}"
            emit.gauge("network.tcp.can_connect", 0, tags)
            return reason
        emit.gauge("network.tcp.response_time", perf_counter() - started, tags)
        emit.gauge("network.tcp.can_connect", 1, tags)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return ""


async def _addresses(host: str, port: int) -> list[str]:
    with suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


@hookimpl
def register_checks(register: Callable[[type[Tcp]], None]) -> None:
    """Offer the tcp check."""
    register(Tcp)
