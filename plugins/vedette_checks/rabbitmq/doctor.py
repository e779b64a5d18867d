"""For `vedette doctor`: is the server reached, may the user ask, and what does it see?"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vedette import CheckError
from vedette.kit import probe_tcp, probe_tls, tls_context
from vedette_checks.rabbitmq.api import Api, Refused

if TYPE_CHECKING:
    from vedette import Diagnosis
    from vedette_checks.rabbitmq.config import RabbitMQConfig

_WHERE = "on a node of the cluster"


async def diagnose(config: RabbitMQConfig, diagnosis: Diagnosis) -> None:
    """Connection, TLS, login, rights: each says how it came out."""
    host, port = config.place
    try:
        reached = await probe_tcp(diagnosis, host, port)
        if reached and urlsplit(config.url).scheme == "https":
            reached = await probe_tls(diagnosis, host, port, tls_context(config, verify=config.verify))
        if not reached:
            diagnosis.not_reached("login")
            return
        api = Api(config)
    except CheckError as error:
        diagnosis.failed("certificates", error.message, error.hint)
        return
    try:
        await _rights(config, api, diagnosis)
    finally:
        await api.close()


async def _rights(config: RabbitMQConfig, api: Api, diagnosis: Diagnosis) -> None:
    """What the user may see; `tag` gives it the tag that it needs."""
    user = shlex.quote(config.username)
    tag = f"rabbitmqctl set_user_tags {user} monitoring"
    try:
        overview = await api.get("overview", columns="rabbitmq_version,object_totals.queues")
    except Refused as error:
        untagged = error.reason == "Not management user"
        diagnosis.failed("login", error.message, _WHERE if untagged else error.hint, tag if untagged else "")
        return
    except CheckError as error:
        diagnosis.failed("login", error.message, error.hint)
        return
    known = overview if isinstance(overview, Mapping) else {}
    diagnosis.ok("login", f"RabbitMQ {known.get('rabbitmq_version', 'of an unknown version')}")
    try:
        await api.get("nodes", columns="name")
    except CheckError as error:
        diagnosis.warning("nodes", error.message, _WHERE, tag)
    else:
        diagnosis.ok("nodes", "can be asked for")
    try:
        page = await api.page(1, 1, "queues", columns="name", disable_stats="true", enable_queue_totals="true")
    except CheckError as error:
        diagnosis.failed("queues", error.message, error.hint)
        return
    totals = known.get("object_totals")
    there = totals.get("queues") if isinstance(totals, Mapping) else None
    if isinstance(there, int) and page.matched < there:
        snippet = f'rabbitmqctl set_permissions -p VHOST {user} "" "" ""'
        diagnosis.warning(
            "queues", f"the user sees {page.matched:,} of {there:,}", f"{_WHERE}, for each vhost", snippet
        )
    else:
        diagnosis.ok("queues", f"{page.matched:,}")
