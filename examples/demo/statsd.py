"""A StatsD port that remembers the last value of every series: what a Datadog Agent would receive."""

from __future__ import annotations

import asyncio
import socket
from typing import Any


class StatsdPort(asyncio.DatagramProtocol):
    """Counts what arrives; `latest` maps (name, tags) to the last value as text."""

    def __init__(self) -> None:
        self.packets = 0
        self.metrics = 0
        self.latest: dict[tuple[str, str], str] = {}

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.packets += 1
        for line in data.decode("utf-8", "replace").splitlines():
            self.metrics += 1
            if line.startswith("_"):
                continue
            head, _, tags = line.partition("|#")
            name, _, value = head.partition(":")
            self.latest[name, tags] = value.partition("|")[0]

    def value(self, name: str, *tags: str) -> str | None:
        """The last value of the first series with this name and these tags."""
        for (known, found), value in self.latest.items():
            if known == name and set(tags) <= set(found.split(",")):
                return value
        return None


async def listen() -> tuple[asyncio.DatagramTransport, StatsdPort]:
    """Bind a free port on loopback."""
    loop = asyncio.get_running_loop()
    return await loop.create_datagram_endpoint(StatsdPort, local_addr=("127.0.0.1", 0))


def free_udp_port() -> int:
    """A free UDP port on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
