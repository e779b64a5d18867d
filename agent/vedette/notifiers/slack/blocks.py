"""Alerts as blocks of Slack, within its limits.

Sources: Slack, "Block Kit" reference: header 150 characters, section 3,000, a field 2,000, ten fields, 50 blocks; its
servers refuse all blocks together from about 12,000 characters on (`msg_blocks_too_long`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vedette.kit import clip, facts, headline, links, title_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette import Alert

_HEADER: Final = 150
_SECTION: Final = 3_000
_FIELD: Final = 2_000
_BLOCKS: Final = 50
_ALL: Final = 9_000
"""Characters of all texts together, escapes included."""
_SIGNS: Final = {"critical": "🔴", "error": "🟠", "warning": "🟡", "info": "🔵"}
_SHORT: Final = ("Severity", "Since", "Was firing since", "Instance", "Labels")
_CODE: Final = ("Condition", "Values", "Failing step", "Error")


def message(alerts: Sequence[Alert], mention: str) -> dict[str, Any]:
    """`text` (for notifications) and `blocks` for alerts.

    Args:
        alerts: at least one.
        mention: whom to mention if one of them is critical and fires.
    """
    share = _ALL // len(alerts)
    each = _BLOCKS // len(alerts) if len(alerts) > 1 else _BLOCKS
    called = mention and any(one.state == "firing" and one.severity == "critical" for one in alerts)
    blocks: list[dict[str, Any]] = []
    if len(alerts) == 1:
        blocks = _full(alerts[0], _ALL)
    else:
        blocks = [_header(title_of(alerts))]
        for alert in alerts:
            blocks += _brief(alert, share)[:each]
    if called:
        blocks.insert(1, _section(mention))
    title = title_of(alerts)
    text = f"{mention} {escaped(title)}" if called else escaped(title)
    return {"text": clip(text, _SECTION), "blocks": blocks[:_BLOCKS]}


def reply_text(alert: Alert) -> str:
    """What is said in the thread of an incident."""
    since = next((text for word, text in facts(alert) if "since" in word.lower()), "")
    return clip(escaped(f"{_sign(alert)} {headline(alert)} ({since})\n{alert.summary}"), _SECTION)


def escaped(text: str) -> str:
    """The text with what Slack reads as markup of its own replaced; half of a character's escape is never left."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _sign(alert: Alert) -> str:
    return {"resolved": "🟢", "acknowledged": "👀"}.get(alert.state) or _SIGNS[alert.severity]


def _full(alert: Alert, most: int) -> list[dict[str, Any]]:
    rows = facts(alert)
    blocks = [_header(f"{_sign(alert)} {headline(alert)}")]
    if alert.summary:
        blocks.append(_section(_cut(alert.summary, most // 6)))
    short = [f"*{word}*\n{_cut(text, min(_FIELD - 100, most // 10))}" for word, text in rows if word in _SHORT]
    if short:
        blocks.append({"type": "section", "fields": [{"type": "mrkdwn", "text": text} for text in short]})
    for word, text in rows:
        if word in _CODE:
            blocks.append(_section(f"*{word}*\n```{_cut(text, most // 8).replace('```', '` ` `')}```"))
    shown = [f"<{_address(url)}|{_cut(title, 80)}>" for title, url in links(alert)[:10] if len(url) < 400]
    if shown:
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": " · ".join(shown[:4])}]})
    return blocks


def _brief(alert: Alert, most: int) -> list[dict[str, Any]]:
    rows = {word: text for word, text in facts(alert) if word in ("Values", "Failing step", "Error")}
    lines = [f"{_sign(alert)} *{_cut(headline(alert), 200)}*", _cut(alert.summary, most // 4)]
    lines += [f"`{_cut(text, most // 8).replace('`', chr(39))}`" for text in rows.values()]
    return [_section("\n".join(line for line in lines if line))]


def _header(text: str) -> dict[str, Any]:
    return {"type": "header", "text": {"type": "plain_text", "text": clip(text, _HEADER), "emoji": True}}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:_SECTION]}}


def _cut(text: str, most: int) -> str:
    """Escaped, and at most so many characters after that."""
    while len(made := escaped(clip(text, most))) > most:
        text = clip(text, min(most, len(text)) * most // len(made) - 1)
    return made


def _address(url: str) -> str:
    return url.replace("&", "&amp;").replace("<", "%3C").replace(">", "%3E").replace("|", "%7C")
