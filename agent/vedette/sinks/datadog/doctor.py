"""Whether the intake can be reached, the key is good, the clock is right and the queue can be written: for doctor."""

from __future__ import annotations

import os
import shutil
import ssl
import time
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vedette.kit import mask, probe_clock, probe_tcp, probe_tls, ssl_context
from vedette.sinks.datadog.transport import Transport, Verdict

if TYPE_CHECKING:
    from vedette import Diagnosis
    from vedette.sinks.datadog.config import DatadogConfig

_PORTS = {"https": 443, "http": 80}
_PATIENCE = 3.0


async def diagnose(config: DatadogConfig, folder: Path | None, diagnosis: Diagnosis) -> None:
    """Look at one layer after the other; nothing but a question about the key is sent.

    Args:
        config: the sink's options.
        folder: of the queue, None if that is not known or there is none.
        diagnosis: is told.
    """
    _look_at_folder(config, folder, diagnosis)
    try:
        context = ssl_context(ca_file=config.ca_file)
    except OSError as error:
        diagnosis.failed("ca_file", f"{config.ca_file} cannot be used: {error.strerror or error}", "see the path")
        return
    try:
        transport = Transport(config.model_copy(update={"timeout": _PATIENCE}))
    except OSError as error:
        diagnosis.failed("proxy", str(error.strerror), "see `proxy`, and $HTTPS_PROXY and $ALL_PROXY")
        return
    try:
        await _look(config, context, transport, diagnosis)
    finally:
        await transport.close()


async def _look(config: DatadogConfig, context: ssl.SSLContext, transport: Transport, diagnosis: Diagnosis) -> None:
    reached = [await _reach(base, config, context, diagnosis) for base in dict.fromkeys((config.api, config.logs))]
    if not reached[0]:
        diagnosis.not_reached("API key")
        return
    await _ask_about_key(config, transport, diagnosis)


async def _reach(base: str, config: DatadogConfig, context: ssl.SSLContext, diagnosis: Diagnosis) -> bool:
    url = urlsplit(base)
    port = url.port or _PORTS[url.scheme]
    proxy = config.proxy_for(base)
    if proxy is not None:
        way = urlsplit(proxy)
        diagnosis.info("proxy", f"{url.hostname} is reached by way of {mask(proxy)}")
        return await probe_tcp(diagnosis, way.hostname or "", way.port or _PORTS.get(way.scheme, 80), _PATIENCE)
    if not await probe_tcp(diagnosis, url.hostname or "", port, _PATIENCE):
        return False
    if url.scheme == "http":
        diagnosis.warning("TLS", f"{base} has none", "the API key travels in the clear: write https where it is spoken")
        return True
    return await probe_tls(diagnosis, url.hostname or "", port, context, patience=_PATIENCE)


async def _ask_about_key(config: DatadogConfig, transport: Transport, diagnosis: Diagnosis) -> None:
    asked = time.time()
    answer = await transport.validate()
    if answer.verdict is Verdict.TAKEN:
        diagnosis.ok("API key", f"{config.place} accepts it")
    elif answer.verdict is Verdict.KEY:
        hint = "see api_key; a key is good for one site only: is `site` the one of your account?"
        diagnosis.failed("API key", f"{config.place} refuses it ({answer.status})", hint)
    else:
        diagnosis.warning("API key", f"could not be checked: {answer.what}", "sending may work all the same")
    if answer.clock is not None:
        answered = time.time()
        probe_clock(diagnosis, answer.clock[0] - 0.5 + (asked + answered) / 2, asked, answered, resolution=1.0)


def _look_at_folder(config: DatadogConfig, folder: Path | None, diagnosis: Diagnosis) -> None:
    if not config.disk:
        diagnosis.warning("queue", "is in memory only: an outage of the agent loses what waits", "give `disk` a size")
        return
    if folder is None:
        return
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        hint = "see the owner and mode of the folder"
        diagnosis.failed("queue", f"{place} cannot be written to", hint, f"ls -ld {quote(str(place))}")
        return
    free = shutil.disk_usage(place).free
    say = diagnosis.ok if free > config.disk else diagnosis.warning
    say("queue", f"{folder} can be written to, {free / 1e9:.1f} GB free of the {config.disk / 1e9:.1f} GB it may take")
