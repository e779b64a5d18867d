"""Which values a tag may have: what is outside becomes `other` and is counted, so that a bug costs no cardinality."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields, replace

from vedette.instrument.currencies import EXPONENTS
from vedette.instrument.wire import clean

OTHER = "other"
"""What stands for a value outside the vocabulary."""


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The values that tags may have. `Vocabulary().plus(type=["topup"])` knows one more.

    Attributes:
        currency: codes of ISO 4217.
        type: of a transaction.
        status: of a transaction; `completed` is success.
        source: of revenue.
        action: on a suspicion of fraud; `block` counts as a blocked transaction.
        reason: why it was blocked.
        event: of a user; any other makes the user active too, and is counted as `other`.
        method: of a request.
        database_operation: the verb of a statement.
        cache_operation: a command of Redis.
        limit: `endpoint`, `queue` and `pool` have no list: of each the first `limit` values that come are known.
    """

    currency: frozenset[str] = frozenset(EXPONENTS)
    type: frozenset[str] = words(
        "payment refund transfer withdrawal deposit payout purchase subscription authorization capture chargeback "
        "adjustment fee topup exchange reversal"
    )
    status: frozenset[str] = words(
        "completed pending processing failed declined cancelled refunded reversed expired authorized disputed blocked"
    )
    source: frozenset[str] = words(
        "fees transaction_fees subscription subscriptions interchange exchange interest payments payment transaction "
        "transfer withdrawal commission penalties sales"
    )
    action: frozenset[str] = words("allow block review challenge flag monitor decline approve hold")
    reason: frozenset[str] = words(
        "high_risk velocity amount location device identity blacklist sanctions card_testing account_takeover "
        "chargeback_history manual rule model mismatch stolen_card"
    )
    event: frozenset[str] = words(
        "user_registered user_verified user_login user_logout user_active user_updated user_deleted user_locked "
        "user_invited user_upgraded user_downgraded password_changed password_reset card_added card_removed"
    )
    method: frozenset[str] = words("GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT WEBSOCKET")
    database_operation: frozenset[str] = words(
        "select insert update delete merge replace with values table copy call do execute prepare begin start commit "
        "rollback savepoint release set reset show explain create alter drop truncate comment grant revoke analyze "
        "vacuum refresh reindex lock listen notify unlisten declare fetch move close pragma connect query transaction"
    )
    cache_operation: frozenset[str] = words(
        "get set mget mset getset getex getdel setex setnx psetex msetnx del delete unlink exists expire expireat "
        "pexpire pexpireat persist ttl pttl type incr incrby incrbyfloat decr decrby append strlen getrange setrange "
        "hget hset hmget hmset hgetall hdel hexists hincrby hincrbyfloat hkeys hlen hvals hsetnx lpush rpush lpop rpop "
        "llen lrange lindex lrem ltrim lset sadd srem smembers sismember smismember scard spop srandmember sinter "
        "sunion sdiff zadd zrem zscore zmscore zrange zrangebyscore zrevrange zrevrangebyscore zcount zcard zincrby "
        "zrank zrevrank zremrangebyscore zremrangebyrank zpopmin zpopmax xadd xlen xrange xrevrange xack xdel xtrim "
        "pfadd pfcount pfmerge publish eval evalsha fcall script ping scan hscan sscan zscan pipeline bitcount setbit "
        "getbit geoadd geosearch json.get json.set watch unwatch info time dbsize touch copy rename"
    )
    limit: int = 200

    def plus(
        self,
        *,
        currency: Iterable[str] = (),
        type: Iterable[str] = (),
        status: Iterable[str] = (),
        source: Iterable[str] = (),
        action: Iterable[str] = (),
        reason: Iterable[str] = (),
        event: Iterable[str] = (),
        database_operation: Iterable[str] = (),
        cache_operation: Iterable[str] = (),
    ) -> Vocabulary:
        """The same with more words."""
        return replace(
            self,
            currency=self.currency | _tags(currency),
            type=self.type | _tags(type),
            status=self.status | _tags(status),
            source=self.source | _tags(source),
            action=self.action | _tags(action),
            reason=self.reason | _tags(reason),
            event=self.event | _tags(event),
            database_operation=self.database_operation | _tags(database_operation),
            cache_operation=self.cache_operation | _tags(cache_operation),
        )


def spelling(value: object, words: Collection[str]) -> str | None:
    """A word as the list spells it, if it is there in this case, in lower or in upper case."""
    if isinstance(value, str):
        for form in (value, value.lower(), value.upper()):
            if form in words:
                return form
    return None


def _tags(more: Iterable[str]) -> frozenset[str]:
    return frozenset(map(clean, (more,) if isinstance(more, str) else more))


class Terms:
    """Looks tag values up in a vocabulary and has those counted that are outside. For all threads, without a lock.

    Args:
        vocabulary: what is inside.
        count: told `other` and the tag of each value outside.
    """

    def __init__(self, vocabulary: Vocabulary, count: Callable[[str], None]) -> None:
        self._words: dict[str, frozenset[str]] = {
            field.name: getattr(vocabulary, field.name) for field in fields(vocabulary) if field.name != "limit"
        }
        self._limit = vocabulary.limit
        self._open: dict[str, set[str]] = {}
        self._count = count

    def known(self, tag: str, value: object) -> str | None:
        """The value as the tag has it, or None if it is outside (which is not counted yet).

        A word in another case is the word: `usd` is USD, `Completed` is completed.
        """
        words = self._words.get(tag)
        if words is None:
            return self._admitted(tag, value)
        return spelling(value, words)

    def word(self, tag: str, value: object) -> str:
        """The value, or `other`, which is counted."""
        found = self.known(tag, value)
        if found is None:
            self._count(f"other {tag}")
            return OTHER
        return found

    def _admitted(self, tag: str, value: object) -> str | None:
        if not isinstance(value, str) or not value:
            return None
        value = clean(value)
        admitted = self._open.setdefault(tag, set())
        if value not in admitted:
            if len(admitted) >= self._limit:
                return None
            admitted.add(value)
        return value
