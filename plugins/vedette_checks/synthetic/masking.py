"""What may be shown of what came back: short, on one line, without anything that was secret on the way.

The agent masks what it resolved from `${…}`, and does so first, before anything else tears a secret into pieces. A flow
has more: tokens that servers hand out, and what a server repeats of a request. Everything that a flow sends or takes
out of answers is masked in foreign text, and what looks like a token, a card number or the value of a field with a
telling name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from html import unescape
from typing import Any
from urllib.parse import unquote_plus

import msgspec

from vedette.kit import Masker
from vedette_checks.synthetic.answer import Answer, NoJsonError
from vedette_checks.synthetic.request import Request
from vedette_checks.synthetic.templates import as_text, texts

MASK = "****"
_LONGEST = 200
_FIRST = 16_384  # characters of a body that are looked at
_SHORTEST = 6  # shorter texts are words such as USD, and stand in every answer
_DEEPEST = 20
_TELLING = re.compile(
    r"pass|pwd|secret|token|auth|api_?-?key|access_?-?key|session|cookie|credential|signature|jwt|otp|pin$|^pin|cvv|cvc"
    r"|iban|\bpan\b|card|account_?number|ssn",
    re.IGNORECASE,
)
_VALUE = (
    r"""(?P<quote>\\*")(?:[^"\\]|\\+(?!["\\])|(?<!\\)(?!(?P=quote))\\+")*(?:(?P=quote))?"""  # quoted, maybe once more
    r"""|'(?:[^'\\]|\\.)*'?|[^\s"',;&<>{}\[\]]+"""
)
_HARMLESS = frozenset({"accept", "accept-language", "content-type", "user-agent", "cache-control", "host"})
_OPAQUE = re.compile(
    r"\beyJ[\w-]+\.[\w.-]*"  # JSON Web Token
    r"|\b(?:\d[ -]?){12,18}\d\b"  # card number
    r"|\b(?=[\w+/-]*\d)(?=[\w+/-]*[A-Za-z])[\w+/-]{24,}={0,2}"  # key, hash, session id
)
_PARTS = re.compile(r"""<[^>]*>|["'&=\r\n]""")  # what stands between the values of a body, whatever it is written in
_PIECES = re.compile(r"[^\w.+@/-]+")
_QUERY = re.compile(r"[&=]")
_SPACE = re.compile(r"\s+")


class Fields:
    """Fields that hold secrets: by what their names tell, and those that a flow takes values out of.

    Args:
        names: the flow's own.
    """

    def __init__(self, names: Iterable[str]) -> None:
        own = "".join(f"|{re.escape(name)}" for name in sorted(set(names)))
        self._own = frozenset(names)
        self._written = re.compile(
            rf"""(?<![\w-])(?P<field>(?:[\w-]*(?:{_TELLING.pattern})[\w-]*{own})\\*["']?\s*[:=]\s*)(?:{_VALUE})""",
            re.IGNORECASE,
        )

    def in_text(self, text: str) -> str:
        """The text with the values of `name=value` and `"name": "value"` masked, be they quoted once more or not."""
        return self._written.sub(lambda found: found[0] if MASK in found[0] else f"{found['field']}{MASK}", text)

    def in_json(self, value: Any, mask: Callable[[str], str], depth: int = 0) -> Any:
        """JSON with the values of such fields masked, and without what is nested very deep.

        Args:
            value: the JSON.
            mask: masks each text in it, before escapes are written into it.
            depth: of this value.
        """
        if depth > _DEEPEST:
            return "…"
        if isinstance(value, dict):
            return {
                key: MASK if key in self._own or telling(str(key)) else self.in_json(item, mask, depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.in_json(item, mask, depth + 1) for item in value[:100]]
        return mask(value) if isinstance(value, str) else value


class Discretion:
    """Knows the secrets of one flow attempt.

    Args:
        fields: names of fields that the flow takes secrets out of.
        first: masks what the agent knows to be secret.
    """

    def __init__(self, fields: Fields | None = None, first: Callable[[str], str] = str) -> None:
        self._fields = fields or Fields(())
        self._first = first
        self._masker = Masker()
        self._values: list[Any] = []
        self._requests: list[Request] = []

    def hide(self, value: Any) -> None:
        """Mask this value, and each text and number inside it, from now on."""
        self._values.append(value)

    def hide_request(self, request: Request) -> None:
        """Mask what a request carries, from now on."""
        self._requests.append(request)

    def _learn(self) -> None:
        """Most runs have nothing to say, so the masks are made when something is."""
        values, self._values = self._values, []
        requests, self._requests = self._requests, []
        for value in values:
            for _, text in texts(_plain(value)):
                self._masker.add(text)
        for request in requests:
            self._learn_request(request)

    def _learn_request(self, request: Request) -> None:
        for name, value in request.headers.items():
            if name.lower() not in _HARMLESS:
                self._add(value.rpartition(" ")[2], 3)
                self._add(value)
        for sent in (request.json, request.form, request.query):
            for path, text in texts(_plain(sent)):
                telling = any(_TELLING.search(str(part)) for part in path)
                self._add(text, 3 if telling else _SHORTEST)
        for part in _values_in(request.body or ""):
            self._add(part)
        for piece in _QUERY.split(request.url.partition("?")[2]):
            self._add(unquote_plus(piece))
            self._add(piece)

    def _add(self, text: str, shortest: int = _SHORTEST) -> None:
        if len(text) >= shortest:
            self._masker.add(text)

    def _masked(self, text: str) -> str:
        return self._masker(self._first(text))

    def say(self, text: str) -> str:
        """A foreign text, masked, short and on one line."""
        self._learn()
        masked = self._fields.in_text(self._masked(text[:_FIRST]))
        clean = _SPACE.sub(" ", _OPAQUE.sub(MASK, masked)).strip()
        clean = "".join(letter if letter.isprintable() else "?" for letter in clean[: _LONGEST + 1])
        return clean if len(clean) <= _LONGEST else f"{clean[:_LONGEST]}…"

    def name(self, text: str) -> str:
        """A short text that is no answer, such as the name of a host, masked where it holds what is known."""
        self._learn()
        return self._masked(text)

    def value(self, value: Any, path: str = "") -> str:
        """A value of an answer as it may be shown; `path` is where it stands."""
        if _TELLING.search(path):
            return MASK
        self._learn()
        return self.say(msgspec.json.encode(self._fields.in_json(value, self._masked)).decode())

    def excerpt(self, answer: Answer) -> str:
        """The beginning of a body; empty for an empty one."""
        try:
            return self.value(answer.json)
        except NoJsonError:
            return self.say(answer.text)


def _values_in(body: str) -> Iterator[str]:
    """What a body holds: the texts of JSON, of elements, attributes or a form; whole ones, and the words in them."""
    try:
        yield from (text for _, text in texts(_plain(msgspec.json.decode(body))))
    except (msgspec.DecodeError, RecursionError):
        for part in _PARTS.split(body[:_FIRST]):
            yield unescape(unquote_plus(part))
    yield from _PIECES.split(body[:_FIRST])


def _plain(value: Any) -> Any:
    """The value with numbers as text, so that they are found as such."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return as_text(value) if not isinstance(value, bool) and value is not None else None


def telling(name: str) -> bool:
    """Whether a field or variable of this name holds a secret, as far as names tell."""
    return _TELLING.search(name) is not None
