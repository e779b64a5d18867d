"""Customers, by the hour: `python -m payments.traffic http://127.0.0.1:8000 --day 120` until it is interrupted.

A simulated day passes quickly. At night few come, most at noon and in the evening. Most pay and are content; some have
forgotten their password, some have a card that does not pay, a few have a stolen one and try it as fast as they can.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import time
from contextlib import suppress
from dataclasses import dataclass

import httpx

from payments import cards

PASSWORD = "demo-only-login"
"""Of every customer, the first ones and those who register here."""
CUSTOMERS = range(10, 500)
"""Who has an account in the demo: `user10@shop.example` and so on. Where they have none new ones come instead."""
_DAY, _HOUR = 120.0, 11.0
_AT_ONCE = 30
_BUSIEST = 4.0
_LONGEST = 2.0
_CARDS = {cards.OK: 90, cards.DECLINED: 6, cards.BOUNCES: 3, cards.UNREACHABLE: 1}


def busy(hour: float) -> float:
    """How much goes on at an hour of the day, from 0 to 1: a low at four, a peak at noon and a higher one at eight."""
    noon, evening = math.exp(-(((hour - 12.5) / 2.5) ** 2)), math.exp(-(((hour - 20) / 2) ** 2))
    return 0.08 + 0.6 * noon + 0.9 * evening


@dataclass(frozen=True, slots=True)
class Day:
    """A simulated day.

    Attributes:
        length: real seconds that it takes.
        begins: the hour that it is at first.
        busiest: customers per real second in the busiest hour.
    """

    length: float = _DAY
    begins: float = _HOUR
    busiest: float = _BUSIEST

    def hour(self, elapsed: float) -> float:
        """The hour of the day, after so many real seconds."""
        return (self.begins + elapsed / self.length * 24) % 24


async def open_all_day(url: str, day: Day | None = None) -> None:
    """Customers come and go, until cancelled; a service that is not there is for others to notice."""
    day = Day() if day is None else day
    room, chance, started = asyncio.Semaphore(_AT_ONCE), random.Random(), time.monotonic()
    limits = httpx.Limits(max_connections=_AT_ONCE)
    async with (
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=10, limits=limits) as client,
        asyncio.TaskGroup() as visits,
    ):
        while True:
            rate = day.busiest * busy(day.hour(time.monotonic() - started))
            await asyncio.sleep(min(chance.expovariate(rate), _LONGEST))  # then it is another hour
            if not room.locked():
                visits.create_task(_one_of_many(room, client, random.Random(chance.random())))


async def _one_of_many(room: asyncio.Semaphore, client: httpx.AsyncClient, chance: random.Random) -> None:
    async with room:
        try:
            await Customer(client, chance).visit()
        except httpx.HTTPError:
            await asyncio.sleep(1)


class Customer:
    """One customer, with a session of their own.

    Args:
        client: leads to the service; shared by all.
        chance: decides what they do.
    """

    def __init__(self, client: httpx.AsyncClient, chance: random.Random) -> None:
        self._client = client
        self._chance = chance
        self._currency = "USD"
        self._session: dict[str, str] = {}

    async def visit(self) -> None:
        """Come, do something, go."""
        chance = self._chance
        known = chance.random() < 0.92 and await self._log_in(f"user{chance.choice(CUSTOMERS)}@shop.example")
        if not known and not await self._register():
            return
        await self._look()
        if chance.random() < 0.04:
            await self._try_a_stolen_card()
        elif chance.random() < 0.8:
            await self._shop()

    async def _post(self, path: str, body: object = None) -> httpx.Response:
        return await self._client.post(f"/api/v1/{path}", json=body, headers=self._session)

    async def _get(self, path: str) -> httpx.Response:
        return await self._client.get(f"/api/v1/{path}", headers=self._session)

    async def _register(self) -> bool:
        email = f"user-{self._chance.getrandbits(64):x}@shop.example"
        await self._post(
            "users", {"email": email, "password": PASSWORD, "currency": self._chance.choice(("USD", "EUR"))}
        )
        if not await self._log_in(email):
            return False
        if self._chance.random() < 0.8:
            await self._post("users/verification")
        return True

    async def _log_in(self, email: str) -> bool:
        if self._chance.random() < 0.05:
            await self._post("auth/login", {"email": email, "password": "forgotten"})
        answer = await self._post("auth/login", {"email": email, "password": PASSWORD})
        if answer.status_code != 200:
            return False
        self._session = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        return True

    async def _look(self) -> None:
        answer = await self._get("wallet/balance")
        self._currency = answer.json()["currency"] if answer.status_code == 200 else "USD"
        if self._chance.random() < 0.2:
            await self._get("wallet/statement")

    async def _shop(self) -> None:
        """Pay once or twice, see what becomes of it, now and then take it back."""
        for _ in range(self._chance.choice((1, 1, 2))):
            (card,) = self._chance.choices(tuple(_CARDS), tuple(_CARDS.values()))
            large = self._chance.random() < 0.02
            answer = await self._pay(self._chance.randint(600_000, 800_000) if large else self._cents(), card)
            if answer.status_code != 201:
                continue
            payment = answer.json()["transaction_id"]
            for _ in range(self._chance.randint(0, 3)):
                await asyncio.sleep(self._chance.uniform(0.1, 0.5))
                await self._get(f"payments/{payment}")
            if large:
                await self._post(f"payments/{payment}/confirmation", {"mine": self._chance.random() < 0.7})
            elif self._chance.random() < 0.05:
                await self._post(f"payments/{payment}/refund")

    async def _try_a_stolen_card(self) -> None:
        """Many small payments, as fast as they go, until one is refused as fraud; then the owner is asked."""
        for _ in range(12):
            answer = await self._pay(self._chance.randint(100, 900), cards.OK)
            if answer.status_code == 403:
                await self._post(f"payments/{answer.json()['transaction_id']}/confirmation", {"mine": False})
                return

    async def _pay(self, cents: int, card: str) -> httpx.Response:
        order = {"amount": f"{cents / 100:.2f}", "currency": self._currency, "card": card}
        return await self._post("payments/send", order)

    def _cents(self) -> int:
        """Many small amounts, few large ones."""
        return max(100, min(round(self._chance.lognormvariate(8.0, 0.9)), 50_000))


def main() -> None:
    """Send customers until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m payments.traffic", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", help="of the service, such as http://127.0.0.1:8000")
    parser.add_argument("--day", type=float, default=_DAY, metavar="SECONDS", help="length of a day (default: 120)")
    parser.add_argument("--busiest", type=float, default=_BUSIEST, metavar="CUSTOMERS", help="per second, at most")
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(open_all_day(options.url, Day(length=options.day, busiest=options.busiest)))


if __name__ == "__main__":
    main()
