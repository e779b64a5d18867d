"""Floor 2: pydantic's errors as our own sentences, each with the file's line and never with a value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel, ValidationError

from vedette.config.problems import QUOTE, Path, Report, one_line, suggest
from vedette.config.renames import settle
from vedette.config.source import Hole, Mapping, Node, Scalar, Sequence, has_hole, plain
from vedette.config.strangers import OPTIONS
from vedette.passwords import Minted
from vedette.renamed import Renamed
from vedette.secrets import MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vedette.secrets import Masker


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping of options that a model validates, and how to speak of it.

    Attributes:
        model: the pydantic model.
        tree: the options, with those inherited from `defaults`.
        path: where it stands, such as `("instances", 1)`.
        line: its line.
        help: how to see the options there are; the hint where no option is close to an unknown one.
        extra_names: keys beside the model's own, for "did you mean".
    """

    model: type[BaseModel]
    tree: Mapping
    path: Path
    line: int
    help: str = ""
    extra_names: tuple[str, ...] = ()


def validate(section: Section, report: Report, masker: Masker) -> Any:
    """The model of this section, or None: every reason is in the report, but for values that are holes.

    Where only secrets that this load does not resolve stand in the way (a port from the environment), the model
    is made without them.
    """
    if not settle(section.model, section.tree, section.path, report, _inside):
        return None
    try:
        options = section.model.model_validate(plain(section.tree))
    except ValidationError as error:
        if _explain(section, error, report, masker):
            return None
        options = _without_pending(section)
    except Exception as error:  # a plugin's validator may raise anything
        message = f"these options make the plugin's own code fail ({type(error).__name__})"
        report.error(section.line, section.path, message)
        return None
    return None if has_hole(section.tree) else options


def _without_pending(section: Section) -> Any:
    try:
        return section.model.model_validate(plain(section.tree, pending=False))
    except Exception:  # they are required, or the plugin's code needs them
        return None


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where an error of pydantic stands in the file.

    Attributes:
        path: as the user sees it, beginning with `defaults` for an inherited option.
        line: the line of the key or list item.
        node: the value there, or None for an option that is missing.
        keys: the path inside the section.
        branch: the branch of a union that the error is about, and the length of the union's path.
    """

    path: Path
    line: int
    node: Node | None
    keys: Path
    branch: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class _Finding:
    spot: _Spot
    kind: str
    message: str
    hint: str = ""
    means: str = ""


def _explain(section: Section, error: ValidationError, report: Report, masker: Masker) -> bool:
    """Report what the error says of values that are there; False if it is about holes alone."""
    findings = []
    details = [
        (_locate(section, detail["loc"], missing=detail["type"] == "missing"), detail)
        for detail in error.errors(include_url=False, include_input=False)
    ]
    for spot, detail in details:
        if not isinstance(spot.node, Hole) and not _miscounted(spot, detail, [other.keys for other, _ in details]):
            findings.append(_finding(section, spot, detail, masker))
    findings = _without_losing_branches(findings)
    meant = {(f.spot.path[:-1], f.means) for f in findings if f.means}
    for found in _joined(findings):
        if found.kind == "missing" and (found.spot.path[:-1], found.spot.path[-1]) in meant:
            continue  # `prot: 6379` is one mistake, not an unknown option and a missing one
        report.error(found.spot.line, found.spot.path, found.message, found.hint)
    return bool(findings)


def _miscounted(spot: _Spot, detail: Any, everywhere: list[Path]) -> bool:
    """Whether a list is long enough: pydantic does not count its entries that have errors of their own."""
    if detail["type"] != "too_short" or not isinstance(spot.node, Sequence):
        return False
    inside = any(len(keys) > len(spot.keys) and keys[: len(spot.keys)] == spot.keys for keys in everywhere)
    return inside and len(spot.node.items) >= detail["ctx"]["min_length"]


def _locate(section: Section, loc: tuple[int | str, ...], *, missing: bool) -> _Spot:
    """Follow pydantic's loc through the tree; its parts that name no data name a branch of a union."""
    node: Node | None = section.tree
    line, inherited = section.line, False
    keys: list[str | int] = []
    branch: tuple[str, int] | None = None
    for number, part in enumerate(loc):
        if isinstance(node, Mapping) and str(part) in node.entries:
            entry = node.entries[str(part)]
            node, line, inherited = entry.node, entry.line, inherited or entry.inherited
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            line = node.line
        elif missing and number == len(loc) - 1:
            node = None
        else:
            branch = branch or (str(part), len(keys))
            continue
        keys.append(part)
    start: Path = ("defaults",) if inherited else section.path
    return _Spot((*start, *keys), line, node, tuple(keys), branch)


def _finding(section: Section, spot: _Spot, detail: Any, masker: Masker) -> _Finding:
    kind: str = detail["type"]
    if kind == "extra_forbidden":
        names = set(_names_at(section.model, spot.keys[:-1]))
        if len(spot.keys) == 1:
            names |= set(section.extra_names)
        word = str(spot.keys[-1]) if spot.keys else ""
        if len(spot.keys) == 1 and word in OPTIONS:
            return _Finding(spot, kind, "unknown option", OPTIONS[word])
        close = suggest(word, names)
        hint = close or (section.help if len(spot.keys) == 1 else "")
        return _Finding(spot, kind, "unknown option", hint, close.partition("'")[2].partition("'")[0])
    if isinstance(spot.node, Scalar) and isinstance(spot.node.value, Minted):
        return _Finding(spot, kind, f"cannot be {spot.node.value}", "it is made for each connection, as a password")
    context: dict[str, Any] = detail.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        return _Finding(spot, kind, _blotted(str(context.get("error", "")), spot.node, masker))
    sentence = _sentence(kind, context)
    if sentence is None:  # an error that a plugin made itself, with its own text
        trusted = kind == "vedette"  # our own sentences, which never repeat a value
        text = detail["msg"] if trusted else _blotted(detail["msg"], spot.node, masker)
        return _Finding(spot, kind, text)
    return _Finding(spot, kind, sentence, _type_hint(kind, spot.node))


def _type_hint(kind: str, node: Node | None) -> str:
    if kind == "string_type" and isinstance(node, Mapping):
        return QUOTE
    if kind == "string_type" and isinstance(node, Scalar) and node.value is not None and not node.quoted:
        return QUOTE
    if kind in _LISTS and isinstance(node, Scalar) and node.value is not None:
        return "such as [one, two]"
    return ""


# --- unions: pydantic reports what each branch lacks; people want one sentence ---


def _without_losing_branches(findings: list[_Finding]) -> list[_Finding]:
    """Where a union has a branch that got into the value, only the best such branch counts."""
    unions: dict[Path, dict[str, list[_Finding]]] = {}
    for found in findings:
        if found.spot.branch is not None:
            label, depth = found.spot.branch
            unions.setdefault(found.spot.keys[:depth], {}).setdefault(label, []).append(found)
    losing: set[int] = set()
    for root, branches in unions.items():
        deep = {k: rows for k, rows in branches.items() if any(len(f.spot.keys) > len(root) for f in rows)}
        if deep and len(branches) > 1:
            best = min(deep, key=lambda label: len(deep[label]))
            losing |= {id(f) for label, rows in branches.items() if label != best for f in rows}
    return [found for found in findings if id(found) not in losing]


def _joined(findings: list[_Finding]) -> Iterator[_Finding]:
    """Several type errors of one value, as one: `must be a whole number or text`."""
    by_place: dict[tuple[Path, int], list[_Finding]] = {}
    for found in findings:
        by_place.setdefault((found.spot.path, found.spot.line), []).append(found)
    for rows in by_place.values():
        named = [f for f in rows if f.kind not in _VAGUE] or rows
        wants = list(dict.fromkeys(f.message for f in named))
        if len(wants) > 1 and all(want.startswith("must be ") for want in wants):
            text = "must be " + " or ".join(want.removeprefix("must be ") for want in wants)
            hint = next((f.hint for f in named if f.hint), "")
            yield _Finding(named[0].spot, named[0].kind, text, hint)
        else:
            yield from named


_VAGUE: Final = frozenset({"is_instance_of", "is_subclass_of", "none_required"})


# --- did you mean ---


def types_at(model: type[BaseModel], keys: Path) -> list[Any]:
    """What values a model takes at a place: the alternatives of unions, `Annotated` opened."""
    types: list[Any] = [model]
    for key in keys:
        types = [inner for each in types for inner in _inside(each, key)]
    return types


def _names_at(model: type[BaseModel], keys: Path) -> Iterator[str]:
    """The option names that the models at this place know."""
    for each in types_at(model, keys):
        for name, field in each.model_fields.items() if _is_model(each) else ():
            yield from _spellings(name, field)[: 1 if isinstance(field.validation_alias, Renamed) else None]


def _inside(annotation: Any, key: str | int) -> Iterator[Any]:
    if _is_model(annotation):
        for name, field in annotation.model_fields.items():
            if key in _spellings(name, field):
                yield from _members(field.annotation)
        return
    arguments = get_args(annotation)
    for argument in arguments[-1:] if isinstance(key, str) else arguments:
        yield from _members(argument)


def _members(annotation: Any) -> Iterator[Any]:
    """The alternatives of an annotation: unions and `Annotated` opened."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin is Union or origin is UnionType:
        for argument in get_args(annotation):
            yield from _members(argument)
    else:
        yield annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _spellings(name: str, field: Any) -> list[str]:
    alias = field.validation_alias or field.alias
    if isinstance(alias, AliasChoices):
        return [choice for choice in alias.choices if isinstance(choice, str)]
    return [alias] if isinstance(alias, str) else [name]


# --- sentences ---

_WORDS: Final[dict[str, str]] = {
    "missing": "is required",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "finite_number": "must be a finite number",
    "none_required": "must be left out",
    "string_pattern_mismatch": "has the wrong form",
    "string_not_ascii": "must be ASCII text",
    "string_unicode": "must be Unicode text",
    "model_type": "must be a mapping of options",
    "model_attributes_type": "must be a mapping of options",
    "dataclass_type": "must be a mapping of options",
    "frozen_set_type": "must be a list",
    "iterable_type": "must be a list",
    "enum": "must be one of the known words",
    "path_type": "must be a path",
    "path_not_file": "must be a file that exists",
    "path_not_directory": "must be a folder that exists",
    "path_exists": "must not exist yet",
    "is_instance_of": "has the wrong type",
    "is_subclass_of": "has the wrong type",
}
_FAMILIES: Final[tuple[tuple[str, str], ...]] = (
    ("int_", "must be a whole number"),
    ("float_", "must be a number"),
    ("decimal_", "must be a decimal number"),
    ("complex_", "must be a number"),
    ("bool_", "must be true or false"),
    ("string_", "must be text"),
    ("bytes_", "must be text"),
    ("list_", "must be a list"),
    ("tuple_", "must be a list"),
    ("set_", "must be a list"),
    ("dict_", "must be a mapping"),
    ("mapping_", "must be a mapping"),
    ("datetime_", "must be a date and time, such as 2024-05-01T12:00:00Z"),
    ("date_", "must be a date, such as 2024-05-01"),
    ("timezone_", "must name its time zone"),
    ("time_delta_", "must be a length of time"),
    ("time_", "must be a time of day, such as 12:30"),
    ("url_", "must be a URL"),
    ("uuid_", "must be a UUID"),
)
_LISTS: Final = frozenset({"list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"})
_FROM_CONTEXT: Final[dict[str, tuple[str, str]]] = {
    # error type: (sentence, the key of the model's own limit in the error's context)
    "greater_than": ("must be greater than {}", "gt"),
    "greater_than_equal": ("must be at least {}", "ge"),
    "less_than": ("must be less than {}", "lt"),
    "less_than_equal": ("must be at most {}", "le"),
    "multiple_of": ("must be a multiple of {}", "multiple_of"),
    "string_too_short": ("must have at least {} characters", "min_length"),
    "string_too_long": ("must have at most {} characters", "max_length"),
    "too_short": ("must have at least {} entries", "min_length"),
    "too_long": ("must have at most {} entries", "max_length"),
    "literal_error": ("must be {}", "expected"),
    "enum": ("must be {}", "expected"),
    "union_tag_invalid": ("must be one of {}", "expected_tags"),
    "union_tag_not_found": ("needs its {} to tell what it is", "discriminator"),
}


def _sentence(kind: str, context: dict[str, Any]) -> str | None:
    """Our sentence for a type of pydantic error, or None if it is not one of pydantic's own."""
    if kind in _FROM_CONTEXT and _FROM_CONTEXT[kind][1] in context:
        text, key = _FROM_CONTEXT[kind]
        limit = context[key]
        return text.format(f"{limit:g}" if isinstance(limit, float) else limit)
    if kind in _WORDS:
        return _WORDS[kind]
    if kind not in _pydantic_types():
        return None
    for family, words in _FAMILIES:
        if kind.startswith(family):
            return words
    return "is not valid here"


@lru_cache(maxsize=1)
def _pydantic_types() -> frozenset[str]:
    from pydantic_core.core_schema import ErrorType

    return frozenset(get_args(ErrorType))


# --- a validator's own text ---

_PIECES = re.compile(r"[\s:/@?#&=,;'\"]+")


def _blotted(text: str, node: Node | None, masker: Masker) -> str:
    """A validator's sentence without anything that the user wrote: it may quote a DSN with its password."""
    words: set[str] = set()
    if node is not None:
        _collect(node, words.add)
    for word in sorted(words, key=len, reverse=True):
        escaped = re.escape(word)
        if len(word) < 6:  # short words stand inside others: `user` in `username`
            escaped = rf"(?<![\w.]){escaped}(?![\w.])"
        text = re.sub(escaped, MASK, text, flags=re.IGNORECASE)
    return one_line(masker(text)) or "is not valid here"


def _collect(node: Node, add: Callable[[str], None]) -> None:
    if isinstance(node, Mapping):
        for entry in node.entries.values():
            _collect(entry.node, add)
    elif isinstance(node, Sequence):
        for item in node.items:
            _collect(item, add)
    elif isinstance(node, Scalar) and node.value is not None and not isinstance(node.value, bool):
        text = str(node.value)
        if text:
            add(text)
        for piece in _PIECES.split(text):
            if len(piece) >= 4:
                add(piece)
