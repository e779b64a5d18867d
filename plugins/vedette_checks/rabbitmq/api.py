"""Talks to the HTTP API of RabbitMQ's management plugin, one request at a time over one connection."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from vedette import CheckError
from vedette.kit import HttpOptions, cut_text, tls_context

if TYPE_CHECKING:
    from vedette_checks.rabbitmq.config import RabbitMQConfig

PAGE = 500
"""The most that the server gives at once."""
_SMALL = 200_000
"""Bytes up to which an answer is read on the loop itself: some milliseconds."""
_MONITORING = "rabbitmqctl set_user_tags USER monitoring"


class Refused(CheckError):
    """The server answered, and not with what it was asked for.

    Attributes:
        status: of HTTP.
        reason: the server's own word, such as `Not monitor user`.
    """

    def __init__(self, message: str, status: int, reason: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.reason = reason


class Page:
    """One page of a list.

    Attributes:
        items: what is on it.
        matched: how many there are on all pages.
        last: whether there are no further pages.
    """

    def __init__(self, answer: Any, number: int) -> None:
        if isinstance(answer, list):  # not paginated: a server from before 3.6
            answer = {"items": answer, "filtered_count": len(answer), "page_count": 1}
        if not isinstance(answer, dict) or not isinstance(answer.get("items"), list):
            raise strange()
        self.items = [one for one in answer["items"] if isinstance(one, dict)]
        matched, pages = answer.get("filtered_count"), answer.get("page_count")
        self.matched = matched if isinstance(matched, int) else len(self.items)
        self.last = not self.items or not isinstance(pages, int) or number >= pages


class Api:
    """One server's API. Follows no redirects: they could lead anywhere.

    Args:
        config: the instance's options.

    Attributes:
        requests: how many were sent since `begin`.
        bytes: how many were answered since then.

    Raises:
        CheckError: the certificate files cannot be used.
    """

    def __init__(self, config: RabbitMQConfig) -> None:
        self._config = config
        self.requests = self.bytes = 0
        self._client = httpx.AsyncClient(
            verify=tls_context(config, verify=config.verify),
            trust_env=False,  # else it reads proxies, and passwords from ~/.netrc, by rules of its own
            proxy=HttpOptions().proxy_for(config.api),
            timeout=None,  # noqa: S113 - the run's own deadline ends it
            auth=(config.username, config.password.reveal() if config.password is not None else "guest"),
            headers={"User-Agent": "vedette", "Accept": "application/json", "Accept-Encoding": "gzip"},
            limits=httpx.Limits(max_connections=1),
        )

    def begin(self) -> None:
        """Count from here on."""
        self.requests = self.bytes = 0

    async def get(self, *path: str, **query: str | int) -> Any:
        """What the server says of something.

        Args:
            path: the parts after `/api`; a vhost `/` is encoded.
            query: the parameters.

        Raises:
            Refused: it answers with an error.
            CheckError: it cannot be reached, or answers no JSON.
        """
        url = "/".join((self._config.api, *(quote(part, safe="") for part in path)))
        self.requests += 1
        try:
            async with self._client.stream("GET", url, params=query) as response:
                body = await self._body(response)
        except httpx.HTTPError as error:
            raise _in_words(error, self._config) from error
        answer = await _decoded(body)
        if response.status_code != 200:
            raise _refused("/".join(path), response.status_code, answer)
        if answer is None:
            raise strange()
        return answer

    async def page(self, number: int, size: int, *path: str, **query: str | int) -> Page:
        """One page of a list; one that is not there any more is empty.

        Raises:
            CheckError: as `get`.
        """
        try:
            return Page(await self.get(*path, page=number, page_size=size, **query), number)
        except Refused as error:
            if number > 1 and error.status == 400:  # what was on it is gone meanwhile
                return Page([], number)
            raise

    async def close(self) -> None:
        """Hang up."""
        await self._client.aclose()

    async def _body(self, response: httpx.Response) -> bytes:
        most, body = self._config.max_body, bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > most:
                raise CheckError(f"an answer is longer than {most:,} bytes", hint="raise max_body, or ask for less")
        self.bytes += len(body)
        return bytes(body)


def strange() -> CheckError:
    """An answer that RabbitMQ does not give."""
    return CheckError("the answer is none of RabbitMQ's", hint="does `url` lead to the management plugin?")


async def _decoded(body: bytes) -> Any:
    """What the JSON says; None where it is none."""
    try:
        return json.loads(body) if len(body) <= _SMALL else await asyncio.to_thread(json.loads, body)
    except (ValueError, RecursionError):
        return None


def _refused(path: str, status: int, answer: Any) -> Refused:
    reason = answer.get("reason") if isinstance(answer, Mapping) else None
    reason = cut_text(reason, 100) if isinstance(reason, str) else ""
    hints = {404: "does `url` lead to the management plugin?"}
    if status == 401 and reason in ("Not management user", "Not monitor user"):
        said, hint = "the user lacks the tag `monitoring`", _MONITORING
    elif status == 401:
        said, hint = (
            "the server refuses user or password",
            "see username and password; `guest` works from localhost only",
        )
    elif 300 <= status < 400:
        said, hint = f"the server answers {status}", "redirects are not followed: give the address itself"
    else:
        said, hint = f"the server answers {status} for /api/{path}", hints.get(status, "")
    return Refused(said, status, reason, hint)


def _in_words(error: httpx.HTTPError, config: RabbitMQConfig) -> CheckError:
    where = "{}:{}".format(*config.place)
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, socket.gaierror | ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, socket.gaierror):
        return CheckError(f"{config.place[0]} has no address", hint="is the name in `url` right, and does DNS answer?")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return CheckError(f"the certificate of {where} is not valid: {cause.verify_message}", hint="see ca_file")
    if isinstance(cause, ssl.SSLError):
        why = (cause.reason or "the handshake failed").replace("_", " ").lower()
        hint = "does it speak https there? if it does, see cert_file and key_file"
        return CheckError(f"no TLS with {where}: {why}", hint=hint)
    if isinstance(error, httpx.ConnectError):
        hint = "is RabbitMQ up, and its plugin: rabbitmq-plugins enable rabbitmq_management"
        return CheckError(f"nothing accepts connections on {where}", hint=hint)
    hint = "does `url` lead to the management plugin, and is it http or https there?"
    return CheckError(f"the answer of {where} broke off ({type(error).__name__})", hint=hint)
