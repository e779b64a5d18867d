"""Users over HTTP: register, confirm the address, log in, see what is on the account."""

from __future__ import annotations

import asyncio
import logging
import secrets
from decimal import Decimal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from payments import passwords, reports
from payments.ledger import TakenError
from payments.measured import business
from payments.shop import fields, session_key, shop_of, signed_in

log = logging.getLogger("payments.users")
_SESSION = 900
_WELCOME = Decimal(500)
_CURRENCIES = ("USD", "EUR")
_NOBODY = passwords.hashed(secrets.token_hex())
"""What the password of an unknown address is compared with, so that it takes as long to be refused."""


async def register(request: Request) -> Response:
    """Open an account."""
    body = await fields(request, "email", "password", "currency")
    if body["currency"] not in _CURRENCIES:
        return JSONResponse({"error": f"accounts are in {', '.join(_CURRENCIES)}"}, status_code=422)
    password = await asyncio.to_thread(passwords.hashed, str(body["password"]))
    try:
        user = await shop_of(request).ledger.register(str(body["email"]), password, body["currency"], _WELCOME)
    except TakenError:
        return JSONResponse({"error": "somebody has this address"}, status_code=409)
    business.track_user_event("user_registered", user_id=str(user))
    log.info("registered", extra={"user": user})
    return JSONResponse({"id": user}, status_code=201)


async def verify(request: Request) -> Response:
    """Confirm the own address."""
    user = await signed_in(request)
    if await shop_of(request).ledger.verify(user):
        business.track_user_event("user_verified", user_id=str(user))
    return JSONResponse({"verified": True})


async def login(request: Request) -> Response:
    """Begin a session; its token is good for a quarter of an hour."""
    shop, body = shop_of(request), await fields(request, "email", "password")
    user = await shop.ledger.user(str(body["email"]))
    kept = _NOBODY if user is None else user.password
    fits = await asyncio.to_thread(passwords.fits, str(body["password"]), kept)
    if user is None or not fits:
        log.info("wrong password")
        return JSONResponse({"error": "wrong address or password"}, status_code=401)
    token = secrets.token_urlsafe(24)
    await shop.redis.set(session_key(token), user.id, ex=_SESSION)
    business.track_user_event("user_login", user_id=str(user.id))
    await shop.counters.seen(str(user.id))
    return JSONResponse({"access_token": token, "token_type": "bearer"})


async def balance(request: Request) -> Response:
    """What is on the own account."""
    amount, currency = await shop_of(request).ledger.balance(await signed_in(request))
    return JSONResponse({"balance": str(amount), "currency": currency})


async def statement(request: Request) -> Response:
    """What the own payments of today came to, by their status."""
    found = await reports.today(shop_of(request).reports, await signed_in(request))
    return JSONResponse(
        {status: {"payments": number, "total": str(total)} for status, (number, total) in found.items()}
    )
