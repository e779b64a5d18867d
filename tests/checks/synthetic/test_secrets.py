"""Secrets in headers, bodies, URLs and extracted values, every step broken in every way: none of them shows."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from cli.process import environ
from vedette.testing import run_check
from vedette_checks.synthetic import Synthetic

from .api import Cut, PaymentsApi, Reply, Request, reply

pytestmark = pytest.mark.anyio

SECRETS = {
    "password": "hunter2-s3cret",
    "pin": "47-x1",
    "api key": "ak_live_0123456789abcdef",
    "basic": "b4sic-passw0rd",
    "query": "q-s3cret-17",
    "form": "f0rm-s3cret",
    "raw": "r4w-s3cret-body",
    "variable": "v4r-s3cret",
    "cookie": "sid-c00kie-77",
    "access": "tok-3f9a8b7c6d5e4f",
    "refresh": "rt 0ne two",
    "id": "id-90210",
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
        "timeout": "3s",
        "interval": "5s",
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
            {"name": "raw", "request": "PUT /raw/{{ id }}", "body": f"<x>{S['raw']}</x> {{{{ access }}}}"},
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
        "headers": request.headers,
    }


def good(request: Request) -> Reply:
    answer = tell(request)
    if request.path == "/wait":
        answer["state"] = S["id"]
    return reply(200, answer, Set_Cookie=f"sid={S['cookie']}")


def text_of(request: Request) -> bytes:
    return f"error: {json.dumps(tell(request))} {request.body!r} {request.headers}".encode()


FAULTS: dict[str, Any] = {
    "500 json": lambda request: reply(500, tell(request)),
    "500 text": lambda request: reply(500, text_of(request)),
    "404 list": lambda request: reply(404, [tell(request), [request.path]]),
    "200 text": lambda request: reply(200, text_of(request)),
    "200 other": lambda request: reply(200, {"message": json.dumps(tell(request)), "state": "pending"}),
    "redirect": lambda request: reply(307, b"", Location=f"http://127.0.0.1:9/{S['id']}?t={S['access']}"),
    "nonsense": lambda request: reply(302, b"", Location=f"ftp://{S['access']}/"),
    "cut": Cut,
    "cookie": lambda request: reply(200, b"{", Set_Cookie=f"sid={S['cookie']}"),
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
    return [name for name, secret in SECRETS.items() if secret in text or secret.replace(" ", "+") in text]


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


@pytest.mark.parametrize("command", [("check", "synthetic", "--json"), ("check", "synthetic"), ("run", "--once")])
async def test_nothing_shows_in_what_the_commands_print_and_write(command: tuple[str, ...], tmp_path: Path) -> None:
    """The secrets come from the environment here, the log is at its most talkative."""
    conf = tmp_path / "conf.d"
    conf.mkdir()
    (conf / "agent.yaml").write_text(
        "log: {level: debug}\nsinks:\n  - {type: console}\n  - {type: file, path: out.jsonl, format: jsonl}\n"
    )
    planted = {f"SECRET_{name.upper().replace(' ', '_')}": secret for name, secret in SECRETS.items()}
    async with PaymentsApi().running() as api:
        instances = [
            {**flow(api), "name": f"{step}-{n}", "interval": "10s", "timeout": "10s"} for n, step in enumerate(STEPS)
        ]
        text = json.dumps({"instances": instances}, indent=1)
        for variable, secret in planted.items():
            text = text.replace(secret, f"${{env:{variable}}}")
        (conf / "synthetic.yaml").write_text(text)
        for name in ("500 json", "500 text", "200 other", "cut"):
            api.fault = broken("wait", FAULTS[name])
            done = await anyio.to_thread.run_sync(
                lambda: subprocess.run(
                    [sys.executable, "-m", "vedette", *command],
                    cwd=tmp_path,
                    env={**environ(tmp_path / "state"), **planted},
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )
            )
            assert leaks(done.stdout) == [], done.stdout
            assert leaks(done.stderr) == [], done.stderr
            assert "wait: " in done.stdout + done.stderr
            assert "Traceback" not in done.stderr
    if command[0] == "run":
        written = (conf / "out.jsonl").read_text()
        assert "wait: " in written
        assert leaks(written) == []
