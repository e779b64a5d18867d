"""An alert as an email: text and HTML that mail programs show alike, an inline plot, and headers that make threads.

Sources: RFC 5322, 3.6.4 (Message-ID, In-Reply-To, References); RFC 2387 and RFC 2392 (related parts by `cid:`);
RFC 3834 (Auto-Submitted). Programs join by References, some only with the same subject behind `Re:`.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from html import escape
from typing import TYPE_CHECKING, Final

from vedette.kit import alert_text, clip, delivery_id, facts, figure, headline, links, title_of
from vedette.notifiers.email.plot import HEIGHT, WIDTH, plot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from vedette import Alert

_COLOURS: Final = {"critical": "#b42318", "error": "#c4320a", "warning": "#9a6700", "info": "#0b5fbb"}
_GREEN: Final = "#1a7f37"
_SUBJECT: Final = 200
_LONGEST: Final = 8_000
_CELL: Final = "padding:4px 12px 4px 0;vertical-align:top"


def compose(
    alerts: Sequence[Alert], sender: str, to: Sequence[str], now: datetime, domain: str, prefix: str = ""
) -> EmailMessage:
    """The message for alerts.

    Args:
        alerts: at least one.
        sender: for From.
        to: for To.
        now: for Date.
        domain: behind the @ of message ids.
        prefix: begins the subject.
    """
    made = EmailMessage(policy=SMTP)
    first = alerts[0]
    title = f"[{first.severity.upper()}] {' '.join(first.rule.split())}" if len(alerts) == 1 else title_of(alerts)
    told_before = len(alerts) == 1 and (first.state != "firing" or first.reminder)
    made["Subject"] = clip(f"{'Re: ' if told_before else ''}{f'{prefix} ' if prefix else ''}{title}", _SUBJECT)
    made["From"] = sender
    made["To"] = ", ".join(to)
    made["Date"] = format_datetime(now)
    roots = [thread_id(alert, domain) for alert in alerts]
    opens = len(alerts) == 1 and not told_before
    made["Message-ID"] = roots[0] if opens else _own_id(alerts, domain)
    if not opens:
        made["In-Reply-To"] = roots[0]
        made["References"] = " ".join(roots[:20])
    made["Auto-Submitted"] = "auto-generated"
    made["X-Auto-Response-Suppress"] = "All"
    made["X-Vedette-State"] = ", ".join(dict.fromkeys(one.state for one in alerts))
    made.set_content("\n".join(alert_text(_short(one)) for one in alerts))
    plots = [(f"plot{place}", plot(one.evidence.values, one.evidence.threshold)) for place, one in enumerate(alerts)]
    html = _page(alerts, [name if data else "" for name, data in plots])
    made.add_alternative(html, subtype="html")
    part = made.get_payload()[-1]  # type: ignore[index]
    for name, data in plots:
        if data:
            part.add_related(  # type: ignore[union-attr]
                data, "image", "png", cid=f"<{name}>", filename=f"{name}.png", disposition="inline"
            )
    return made


def thread_id(alert: Alert, domain: str) -> str:
    """The id of the first message of an incident, and what all others of it refer to."""
    told = hashlib.blake2b(f"{alert.key}\0{alert.since!r}".encode(), digest_size=16).hexdigest()
    return f"<{told}@{domain}>"


def _own_id(alerts: Sequence[Alert], domain: str) -> str:
    """The same for each attempt, so that a server which got it twice can tell."""
    told = hashlib.blake2b("".join(map(delivery_id, alerts)).encode(), digest_size=16).hexdigest()
    return f"<{told}@{domain}>"


def _short(alert: Alert) -> Alert:
    evidence = alert.evidence
    cut = replace(evidence, error=clip(evidence.error, _LONGEST), step=clip(evidence.step, _LONGEST))
    return replace(alert, summary=clip(alert.summary, _LONGEST), evidence=cut)


def _page(alerts: Sequence[Alert], plots: Sequence[str]) -> str:
    cards = "".join(_card(_short(one), name) for one, name in zip(alerts, plots, strict=True))
    snippet = escape(clip(" · ".join(f"{headline(one)} – {one.summary}" for one in alerts), 300))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title_of(alerts))}</title></head>"
        '<body style="margin:0;padding:16px;background:#f4f5f7;color:#1f2328;'
        'font:14px/1.5 -apple-system,Segoe UI,Helvetica,Arial,sans-serif">'
        f'<div style="display:none;max-height:0;overflow:hidden">{snippet}</div>{cards}'
        '<p style="max-width:600px;margin:8px auto;color:#59636e;font-size:12px">Sent by vedette.</p></body></html>'
    )


def _card(alert: Alert, plot_name: str) -> str:
    colour = _GREEN if alert.state == "resolved" else _COLOURS[alert.severity]
    rows = "".join(
        f'<tr><th align="left" style="{_CELL};color:#59636e;font-weight:normal;white-space:nowrap">{escape(word)}</th>'
        f'<td style="{_CELL}">{_cell(word, text)}</td></tr>'
        for word, text in facts(alert)
        if word != "Values" or not plot_name
    )
    shown = " &nbsp; ".join(
        f'<a href="{escape(url)}" style="color:#0b5fbb">{escape(title)}</a>' for title, url in links(alert)
    )
    shown = f'<p style="margin:12px 0 0">{shown}</p>' if shown else ""
    return (
        '<table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="max-width:600px;'
        f'margin:0 auto 12px;background:#fff;border:1px solid #d0d7de;border-top:4px solid {colour}">'
        f'<tr><td style="padding:16px"><h1 style="margin:0 0 8px;font-size:18px;color:{colour}">'
        f'{escape(headline(alert))}</h1><p style="margin:0 0 12px">{escape(alert.summary)}</p>'
        f'{_picture(alert, plot_name)}<table role="presentation" cellpadding="0" cellspacing="0">{rows}</table>'
        f"{shown}</td></tr></table>"
    )


def _cell(word: str, text: str) -> str:
    if word in ("Condition", "Values", "Failing step", "Error"):
        return f'<code style="font:13px Consolas,Menlo,monospace;white-space:pre-wrap">{escape(text)}</code>'
    return escape(text)


def _picture(alert: Alert, name: str) -> str:
    if not name:
        return ""
    evidence = alert.evidence
    values = [value for _, value in evidence.values]
    told = f"last {figure(values[-1], evidence.unit)}, {figure(min(values))} to {figure(max(values))}"
    limit = f", threshold {figure(evidence.threshold, evidence.unit)}" if evidence.threshold is not None else ""
    return (
        f'<img src="cid:{name}" width="{WIDTH}" height="{HEIGHT}" alt="{escape(told + limit)}" '
        'style="display:block;width:100%;max-width:560px;height:auto">'
        f'<p style="margin:4px 0 12px;color:#59636e;font-size:12px">{escape(told + limit)}</p>'
    )
