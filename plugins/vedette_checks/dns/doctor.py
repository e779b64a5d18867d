"""For `vedette doctor`: what each server says, over UDP and over TCP."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vedette import CheckError
from vedette_checks.dns.answer import read, shown
from vedette_checks.dns.asking import ask

if TYPE_CHECKING:
    from vedette import Diagnosis
    from vedette_checks.dns.config import DnsConfig

_PATIENCE = 5.0


async def diagnose(config: DnsConfig, servers: tuple[str, ...], diagnosis: Diagnosis) -> None:
    """Ask each server both ways; the other way than the configured one is worth a warning at most."""
    from vedette_checks.dns import ask_for, judge

    for server in servers:
        for transport in ("udp", "tcp"):
            what, begun = f"{server} {transport.upper()}", time.perf_counter()
            try:
                message = await ask(ask_for(config), server, config.nameserver_port, transport, _PATIENCE)
            except CheckError as error:
                if transport == config.transport:
                    diagnosis.failed(what, error.message, _hint(error.message, config.nameserver_port))
                else:
                    diagnosis.warning(what, error.message, "answers that do not fit into a packet go over TCP")
                continue
            answer = read(message, config.record_type)
            if fault := judge(answer, config):
                diagnosis.failed(what, fault, "is the name right, and is this the server for it?")
            else:
                took = f"in {1000 * (time.perf_counter() - begun):.0f} ms"
                diagnosis.ok(what, f"{shown(answer.records) or 'no such name, as it should be'} {took}")


def _hint(reason: str, port: int) -> str:
    if reason == "connection refused":
        return f"no server listens on port {port} there"
    return "is the server up, and does a firewall let the packets through?"
