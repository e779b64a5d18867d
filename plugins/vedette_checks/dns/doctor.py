"""For `vedette doctor`: what each server says, over UDP and over TCP."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from vedette import CheckError
from vedette_checks.dns.answer import Answer, read, shown
from vedette_checks.dns.asking import ask
from vedette_checks.dns.judging import ask_for, judge

if TYPE_CHECKING:
    from vedette import Diagnosis
    from vedette_checks.dns.config import DnsConfig

_PATIENCE = 5.0


async def diagnose(config: DnsConfig, servers: tuple[str, ...], diagnosis: Diagnosis) -> None:
    """Ask each server both ways, all at once; the way that is not the configured one is worth a warning at most."""
    ways = [(server, transport) for server in servers for transport in ("udp", "tcp")]
    said = await asyncio.gather(*(_try(config, *way) for way in ways))
    for (server, transport), (answer, what) in zip(ways, said, strict=True):
        place = f"{server} {transport.upper()}"
        if answer is None and transport != config.transport:
            diagnosis.warning(place, what, "answers that do not fit into a packet go over TCP")
        elif answer is None:
            diagnosis.failed(place, what, _hint(what, config.nameserver_port))
        elif fault := judge(answer, config):
            diagnosis.failed(place, fault, "is the name right, and is this the server for it?")
        else:
            diagnosis.ok(place, f"{shown(answer.records) or 'no such name, as it should be'} {what}")


async def _try(config: DnsConfig, server: str, transport: str) -> tuple[Answer | None, str]:
    """The answer and how long it took, or why there is none."""
    begun = time.perf_counter()
    try:
        message = await ask(ask_for(config), server, config.nameserver_port, transport, _PATIENCE)
    except CheckError as error:
        return None, error.message
    return read(message, config.record_type), f"in {1000 * (time.perf_counter() - begun):.0f} ms"


def _hint(reason: str, port: int) -> str:
    if reason == "connection refused":
        return f"no server listens on port {port} there"
    return "is the server up, and does a firewall let the packets through?"
