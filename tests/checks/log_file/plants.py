"""Card numbers, passwords, tokens and keys to plant in logs, and the search for them."""

from __future__ import annotations

import base64
import json
import random

CARDS = {
    "visa": "4111111111111111",
    "visa 13": "4222222222222",
    "visa 19": "4000000000000000006",
    "mastercard": "5555555555554444",
    "mastercard 2": "2223003122003222",
    "amex": "378282246310005",
    "discover": "6011111111111117",
    "diners": "30569309025904",
    "jcb": "3566002020360505",
    "unionpay": "6200000000000005",
    "maestro": "6759649826438453",
}
SECRETS = {
    "password": "correct-horse-7battery",
    "bearer": "mF_9.B5f-4.1JqMabcdef",
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "github": "ghp_" + "a1B2" * 9,
    "stripe": "sk_live_" + "Zz9" * 8,
    "slack": "xoxb-123456789012-abcdefABCDEF",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "datadog": "0123456789abcdef0123456789abcdef",
}
KEY = base64.b64encode(random.Random(3).randbytes(600)).decode()
CONFIGURED = "c0nfigured-S3cret!"


def forms(card: str) -> list[str]:
    fours = [card[at : at + 4] for at in range(0, len(card), 4)]
    return [card, " ".join(fours), "-".join(fours), "+".join(fours), "%20".join(fours)]


def lines() -> list[str]:
    """Each of them in text, in JSON of every shape, behind escapes, in the names of fields."""
    made: list[str] = []
    for card in CARDS.values():
        for form in forms(card):
            made += [f"paid with {form} today", json.dumps({"message": f"card {form}", "deep": [{"a": {form: form}}]})]
        made += [json.dumps({"message": "m", "pan": int(card), "list": [int(card)], "trace_id": card[:16]})]
        made += ['{"message": "' + "".join(f"\\u{ord(digit):04x}" for digit in card) + '"}']
    p, s = SECRETS["password"], SECRETS
    made += [
        f"login password={p} ok", f"PASSWORD: '{p}'", f'{{"message": "in", "user": {{"db_password": "{p}"}}}}',
        f'{{"message": "in", "passwd": ["{p}", {{"x": "{p}"}}]}}', f"postgres://app:{p}@db:5432/pay",
        f'text with {{"password": "{p}"}} in it', r'escaped {\"password\": \"' + p + r'\"} in it',
        f'{{"message": "m", "\\u0070assword": "{p}"}}', f"Authorization: Basic {p}",
        f"Cookie: session={p}; a={p}",
        f"curl -H 'Authorization: Bearer {s['bearer']}'", f"dd-api-key: {s['datadog']}", f"?api_key={s['datadog']}&a=1",
        f"https://hooks/?token={s['datadog']}", f"configured {CONFIGURED}",
        json.dumps({"message": "m", "x": CONFIGURED}),
        *(f"found {s[name]} in it" for name in ("aws", "github", "stripe", "slack", "jwt")),
        *(json.dumps({"message": "m", "x": [s[name]]}) for name in ("aws", "github", "stripe", "slack", "jwt")),
        "-----BEGIN RSA PRIVATE KEY-----", *(KEY[at : at + 64] for at in range(0, len(KEY), 64)),
        "-----END RSA PRIVATE KEY-----", "after the key",
        json.dumps({"message": f"-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----"}),
    ]  # fmt: skip
    return made


def planted() -> list[str]:
    found = [*SECRETS.values(), CONFIGURED, *(KEY[at : at + 24] for at in range(0, len(KEY) - 24, 24))]
    return [*found, *(form for card in CARDS.values() for form in forms(card))]


def shown(text: str) -> list[str]:
    return [secret for secret in planted() if secret in text]
