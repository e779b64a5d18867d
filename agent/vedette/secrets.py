"""Floor 0: values that must never be printed, and the masking of texts that might hold them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic_core import core_schema

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

MASK = "****"
_SHORTEST = 3  # masking one or two letters would blot out ordinary words and hide nothing
_URL_PASSWORD = re.compile(r"(?P<head>[a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@?#]*:)[^\s/?#]*@")
_KEYWORD_PASSWORD = re.compile(
    r"(?P<head>\b(?:password|passwd|pwd|secret|token|api_?key|access_?key)\s*[=:]\s*)[^\s&;,'\"]+", re.IGNORECASE
)


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


def mask(text: str) -> str:
    """The text with the passwords of URLs and of `password=…` pairs replaced by `****`."""
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\g<head>{MASK}@", text)
    return _KEYWORD_PASSWORD.sub(rf"\g<head>{MASK}", text)


class Masker:
    """Knows the secrets of one configuration and blots them out of any text.

    A value added in one place is masked everywhere: log lines, statuses, errors, events. Its
    percent-encoded and `repr` forms are masked too, since drivers print DSNs and reprs.
    """

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, value: str) -> None:
        """Mask this value from now on; values under three characters cannot be told from ordinary text."""
        forms = {value, value.strip(), quote(value, safe=""), repr(value)[1:-1]}
        new = {form for form in forms if len(form) >= _SHORTEST} - self._values
        if new:
            self._values = self._values | new  # a new set: a reload adds from its thread while others mask
            self._pattern = None  # compiled at the next use: a thousand secrets are added one by one

    def within(self, texts: Iterable[str]) -> frozenset[str]:
        """Those of the known values that occur in these texts."""
        return frozenset(value for text in texts for value in self._values if value in text)

    def known(self, text: str) -> str:
        """The text with every known secret replaced by `****`; what only looks like one stays."""
        if not self._values:
            return text
        pattern = self._pattern
        if pattern is None:
            longest_first = sorted(self._values, key=len, reverse=True)
            pattern = self._pattern = re.compile("|".join(map(re.escape, longest_first)))
        return pattern.sub(MASK, text)

    def __call__(self, text: str) -> str:
        """The text with every known secret and every URL password replaced by `****`."""
        return mask(self.known(text))
