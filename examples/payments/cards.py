"""A card network, simulated: test cards, each with a fate of its own, as real networks have, and their slowness."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal

OK, DECLINED, UNREACHABLE, BOUNCES = "card_ok", "card_declined", "card_unreachable", "card_bounces"
"""Pays; is refused at once; nobody answers; is taken at first and refused at settlement."""


class NoAnswerError(Exception):
    """The network does not answer."""


class CardNetwork:
    """What the service asks of it. Both calls may be repeated with the same payment.

    Args:
        slowness: factor of all times.
    """

    def __init__(self, slowness: float = 1.0) -> None:
        self._slowness = slowness

    async def authorize(self, payment: int, card: str, amount: Decimal) -> bool:
        """Whether the card will pay.

        Raises:
            NoAnswerError: the network does not answer.
        """
        await self._wait(0.015)
        if card == UNREACHABLE:
            raise NoAnswerError
        return card in (OK, BOUNCES)

    async def capture(self, payment: int, card: str, amount: Decimal) -> bool:
        """Whether the card has paid."""
        await self._wait(0.15)
        return card != BOUNCES

    async def _wait(self, median: float) -> None:
        """As life is: mostly the median, now and then several times that."""
        await asyncio.sleep(min(median * random.lognormvariate(0, 0.5), 1.0) * self._slowness)
