"""For `vedette doctor`: is the endpoint reached, and are these metrics?"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vedette import CheckError
from vedette.kit import cut_text, probe_tcp, probe_tls, tls_context
from vedette_checks.exposition import exposed
from vedette_checks.openmetrics.scrape import Scraper

if TYPE_CHECKING:
    from vedette import Diagnosis
    from vedette_checks.openmetrics.config import OpenMetricsConfig


async def diagnose(config: OpenMetricsConfig, diagnosis: Diagnosis) -> None:
    """Connection, TLS, answer: each says how it came out."""
    parts = urlsplit(config.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if not await probe_tcp(diagnosis, host, port):
        diagnosis.not_reached("metrics")
        return
    try:
        if parts.scheme == "https":
            context = tls_context(config, verify=config.verify)
            if not await probe_tls(diagnosis, host, port, context):
                diagnosis.not_reached("metrics")
                return
        scraper = Scraper(config)
        try:
            page = await scraper.scrape()
        finally:
            await scraper.close()
        found = exposed(page.body, openmetrics=page.openmetrics, most=config.max_samples)
    except CheckError as error:
        diagnosis.failed("metrics", error.message, error.hint)
    except ValueError as error:
        why = cut_text(str(error), 200)
        diagnosis.failed("metrics", f"the answer is no exposition of metrics: {why}", "see the path of `url`")
    else:
        form = "OpenMetrics" if page.openmetrics else "text format"
        more = f", {found.cut:,} more are cut by max_samples" if found.cut else ""
        diagnosis.ok("metrics", f"{len(found.samples):,} samples{more}, {len(page.body):,} bytes, {form}")
