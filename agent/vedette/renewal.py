"""Floor 4: asks resolver plugins again once a secret's time has come; a changed value counts like a changed file."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vedette.config.vault import Vault

_LEAST = 0.5
"""Seconds between two rounds, so that what falls due almost together is asked for together."""
_LONGEST = 86_400.0


class Renewal:
    """Sleeps until something in the vault is due.

    Args:
        vault: gives the vault that is in force.
        renew: asks again; returns whether something is different now.
        reload: reads the configuration with what the vault holds now, and applies it.
    """

    def __init__(
        self,
        vault: Callable[[], Vault],
        renew: Callable[[], Awaitable[bool]],
        reload: Callable[[], Awaitable[object]],
    ) -> None:
        self._vault = vault
        self._renew = renew
        self._reload = reload
        self._look = asyncio.Event()

    def look(self) -> None:
        """The configuration was read again: something else may be due first."""
        self._look.set()

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            self._look.clear()
            pause = min(max(self._vault().next_due, _LEAST), _LONGEST)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._look.wait()
                    continue
            if await self._renew():
                await self._reload()
