"""Real-time counters in Redis, the write side of the dashboard; the redis check's `counters:` reads these keys.

Each transaction is one script in one round trip, so that it is counted wholly or not at all, and once by its id.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from hashlib import sha1
from math import isfinite
from typing import Any, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from vedette.instrument.currencies import EXPONENTS
from vedette.instrument.settings import say
from vedette.instrument.vocabulary import spelling
from vedette.instrument.wire import hashed

HOUR, DAY = "%Y%m%d%H%z", "%Y%m%d"
"""What tells an hour and a day apart. The offset does where the clocks go back and an hour comes twice."""
HOUR_KEPT, DAY_KEPT, ACTIVE_KEPT, ID_KEPT = 86_400, 7 * 86_400, 3_600, 86_400
"""Seconds after which keys expire."""
_LONGEST_ID = 64
_MOST_UNITS = 10**15  # so that thousands of the largest fit an hour: Redis counts to 9.2 * 10**18
_MOST_DIGITS = 60

_AHEAD = 300.0  # seconds that a clock may be ahead of this process's; what is later is an error, such as milliseconds
_MOST_TRIED = 10_000

_ACTIVE = """
local function seen(key, who, at, kept)
  local now = tonumber(redis.call('TIME')[1]) + 1
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - kept)
  redis.call('EXPIRE', key, kept)
  if tonumber(at) > now then at = now end
  local last = tonumber(redis.call('ZSCORE', key, who) or now - kept)
  if last >= tonumber(at) then return end
  redis.call('ZADD', key, at, who)
  redis.call('EXPIRE', key, kept)
end
"""
# Redis takes nothing back when a script fails. So what may fail and changes nothing that counts comes first (above too:
# a right to EXPIRE that lacks shows before ZADD), each total that was added to is put back when a later one cannot be,
# and the id is written last. A total begins as 0 with its expiry, so that none is ever without.
_RECORD = f"""{_ACTIVE}
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if ARGV[7] ~= '' then seen(KEYS[6], ARGV[7], ARGV[8], tonumber(ARGV[6])) end
local by, back, done, failure = {{'1', '1', ARGV[4], ARGV[4]}}, {{'-1', '-1', ARGV[5], ARGV[5]}}, 0, nil
local function fails(...)
  local reply = redis.pcall(...)
  return type(reply) == 'table' and reply.err and reply
end
for i = 1, 4 do
  failure = fails('SET', KEYS[i + 1], '0', 'EX', ARGV[3 - i % 2], 'NX') or fails('INCRBY', KEYS[i + 1], by[i])
  if failure then break end
  done = i
end
failure = failure or fails('SET', KEYS[1], '1', 'EX', ARGV[1])
if not failure then return 1 end
for i = 1, done do redis.pcall('INCRBY', KEYS[i + 1], back[i]) end
return failure
"""
_SEEN = f"""{_ACTIVE}
seen(KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]))
return 1
"""


class Recorded(Enum):
    """What became of one `record`."""

    COUNTED = "counted"
    """It is in the totals now."""
    DUPLICATE = "duplicate"
    """It was in the totals already: an earlier try had arrived."""
    FAILED = "failed"
    """Redis did not answer in time, or not well. It may or may not be in the totals: record it again, with its id."""
    INVALID = "invalid"
    """No such amount, currency, id or time; it will never be counted. The first of each kind is in the log."""

    @property
    def done(self) -> bool:
        """Whether it is in the totals for sure."""
        return self in (Recorded.COUNTED, Recorded.DUPLICATE)


@dataclass(frozen=True, slots=True)
class RealtimeStats:
    """How many transactions became what, and why one failed last (empty while all is well)."""

    counted: int
    duplicate: int
    failed: int
    invalid: int
    trouble: str


class AsyncRedis(Protocol):
    """What is used of a client: `redis.asyncio.Redis` and `redis.asyncio.RedisCluster` are such."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command."""


@dataclass(frozen=True, slots=True)
class _Keys:
    """The names of all keys under one prefix."""

    prefix: str

    def transactions(self, scope: str, stamp: str) -> str:
        return f"{self.prefix}:{scope}_transactions:{stamp}"

    def revenue(self, scope: str, currency: str, stamp: str) -> str:
        return f"{self.prefix}:{scope}_revenue:{currency}:{stamp}"

    def once(self, transaction_id: str) -> str:
        return f"{self.prefix}:transaction:{transaction_id}"

    @property
    def active(self) -> str:
        return f"{self.prefix}:active_users"


class RealtimeCounters:
    """Counts transactions, revenue and active users in Redis as they happen. Its methods never raise.

    Args:
        redis: an asynchronous client of redis-py, plain or of a cluster.
        timezone: where hours and days begin; the redis check that reads them needs the same.
        prefix: of all keys. The braces are a hash tag: on a cluster all keys are on one node, as a script needs them.
            Without braces every `record` fails there.
        timeout: seconds that one call may take in all.
        hash_user_ids: keep a hash instead of a user's id.
        hash_key: key of that hash.
        currencies: decimals of currencies that ISO 4217 does not list, such as `{"BTC": 8}`.

    Raises:
        ValueError: there is no such time zone; told once, when the application starts.
    """

    def __init__(
        self,
        redis: AsyncRedis,
        *,
        timezone: str = "UTC",
        prefix: str = "{dashboard}",
        timeout: float = 0.5,
        hash_user_ids: bool = False,
        hash_key: str = "",
        currencies: dict[str, int] | None = None,
    ) -> None:
        self._redis = redis
        try:
            self._zone = ZoneInfo(timezone)
        except Exception:
            raise ValueError(
                f"timezone {timezone!r}: there is no such time zone; give one such as Europe/Berlin"
            ) from None
        self._keys = _Keys(prefix)
        self._timeout = timeout
        self._hash = hash_user_ids or bool(hash_key)
        self._hash_key = hash_key
        self._exponents = {**EXPONENTS, **(currencies or {})}
        self._counts = dict.fromkeys(Recorded, 0)
        self._trouble = ""
        self._told: set[str] = set()
        self._tried: dict[str, float] = {}

    async def record(
        self,
        *,
        transaction_id: str | int | UUID,
        amount: Decimal | int,
        currency: str,
        user_id: str | None = None,
        at: float | None = None,
    ) -> Recorded:
        """Count a transaction and its revenue in its hour and its day, once, and its user as active.

        Args:
            transaction_id: the same for every retry; known for a day.
            amount: in whole units of the currency and no finer than it has: 12.345 USD is INVALID, never rounded.
                Negative for what is paid back.
            currency: code of ISO 4217, in any case.
            user_id: who is active by it, if anybody.
            at: when it happened, in Unix seconds. Default: when this object was first given this id. A retry by another
                process, or after a restart, must be given the time of the first try, or it may be counted in another
                hour and day. More than five minutes ahead is INVALID.
        """
        now = time.time()
        try:
            name = _id_of(transaction_id)
            when = _time_of(self._tried.get(name, now) if at is None else at, now)
            keys, arguments = self._prepared(name, amount, currency, user_id, when)
        except Exception as error:
            self._refuse(error)
            return self._became(Recorded.INVALID)
        self._remember(name, when)
        try:
            new = await self._run(_RECORD, _RECORD_SHA, keys, arguments)
        except Exception as error:
            return self._became(Recorded.FAILED, error)
        self._tried.pop(name, None)
        return self._became(Recorded.COUNTED if new else Recorded.DUPLICATE)

    async def seen(self, user_id: str, *, at: float | None = None) -> bool:
        """Count a user as active without a transaction: at a login, say. Returns whether Redis took it.

        Args:
            user_id: who. Nobody, an empty id, is refused.
            at: when, in Unix seconds, at most five minutes ahead. Default: now.
        """
        now = time.time()
        try:
            when = _time_of(now if at is None else at, now)
            who = self._who(user_id)
            if not who:
                raise _InvalidError("the user has no id")
        except Exception as error:
            self._refuse(error)
            return False
        try:
            await self._run(_SEEN, _SEEN_SHA, [self._keys.active], [who, f"{when:.3f}", ACTIVE_KEPT])
        except Exception as error:
            self._tell(error)
            return False
        return True

    def stats(self) -> RealtimeStats:
        """What became of all transactions so far, as this process saw it."""
        counts = self._counts
        return RealtimeStats(
            counted=counts[Recorded.COUNTED],
            duplicate=counts[Recorded.DUPLICATE],
            failed=counts[Recorded.FAILED],
            invalid=counts[Recorded.INVALID],
            trouble=self._trouble,
        )

    def _prepared(
        self, name: str, amount: Decimal | int, currency: str, user_id: str | None, when: float
    ) -> tuple[list[str], list[Any]]:
        """Keys and arguments of the script. Raises what it likes where something is not as it must be."""
        code = spelling(currency, self._exponents)
        if code is None:
            raise _InvalidError("the currency is not known")
        units = minor_units(amount, self._exponents[code])
        if units is None:
            raise _InvalidError("the amount is no exact number of the currency's smallest units")
        who = self._who(user_id)
        (name + who).encode()  # what Redis could not be sent
        names, local = self._keys, datetime.fromtimestamp(when, self._zone)
        hour, day = local.strftime(HOUR), local.strftime(DAY)
        keys = [
            names.once(name if len(name) <= _LONGEST_ID else hashed(name, "")),
            names.transactions("hourly", hour),
            names.transactions("daily", day),
            names.revenue("hourly", code, hour),
            names.revenue("daily", code, day),
            names.active,
        ]
        return keys, [ID_KEPT, HOUR_KEPT, DAY_KEPT, units, -units, ACTIVE_KEPT, who, f"{when:.3f}"]

    async def _run(self, script: str, sha: str, keys: list[str], arguments: list[Any]) -> Any:
        """Run a script by its hash; the server is sent the text where it does not have it, as after a restart."""
        async with asyncio.timeout(self._timeout):
            try:
                return await self._redis.execute_command("EVALSHA", sha, len(keys), *keys, *arguments)
            except Exception as error:
                if type(error).__name__ != "NoScriptError":
                    raise
            return await self._redis.execute_command("EVAL", script, len(keys), *keys, *arguments)

    def _who(self, user_id: str | None) -> str:
        """The member of the active users; empty for nobody."""
        text = "" if user_id is None else str(user_id)
        if not text:
            return ""
        return hashed(text, self._hash_key) if self._hash or len(text) > _LONGEST_ID else text

    def _remember(self, name: str, when: float) -> None:
        """Keep the time of a first try until it is known to have counted."""
        if name not in self._tried and len(self._tried) >= _MOST_TRIED:
            del self._tried[next(iter(self._tried))]
        self._tried.setdefault(name, when)

    def _refuse(self, error: Exception) -> None:
        """Say once for each reason that something was not counted, without what it was."""
        why = str(error) if isinstance(error, _InvalidError) else "an argument cannot be used"
        if why not in self._told:
            self._told.add(why)
            say(logging.WARNING, "real-time counters: %s; it is not counted, and more of the kind only in stats()", why)

    def _became(self, what: Recorded, error: Exception | None = None) -> Recorded:
        self._counts[what] += 1
        if error is not None:
            self._tell(error)
        elif what is not Recorded.INVALID and self._trouble:
            say(logging.INFO, "real-time counters: Redis counts again")
            self._trouble = ""
        return what

    def _tell(self, error: Exception) -> None:
        """Say once an outage why; the error's own text may hold what was counted."""
        if not self._trouble:
            self._trouble = type(error).__name__
            say(logging.WARNING, "real-time counters: %s; transactions are not counted, see stats()", self._trouble)


class _InvalidError(ValueError):
    """What is wrong, without the value."""


def _id_of(transaction_id: object) -> str:
    if isinstance(transaction_id, bool) or not isinstance(transaction_id, str | int | UUID):
        raise _InvalidError("the transaction's id is neither a text nor a number nor a UUID")
    if transaction_id == "":
        raise _InvalidError("the transaction's id is empty")
    return str(transaction_id)


def _time_of(at: float, now: float) -> float:
    if not isfinite(at) or at > now + _AHEAD:
        raise _InvalidError("its time is no Unix time in seconds, or ahead of now")
    return at


def minor_units(amount: Decimal | int, digits: int) -> int | None:
    """An amount in the smallest unit of its currency, exactly: 12.30 with two digits is 1230.

    Args:
        amount: in whole units.
        digits: decimals of the currency, by ISO 4217.

    Returns:
        None where it is no finite number, finer than the currency has it, or beyond 10**15 units.
    """
    if isinstance(amount, bool) or not isinstance(amount, Decimal | int):
        return None  # a float has no exact cents
    sign, figures, exponent = Decimal(amount).as_tuple()
    if not isinstance(exponent, int) or len(figures) > _MOST_DIGITS or abs(exponent) > _MOST_DIGITS:
        return None
    number = int("".join(map(str, figures)))
    shift = exponent + digits
    scale: int = 10 ** abs(shift)
    whole, rest = (number * scale, 0) if shift >= 0 else divmod(number, scale)
    if rest or whole > _MOST_UNITS:
        return None
    return -whole if sign else whole


_RECORD_SHA, _SEEN_SHA = (sha1(text.encode(), usedforsecurity=False).hexdigest() for text in (_RECORD, _SEEN))
