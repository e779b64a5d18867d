"""The strategy's flow against a payments API: what it sends, what it says, and what each fault makes of it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from servers import free_port
from vedette import Kind, Status
from vedette.emit import Channel, Emit
from vedette.testing import CheckRun, assert_declared, run_check
from vedette_checks.synthetic import Synthetic, SyntheticConfig
from vedette_checks.synthetic.exchange import Caller, UnansweredError
from vedette_checks.synthetic.templates import Template

from .api import TOKEN, Cut, PaymentsApi, Reply, Request, payment_flow, reply

pytestmark = pytest.mark.anyio

STEPS = ("login", "balance", "payment", "verify")
FLOW = "flow:payment-flow"


def outcomes(run: CheckRun) -> dict[str, str]:
    """Each step's result."""
    found = {}
    for sample in run.samples:
        if sample.name == "synthetic.step.result":
            tags = dict(tag.split(":", 1) for tag in sample.tags)
            found[tags["step"]] = tags["result"]
    return found


def at(step: str, answer: Reply | type[Exception]) -> Any:
    """A fault at one step."""

    def fault(request: Request) -> Reply | None:
        if request.step != step:
            return None
        if isinstance(answer, type):
            raise answer
        return answer

    return fault


async def test_a_flow_that_works() -> None:
    async with PaymentsApi(looks=2).running() as api:
        run = await run_check(Synthetic, payment_flow(api))
    assert_declared(run)
    assert run.error is None
    assert (run.status("synthetic.flow"), run.message("synthetic.flow")) == (Status.OK, "")
    assert outcomes(run) == dict.fromkeys(STEPS, "ok")
    assert api.steps() == ["login", "balance", "payment", "verify", "verify", "verify", "refund"]
    assert api.requests[0].json == {"email": "synthetic.test@example.com", "password": "hunter2-s3cret"}
    assert api.requests[2].json == {"amount": "1.00", "currency": "USD"}
    assert {one.headers.get("authorization") for one in api.requests[1:6]} == {f"Bearer {TOKEN}"}
    assert run.value("synthetic.transaction.result", success="true") == 1
    assert run.value("synthetic.transaction.failures") == 0
    assert run.value("synthetic.cleanup.result", success="true") == 1
    assert run.value("synthetic.cleanup.pending") == 0
    assert [payment.status for payment in api.payments.values()] == ["refunded"]
    times = [run.value(f"synthetic.{step}.response_time", flow="payment-flow") for step in STEPS]
    total = run.value("synthetic.transaction.total_time", flow="payment-flow")
    assert all(isinstance(one, float) and one > 0 for one in times)
    assert sum(times) <= total  # type: ignore[arg-type, operator]
    assert times[3] >= 20  # type: ignore[operator]  # two pauses of 10 ms are the step's
    kinds = {sample.name: sample.kind for sample in run.samples}
    assert kinds["synthetic.login.response_time"] is Kind.HISTOGRAM
    assert kinds["synthetic.transaction.total_time"] is Kind.HISTOGRAM
    assert kinds["synthetic.transaction.result"] is Kind.COUNT
    assert run.state.get("pending") == []


async def test_each_request_has_the_runs_id_and_writes_have_a_key_of_their_own() -> None:
    async with PaymentsApi().running() as api:
        await run_check(Synthetic, payment_flow(api, headers={"X-Tenant": "synthetic"}), runs=2)
    runs = [one.run for one in api.requests]
    assert len(set(runs)) == 2
    assert runs == [runs[0]] * 5 + [runs[5]] * 5
    assert {one.headers["x-tenant"] for one in api.requests} == {"synthetic"}
    assert all(one.headers["user-agent"].endswith("(synthetic)") for one in api.requests)
    keys = [one.headers.get("idempotency-key") for one in api.requests]
    assert [key is not None for key in keys] == [True, False, True, False, True] * 2
    assert len({key for key in keys if key}) == 6


async def test_phases_and_sizes() -> None:
    async with PaymentsApi().running() as api:
        run = await run_check(Synthetic, payment_flow(api))
        again = await run_check(
            Synthetic, payment_flow(api, base_url=f"http://127.0.0.1:{api.port}", connections="flow")
        )
    for step in STEPS:
        parts = [
            run.value(f"synthetic.step.{name}_time", step=step) for name in ("dns", "connect", "first_byte", "transfer")
        ]
        whole = run.value(f"synthetic.{step}.response_time")
        assert 0 < sum(parts) <= whole  # type: ignore[arg-type, operator]
        assert run.values("synthetic.step.tls_time", step=step) == []
    assert run.value("synthetic.step.body_size", step="login") == len(f'{{"access_token": "{TOKEN}"}}')
    assert again.values("synthetic.step.dns_time") == []  # an address needs none
    assert len(again.values("synthetic.step.connect_time")) == 1  # the others use the first one's
    assert len(again.values("synthetic.step.first_byte_time")) == 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (reply(500, {"error": "boom"}), 'expected status 200, got 500: {"error":"boom"} (GET /api/v1/wallet/balance)'),
        (reply(401, {"error": f"bad token {TOKEN}"}), 'expected status 200, got 401: {"error":"bad token ****"}'),
        (reply(200, {"currency": "EUR", "token": "abc"}),
         'expected currency to be "USD", got "EUR": {"currency":"EUR","token":"****"}'),
        (reply(200, {}), 'expected currency to be "USD", got null: {}'),
        (reply(200, b"<html>down</html>"), "expected JSON, but the body is no JSON: <html>down</html>"),
        (reply(200, b""), "expected JSON, but the body is empty (GET"),
        (reply(200, b"[" * 5000), "expected JSON, but the body's JSON is nested too deep"),
        (Cut, "the answer is no HTTP, or ends too soon (GET"),
        (reply(200, b"{}", Content_Length="500"), "the answer is no HTTP, or ends too soon (GET"),
        (reply(200, b"no gzip at all", Content_Encoding="gzip"), "the compressed body is damaged"),
        (reply(200, b"x", Content_Encoding="br"), "the body is encoded in a way that was not asked for"),
        (reply(302, b"", Location="/api/v1/wallet/balance"), "more than 10 redirects"),
        (reply(302, b"", Location="ftp://x/"), "redirected to an address that is not http"),
    ],
)  # fmt: skip
async def test_a_step_that_fails_ends_the_flow_and_says_why(fault: Any, said: str) -> None:
    async with PaymentsApi(fault=at("balance", fault)).running() as api:
        run = await run_check(Synthetic, payment_flow(api))
    message = run.message("synthetic.flow")
    assert run.status("synthetic.flow") is Status.CRITICAL
    assert message.startswith(f"balance: {said}"), message
    assert re.search(r"; run [0-9a-f-]{36}$", message)
    assert TOKEN not in message
    assert outcomes(run) == {"login": "ok", "balance": "failed", "payment": "skipped", "verify": "skipped"}
    assert run.values("synthetic.payment.response_time") == []
    assert len(run.values("synthetic.balance.response_time")) == 1
    assert run.value("synthetic.transaction.result", success="false") == 1
    assert run.value("synthetic.transaction.failures") == 1
    assert len(run.values("synthetic.transaction.total_time")) == 1
    assert run.values("synthetic.cleanup.result") == []
    assert run.value("synthetic.cleanup.pending") == 0
    assert api.payments == {}
    assert_declared(run)


async def test_a_payment_that_stays_pending_fails_verify_and_is_refunded() -> None:
    async with PaymentsApi(looks=None).running() as api:
        options = payment_flow(api)
        options["steps"][3]["until"].update({"within": "2s", "every": "500ms"})
        run = await run_check(Synthetic, options)
    assert re.match(
        r'verify: still not as awaited after \d+ requests: expected status to be "completed", got "pending": '
        r'\{"status":"pending"\} \(GET /api/v1/payments/\{\{ payment_id \}\}\)',
        run.message("synthetic.flow"),
    )
    assert outcomes(run)["verify"] == "failed"
    assert [(one.status, one.refunds) for one in api.payments.values()] == [("refunded", 1)]
    assert run.value("synthetic.cleanup.result", success="true") == 1


async def test_until_a_status_comes_no_other_is_wrong() -> None:
    answers = iter([404, 503, 404, 200])
    steps = [{"name": "a", "request": "GET /a", "until": {"status": 200, "every": "10ms", "within": "60s"}}]
    async with PaymentsApi(extra={"/a": lambda _: reply(next(answers), {})}).running() as api:
        options = {"name": "x", "base_url": api.url, "timeout": "60s", "interval": "60s", "steps": steps}
        run = await run_check(Synthetic, options)
        assert (run.status("synthetic.flow"), outcomes(run)) == (Status.OK, {"a": "ok"})
        assert len(api.requests) == 4
        answers = iter([404])
        steps[0]["until"] = {"json": {"a": None}, "within": "60s"}
        run = await run_check(Synthetic, options)
        assert run.message("synthetic.flow").startswith("a: expected status below 400, got 404")
        answers = iter([404])
        steps[0].update({"until": {"status": 200, "within": "60s"}, "expect": {"status": [200, 202]}})
        run = await run_check(Synthetic, options)
        assert run.message("synthetic.flow").startswith("a: expected status 200 or 202, got 404")


async def test_a_variable_that_nothing_sets_is_a_failure_and_no_success() -> None:
    """Not in a valid configuration: this is the net below it."""
    async with PaymentsApi(extra={"/a": lambda _: reply(200, {})}).running() as api:
        config = SyntheticConfig.model_validate({"name": "x", "url": f"{api.url}/a"})
        check = Synthetic(config)
        check._plan.steps[0]._target = Template("http://x/{{ nope }}")
        await check.open()
        emit = Emit(Channel("synthetic/x", "synthetic", Synthetic.declare(config), Synthetic.statuses), 0.0)
        await check.run(emit)
    batch = emit.batch()
    found = {status.name: (status.status, status.message.partition("; run")[0]) for status in batch.statuses}
    assert found == dict.fromkeys(
        ("synthetic.flow", "http.can_connect"),
        (Status.CRITICAL, f"request: nope was never set (GET {api.url}/a)"),
    )
    ends = [one.tags for one in batch.samples if one.name == "synthetic.transaction.result"]
    assert ends == [("flow:x", "success:false")]
    assert api.requests == []


async def test_nothing_listens(closed_port: int) -> None:
    api = PaymentsApi(port=closed_port)
    run = await run_check(Synthetic, payment_flow(api))
    assert run.message("synthetic.flow").startswith(
        "login: the connection was refused; does something listen there? (POST /api/v1/auth/login)"
    )
    assert run.values("synthetic.step.first_byte_time") == []
    assert run.values("synthetic.login.response_time") == []
    assert len(run.values("synthetic.transaction.total_time")) == 1
    assert run.value("synthetic.cleanup.pending") == 0


async def test_a_name_that_does_not_resolve() -> None:
    api = PaymentsApi()
    run = await run_check(Synthetic, payment_flow(api, base_url="http://no-such-host.invalid"))
    assert run.message("synthetic.flow").startswith(
        "login: the host name no-such-host.invalid does not resolve; check the address"
    )
    assert len(run.values("synthetic.step.dns_time")) == 1
    assert run.values("synthetic.step.connect_time") == []


async def test_a_slow_drip_is_cut_off_at_the_steps_timeout() -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 100000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    api = PaymentsApi(raw={"/api/v1/wallet/balance": drip})
    async with api.running():
        options = payment_flow(api)
        options["steps"][1]["timeout"] = "2s"
        run = await run_check(Synthetic, options)
    assert run.message("synthetic.flow").startswith("balance: no answer within 2s: the answer was awaited")
    assert run.value("synthetic.balance.response_time") >= 2000  # type: ignore[operator]


async def test_a_reset_in_the_middle_of_the_body() -> None:
    async def reset(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        sock = writer.get_extra_info("socket")
        sock.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # SOL_SOCKET, SO_LINGER: close with RST
        writer.transport.abort()

    async with PaymentsApi(raw={"/api/v1/wallet/balance": reset}).running() as api:
        run = await run_check(Synthetic, payment_flow(api))
    assert run.message("synthetic.flow").startswith("balance: the connection broke (GET")


async def test_a_body_of_100_mb_is_not_read() -> None:
    sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 104857600\r\n\r\n")
        while sent < 104857600 and not writer.is_closing():
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    async with PaymentsApi(raw={"/api/v1/wallet/balance": flood}).running() as api:
        run = await run_check(Synthetic, payment_flow(api))
    assert run.message("synthetic.flow").startswith("balance: the body has more than 1048576 bytes; raise `max_body`")
    assert sent < 20_000_000


async def test_a_compressed_body_is_read_and_a_bomb_is_not_unpacked() -> None:
    import gzip

    good = reply(200, gzip.compress(b'{"currency": "USD"}'), Content_Encoding="gzip")
    async with PaymentsApi(fault=at("balance", good)).running() as api:
        run = await run_check(Synthetic, payment_flow(api))
        assert outcomes(run)["balance"] == "ok"
        bomb = await asyncio.to_thread(gzip.compress, b"0" * 50_000_000, 1)
        api.fault = at("balance", reply(200, bomb, Content_Encoding="gzip"))
        run = await run_check(Synthetic, payment_flow(api))
    assert run.message("synthetic.flow").startswith("balance: the body has more than 1048576 bytes")


async def test_what_a_step_may_take() -> None:
    async with PaymentsApi().running() as api:
        for expect, said in (
            ({"max_size": 10}, "the body has 37 bytes, expected at most 10"),
            ({"min_size": 100}, "the body has 37 bytes, expected at least 100"),
            ({"regex": "GBP"}, "the body does not match `regex`: "),
            ({"headers": {"Content-Type": "^text/"}}, "the header Content-Type does not match its pattern"),
            ({"headers": {"X-Not-There": ""}}, "expected a header X-Not-There, got none"),
            ({"status": [201, "3xx"]}, "expected status 201 or 3xx, got 200"),
            ({"json": {"balance > `100`": False}}, "expected balance > `100` to be false, got true"),
        ):
            options = payment_flow(api)
            options["steps"][1]["expect"] = expect
            run = await run_check(Synthetic, options)
            assert run.message("synthetic.flow").startswith(f"balance: {said}"), run.message("synthetic.flow")
        options = payment_flow(api)
        options["steps"][1]["expect"] = {"status": "2xx", "json": {"balance": 120.5, "owner": None}, "regex": "U.D"}
        assert (await run_check(Synthetic, options)).message("synthetic.flow") == ""


async def test_a_step_that_takes_too_long_fails_and_its_payment_is_still_refunded() -> None:
    async with PaymentsApi().running() as api:
        options = payment_flow(api)
        options["steps"][2]["expect"] = {"max_time": 0.000001}
        run = await run_check(Synthetic, options)
    assert re.match(r"payment: took \d+ ms, expected at most 0 ms", run.message("synthetic.flow"))
    assert [one.status for one in api.payments.values()] == ["refunded"]


async def test_an_answer_without_what_is_to_be_extracted_names_it() -> None:
    after = at("payment", reply(201, {"status": "ok", "id": "p-1"}))
    async with PaymentsApi(after=after).running() as api:
        run = await run_check(Synthetic, payment_flow(api))
        assert run.message("synthetic.flow").startswith(
            'payment: cannot extract payment_id: the JSON does not have it: {"status":"ok","id":"p-1"}'
        )
    assert run.value("synthetic.cleanup.leftovers", reason="unknown") == 1
    assert "may have left something behind: no answer told what" in run.message("synthetic.flow")
    assert [one.refunds for one in api.payments.values()] == [0]


async def test_other_ways_to_send_and_to_extract() -> None:
    def echo(request: Request) -> Reply:
        return reply(200, b"<a id='n-77'>", X_Next="/next?page=2", Set_Cookie="sid=c-1; Path=/")

    async with PaymentsApi(
        extra={"/form?a=b+c&n=5&n=6": echo, "/next?page=2": echo, "/raw/n-77": echo}
    ).running() as api:
        steps: list[dict[str, Any]] = [
            {
                "name": "form", "request": "POST /form", "form": {"user": "me", "many": ["1", "2"]},
                "query": {"a": "b c", "n": [5, 6]}, "auth": {"username": "u", "password": "p"},
                "extract": {"id": "regex:id='([^']+)'", "next": "header.x-next"},
            },
            {"name": "next", "request": "GET {{ next }}", "auth": {"bearer": "{{ id }}"}},
            {
                "name": "raw", "request": "PUT /raw/{{ id }}", "body": "<x>{{ id }}</x>",
                "headers": {"Content-Type": "t/x"},
            },
        ]  # fmt: skip
        run = await run_check(Synthetic, {"name": "x", "base_url": api.url, "steps": steps})
    assert run.message("synthetic.flow") == ""
    form, following, raw = api.requests
    assert (form.path, form.body) == ("/form?a=b+c&n=5&n=6", b"user=me&many=1&many=2")
    assert form.headers["authorization"] == "Basic dTpw"
    assert (following.path, following.headers["authorization"]) == ("/next?page=2", "Bearer n-77")
    assert following.headers["cookie"] == "sid=c-1"
    assert (raw.method, raw.path, raw.body, raw.headers["content-type"]) == ("PUT", "/raw/n-77", b"<x>n-77</x>", "t/x")


async def test_a_number_stays_a_number_in_json_and_a_path_is_quoted() -> None:
    answers = {
        "/a": lambda _: reply(200, {"n": 7, "who": "a/b ?x", "deep": {"list": [1, None]}}),
        "/b/a%2Fb%20%3Fx": lambda _: reply(200, {}),
    }
    async with PaymentsApi(extra=answers).running() as api:
        steps = [
            {"name": "a", "request": "GET /a", "extract": {"n": "json.n", "who": "json.who", "deep": "json.deep"}},
            {
                "name": "b",
                "request": "POST /b/{{ who }}",
                "json": {"n": "{{ n }}", "t": "n={{ n }}", "deep": "{{ deep }}"},
            },
        ]
        await run_check(Synthetic, {"name": "x", "base_url": api.url, "steps": steps})
    assert api.requests[1].json == {"n": 7, "t": "n=7", "deep": {"list": [1, None]}}


async def test_when_decides_and_what_depends_on_a_skipped_step_is_skipped() -> None:
    answers = {"/a": lambda _: reply(200, {"n": 3}), "/c": lambda _: reply(200, {})}
    async with PaymentsApi(extra=answers).running() as api:
        steps = [
            {"name": "a", "request": "GET /a", "extract": {"n": "json.n"}},
            {"name": "b", "request": "GET /b", "when": "n > `5`", "extract": {"m": "json.m"}},
            {"name": "c", "request": "GET /c", "when": "n < `5`"},
            {"name": "d", "request": "GET /d/{{ m }}"},
        ]
        run = await run_check(Synthetic, {"name": "x", "base_url": api.url, "steps": steps})
    assert outcomes(run) == {"a": "ok", "b": "skipped", "c": "ok", "d": "skipped"}
    assert run.status("synthetic.flow") is Status.OK
    assert [one.path for one in api.requests] == ["/a", "/c"]


async def test_a_request_that_never_left_is_repeated_and_one_that_did_only_if_it_changes_nothing() -> None:
    for step, arrivals in (("balance", 3), ("payment", 1)):
        async with PaymentsApi(fault=at(step, Cut)).running() as api:
            options = payment_flow(api)
            for one in options["steps"]:
                one["retry"] = 2
            run = await run_check(Synthetic, options)
        assert api.steps().count(step) == arrivals
        assert outcomes(run)[step] == "failed"


async def test_a_write_that_never_left_is_repeated_with_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    refused, call = asyncio.Event(), Caller.call

    async def watched(self: Caller, request: Any, timeout: float) -> Any:
        try:
            return await call(self, request, timeout)
        except UnansweredError:
            refused.set()
            raise

    monkeypatch.setattr(Caller, "call", watched)
    api = PaymentsApi(port=free_port())
    options = payment_flow(api)
    options["steps"][0]["retry"] = 5
    task = asyncio.ensure_future(run_check(Synthetic, options))
    await refused.wait()
    async with api.running():
        run = await task
    assert run.message("synthetic.flow") == ""
    assert run.value("synthetic.login.response_time") >= 100  # type: ignore[operator]  # with the pause
    assert run.values("synthetic.transaction.retries") == []


async def test_a_flow_is_repeated_once_it_is_cleaned_up_with_new_keys() -> None:
    spoilt = iter([reply(500, {"error": "boom"})])

    def fault(request: Request) -> Reply | None:
        return next(spoilt, None) if request.step == "verify" else None

    async with PaymentsApi(fault=fault).running() as api:
        run = await run_check(Synthetic, payment_flow(api, retry=2))
    assert api.steps() == ["login", "balance", "payment", "verify", "refund"] * 2
    assert len({one.run for one in api.requests}) == 1
    assert len({one.key for one in api.payments.values()}) == 2
    assert run.status("synthetic.flow") is Status.OK
    assert run.message("synthetic.flow").startswith("at attempt 2; the first failed: verify: expected status below 400")
    assert run.value("synthetic.transaction.result", success="true") == 1
    assert run.value("synthetic.transaction.retries") == 1
    assert run.value("synthetic.cleanup.result", success="true") == 2
    assert_declared(run)


async def test_a_flow_whose_cleanup_failed_is_not_repeated() -> None:
    fault = at("refund", reply(500, {}))

    def both(request: Request) -> Reply | None:
        return fault(request) or at("verify", reply(500, {}))(request)

    async with PaymentsApi(fault=both).running() as api:
        run = await run_check(Synthetic, payment_flow(api, retry=3))
    assert api.steps() == ["login", "balance", "payment", "verify", "refund"]
    assert run.value("synthetic.cleanup.pending") == 1


async def test_a_variable_cannot_lead_elsewhere() -> None:
    async with PaymentsApi().running() as other:
        answers = {"/a": lambda _: reply(200, {"next": f"{other.url}/steal"})}
        async with PaymentsApi(extra=answers).running() as api:
            steps = [
                {"name": "a", "request": "GET /a", "extract": {"next": "json.next"}},
                {"name": "b", "request": "GET {{ next }}", "headers": {"Authorization": "Bearer s3cret-token"}},
            ]
            run = await run_check(Synthetic, {"name": "x", "base_url": api.url, "steps": steps})
    assert other.requests == []
    assert run.message("synthetic.flow").startswith("b: a variable leads to another host than `base_url`")


async def test_secrets_stay_with_the_host_they_are_for() -> None:
    async with PaymentsApi(extra={"/there": lambda _: reply(200, {})}).running() as other:
        elsewhere = f"http://127.0.0.1:{other.port}/there"
        answers = {
            "/a": lambda _: reply(302, Location=elsewhere),
            "/b": lambda _: reply(307, Location=elsewhere),
            "/c": lambda _: reply(303, Location="/d"),
            "/d": lambda _: reply(200, {}),
        }
        async with PaymentsApi(extra=answers).running() as api:
            headers = {"Authorization": "Bearer s3cret", "X-Api-Key": "k-1", "Accept": "text/x", "Cookie": "a=b"}

            def options(request: str, **more: Any) -> dict[str, Any]:
                step = {"name": "a", "request": request, "headers": headers, **more}
                return {"name": "x", "base_url": api.url, "steps": [step]}

            run = await run_check(Synthetic, options("GET /a"))
            assert run.message("synthetic.flow") == ""
            assert other.requests[0].headers == {
                "host": f"127.0.0.1:{other.port}",
                "accept": "text/x",
                "accept-encoding": "gzip, deflate",
                "user-agent": api.requests[0].headers["user-agent"],
            }
            run = await run_check(Synthetic, options("POST /b", json={"password": "hunter2"}))
            assert run.message("synthetic.flow").startswith(
                "a: redirected to another host, 127.0.0.1, which must not get the body; send the request there itself"
            )
            assert len(other.requests) == 1
            run = await run_check(Synthetic, options("POST /c", json={"x": 1}))
            assert [(one.method, one.path) for one in api.requests[-2:]] == [("POST", "/c"), ("GET", "/d")]
            assert api.requests[-1].headers["authorization"] == "Bearer s3cret"
            stays = await run_check(Synthetic, {**options("GET /a"), "follow_redirects": False})
            assert stays.message("synthetic.flow") == ""
            assert len(other.requests) == 1
