"""Secrets in headers, bodies, URLs and extracted values, every step broken in every way: none of them shows."""

from __future__ import annotations

import html
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

import anyio.to_thread
import pytest

from cli.process import environ
from vedette.kit import Masker
from vedette.testing import run_check
from vedette_checks.synthetic import Synthetic
from vedette_checks.synthetic.masking import Discretion
from vedette_checks.synthetic.request import Request as Sent

from .api import Cut, PaymentsApi, Reply, Request, reply

pytestmark = pytest.mark.anyio

SECRETS = {
    "password": 'zqhunter2 "s3kret"\\&é/+@<',
    "pin": "47-x1",
    "api key": 'ak_live_0123456789abcdef"&/+@<',
    "basic": "b4zic passw0rd\\é&",
    "query": 'q-s3qret"\\é/+@<17',
    "form": 'f0rmz s3cred&é"/+@<\\x',
    "raw": "my zdog is purplez-haired 'now' & ré\"d\\ /+@",
    "xml": "gr3en <dr4gon> fl&ies",
    "variable": "v4riaz s3cred/+@",
    "cookie": "sid-c00kie-77",
    "access": 'tok-3f9a8b7c "qu0ted"/+@&<',
    "refresh": "rtz 0neq twoz\\é<&",
    "id": "id-90210 sl4sh/é&+@<",
    "number": "482910375566",
    "proxied": "pr0xy-s3cret",
}
SHOWN = "order-55"
S = SECRETS
STEPS = ("json", "form", "raw", "get", "wait")


def flow(api: PaymentsApi) -> dict[str, Any]:
    return {
        "name": "leaky",
        "base_url": api.url,
        "timeout": "60s",
        "interval": "60s",
        "cleanup_timeout": "60s",
        "variables": {"api_token": S["variable"]},
        "headers": {"X-Api-Key": S["api key"], "X-More": "{{ api_token }}"},
        "show": ["order"],
        "steps": [
            {
                "name": "json",
                "request": f"POST /json?key={S['query']}",
                "json": {"password": S["password"], "deep": [{"pin": S["pin"]}]},
                "auth": {"username": "monitor", "password": S["basic"]},
                "extract": {
                    "access": "json.access_token",
                    "refresh": "json.data.refresh",
                    "id": "json.id",
                    "number": "json.number",
                    "order": "json.order",
                },
            },
            {"name": "form", "request": "POST /form", "form": {"word": S["form"], "id": "{{ id }}"}},
            {
                "name": "raw",
                "request": "PUT /raw/{{ id }}",
                "body": f"<x>{S['raw']}</x> {{{{ access }}}} <y>{S['xml']}</y>",
            },
            {
                "name": "get",
                "request": "GET /get/{{ order }}",
                "query": {"token": "{{ refresh }}", "n": "{{ number }}"},
                "auth": {"bearer": "{{ access }}"},
                "expect": {"json": {"access_token": "{{ access }}", "id": "{{ id }}"}},
            },
            {
                "name": "wait",
                "request": "GET /wait",
                "headers": {"Authorization": "Token {{ refresh }}"},
                "until": {"json": {"state": "{{ id }}"}, "every": "10ms", "within": "30ms"},
            },
        ],
        "cleanup": [{"name": "undo", "request": "DELETE /undo/{{ id }}", "auth": {"bearer": "{{ access }}"}}],
    }


def tell(request: Request) -> dict[str, Any]:
    """An answer that repeats all it was told, and more."""
    return {
        "access_token": S["access"],
        "data": {"refresh": S["refresh"]},
        "id": S["id"],
        "number": int(S["number"]),
        "order": SHOWN,
        "echo": {"path": request.path, "body": request.body.decode(), "headers": list(request.headers.values())},
        "read": {"path": unquote(request.path), "form": parse_qsl(request.body.decode()), request.body.decode(): "key"},
        "headers": request.headers,
    }


def good(request: Request) -> Reply:
    answer = tell(request)
    if request.path == "/wait":
        answer["state"] = S["id"]
    return reply(200, answer, Set_Cookie=f"sid={S['cookie']}")


def text_of(request: Request) -> bytes:
    return f"error: {json.dumps(tell(request))} {request.body!r} {request.headers}".encode()


def page(request: Request) -> bytes:
    """An error page of a framework that shows what it got."""
    shown = html.escape(f"{request.path} {unquote(request.path)} {request.body.decode()} {request.headers}")
    return f"<html><h1>Bad request</h1><pre>{shown}</pre>".encode()


def body_first(request: Request) -> Any:
    return [request.body.decode(), unquote_plus(request.body.decode()), unquote(request.path), request.path]


def told_before(request: Request) -> str:
    """What only a server tells, as the name of a host, is not known to be secret."""
    return "x" if step_of(request) in ("json", "undo") else S["number"]


FAULTS: dict[str, Any] = {
    "500 json": lambda request: reply(500, tell(request)),
    "500 text": lambda request: reply(500, text_of(request)),
    "404 list": lambda request: reply(404, [tell(request), [request.path]]),
    "200 text": lambda request: reply(200, text_of(request)),
    "page": lambda request: reply(500, page(request), Content_Type="text/html"),
    "echo": lambda request: reply(400, request.body),
    "path": lambda request: reply(400, request.path.encode()),
    "lists": lambda request: reply(500, body_first(request)),
    "ascii": lambda request: reply(500, json.dumps(body_first(request)).encode() + b"!"),  # no JSON, but looks like it
    "utf-8": lambda request: reply(500, json.dumps(body_first(request), ensure_ascii=False).encode() + b"!"),
    "200 other": lambda request: reply(200, {"message": json.dumps(tell(request)), "state": "pending"}),
    "redirect": lambda request: reply(307, b"", Location=f"http://127.0.0.1:9/{S['id']}?t={S['access']}"),
    "nonsense": lambda request: reply(302, b"", Location=f"ftp://{S['access']}/"),
    "cut": Cut,
    "cookie": lambda request: reply(200, b"{", Set_Cookie=f"sid={S['cookie']}"),
    "elsewhere": lambda request: reply(307, b"", Location=f"http://{told_before(request)}.invalid/"),
}


def step_of(request: Request) -> str:
    return request.path.strip("/").split("/")[0].partition("?")[0]


def broken(step: str, fault: Any) -> Any:
    def answer(request: Request) -> Reply:
        if step_of(request) != step:
            return good(request)
        if fault is Cut:
            raise Cut
        made: Reply = fault(request)
        return made

    return answer


def leaks(text: str) -> list[str]:
    """Secrets that are in a text, as they are or encoded; and words of them, as no other word has those letters."""
    found = []
    for name, secret in SECRETS.items():
        forms = {
            secret,
            quote(secret, safe=""),
            quote(secret),
            quote(secret, safe="/+@&<>'"),
            quote_plus(secret),
            html.escape(secret),
            *(json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)),
            *(word for word in re.findall(r"[A-Za-z0-9]{4,}", secret) if word != "live" and not word.isdigit()),
        }
        found += [f"{name}: {form}" for form in forms if form in text]
    return found


def everything(run: Any) -> Iterator[str]:
    for batch in run.batches:
        yield repr(batch)
        yield from (status.message for status in batch.statuses)
    yield str(run.error)


async def test_nothing_shows_in_statuses_samples_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "vedette")
    said = []
    async with PaymentsApi().running() as api:
        for step in (*STEPS, "undo"):
            for name, fault in FAULTS.items():
                api.fault = broken(step, fault)
                run = await run_check(Synthetic, flow(api), runs=2)
                for text in everything(run):
                    assert leaks(text) == [], f"{step}, {name}: {text}"
                said.append(run.message("synthetic.flow"))
    assert leaks(caplog.text) == []
    assert sum(f"{step}: " in message for step in STEPS for message in said) >= 35  # a form wants no JSON
    assert any(SHOWN in message for message in said)  # what may be shown is
    assert any("****" in message for message in said)


def test_what_the_agent_knows_is_masked_before_a_body_is_taken_to_pieces() -> None:
    known = Masker()
    known.add("my <dog> is it purple-haired")
    discretion = Discretion(first=known)
    body = "<p>my <dog> is it purple-haired</p>"
    discretion.hide_request(Sent("POST", "http://h/", {}, {}, body=body))
    assert discretion.say(f"got {body} and {json.dumps(body)}") == 'got <p>****</p> and "<p>****</p>"'


TOLD = ("500 json", "500 text", "200 other", "page", "ascii", "lists", "echo", "path", "cut")
"""Faults that the commands are tried with."""


def by_header(request: Request) -> Reply:
    """Break what the flow's headers say."""
    step, _, fault = request.headers["x-break"].partition("/")
    return broken(step, FAULTS[fault])(request)  # type: ignore[no-any-return]


@pytest.mark.parametrize("command", [("check", "synthetic", "--json"), ("check", "synthetic"), ("run", "--once")])
async def test_nothing_shows_in_what_the_commands_print_and_write(command: tuple[str, ...], tmp_path: Path) -> None:
    """The secrets come from the environment here, the log is at its most talkative, and each flow breaks elsewhere."""
    conf = tmp_path / "conf.d"
    conf.mkdir()
    (conf / "agent.yaml").write_text(
        "log: {level: debug}\nsinks:\n  - {type: console}\n  - {type: file, path: out.jsonl, format: jsonl}\n"
    )
    planted = {f"SECRET_{name.upper().replace(' ', '_')}": secret for name, secret in SECRETS.items()}
    async with PaymentsApi(fault=by_header).running() as api:
        instances = [
            {**options, "name": f"{step}-{fault}", "interval": "60s", "timeout": "60s", "cleanup_timeout": "60s",
             "headers": {**options["headers"], "X-Break": f"{step}/{fault}"}}
            for options in [flow(api)] for step in (*STEPS, "undo") for fault in TOLD
        ]  # fmt: skip
        text = json.dumps({"instances": instances}, indent=1)
        for variable, secret in planted.items():
            text = text.replace(json.dumps(secret)[1:-1], f"${{env:{variable}}}")
        (conf / "synthetic.yaml").write_text(text)
        done = await anyio.to_thread.run_sync(
            lambda: subprocess.run(
                [sys.executable, "-m", "vedette", *command],
                cwd=tmp_path,
                env={**environ(tmp_path / "state"), **planted},
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        )
    said = [done.stdout, done.stderr]
    if command[0] == "run":
        said.append((conf / "out.jsonl").read_text())
    assert [leaks(one) for one in said] == [[]] * len(said), said
    assert "Traceback" not in done.stderr
    for step in (*STEPS, "undo"):
        assert f"{step}: " in said[-1] + said[0], step
