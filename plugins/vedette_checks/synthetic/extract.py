"""What a step takes out of an answer: `json.<JMESPath>`, `header.<name>`, `regex:<pattern>`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import jmespath
import re2
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions

from vedette_checks.synthetic.answer import Answer, NoJsonError

_SHAPE = "write json.<JMESPath>, header.<name> or regex:<pattern>"
_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)


class NothingThereError(LookupError):
    """An answer does not have what was to be taken out of it; the text says so, without values."""


Extraction = Callable[[Answer], Any]
"""Takes a value out of an answer, or raises `NothingThereError`."""


def extraction(text: str) -> Extraction:
    """The extraction that an entry of `extract:` describes.

    Raises:
        ValueError: it describes none; the text is not repeated.
    """
    if text.startswith("json."):
        return _from_json(text.removeprefix("json."))
    if text.startswith("header."):
        return _from_header(text.removeprefix("header."))
    if text.startswith("regex:"):
        return _from_text(text.removeprefix("regex:"))
    raise ValueError(f"is no extraction; {_SHAPE}")


def search(expression: str) -> Callable[[Any], Any]:
    """A JMESPath expression as a function (specification: https://jmespath.org/specification.html).

    Raises:
        ValueError: it is not valid; the text is not repeated.
    """
    try:
        found = jmespath.compile(expression)
    except JMESPathError as error:
        place = getattr(error, "lex_position", None)
        where = f" at character {place + 1}" if isinstance(place, int) and place >= 0 else ""
        raise ValueError(f"is no valid JMESPath{where}") from None
    if not _functions(found.parsed) <= Functions.FUNCTION_TABLE.keys():
        raise ValueError("calls a function that JMESPath does not have")
    return found.search


def _functions(node: Any) -> set[str]:
    own = {node["value"]} if node["type"] == "function_expression" else set()
    return own.union(*(_functions(child) for child in node["children"] if isinstance(child, dict)))


def pattern(text: str) -> Any:
    """A pattern as RE2 has it, which takes linear time on any text.

    Raises:
        ValueError: it is not valid, or needs what RE2 leaves out (look-around, back references).
    """
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    try:
        return re2.compile(text, options)
    except re2.error:
        hint = " (RE2 has no look-around and no back references)" if re.search(r"\(\?[=!<]|\\[1-9]", text) else ""
        raise ValueError(f"is no valid pattern{hint}") from None


def variables_in(expression: str) -> Iterator[str]:
    """The names that a JMESPath expression asks its root for: what `when:` needs.

    Raises:
        ValueError: the expression is not valid.
    """
    search(expression)
    yield from dict.fromkeys(_roots(jmespath.compile(expression).parsed))


def _roots(node: Any) -> Iterator[str]:
    kind, children = node["type"], node["children"]
    if kind == "field":
        yield node["value"]
    elif kind in ("subexpression", "index_expression", "pipe", "projection", "value_projection", "filter_projection"):
        yield from _roots(children[0])
    elif kind not in ("literal", "identity", "current", "expref"):
        for child in children:
            yield from _roots(child)


def fields_in(expression: str) -> Iterator[str]:
    """The names of the fields that a JMESPath expression ends in: what its value is called in the JSON."""
    yield from _ends(jmespath.compile(expression).parsed)


def _ends(node: Any) -> Iterator[str]:
    kind, children = node["type"], [child for child in node["children"] if isinstance(child, dict)]
    if kind == "field":
        yield node["value"]
    elif kind in ("index_expression", "projection", "filter_projection", "value_projection", "flatten"):
        yield from (name for child in children[:2] for name in _ends(child))
    elif kind in ("subexpression", "pipe"):
        yield from _ends(children[-1])
    else:
        yield from (name for child in children for name in _ends(child))


def _from_json(expression: str) -> Extraction:
    find = search(expression)

    def take(answer: Answer) -> Any:
        try:
            value = find(answer.json)
        except NoJsonError as error:
            raise NothingThereError(str(error)) from None
        except JMESPathError:
            raise NothingThereError("the JSON does not fit the JMESPath's functions") from None
        if value is None:
            raise NothingThereError("the JSON does not have it")
        return value

    return take


def _from_header(name: str) -> Extraction:
    if not _HEADER.fullmatch(name):
        raise ValueError("needs the name of a header after `header.`")

    def take(answer: Answer) -> Any:
        value = answer.headers.get(name)
        if value is None:
            raise NothingThereError("there is no such header")
        return value

    return take


def _from_text(text: str) -> Extraction:
    find = pattern(text)
    if find.groups > 1:
        raise ValueError("has more than one group; write (?:…) for those that are not to be taken")

    def take(answer: Answer) -> Any:
        found = find.search(answer.text)
        if found is None:
            raise NothingThereError("nothing in the body matches the pattern")
        return found[1] if find.groups else found[0]

    return take
