"""Floor 0: values that must never be printed, and the masking of texts that might hold them."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pydantic_core import core_schema

from vedette.cards import card_numbers, card_numbers_of_tag, digits_of, may_hold_one
from vedette.spellings import Spellings

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

    _Gap = tuple[int, int]

MASK = "****"
_SHORTEST = 3  # masking one or two letters would blot out ordinary words and hide nothing
_SHORTEST_PART = 6  # a shorter one within a URL, or within a tag, may well be a word
_MARGIN = 512  # characters beyond a cut that are looked at: what begins before it is masked as a whole
_ESCAPED = 6  # times as long a secret may be as it is written
_URL_PASSWORD = re.compile(  # a scheme without a bound would be tried from each letter of a long word
    r"(?P<head>[a-zA-Z][a-zA-Z0-9+.-]{0,30}://[^\s:/@?#]*:)(?P<password>[^\s/?#]*)@(?!sha256:)"
)
_KEYWORD_PASSWORD = re.compile(
    r"(?P<arn>arn:aws[a-z-]*:secretsmanager:[a-z0-9*-]*:[0-9*]*:secret:)"  # names one, and is none
    r"|(?P<head>(?:password|passwd|passphrase|(?<![a-z])pwd|secret|token|api_?key|access_?key)"
    r"(?:\\*[\"'])?\s{0,20}(?:=>|[=:])\s{0,20}"
    r"|authorization(?:\\*[\"'])?\s{0,9}[=:]\s{0,9}(?:\\*[\"'])?(?:basic|bearer|token|apikey)\s{1,9}"
    r"|(?<![a-z])bearer\s{1,9}(?=[\w.~+/-]{16})|(?<![a-z])identified\s{1,9}by\s{1,9}(?=[\"']))"
    r"(?![\\\"']*\$\{[a-z-]+:[^\s}]*\})"  # a reference is none either
    r"(?:(?P<quote>\\*[\"'])(?:(?!(?P=quote))(?:\\.|[^\\\n])){1,500}(?=(?P=quote))"
    r"|(?:\\*[\"'])?(?P<bare>[^\s&;,'\"]+))",
    re.IGNORECASE,
)
_HINTS = ("pass", "pwd", "secret", "token", "key", "bearer", "authorization", "identified")
"""Of these at least one is in whatever `_KEYWORD_PASSWORD` finds."""
_TELLING = re.compile(
    r".*(?:pass_?word|passwd|pass_?phrase|secret|token|api_?key)s?(?:_(?:value|text))?"
    r"|(?:.*_)?(?:pass|pwd|credential|authorization|cookie|webhook|community_string"
    r"|(?:app|application|access|account|private|priv|secret|auth|routing)_?key)s?(?:_(?:value|text))?"
)
_WORDS = re.compile(r"[\s.-]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_TAIL = re.compile(r"[0-9][0-9 -]{0,20}$")
_TAIL_ON = re.compile(r"[0-9 -]{1,40}")
_FEWEST = 13  # digits of a card's number
_LAST_WORD = re.compile(r"(?<=\s)\S{1,60}$")


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


def tells_of_secret(name: str) -> bool:
    """Whether an option of this name holds a secret: `password`, `X-API-Key`, `privKey`, `client.secret` and the like.

    Args:
        name: in snake case, camel case, or with hyphens, as the names of headers.
    """
    return _TELLING.fullmatch(_WORDS.sub("_", name).lower()) is not None


def mask_urls(text: str) -> str:
    """The text with the passwords of URLs replaced by `****`."""
    return _URL_PASSWORD.sub(rf"\g<head>{MASK}@", text) if "://" in text else text


def mask(text: str) -> str:
    """The text with card numbers and the passwords of URLs and of `password=…` pairs replaced by `****`."""
    return _without(text, [*_passwords(text), *_cards(text)])


def mask_passwords(text: str) -> str:
    """The text with the passwords of URLs and of `password=…` pairs replaced by `****`."""
    return _without(text, _passwords(text))


def _passwords(text: str) -> list[_Gap]:
    """Where the passwords of URLs and of `password=…` pairs are."""
    gaps = [found.span("password") for found in _URL_PASSWORD.finditer(text)] if "://" in text else []
    if text.isascii() and not any(map(text.lower().__contains__, _HINTS)):  # ten times as fast as looking closely
        return gaps
    for found in _KEYWORD_PASSWORD.finditer(text):
        if not found["arn"]:
            begin = found.end("quote") if found["quote"] else found.start("bare")
            gaps.append((begin, found.end()))
    return gaps


def _cards(text: str) -> list[_Gap]:
    return list(card_numbers(text)) if may_hold_one(text) else []


class Masker:
    """Knows the secrets of one configuration and blots them out of any text.

    A value added in one place is masked everywhere: log lines, statuses, errors, events, tags. It is also known as
    others write it: percent-encoded (all of it, or only the characters that an encoder minds), as a form, escaped for
    JSON or HTML, as `repr`, within base64. Drivers print DSNs, and servers repeat what they were sent. Card numbers are
    masked too, whosever they are. All of them are looked for in the text as it was: what one rule takes away might be
    the half of what another would have found.

    Args:
        parent: knows more, which is masked too; what this one learns the parent does not. So a secret that others wrote
            blots nothing out but in the texts of its own instance, and goes with it.
    """

    def __init__(self, parent: Masker | None = None) -> None:
        self._parent = parent
        self._values: frozenset[str] = frozenset()
        self._certain: frozenset[str] = frozenset()
        self._lent: dict[Hashable, tuple[str, ...]] = {}
        self._spellings: dict[bool, Spellings] = {}
        self._hides_cards = True
        self._salt = b""

    @property
    def hides_cards(self) -> bool:
        """Whether card numbers are masked."""
        return self._hides_cards if self._parent is None else self._parent.hides_cards

    def spare_cards(self) -> None:
        """Mask no card numbers."""
        self._hides_cards = False

    @property
    def salt(self) -> bytes:
        """The key of the pseudonyms; a child process gets it, so that it gives the same."""
        if self._parent is not None:
            return self._parent.salt
        self._salt = self._salt or os.urandom(32)
        return self._salt

    def give_pseudonyms_of(self, salt: bytes) -> None:
        """Give the same pseudonyms as whoever has this salt."""
        self._salt = salt

    def add(self, value: str, *, certain: bool = True) -> None:
        """Mask this value from now on, of a URL its password on its own too.

        Values under three characters cannot be told from ordinary text.

        Args:
            value: the secret.
            certain: whether it is a secret for sure, and not only may be one, as the name of a node may that an
                environment variable holds: only those are masked in tags and names, from six characters on.
        """
        value = value.strip()
        new = {value} if len(value) >= _SHORTEST else set[str]()
        if (found := _URL_PASSWORD.search(value)) is not None:
            password = found["password"]
            if len(password) >= _SHORTEST_PART and value.count(password) == 1:  # not `postgres://postgres:postgres@db`
                new.add(unquote(password))
        if not new <= self._values:
            self._values = self._values | new  # a new set: a reload adds from its thread while others mask
        if certain and not (long := {one for one in new if len(one) >= _SHORTEST_PART}) <= self._certain:
            self._certain = self._certain | long

    def lend(self, owner: Hashable, value: str) -> None:
        """Mask a value that another will soon replace, such as a token; of each owner the last two stay known.

        Args:
            owner: whose values follow one another.
            value: the newest.
        """
        before = self._lent.get(owner, ())
        self._lent[owner] = now = (*before, value)[-2:]
        gone = {one for one in before if one not in now}
        self._values = (self._values - gone) | {value}
        self._certain = (self._certain - gone) | {value}

    @property
    def certain(self) -> tuple[frozenset[str], ...]:
        """What is masked in tags; another object once there is more of it."""
        return (self._certain,) if self._parent is None else (*self._parent.certain, self._certain)

    def within(self, texts: Iterable[str]) -> frozenset[str]:
        """Those of the known values that occur in these texts."""
        written = list(texts)
        inherited = self._parent.within(written) if self._parent is not None else frozenset()
        return inherited | {value for text in written for value in self._values if value in text}

    def known(self, text: str) -> str:
        """The text with every known secret replaced by `****`; what only looks like one stays, and base64 does."""
        return _without(text, self._known(text))

    def cards(self, text: str) -> str:
        """The text with card numbers replaced by `****`, unless they are to stay."""
        return _without(text, _cards(text)) if self.hides_cards else text

    def tag(self, tag: str) -> str:
        """A tag or name with secrets and what is certainly a card number replaced by `****`; ids are in tags too."""
        return _without(tag, self._in_tag(tag))

    def tags(self, tags: tuple[str, ...]) -> tuple[str, ...]:
        """The same for several at once; the same object where there is nothing to replace."""
        together = "|".join(tags)
        if self._known(together, certain=True) or (self.hides_cards and may_hold_one(together)):
            clean = tuple(map(self.tag, tags))
            return tags if clean == tags else clean
        return tags

    def member(self, text: str) -> str:
        """A member of a set, masked so that those that differ still do, for as long as the agent lives.

        What stands for a secret or a card number is its BLAKE2 hash under a key that nobody else knows: without one it
        would soon be guessed, as there are few card numbers.
        """
        cards = {*_cards(text)} if self.hides_cards else set()
        pieces: list[str] = []
        at = 0
        for begin, end in _merged([*self._known(text), *_passwords(text), *cards]):
            hidden = digits_of(text[begin:end]) if (begin, end) in cards else text[begin:end]
            pieces += [text[at:begin], self._pseudonym(hidden)]
            at = end
        return "".join([*pieces, text[at:]])

    def cut(self, text: str, most: int) -> str:
        """The first characters of a text, masked as if it went on, so that no half of a secret stays."""
        if len(text) <= most:
            return self(text)
        return _without(text[:most], self._before(text, most, self._gaps))

    def cut_tag(self, tag: str, most: int) -> str:
        """The same for a tag or its value."""
        if len(tag) <= most:
            return tag
        shown = _without(tag[:most], self._before(tag, most, self._in_tag))
        tail = _TAIL.search(tag, 0, most)
        if tail is not None and (run := _TAIL_ON.match(tag, tail.start())) and len(digits_of(run[0])) >= _FEWEST:
            return shown.removesuffix(tail[0])
        return shown

    def __call__(self, text: str) -> str:
        """The text with every known secret, every URL password and every card number replaced by `****`."""
        return _without(text, self._gaps(text))

    def _before(self, text: str, most: int, find: Callable[[str], list[_Gap]]) -> list[_Gap]:
        beyond = max(_MARGIN, _ESCAPED * self._longest())
        return [(begin, min(end, most)) for begin, end in find(text[: most + beyond]) if begin < most]

    def _longest(self) -> int:
        own = max(map(len, self._values), default=0)
        return own if self._parent is None else max(own, self._parent._longest())

    def _gaps(self, text: str) -> list[_Gap]:
        cards = _cards(text) if self.hides_cards else []
        return [*self._known(text, encoded=True), *_passwords(text), *cards]

    def _in_tag(self, tag: str) -> list[_Gap]:
        cards = card_numbers_of_tag(tag) if self.hides_cards and may_hold_one(tag) else ()
        return [*self._known(tag, certain=True), *cards]

    def _known(self, text: str, *, certain: bool = False, encoded: bool = False) -> list[_Gap]:
        """Where known secrets are, in no order."""
        inherited = self._parent._known(text, certain=certain, encoded=encoded) if self._parent is not None else []
        values = self._certain if certain else self._values
        if not values:
            return inherited
        spellings = self._spellings.get(certain)
        if spellings is None or spellings.values is not values:  # at the next use: a thousand are added one by one
            spellings = self._spellings[certain] = Spellings(values)
        return [*inherited, *spellings.find(text), *(spellings.find_encoded(text) if encoded else ())]

    def _pseudonym(self, hidden: str) -> str:
        return f"{MASK}{blake2b(hidden.encode(errors='replace'), digest_size=8, key=self.salt).hexdigest()}"


OF_THIS_TASK: ContextVar[Masker | None] = ContextVar("vedette_masker", default=None)
"""Knows the secrets that are masked in what a task says."""


def cut_text(text: str, most: int, masker: Masker | None = None) -> str:
    """The first characters of a text that others wrote, masked before they are cut: nobody knows half a secret.

    For sentences that a check keeps, where no `Emit` is at hand. The last word goes too if it is not whole: it may be
    the half of what only the agent knows, and not the process of this check.

    Args:
        text: any text.
        most: characters.
        masker: whose, where it is not that of the task.
    """
    if len(text) <= most:
        return text
    shown = (masker or OF_THIS_TASK.get() or Masker()).cut(text, most)
    return shown if text[most].isspace() else _LAST_WORD.sub("", shown)


def cut_tag(value: str, most: int) -> str:
    """The same for a tag or its value, of which no word is left out, as it tells series from each other."""
    return value if len(value) <= most else (OF_THIS_TASK.get() or Masker()).cut_tag(value, most)


def _merged(gaps: Iterable[_Gap]) -> Iterator[_Gap]:
    """Gaps in their order, those that overlap as one."""
    ordered = iter(sorted(gaps))
    begin, end = next(ordered, (-1, -1))
    for start, until in ordered:
        if start < end:
            end = max(end, until)
        else:
            yield begin, end
            begin, end = start, until
    if begin >= 0:
        yield begin, end


def _without(text: str, gaps: list[_Gap]) -> str:
    """The text without them; what overlaps is one gap."""
    if not gaps:
        return text
    pieces: list[str] = []
    at = 0
    for begin, end in _merged(gaps):
        pieces += [text[at:begin], MASK]
        at = end
    return "".join([*pieces, text[at:]])
