"""The exact lines of each call, the vocabulary, and what is no number."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from datadog_parser import DatadogParser
from servers import until as wait
from sinks.parts import Port, until
from vedette.instrument import BusinessMetrics, TechnicalMetrics, Vocabulary
from vedette.instrument.currencies import EXPONENTS
from vedette.instrument.wire import clean, hashed, member, number

from .conftest import Made
from .parts import Line, instrument_rows

pytestmark = pytest.mark.anyio


def lines(metrics: Any, port: Port) -> list[str]:
    """Everything that has arrived, once all is sent."""
    assert metrics.flush(10)
    sent = metrics.stats().sent
    wait(lambda: len(port.lines) >= sent, "the lines")
    return port.lines


def test_the_examples_of_the_issue(port: Port, business: BusinessMetrics) -> None:
    business.track_transaction(
        amount=Decimal("12.30"), currency="USD", type="payment", status="completed", processing_time_ms=120
    )
    business.track_user_event("user_login", user_id="u-1")
    business.track_revenue(amount=Decimal("0.30"), currency="USD", source="fees", fee_amount=Decimal("0.30"))
    business.track_fraud(risk_score=0.93, action="block", reason="velocity", is_false_positive=False)
    technical = TechnicalMetrics(host="127.0.0.1", port=port.number)
    technical.track_api_performance(endpoint="/pay", method="POST", response_time_ms=31, status_code=201)
    assert lines(business, port) == [
        "business.transactions.count:1|c|#currency:USD,type:payment,status:completed",
        "business.transactions.success_rate:1|c|#success:true,type:payment",
        "business.transactions.amount:12.30|h|#currency:USD,type:payment",
        "business.transactions.processing_time:120|h|#type:payment",
        "business.users.active:1|c",
        "business.users.unique_daily:u-1|s|#period:daily",
        "business.revenue.total:0.30|h|#currency:USD,source:fees",
        "business.revenue.avg_transaction_value:0.30|h|#currency:USD",
        "business.revenue.fees:0.30|h|#currency:USD",
        "business.fraud.risk_score:0.93|h|#action:block",
        "business.fraud.blocked_transactions:1|c|#reason:velocity",
        "business.fraud.false_positives:1|c|#false_positive:false",
        "api.requests:1|c|#endpoint:/pay,method:POST,status_code:201",
        "api.errors:1|c|#endpoint:/pay,method:POST,error:false",
        "api.response_time:31|h|#endpoint:/pay,method:POST,status_code:201",
    ]
    assert technical.stats() == business.stats()
    assert (business.stats().sent, business.stats().dropped, business.stats().other) == (15, 0, {})


def every_call(business: BusinessMetrics, technical: TechnicalMetrics) -> None:
    business.track_transaction(amount=1, currency="USD", type="payment", status="failed", processing_time_ms=1.5)
    for event in ("user_registered", "user_verified", "user_login", "user_active"):
        business.track_user_event(event, user_id="u")
    business.track_revenue(amount=1, currency="USD", source="fees", fee_amount=1)
    business.track_fraud(risk_score=1, action="block", is_false_positive=True)
    technical.track_api_performance(endpoint="/", method="GET", response_time_ms=1, status_code=500)
    technical.track_database_performance(operation="select", execution_time_ms=1, success=False)
    technical.track_pool(active=1, idle=2)
    technical.track_cache_performance(operation="get", hit=True, response_time_ms=1)
    technical.track_message_queue(queue="q", depth=0, processing_time_ms=1, processed=1)


def test_every_metric_of_the_strategy_with_its_kind_and_tags(
    port: Port, business: BusinessMetrics, technical: TechnicalMetrics
) -> None:
    every_call(business, technical)
    found = {line.name: (line.kind, line.keys) for line in map(Line.of, lines(business, port))}
    assert found == instrument_rows()


def test_constant_tags_come_after_its_own(port: Port, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DD_ENV": "prod", "DD_SERVICE": "pay", "DD_VERSION": "2", "DD_TAGS": "team:a env:x"}.items():
        monkeypatch.setenv(name, value)
    business, technical = made.business(port, tags=["cell:7"]), made.technical(port, tags=["cell:7"])
    every_call(business, technical)
    tail = ("environment:prod", "service:pay", "version:2", "cell:7", "team:a", "env:x")
    for line in map(Line.of, lines(business, port)):
        assert line.tags[-6:] == tail
        assert len(set(line.keys)) == len(line.keys)


def test_distributions(port: Port, made: Made) -> None:
    business, technical = made.business(port, histogram_as="d"), made.technical(port, histogram_as="d")
    every_call(business, technical)
    wanted = {name: kind.replace("h", "d") for name, (kind, _) in instrument_rows().items()}
    assert {line.name: line.kind for line in map(Line.of, lines(business, port))} == wanted


def test_what_is_no_success(port: Port, business: BusinessMetrics) -> None:
    for status in ("completed", "Completed", "failed", "pending"):
        business.track_transaction(amount=1, currency="usd", type="refund", status=status)
    found = [line for line in lines(business, port) if "success_rate" in line]
    assert [Line.of(line).tags for line in found] == [
        (f"success:{success}", "type:refund") for success in ("true", "true", "false", "false")
    ]
    assert all("currency:USD" in line for line in port.lines if "success_rate" not in line)
    assert business.stats().other == {}


def test_only_block_is_blocked(port: Port, business: BusinessMetrics) -> None:
    business.track_fraud(risk_score=Decimal("0.10"), action="allow")
    business.track_fraud(risk_score=1, action="block")
    assert lines(business, port) == [
        "business.fraud.risk_score:0.10|h|#action:allow",
        "business.fraud.risk_score:1|h|#action:block",
        "business.fraud.blocked_transactions:1|c|#reason:high_risk",
    ]


@pytest.mark.soak
async def test_datadogs_own_parser_takes_every_line(tmp_path: Path, made: Made) -> None:
    parser = DatadogParser(tmp_path)
    try:
        await parser.ready()
        where: dict[str, Any] = {"host": "127.0.0.1", "port": parser.port, "histogram_as": "d", "service": "pay"}
        business, technical = made._keep(BusinessMetrics(**where)), TechnicalMetrics(**where)
        every_call(business, technical)
        technical.track_api_performance(endpoint="/pay/{id}", method="GET", response_time_ms=1, status_code=200)
        assert await asyncio.to_thread(business.flush, 10.0)
        await until(lambda: "Sending distributions" in parser.output and "/pay/{id}" in parser.output, "a flush", 30)
        wrong = [line for line in parser.output.splitlines() if "Failed to parse" in line or "Unsupported" in line]
        # To this parser, unlike to the full agent, a member of a set must be a number.
        assert [line for line in wrong if "unique_daily" not in line] == []
        assert all(name in parser.output for name in instrument_rows())
    finally:
        parser.close()


# Vocabulary


def test_what_is_outside_is_other_and_counted(port: Port, business: BusinessMetrics) -> None:
    for bad in ("t-4711", "", "pay,ment", "a|b\nc", 5, None, "x" * 10_000):
        business.track_transaction(amount=1, currency="USD", type=bad, status="completed")  # type: ignore[arg-type]
    business.track_revenue(amount=1, currency="XXX", source="u-1")
    business.track_fraud(risk_score=1, action="block", reason="because of u-1")
    found = [Line.of(line) for line in lines(business, port)]
    assert {tag for line in found for tag in line.tags if tag.startswith("type:")} == {"type:other"}
    assert business.stats().other == {"type": 7, "currency": 1, "source": 1, "reason": 1}
    assert business.stats().failed == 0


def test_words_of_ones_own(port: Port, made: Made) -> None:
    business = made.business(port, vocabulary=Vocabulary().plus(type=["salary"], currency=["BTC"], reason=["a b"]))
    business.track_transaction(amount=1, currency="BTC", type="salary", status="completed")
    business.track_fraud(risk_score=1, action="block", reason="a_b")
    assert lines(business, port)[0].endswith("#currency:BTC,type:salary,status:completed")
    assert lines(business, port)[-1].endswith("#reason:a_b")
    assert business.stats().other == {}


def test_endpoints_and_queues_have_a_budget_for_the_whole_process(port: Port, made: Made) -> None:
    vocabulary = Vocabulary(limit=3)
    for number_ in range(10):
        technical = made.technical(port, vocabulary=vocabulary)
        technical.track_api_performance(endpoint=f"/pay/{number_}", method="GET", response_time_ms=1, status_code=200)
        technical.track_message_queue(queue=f"reply-{number_}", depth=1)
    found = [Line.of(line) for line in lines(technical, port)]
    assert {line.tags[0] for line in found if line.name == "api.requests"} == {
        "endpoint:/pay/0", "endpoint:/pay/1", "endpoint:/pay/2", "endpoint:other",
    }  # fmt: skip
    assert {line.tags[0] for line in found if line.name == "queue.depth"} == {
        "queue:reply-0", "queue:reply-1", "queue:reply-2", "queue:other",
    }  # fmt: skip
    assert technical.stats().other == {"endpoint": 7, "queue": 7}


def test_methods_and_codes_that_do_not_exist(port: Port, technical: TechnicalMetrics) -> None:
    for method, code in (("BREW", 200), ("get", 200), ("GET", 99), ("GET", 600), ("GET", "200")):
        technical.track_api_performance(
            endpoint="/",
            method=method,
            response_time_ms=1,
            status_code=code,  # type: ignore[arg-type]
        )
    tags = [Line.of(line).tags[1:] for line in lines(technical, port) if line.startswith("api.requests")]
    assert tags == [
        ("method:other", "status_code:200"), ("method:GET", "status_code:200"), ("method:GET", "status_code:other"),
        ("method:GET", "status_code:other"), ("method:GET", "status_code:other"),
    ]  # fmt: skip
    assert technical.stats().other == {"method": 1, "status_code": 3}


@pytest.mark.parametrize(("code", "failed"), [(200, "false"), (399, "false"), (400, "true"), (599, "true")])
def test_errors_begin_at_400(port: Port, technical: TechnicalMetrics, code: int, failed: str) -> None:
    technical.track_api_performance(endpoint="/", method="GET", response_time_ms=1, status_code=code)
    assert lines(technical, port)[1] == f"api.errors:1|c|#endpoint:/,method:GET,error:{failed}"


def test_the_list_of_currencies() -> None:
    assert {code: EXPONENTS[code] for code in ("USD", "EUR", "JPY", "KRW", "BHD", "KWD", "CLF", "ISK", "HUF")} == {
        "USD": 2, "EUR": 2, "JPY": 0, "KRW": 0, "BHD": 3, "KWD": 3, "CLF": 4, "ISK": 0, "HUF": 2,
    }  # fmt: skip
    assert all(len(code) == 3 and code.isalpha() and code.isupper() for code in EXPONENTS)
    assert 165 <= len(EXPONENTS) <= 185
    assert not {"XXX", "XTS", "XAU"} & set(EXPONENTS)


# Numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (-7, "-7"), (10**20, "1" + "0" * 20), (1.5, "1.5"), (0.1 + 0.2, "0.30000000000000004"),
        (Decimal("12.30"), "12.30"), (Decimal("-0.01"), "-0.01"), (Decimal("1E+3"), "1000"),
        (Decimal("1E-7"), "0.0000001"),
        (Decimal("1") / 3, "0.3333333333333333333333333333"), (Decimal("0." + "1" * 100), "0.1111111111111111"),
        (float("nan"), None), (float("inf"), None), (Decimal("NaN"), None), (Decimal("-Infinity"), None),
        (Decimal("sNaN"), None), (Decimal("1E+999999"), None), pytest.param(10**5000, None, id="huge"),
        (True, None), ("12.30", None), (None, None),
    ],
)  # fmt: skip
def test_numbers(value: Any, text: str | None) -> None:
    assert number(value) == text


def test_what_is_no_number_is_left_out_and_counted(port: Port, business: BusinessMetrics) -> None:
    business.track_transaction(
        amount=Decimal("NaN"), currency="USD", type="payment", status="completed", processing_time_ms=float("inf")
    )
    business.track_revenue(amount="12", currency="USD", source="fees", fee_amount=1)  # type: ignore[arg-type]
    assert lines(business, port) == [
        "business.transactions.count:1|c|#currency:USD,type:payment,status:completed",
        "business.transactions.success_rate:1|c|#success:true,type:payment",
        "business.revenue.fees:1|h|#currency:USD",
    ]
    assert business.stats().invalid == 3


# Users


def test_user_ids_stay_apart_and_break_no_line(port: Port, business: BusinessMetrics) -> None:
    ids = ["u-1", "u|1", "u%7C1", "u\n1", "u:1", "ü", "a b", "x" * 500]
    for user in ids:
        business.track_user_event("user_active", user_id=user)
    found = [Line.of(line) for line in lines(business, port)]
    assert [line.value for line in found] == [
        "u-1", "u%7C1", "u%257C1", "u%0A1", "u:1", "ü", "a%20b", hashed("x" * 500, ""),
    ]  # fmt: skip
    assert len({line.value for line in found}) == len(ids)


def test_hashed_on_demand(port: Port, made: Made) -> None:
    made.business(port, hash_user_ids=True).track_user_event("user_active", user_id="ann@example.org")
    keyed = made.business(port, hash_key="k")
    keyed.track_user_event("user_active", user_id="ann@example.org")
    first, second = (Line.of(line).value for line in lines(keyed, port))
    assert first == hashed("ann@example.org", "")
    assert second == hashed("ann@example.org", "k")
    assert first != second
    assert "ann" not in "".join(port.lines)


def test_nobody_is_no_user(port: Port, made: Made) -> None:
    hashing = made.business(port, hash_user_ids=True)
    for business in (made.business(port), hashing):
        business.track_user_event("user_login", user_id="")
        business.track_user_event("user_login", user_id=None)  # type: ignore[arg-type]
    assert lines(hashing, port) == []
    assert hashing.stats().invalid == 4


def test_an_event_that_is_misspelt_is_told(port: Port, made: Made) -> None:
    business = made.business(port, vocabulary=Vocabulary().plus(event=["user_dreamt"]))
    for event in ("user_registred", "user_dreamt", "User_Login"):
        business.track_user_event(event, user_id="u")
    assert lines(business, port) == [
        "business.users.unique_daily:u|s|#period:daily",
        "business.users.unique_daily:u|s|#period:daily",
        "business.users.active:1|c",
        "business.users.unique_daily:u|s|#period:daily",
    ]
    assert business.stats().other == {"event": 1}


def test_a_metrics_own_tag_replaces_a_constant_one(port: Port, made: Made) -> None:
    business = made.business(port, service="pay", tags=["type:mine", "currency:all", "success"])
    business.track_transaction(amount=1, currency="USD", type="payment", status="completed")
    business.track_user_event("user_login", user_id="u")
    assert lines(business, port) == [
        "business.transactions.count:1|c|#currency:USD,type:payment,status:completed,service:pay,success",
        "business.transactions.success_rate:1|c|#success:true,type:payment,service:pay,currency:all",
        "business.transactions.amount:1|h|#currency:USD,type:payment,service:pay,success",
        "business.users.active:1|c|#service:pay,type:mine,currency:all,success",
        "business.users.unique_daily:u|s|#period:daily,service:pay,type:mine,currency:all,success",
    ]


def test_tags_and_members_are_cleaned() -> None:
    assert clean("a b,c|d\ne#f\ud800" + "x" * 300) == "a_b_c_d_e_f_" + "x" * 188
    assert member("\ud800") == "%D800"


# Never into the application


class Rogue:
    """Raises whatever is done with it."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __hash__ = __eq__ = __int__ = __float__ = __add__ = __str__  # type: ignore[assignment]


def test_nothing_raises(port: Port, business: BusinessMetrics, technical: TechnicalMetrics) -> None:
    rogue: Any = Rogue()
    for bad in (rogue, [], {}, object(), b"x"):
        business.track_transaction(amount=bad, currency=bad, type=bad, status=bad, processing_time_ms=bad)
        business.track_user_event(bad, user_id=bad)
        business.track_revenue(amount=bad, currency=bad, source=bad, fee_amount=bad)
        business.track_fraud(risk_score=bad, action=bad, reason=bad, is_false_positive=True)
        technical.track_api_performance(endpoint=bad, method=bad, response_time_ms=bad, status_code=bad)
        technical.track_database_performance(operation=bad, execution_time_ms=bad)
        technical.track_pool(active=bad, idle=bad)
        technical.track_cache_performance(operation=bad, hit=True, response_time_ms=bad)
        technical.track_message_queue(queue=bad, depth=bad)
    found = [Line.of(line) for line in lines(business, port)]
    assert {line.name for line in found} <= set(instrument_rows())
    assert business.stats().failed > 0


async def test_a_queue_worker(port: Port, technical: TechnicalMetrics) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()
    queue.put_nowait(1)
    worker = technical.queue_worker("jobs", depth=queue.qsize)
    with worker.message():
        pass
    async with worker.message():
        await asyncio.sleep(0.01)
    with pytest.raises(ValueError), worker.message():
        raise ValueError
    worker.report_depth(7)
    await until(lambda: any(line.startswith("queue.depth:1|g") for line in port.lines), "the depth by itself")
    await asyncio.to_thread(lines, technical, port)  # where the machine stopped, that came before the others
    found = [Line.of(line) for line in port.lines]
    assert all(line.tags == ("queue:jobs",) for line in found)
    times = [float(line.value) for line in found if line.name == "queue.processing_time"]
    assert len(times) == 3
    assert 10 <= times[1] < 5000
    assert [line.value for line in found if line.name == "queue.messages_processed"] == ["1", "1"]
    assert {"7", "1"} == {line.value for line in found if line.name == "queue.depth"}
