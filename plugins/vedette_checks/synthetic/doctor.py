"""The way to each server of a flow: for `vedette doctor`. No request of the flow is sent."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

import httpx

from vedette import CheckError, Diagnosis
from vedette.kit import probe_clock, probe_tcp, probe_tls, tls_context
from vedette_checks.synthetic.config import SyntheticConfig

_PATIENCE = 5.0
_PORTS = {"http": 80, "https": 443}


async def diagnose(config: SyntheticConfig, diagnosis: Diagnosis) -> None:
    """Look at each server, layer by layer; of each one HEAD / is asked, for its clock."""
    try:
        context = tls_context(config, verify=config.verify)
    except CheckError as error:
        diagnosis.failed("certificates", error.message, error.hint)
        return
    if config.proxy is not None:
        proxy = httpx.URL(config.proxy.reveal())
        diagnosis.info("proxy", f"{proxy.host} is in between: what is behind it is not looked at")
        await probe_tcp(diagnosis, proxy.host, proxy.port or _PORTS.get(proxy.scheme, 80))
        return
    found = dict.fromkeys(_origins(config))
    if not found:
        diagnosis.info("servers", "the flow takes every address out of an answer: none is known before it runs")
    for origin in found:
        await _look(origin, context, diagnosis)


def _origins(config: SyntheticConfig) -> Iterator[httpx.URL]:
    """Scheme, host and port of every server that the options name."""
    addresses = [config.url, config.base_url, *(step.target for step in (*config.steps, *config.cleanup))]
    for address in addresses:
        head = "/".join(address.split("/")[:3])  # a path may hold templates, which are no part of a URL
        if "://" not in head or "{" in head:
            continue
        url = httpx.URL(head)
        yield httpx.URL(scheme=url.scheme, host=url.host, port=url.port or _PORTS[url.scheme], path="/")


async def _look(origin: httpx.URL, context: ssl.SSLContext, diagnosis: Diagnosis) -> None:
    port = origin.port or _PORTS[origin.scheme]
    if not await probe_tcp(diagnosis, origin.host, port):
        if origin.scheme == "https":
            diagnosis.not_reached("TLS")
        diagnosis.not_reached("HTTP")
        return
    if origin.scheme == "https" and not await probe_tls(diagnosis, origin.host, port, context):
        diagnosis.not_reached("HTTP")
        return
    try:
        async with httpx.AsyncClient(verify=context, timeout=_PATIENCE, trust_env=False) as client:
            asked = time.time()
            answer = await client.head(origin)
            answered = time.time()
    except httpx.HTTPError as error:
        diagnosis.failed("HTTP", f"no answer to HEAD /: {type(error).__name__}", "does the server speak HTTP?")
        return
    diagnosis.ok("HTTP", f"HEAD / is answered with {answer.status_code}")
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except (ValueError, TypeError):
        return
    probe_clock(diagnosis, theirs, asked, answered, resolution=1.0)
