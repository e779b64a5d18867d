"""Answers that no server should give: each is one sentence, none an exception."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from listening import listening
from vedette import Status
from vedette.testing import run_check
from vedette_checks.synthetic import Synthetic

pytestmark = pytest.mark.anyio

NO_HTTP = "the answer is no HTTP, or ends too soon"
NOTHING_THERE = "expected a to be 1, got null: {}"
_BODY = gzip.compress(b"{}") + b"garbage"
_GZIPPED = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(_BODY) + _BODY
ANSWERS: dict[str, tuple[bytes, str]] = {
    "hugeheader": (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\nContent-Length: 2\r\n\r\n{}", NO_HTTP),
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", NOTHING_THERE),
    "early": (
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        NOTHING_THERE,
    ),
    "badchunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", NO_HTTP),
    "nocontent": (b"HTTP/1.1 204 No Content\r\n\r\n", "expected JSON, but the body is empty"),
    "charset": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=foo\r\nContent-Length: 3\r\n\r\n\xff\xfe\xfd",
        "expected JSON, but the body is no JSON",
    ),
    "gziptrail": (_GZIPPED, NOTHING_THERE),
    "status0": (b"HTTP/1.1 999 X\r\nContent-Length: 2\r\n\r\n{}", "expected status below 400, got 999: {}"),
    "statusbad": (b"HTTP/1.1 abc X\r\n\r\n", NO_HTTP),
    "ssh": (b"SSH-2.0-OpenSSH_9\r\n", NO_HTTP),
    "http09": (b"<html>hello</html>", NO_HTTP),
    "neglen": (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", NO_HTTP),
    "two len": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", NO_HTTP),
    "badloc": (
        b"HTTP/1.1 302 X\r\nLocation: http://[::bad/\r\nContent-Length: 0\r\n\r\n",
        "redirected to an address that is not valid",
    ),
    "noloc": (b"HTTP/1.1 302 X\r\nContent-Length: 0\r\n\r\n", "expected JSON, but the body is empty"),
    "emptyloc": (b"HTTP/1.1 302 X\r\nLocation: \r\nContent-Length: 0\r\n\r\n", "more than 10 redirects"),
    "nulhead": (b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\n{}", NO_HTTP),
    "cookie": (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: \xff\xfe=\x01; Domain=other.com; Expires=never\r\nContent-Length: 2\r\n\r\n{}",
        NOTHING_THERE,
    ),
    "upgrade": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nxxxx", NO_HTTP),
    "nan": (b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"a": NaN}', "expected JSON, but the body is no JSON"),
    "empty": (b"", NO_HTTP),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_nasty_answer_is_a_finding(name: str) -> None:
    sent, said = ANSWERS[name]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        writer.close()

    steps = [{"name": "a", "request": "GET /x", "expect": {"json": {"a": 1}}}]
    async with listening(serve) as port:
        options = {"name": "x", "base_url": f"http://127.0.0.1:{port}", "timeout": "60s", "steps": steps}
        run = await run_check(Synthetic, options)
    assert run.error is None
    assert run.status("synthetic.flow") is Status.CRITICAL
    assert run.message("synthetic.flow").startswith(f"a: {said}")
