"""Asks an endpoint for its metrics."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import httpx

from vedette import CheckError
from vedette.kit import HttpOptions, ssl_context

if TYPE_CHECKING:
    from vedette_checks.openmetrics.config import OpenMetricsConfig

_ACCEPT = "application/openmetrics-text;version=1.0.0;q=1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
"""Prometheus, "Content negotiation": what is understood, best first."""


class Page(NamedTuple):
    """What an endpoint answered.

    Attributes:
        body: unpacked.
        openmetrics: whether it says that it is OpenMetrics.
    """

    body: bytes
    openmetrics: bool


class Scraper:
    """Keeps a connection to one endpoint. Follows no redirects: they could lead anywhere.

    Args:
        config: the instance's options.

    Raises:
        CheckError: the certificate files cannot be used.
    """

    def __init__(self, config: OpenMetricsConfig) -> None:
        self._config = config
        context = tls(config)
        proxy = HttpOptions().proxy_for(config.url)
        self._client = httpx.AsyncClient(
            verify=context,
            trust_env=False,  # else it reads proxies, and passwords from ~/.netrc, by rules of its own
            proxy=proxy,
            timeout=None,  # noqa: S113 - the run's own deadline ends it
            auth=(config.username, config.password.reveal()) if config.username and config.password else None,
            headers={
                "User-Agent": "vedette",
                "Accept": _ACCEPT,
                "Accept-Encoding": "gzip",
                **{name: value.reveal() for name, value in config.headers.items()},
            },
        )

    async def scrape(self) -> Page:
        """Ask once.

        Raises:
            CheckError: it cannot be reached, or answers something else.
        """
        most = self._config.max_body
        try:
            async with self._client.stream("GET", self._config.url, headers=await self._login()) as response:
                if response.status_code != 200:
                    raise _refused(response.status_code)
                body = bytearray()
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > most:
                        raise CheckError(f"the answer is longer than {most:,} bytes", hint="raise max_body, or see why")
                return Page(bytes(body), "openmetrics" in response.headers.get("Content-Type", ""))
        except httpx.HTTPError as error:
            raise _in_words(error, self._config.url) from error

    async def close(self) -> None:
        """Hang up."""
        await self._client.aclose()

    async def _login(self) -> Mapping[str, str]:
        token, file = self._config.token, self._config.token_file
        if file is not None:
            try:
                return {"Authorization": f"Bearer {(await asyncio.to_thread(file.read_text)).strip()}"}
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "it holds no text"
                raise CheckError(f"token_file: {file}: {why}") from error
        return {"Authorization": f"Bearer {token.reveal()}"} if token else {}


def tls(config: OpenMetricsConfig) -> ssl.SSLContext:
    """The context of TLS connections.

    Raises:
        CheckError: a file cannot be used.
    """
    try:
        return ssl_context(
            ca_file=config.ca_file, cert_file=config.cert_file, key_file=config.key_file, verify=config.verify
        )
    except (OSError, ValueError) as error:
        raise CheckError(
            f"the certificate files cannot be used: {error}", hint="see ca_file, cert_file, key_file"
        ) from error


def _refused(status: int) -> CheckError:
    hints = {
        401: "see username and password, token or token_file",
        403: "see username and password, token or token_file",
        404: "is this the path of the metrics?",
    }
    hint = "redirects are not followed: give the address itself" if 300 <= status < 400 else hints.get(status, "")
    return CheckError(f"the endpoint answered {status}", hint=hint)


def _in_words(error: httpx.HTTPError, url: str) -> CheckError:
    place = httpx.URL(url)
    where = f"{place.host}:{place.port or (443 if place.scheme == 'https' else 80)}"
    if isinstance(error, httpx.ConnectError):
        text = str(error)
        if "CERTIFICATE" in text:
            return CheckError(
                f"the certificate of {where} is not valid: {text.rpartition(': ')[2]}", hint="see ca_file"
            )
        return CheckError(f"nothing accepts connections on {where}", hint="is the exporter up, and is this its port?")
    return CheckError(f"the answer of {where} broke off ({type(error).__name__})")
