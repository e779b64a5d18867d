"""Floor 0: values that must never be printed, and the masking of texts that might hold them."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from hashlib import blake2b
from html import unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pydantic_core import core_schema

from vedette.cards import tag_without_card_number, without_card_numbers

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

MASK = "****"
_SHORTEST = 3  # masking one or two letters would blot out ordinary words and hide nothing
_SHORTEST_PART = 6  # a shorter one within a URL may well be a word
_URL_PASSWORD = re.compile(  # a scheme without a bound would be tried from each letter of a long word
    r"(?P<head>[a-zA-Z][a-zA-Z0-9+.-]{0,30}://[^\s:/@?#]*:)(?P<password>[^\s/?#]*)@(?!sha256:)"
)
_KEYWORD_PASSWORD = re.compile(
    r"(?P<arn>arn:aws[a-z-]*:secretsmanager:[a-z0-9*-]*:[0-9*]*:secret:)"  # names one, and is none
    r"|(?P<head>\b(?:password|passwd|pwd|secret|token|api_?key|access_?key)\s*[=:]\s*)[^\s&;,'\"]+",
    re.IGNORECASE,
)
_HINTS = ("pass", "pwd", "secret", "token", "key")
"""Of these at least one is in whatever `_KEYWORD_PASSWORD` finds."""
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]+")  # what nobody encodes
_ESCAPE = re.compile(
    r"(?P<octets>(?:%[0-9A-Fa-f]{2})+|(?:\\+x[0-9A-Fa-f]{2})+)"
    r"|(?P<unit>\\+u[dD][89abAB][0-9A-Fa-f]{2}\\+u[dD][c-fC-F][0-9A-Fa-f]{2}|\\+u[0-9A-Fa-f]{4})"
    r"|(?P<entity>&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});)"
    r"|(?P<blank>(?:\s|\+|\\+[nrt])+)"
    r"|\\+"
)
_OCTET = re.compile(r"(?:%|\\+x)([0-9A-Fa-f]{2})")
_HEX4 = re.compile(r"u([0-9A-Fa-f]{4})")
_NESTED = 5  # escapes within escapes that are looked into


class Secret:
    """A string that prints as `****`; `reveal()` is the only way to its value.

    Use it as the type of a configuration option: `password: Secret | None = None`.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself, for handing to a driver."""
        return self._value

    def __str__(self) -> str:
        return MASK

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        from_text = core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=from_text,
            python_schema=core_schema.union_schema(
                [core_schema.is_instance_schema(cls), from_text], mode="left_to_right"
            ),
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "format": "password", "writeOnly": True}


def mask_urls(text: str) -> str:
    """The text with the passwords of URLs replaced by `****`."""
    return _URL_PASSWORD.sub(rf"\g<head>{MASK}@", text) if "://" in text else text


def mask(text: str) -> str:
    """The text with card numbers and the passwords of URLs and of `password=…` pairs replaced by `****`."""
    return without_card_numbers(mask_passwords(text), _masked)


def mask_passwords(text: str) -> str:
    """The text with the passwords of URLs and of `password=…` pairs replaced by `****`."""
    text = mask_urls(text)
    if text.isascii() and not any(map(text.lower().__contains__, _HINTS)):  # ten times as fast as looking closely
        return text
    return _KEYWORD_PASSWORD.sub(lambda found: found["arn"] or f"{found['head']}{MASK}", text)


def _masked(digits: str) -> str:
    return MASK


class Masker:
    """Knows the secrets of one configuration and blots them out of any text.

    A value added in one place is masked everywhere: log lines, statuses, errors, events. It is also known as others
    write it: percent-encoded (all of it, or only the characters that an encoder minds), as a form, escaped for JSON or
    HTML, as `repr`. Drivers print DSNs, and servers repeat what they were sent. Card numbers are masked
    too, whosever they are.

    Args:
        parent: knows more, which is masked too; what this one learns the parent does not. So a secret that others wrote
            blots nothing out but in the texts of its own instance, and goes with it.
    """

    def __init__(self, parent: Masker | None = None) -> None:
        self._parent = parent
        self._values: frozenset[str] = frozenset()
        self._lent: dict[Hashable, tuple[str, ...]] = {}
        self._forms: _Forms | None = None
        self._hides_cards = True
        self._salt = b""

    @property
    def hides_cards(self) -> bool:
        """Whether card numbers are masked."""
        return self._hides_cards if self._parent is None else self._parent.hides_cards

    def spare_cards(self) -> None:
        """Mask no card numbers."""
        self._hides_cards = False

    def add(self, value: str) -> None:
        """Mask this value from now on, of a URL its password on its own too.

        Values under three characters cannot be told from ordinary text.
        """
        value = value.strip()
        new = {value} if len(value) >= _SHORTEST else set[str]()
        if (found := _URL_PASSWORD.search(value)) is not None:
            password = found["password"]
            if len(password) >= _SHORTEST_PART and value.count(password) == 1:  # not `postgres://postgres:postgres@db`
                new.add(unquote(password))
        if not new <= self._values:
            self._values = self._values | new  # a new set: a reload adds from its thread while others mask

    def lend(self, owner: Hashable, value: str) -> None:
        """Mask a value that another will soon replace, such as a token; of each owner the last two stay known.

        Args:
            owner: whose values follow one another.
            value: the newest.
        """
        before = self._lent.get(owner, ())
        self._lent[owner] = now = (*before, value)[-2:]
        self._values = (self._values - {one for one in before if one not in now}) | {value}

    def within(self, texts: Iterable[str]) -> frozenset[str]:
        """Those of the known values that occur in these texts."""
        written = list(texts)
        inherited = self._parent.within(written) if self._parent is not None else frozenset()
        return inherited | {value for text in written for value in self._values if value in text}

    def known(self, text: str) -> str:
        """The text with every known secret replaced by `****`; what only looks like one stays."""
        if self._parent is not None:
            text = self._parent.known(text)
        values = self._values
        if not values:
            return text
        forms = self._forms
        if forms is None or forms.values is not values:
            forms = self._forms = _Forms(values)  # at the next use: a thousand secrets are added one by one
        return forms.mask(text)

    def cards(self, text: str) -> str:
        """The text with card numbers replaced by `****`, unless they are to stay."""
        return without_card_numbers(text, _masked) if self.hides_cards else text

    def tag(self, tag: str) -> str:
        """A tag with what is certainly a card number replaced by `****`; ids are in tags too."""
        return tag_without_card_number(tag, _masked) if self.hides_cards else tag

    def member(self, text: str) -> str:
        """A member of a set, masked so that those that differ still do, for as long as this process lives.

        What stands for a card number is its BLAKE2 hash under a key that nobody else knows: without one it would soon
        be guessed, as there are few card numbers.
        """
        text = mask_passwords(self.known(text))
        return without_card_numbers(text, self._pseudonym) if self.hides_cards else text

    def _pseudonym(self, digits: str) -> str:
        self._salt = self._salt or os.urandom(32)
        return f"{MASK}{blake2b(digits.encode(), digest_size=8, key=self._salt).hexdigest()}"

    def __call__(self, text: str) -> str:
        """The text with every known secret, every URL password and every card number replaced by `****`."""
        return self.cards(mask_passwords(self.known(text)))


OF_THIS_TASK: ContextVar[Masker | None] = ContextVar("vedette_masker", default=None)
"""Knows the secrets of the instance that a task works for, where they are not in everybody's masker."""


class _Forms:
    """Secrets, ready to be looked for.

    Those of letters and digits are written in one way only. For the others a text is read as whoever wrote it meant it,
    which is only done where a part of one of them is in it.

    Args:
        values: the secrets.
    """

    def __init__(self, values: frozenset[str]) -> None:
        self.values = values
        self._parts: dict[str, str] = {}
        """By how it is read, a part of each secret that is in every text that holds it."""
        self._plain = [value for value in values if _PLAIN.fullmatch(value) or not self._add(value)]

    def _add(self, value: str) -> bool:
        """Take over a secret with special characters, unless too little is left of it when it is read."""
        forms = {value, value.encode(errors="replace").decode("latin-1")}  # the other is UTF-8 taken for Latin-1
        read = {form: _read(form)[0].strip() for form in forms}
        if any(len(meant) < _SHORTEST for meant in read.values()):
            return False
        self._parts.update({meant: max(_PLAIN.findall(form), key=len, default="") for form, meant in read.items()})
        return True

    def mask(self, text: str) -> str:
        """The text without them; what overlaps is one gap."""
        gaps: list[tuple[int, int]] = []
        for value in self._plain:  # one by one, as a pattern of several takes fifty times as long
            if value in text:
                gaps += [found.span() for found in re.finditer(re.escape(value), text)]
        wanted = [meant for meant, part in self._parts.items() if part in text]
        if wanted:
            read, starts, ends = _read(text)
            for meant in wanted:
                at = read.find(meant)
                while at >= 0:
                    gaps.append((starts[at], ends[at + len(meant) - 1]))
                    at = read.find(meant, at + 1)
        return _without(text, sorted(gaps)) if gaps else text


def _without(text: str, gaps: list[tuple[int, int]]) -> str:
    pieces, at, end = [], 0, 0
    for start, until in gaps:
        if start >= end:
            pieces += [text[at:start], MASK]
            at = until
        at = end = max(at, until)
    return "".join([*pieces, text[at:]])


def _read(text: str) -> tuple[str, list[int], list[int]]:
    """A text without the escapes of URLs, forms, JSON, HTML and `repr`, be they partial or nested.

    Returns:
        It, and for each of its characters where that begins and ends in the original. A run of blanks is one, a plus is
        a blank, backslashes are nothing.
    """
    starts, ends = list(range(len(text))), list(range(1, len(text) + 1))
    for _ in range(_NESTED):
        letters: list[str] = []
        firsts: list[int] = []
        lasts: list[int] = []
        at = 0
        for found in _ESCAPE.finditer(text):
            letters.append(text[at : found.start()])
            firsts += starts[at : found.start()]
            lasts += ends[at : found.start()]
            at = found.end()
            for letter, first, last in _meant(found):
                letters.append(letter)
                firsts.append(starts[first])
                lasts.append(ends[last - 1])
        read = "".join([*letters, text[at:]])
        starts, ends = firsts + starts[at:], lasts + ends[at:]
        if read == text:
            break
        text = read
    return text, starts, ends


def _meant(found: re.Match[str]) -> Iterator[tuple[str, int, int]]:
    """The characters that an escape stands for, each with where its part of the escape begins and ends."""
    start, end = found.span()
    if found["blank"]:
        yield " ", start, end
    elif found["entity"]:
        yield from ((letter, start, end) for letter in unescape(found[0]))
    elif found["unit"]:
        units = bytes.fromhex("".join(_HEX4.findall(found[0])))
        yield from ((letter, start, end) for letter in units.decode("utf-16-be", "replace"))
    elif found["octets"]:
        yield from _octets(found[0], start)


def _octets(escaped: str, start: int) -> Iterator[tuple[str, int, int]]:
    """UTF-8, and Latin-1 where it is none."""
    found = list(_OCTET.finditer(escaped))
    octets = bytes(int(one[1], 16) for one in found)
    at = 0
    while at < len(octets):
        for size in (1, 2, 3, 4):
            try:
                letter = octets[at : at + size].decode()
            except UnicodeDecodeError:
                continue
            break
        else:
            letter, size = chr(octets[at]), 1
        size = min(size, len(octets) - at)
        yield letter, start + found[at].start(), start + found[at + size - 1].end()
        at += size
