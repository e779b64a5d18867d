"""Compares an answer with what was expected, and says what is different in one sentence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jmespath.exceptions import JMESPathError

from vedette_checks.synthetic.answer import Answer, NoJsonError
from vedette_checks.synthetic.extract import pattern, search
from vedette_checks.synthetic.masking import Discretion
from vedette_checks.synthetic.options import Conditions, Expect
from vedette_checks.synthetic.templates import Variables, compiled, filled

_DAY = 86_400.0


class Wanted:
    """Conditions, ready to be compared with many answers.

    Args:
        conditions: as configured.
        default: whether an error status is wrong where no status is named.
    """

    def __init__(self, conditions: Conditions, *, default: bool) -> None:
        self._statuses = conditions.status
        self._default = default
        self._values: list[tuple[str, Callable[[Any], Any], Any]] = [
            (expression, search(expression), compiled(value)) for expression, value in conditions.json_values.items()
        ]
        self._pattern = pattern(conditions.regex) if conditions.regex else None
        self._headers: Mapping[str, Any] = {name: pattern(text) for name, text in conditions.headers.items()}

    def first_difference(self, answer: Answer, variables: Variables, discretion: Discretion) -> str:
        """What is not as wanted, in a sentence without secrets; empty if all is.

        Raises:
            UnsetError: a wanted value names a variable that has none.
        """
        return next(self._differences(answer, variables, discretion), "")

    def _differences(self, answer: Answer, variables: Variables, discretion: Discretion) -> Iterator[str]:
        if not self._right(answer.status):
            wanted = " or ".join(map(str, self._statuses)) or "below 400"
            yield f"expected status {wanted}, got {answer.status}"
        for expression, find, value in self._values:
            yield from _value(answer, expression, find, filled(value, variables), discretion)
        if self._pattern is not None and self._pattern.search(answer.text) is None:
            yield "the body does not match `regex`"
        for name, wanted_pattern in self._headers.items():
            got = answer.headers.get(name)
            if got is None:
                yield f"expected a header {name}, got none"
            elif wanted_pattern.search(got) is None:
                yield f"the header {name} does not match its pattern"

    def _right(self, status: int) -> bool:
        if not self._statuses:
            return status < 400 or not self._default
        return status in self._statuses or f"{status // 100}xx" in self._statuses


def _value(
    answer: Answer, expression: str, find: Callable[[Any], Any], wanted: Any, discretion: Discretion
) -> Iterator[str]:
    try:
        got = find(answer.json)
    except NoJsonError as error:
        yield f"expected JSON, but {error}"
        return
    except JMESPathError:
        yield f"{expression} does not fit the JSON that came"
        return
    if got != wanted or isinstance(got, bool) != isinstance(wanted, bool):
        shown = discretion.value(wanted, expression)
        yield f"expected {expression} to be {shown}, got {discretion.value(got, expression)}"


def cost_problem(expect: Expect, answer: Answer, seconds: float) -> str:
    """What an answer took too much of: time, size, days of the certificate; empty if nothing."""
    if expect.max_time is not None and seconds > expect.max_time:
        return f"took {seconds * 1000:.0f} ms, expected at most {expect.max_time * 1000:.0f} ms"
    size = len(answer.body)
    if expect.max_size is not None and size > expect.max_size:
        return f"the body has {size} bytes, expected at most {expect.max_size}"
    if expect.min_size is not None and size < expect.min_size:
        return f"the body has {size} bytes, expected at least {expect.min_size}"
    if expect.certificate_days is not None:
        if answer.expires is None:
            return "the certificate's end is not known: there was no TLS, or `verify` is false"
        days = (answer.expires - time.time()) / _DAY
        if days < expect.certificate_days:
            return f"the certificate ends in {days:.1f} days, expected at least {expect.certificate_days:g}"
    return ""
