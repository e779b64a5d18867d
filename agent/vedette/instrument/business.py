"""Business metrics: transactions, users, revenue and fraud, under the names of the monitoring strategy."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Literal

from vedette.instrument.outlet import Metrics
from vedette.instrument.vocabulary import Vocabulary
from vedette.instrument.wire import Number, hashed, member, number

_EVENTS = {
    "user_registered": "business.users.registrations",
    "user_verified": "business.users.verifications",
    "user_login": "business.users.active",
}


class BusinessMetrics(Metrics):
    """Sends business metrics. Takes the arguments of `Metrics`, and:

    Args:
        hash_user_ids: send a hash instead of a user's id.
        hash_key: key of that hash; without one, whoever has a list of ids can find out which is whose.
    """

    def __init__(
        self,
        *,
        host: str | None = None,
        port: int | None = None,
        socket_path: str | None = None,
        environment: str | None = None,
        service: str | None = None,
        version: str | None = None,
        tags: Iterable[str] = (),
        vocabulary: Vocabulary | None = None,
        histogram_as: Literal["h", "d"] = "h",
        hash_user_ids: bool = False,
        hash_key: str = "",
    ) -> None:
        super().__init__(
            host=host, port=port, socket_path=socket_path, environment=environment, service=service, version=version,
            tags=tags, vocabulary=vocabulary, histogram_as=histogram_as,
        )  # fmt: skip
        self._hash = hash_user_ids or bool(hash_key)
        self._hash_key = hash_key

    def track_transaction(
        self,
        *,
        amount: Decimal | int,
        currency: str,
        type: str,
        status: str,
        processing_time_ms: float | None = None,
    ) -> None:
        """Count a transaction, with its amount, whether it succeeded and how long it took.

        Args:
            amount: in whole units of the currency: `Decimal("12.30")`.
            currency: code of ISO 4217.
            type: such as `payment`.
            status: `completed` is success; any other is none.
            processing_time_ms: milliseconds, if known.
        """
        try:
            texts = self._outlet.texts.get((0, currency, type, status)) or self._transaction(currency, type, status)
            money = number(amount)
            lines = f"{texts[0]}{money}{texts[1]}" if money is not None else self._left_out(texts[4])
            if processing_time_ms is not None:
                took = number(processing_time_ms)
                if took is not None:
                    lines = f"{lines}{texts[2]}{took}{texts[3]}"
                else:
                    self._client.count("invalid")
            self._put(lines)
        except Exception:
            self._client.count("failed")

    def _transaction(self, currency: str, type: str, status: str) -> tuple[str, ...]:
        """The texts around a transaction's amount and time, and those of one without an amount."""
        outlet, terms = self._outlet, self._outlet.terms
        words = (terms.word("currency", currency), terms.word("type", type), terms.word("status", status))
        code, kind, state = words
        counts = (
            f"business.transactions.count:1|c{outlet.tags(currency=code, type=kind, status=state)}\n"
            "business.transactions.success_rate:1|c"
            f"{outlet.tags(success='true' if state == 'completed' else 'false', type=kind)}"
        )
        texts = (
            f"{counts}\nbusiness.transactions.amount:",
            f"|{outlet.histogram}{outlet.tags(currency=code, type=kind)}",
            "\nbusiness.transactions.processing_time:",
            f"|{outlet.histogram}{outlet.tags(type=kind)}",
            counts,
        )
        if words == (currency, type, status):  # what is outside is to be counted each time
            outlet.keep((0, currency, type, status), texts)
        return texts

    def track_user_event(self, event: str, *, user_id: str) -> None:
        """Count what a user did, and the user once a day.

        Args:
            event: `user_registered`, `user_verified` and `user_login` have a count each; any other only makes the
                user active today, and one that the vocabulary does not know is counted as `other`.
            user_id: leaves only as the member of a set, never as a tag.
        """
        try:
            text = "" if user_id is None else str(user_id)  # None is what a client that is not signed in has
            known = self._outlet.terms.word("event", event)
            if not text:
                self._client.count("invalid")
                return
            tags = self._outlet.tags
            who = hashed(text, self._hash_key) if self._hash else member(text)
            line = f"business.users.unique_daily:{who}|s{tags(period='daily')}"
            name = _EVENTS.get(known)
            self._put(line if name is None else f"{name}:1|c{tags()}\n{line}")
        except Exception:
            self._client.count("failed")

    def track_revenue(
        self, *, amount: Decimal | int, currency: str, source: str, fee_amount: Decimal | int | None = None
    ) -> None:
        """Record revenue.

        Args:
            amount: in whole units of the currency.
            currency: code of ISO 4217.
            source: such as `fees`.
            fee_amount: how much of it are fees, if any.
        """
        try:
            texts = self._outlet.texts.get((1, currency, source)) or self._revenue(currency, source)
            lines = []
            money = number(amount)
            if money is not None:
                lines.append(f"{texts[0]}{money}{texts[1]}{money}{texts[2]}")
            else:
                self._client.count("invalid")
            if fee_amount is not None:
                fee = number(fee_amount)
                if fee is not None:
                    lines.append(f"business.revenue.fees:{fee}{texts[2]}")
                else:
                    self._client.count("invalid")
            if lines:
                self._put("\n".join(lines))
        except Exception:
            self._client.count("failed")

    def _revenue(self, currency: str, source: str) -> tuple[str, ...]:
        outlet = self._outlet
        code, origin = outlet.terms.word("currency", currency), outlet.terms.word("source", source)
        texts = (
            "business.revenue.total:",
            f"|{outlet.histogram}{outlet.tags(currency=code, source=origin)}\nbusiness.revenue.avg_transaction_value:",
            f"|{outlet.histogram}{outlet.tags(currency=code)}",
        )
        if (code, origin) == (currency, source):
            outlet.keep((1, currency, source), texts)
        return texts

    def track_fraud(
        self, *, risk_score: Number, action: str, reason: str = "high_risk", is_false_positive: bool | None = None
    ) -> None:
        """Record a suspicion of fraud.

        Args:
            risk_score: from 0 to 1, or on any other scale.
            action: such as `allow`, `review`, or `block`, which counts as a blocked transaction.
            reason: why it was blocked.
            is_false_positive: whether the suspicion was wrong, once that is known.
        """
        try:
            outlet = self._outlet
            what = outlet.terms.word("action", action)
            lines = []
            score = number(risk_score)
            if score is not None:
                lines.append(f"business.fraud.risk_score:{score}|{outlet.histogram}{outlet.tags(action=what)}")
            else:
                self._client.count("invalid")
            if what == "block":
                why = outlet.terms.word("reason", reason)
                lines.append(f"business.fraud.blocked_transactions:1|c{outlet.tags(reason=why)}")
            if is_false_positive is not None:
                wrong = "true" if is_false_positive else "false"
                lines.append(f"business.fraud.false_positives:1|c{outlet.tags(false_positive=wrong)}")
            if lines:
                self._put("\n".join(lines))
        except Exception:
            self._client.count("failed")

    def _left_out(self, lines: str) -> str:
        self._client.count("invalid")
        return lines
