"""Payments over HTTP: pay, see what became of it, take it back, say that it was no fraud."""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from payments import cards, risk
from payments.cards import NoAnswerError
from payments.ledger import Payment, UnknownAccountError
from payments.measured import business
from payments.shop import Shop, fields, shop_of, signed_in
from vedette.instrument import Recorded

log = logging.getLogger("payments.transfers")
_REMEMBERED = 300
_CENTS = -2


@dataclass(frozen=True, slots=True)
class Order:
    """What a customer wants paid."""

    amount: Decimal
    currency: str
    card: str
    once: str


async def send(request: Request) -> Response:
    """Take a payment. It is reserved, judged and authorized here; it is settled later."""
    shop, started = shop_of(request), time.perf_counter()
    account, order = await signed_in(request), await _order(request)
    try:
        payment, new = await shop.ledger.reserve(account, order.amount, order.currency, order.card, order.once)
    except UnknownAccountError:
        return JSONResponse({"error": "the account has another currency"}, status_code=422)
    status = payment.status
    if new and status == "new":
        status = await _judged_and_authorized(shop, payment)
    if new and status == "pending":
        await shop.settlement.put(payment.id)
    elif new:
        _refused(payment, status, started)
    code = {"declined": 402, "blocked": 403, "failed": 503}.get(status, 201)
    return _answer(payment.id, status, code)


async def show(request: Request) -> Response:
    """What became of a payment; what will not change soon comes from the cache."""
    shop, account = shop_of(request), await signed_in(request)
    number = request.path_params["id"]
    known = await shop.redis.get(_key(account, number))
    if known is not None:
        return _answer(number, str(known))
    payment = await _found(shop, number, account)
    if payment.status not in ("new", "pending"):
        await shop.redis.set(_key(account, number), payment.status, ex=_REMEMBERED)
    return _answer(number, payment.status)


async def refund(request: Request) -> Response:
    """Take a completed payment back."""
    shop, account, started = shop_of(request), await signed_in(request), time.perf_counter()
    payment = await _found(shop, request.path_params["id"], account)
    if payment.status not in ("completed", "refunded"):
        return _answer(payment.id, payment.status, 409)
    if not payment.synthetic:
        counted = await shop.counters.record(
            transaction_id=f"refund-{payment.id}", amount=-payment.amount, currency=payment.currency
        )
        if counted is Recorded.FAILED:  # it is counted once however often it is tried, so let it be tried again
            return JSONResponse({"error": "try again"}, status_code=503)
    done = await shop.ledger.give_back(payment.id, "refunded", was="completed")
    await shop.redis.delete(_key(account, payment.id))
    if done and not payment.synthetic:
        business.track_transaction(
            amount=payment.amount,
            currency=payment.currency,
            type="refund",
            status="completed",
            processing_time_ms=(time.perf_counter() - started) * 1000,
        )
    return _answer(payment.id, "refunded")


async def confirm(request: Request) -> Response:
    """Say whether a suspicious payment was one's own."""
    shop, account = shop_of(request), await signed_in(request)
    body = await fields(request, "mine")
    payment = await _found(shop, request.path_params["id"], account)
    business.track_fraud(risk_score=payment.risk, action="review", is_false_positive=bool(body["mine"]))
    return _answer(payment.id, payment.status)


async def _judged_and_authorized(shop: Shop, payment: Payment) -> str:
    """`pending` if the payment may go on, else what it ended as."""
    verdict = await risk.assess(shop.redis, payment.account, payment.amount)
    if not payment.synthetic:
        business.track_fraud(risk_score=verdict.score, action=verdict.action, reason=verdict.reason)
    if verdict.action == "block" and not payment.synthetic:
        status = "blocked"
    else:
        status = await _authorized(shop, payment)
    if status == "pending":
        await shop.ledger.accept(payment.id, verdict.score)
    else:
        await shop.ledger.give_back(payment.id, status, was="new", risk=verdict.score)
    return status


async def _authorized(shop: Shop, payment: Payment) -> str:
    try:
        paid = await shop.cards.authorize(payment.id, payment.card, payment.amount)
    except NoAnswerError:
        log.warning("the card network does not answer", extra={"payment": payment.id})
        return "failed"
    return "pending" if paid else "declined"


def _refused(payment: Payment, status: str, started: float) -> None:
    log.info("refused", extra={"payment": payment.id, "became": status})
    if not payment.synthetic:
        business.track_transaction(
            amount=payment.amount,
            currency=payment.currency,
            type="payment",
            status=status,
            processing_time_ms=(time.perf_counter() - started) * 1000,
        )


async def _order(request: Request) -> Order:
    body = await fields(request, "amount", "currency")
    try:
        amount = Decimal(str(body["amount"]))
        digits = amount.as_tuple().exponent
        if not isinstance(digits, int) or digits < _CENTS or not 0 < amount < 10**9:
            raise ValueError
        once = request.headers.get("Idempotency-Key") or secrets.token_hex()
        return Order(amount, str(body["currency"]), str(body.get("card", cards.OK)), once)
    except (InvalidOperation, ValueError):
        raise HTTPException(422, "amount must be more than 0, in whole cents, with its currency") from None


async def _found(shop: Shop, number: int, account: int) -> Payment:
    payment = await shop.ledger.find(number, account)
    if payment is None:
        raise HTTPException(404)
    return payment


def _answer(payment: int, status: str, code: int = 200) -> Response:
    """What customers are told; that a payment is not authorized yet is nothing to them."""
    said = "pending" if status == "new" else status
    return JSONResponse({"transaction_id": payment, "status": said}, status_code=code)


def _key(account: int, number: int) -> str:
    """Where it is remembered what became of a payment."""
    return f"payment:{account}:{number}"
