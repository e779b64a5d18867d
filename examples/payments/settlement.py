"""Settlement: a queue in Redis and the workers that capture payments. The queue says only what to look at now.

The ledger is the truth: what is pending there for long is queued again, whatever became of the queue. So a payment may
be worked on twice, and each step stands that: the card network and the counters by its id, the ledger by its status.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

from redis.asyncio import Redis
from redis.exceptions import RedisError

from payments.cards import CardNetwork
from payments.ledger import Ledger, Payment
from payments.measured import business, technical
from vedette.instrument import RealtimeCounters, Recorded

log = logging.getLogger("payments.settlement")
QUEUE = "payments:queue"
_LOOK = 2.0
"""Seconds between two looks at how long the queue is, and for what it has forgotten."""
_SHARE, _FIXED, _CENT = Decimal("0.029"), Decimal("0.30"), Decimal("0.01")


class NotCountedError(Exception):
    """The dashboard could not be told; the payment stays pending until it can."""


def fee(amount: Decimal) -> Decimal:
    """What a payment costs its receiver, to the cent: 2.9 % and 0.30."""
    return (amount * _SHARE + _FIXED).quantize(_CENT, ROUND_HALF_EVEN)


class Settlement:
    """Queues payments and settles them.

    Args:
        redis: where the queue is.
        ledger: where the payments are.
        cards: who pays them.
        counters: of the dashboard.
    """

    def __init__(self, redis: Redis, ledger: Ledger, cards: CardNetwork, counters: RealtimeCounters) -> None:
        self._redis = redis
        self._ledger = ledger
        self._cards = cards
        self._counters = counters
        self._worker = technical.queue_worker("settlement")

    async def put(self, payment: int) -> None:
        """Queue a payment."""
        try:
            await self._redis.rpush(QUEUE, payment)
        except RedisError:
            log.warning("not queued: it will be found in the ledger", extra={"payment": payment})

    async def work(self) -> None:
        """Settle what is queued, until cancelled. Any number of these may run."""
        while True:
            try:
                found = await self._redis.blpop([QUEUE], timeout=5)
                if found is not None:
                    await self._one(int(found[1]))
            except Exception as error:  # whatever it is, the next payment is not to suffer from it
                log.warning("a payment is not settled yet: %s", type(error).__name__)
                await asyncio.sleep(0.5)

    async def watch(self) -> None:
        """Report how long the queue is, and queue again what was forgotten, until cancelled."""
        while True:
            try:
                self._worker.report_depth(await self._redis.llen(QUEUE))
                for payment in await self._ledger.tidy_up():
                    await self.put(payment)
            except Exception as error:
                log.warning("the queue cannot be looked at: %s", type(error).__name__)
            await asyncio.sleep(_LOOK)

    async def _one(self, number: int) -> None:
        with self._worker.message():
            payment = await self._ledger.find(number)
            if payment is not None and payment.status == "pending":
                await self._settle(payment)

    async def _settle(self, payment: Payment) -> None:
        paid = await self._cards.capture(payment.id, payment.card, payment.amount)
        if paid and not payment.synthetic:
            await self._count(payment)
        end = self._ledger.complete(payment.id) if paid else self._ledger.give_back(payment.id, "failed", was="pending")
        if not await end:  # another worker was faster
            return
        log.info("settled" if paid else "the card did not pay", extra={"payment": payment.id})
        if not payment.synthetic:
            self._tell(payment, paid)

    async def _count(self, payment: Payment) -> None:
        counted = await self._counters.record(
            transaction_id=str(payment.id),
            amount=payment.amount,
            currency=payment.currency,
            user_id=str(payment.account),
            at=payment.made.timestamp(),
        )
        if counted is Recorded.FAILED:
            raise NotCountedError

    def _tell(self, payment: Payment, paid: bool) -> None:
        business.track_transaction(
            amount=payment.amount,
            currency=payment.currency,
            type="payment",
            status="completed" if paid else "failed",
            processing_time_ms=(datetime.now(UTC) - payment.made).total_seconds() * 1000,
        )
        if paid:
            earned = fee(payment.amount)
            business.track_revenue(amount=earned, currency=payment.currency, source="fees", fee_amount=earned)
