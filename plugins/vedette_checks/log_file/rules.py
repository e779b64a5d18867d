"""What is replaced: credentials by what they look like or are called, and the kinds that `redact:` knows by name.

All patterns are for RE2, of ASCII, and each has the text that stays in its first group, if it has one.
"""

from __future__ import annotations

NAMED = {
    "email": r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+",
    "iban": r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b",
    "ip_address": r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b|(?i:\b(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}\b"
    r"|(?:\b[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){0,6})?::(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){0,6}\b)?)",
}
"""What `redact:` knows by name."""

_WORDS = (
    r"pass[_-]?(?:word|wd|phrase|code)|pwd|secret|token|api[_-]?key|app[_-]?key|access[_-]?key|private[_-]?key"
    r"|encryption[_-]?key|signing[_-]?key|account[_-]?key|credentials?|cvv2?|cvc2?"
)
_SHORT = r"(?:\b|_)(?:pass|pin)|security[_-]?code"
_HEADERS = r"authorization|cookie"
_SUFFIX = r"(?:[_-]?(?:key|hash|value|string|text|base)){0,2}"

CALLED = rf"(?i)(?:{_WORDS}|{_SHORT}|{_HEADERS}){_SUFFIX}$"
"""The name of a JSON field whose value is a credential."""

_TOKENS = (
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bglpat-[A-Za-z0-9_-]{20,}"
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-[A-Za-z0-9-]{10,}"  # Slack
    r"|\b(?:sk|rk|pk|whsec)_(?:live_|test_)?[A-Za-z0-9]{16,}|\bsk-[A-Za-z0-9_-]{20,}"  # Stripe, OpenAI
    r"|\bAIza[0-9A-Za-z_-]{35}|\bya29\.[0-9A-Za-z_-]{20,}"  # Google
    r"|\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|\bnpm_[A-Za-z0-9]{36}\b|\bpypi-[A-Za-z0-9_-]{50,}"
    r"|\bdckr_pat_[A-Za-z0-9_-]{20,}|\bhf_[A-Za-z0-9]{30,}"  # Docker, Hugging Face
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"  # a JSON Web Token (RFC 7519)
)

CREDENTIALS = (
    r"(?is)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
    r"([A-Za-z][A-Za-z0-9+.-]*://[^\s:/@?#\"']*:)[^\s/?#\"']+(@)",
    r"(?i)(authorization[\"'\\]*\s*(?:=>|[=:])\s*[\"'\\]*(?:(?:basic|bearer|digest|token|apikey|aws4-hmac-sha256)\s+)?)"
    r"[^\s\"'\\,;][^\"'\\\n]*",
    r"(?i)((?:set-)?cookie[\"'\\]*\s*(?:=>|[=:])\s*[\"'\\]*)[^\s\"'\\][^\"'\\\n]*",
    r"(?i)(\bbearer\s+)[A-Za-z0-9._~+/=-]{8,}",
    r"(?i)(^basic\s+)[A-Za-z0-9+/_-]+=*$",
    r"(?i)((?:\b|_)auth[\"'\\]*\s*(?:=>|[=:])\s*[\"'\\]*(?:basic|digest|token|apikey)\s+)[^\s\"'\\,;]+",
    rf"(?i)(--[a-z-]*(?:{_WORDS}|pass)\s+)(?:\"[^\"]*\"|'[^']*'|[^\s\"'-][^\s]*)",
    r"(?i)(\bcurl\s(?:[^\n]*\s)?(?:-u\s*|--user[\s=]+)[\"']?[^\s:\"']+:)[^\s\"']+",
    rf"(?i)((?:{_WORDS}|{_SHORT}){_SUFFIX}[\"'\\]*\s*(?:=>|[=:])\s*)"
    r"(?:&(?:quot|apos|#3[49]);[^\s&]*|\"(?:[^\"\\]|\\.)*\"?|\\+\"(?:[^\"\\]|\\+[^\"\\])*(?:\\+\")?|'(?:[^'\\]|\\.)*'?|[^\s&;,'\"\\]+)",
    rf"(?i)(<[a-z:_-]*(?:{_WORDS}|{_SHORT}){_SUFFIX}(?:\s[^<>]*)?>)[^<>]+",
    rf"(?i)((?:{_WORDS}){_SUFFIX}[\"'\\]+\s*,\s*[\"'\\]+value[\"'\\]+\s*:\s*)(?:\"(?:[^\"\\]|\\.)*\"?|[^\s,}}]+)",
    r"(?i)([?&;](?:x-[a-z]+-)?sig(?:nature)?=)[^\s&\"'<>]+",
    r"(\bm(?:ysql|ariadb)[a-z]*\s(?:[^\n]*\s)?-p)[^\s]+",
    _TOKENS,
)
"""Credentials, in this order; what a group matched stays."""

SUSPECT = (
    rf"(?i:(?:{_WORDS}|{_SHORT}|{_HEADERS}|\bauth|_auth){_SUFFIX}(?:[\"'\\]*\s*[=:>]|[\"'\\]+\s*,|\s[^<>\n]*>)|(?:^|[\"'])basic\s|\bcurl\s"
    rf"|--[a-z-]*(?:{_WORDS}|pass)\s|bearer\s|private key-----|-----begin "
    r"|[?&;](?:x-[a-z]+-)?sig(?:nature)?=|\bm(?:ysql|ariadb)[a-z]*\s[^\n]*-p)"
    rf"|://[^\s/]*@|\\u00|{_TOKENS}"
)
"""What is in every text that one of `CREDENTIALS` matches, or that hides it behind the escapes of JSON."""

KEY_BEGINS, KEY_ENDS = b"PRIVATE KEY-----", b"-----END"
