"""Floor 2: the options of a plugin as its pydantic model declares them."""

from __future__ import annotations

import enum
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from vedette.check import CheckConfig
from vedette.discovery import DiscoveryConfig
from vedette.engine import EngineConfig
from vedette.notifier import NotifierConfig
from vedette.renamed import Renamed, goes_away
from vedette.render.yamltext import flow
from vedette.secrets import MASK, Secret
from vedette.sink import SinkConfig
from vedette.units import format_size, parse_duration, parse_size

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from vedette.check import Check, Listener
    from vedette.discovery import Discovery
    from vedette.engine import Engine
    from vedette.notifier import Notifier
    from vedette.sink import Sink

    Plugin = (
        type[Check[Any]]
        | type[Listener[Any]]
        | type[Sink[Any]]
        | type[Notifier[Any]]
        | type[Discovery[Any]]
        | type[Engine[Any]]
    )
    """What has options to write about."""

Family = Literal["check", "sink", "notifier", "discovery", "engine"]
_BASES: dict[Family, type[BaseModel]] = {
    "check": CheckConfig, "sink": SinkConfig, "notifier": NotifierConfig, "discovery": DiscoveryConfig,
    "engine": EngineConfig,
}  # fmt: skip
_DEFAULT = re.compile(r"\s*Default: (?P<text>.*?)\.?\s*$")
_PLAIN: dict[Any, str] = {
    bool: "boolean", int: "integer", float: "number", Decimal: "number", str: "string", Secret: "secret",
    Path: "path", Any: "any value", type(None): "null",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a model.

    Attributes:
        name: the key in YAML.
        path: the key with what leads to it, such as `counters[].metric`.
        type: for people: `integer (1 to 65535)`, `list of strings`.
        required: whether it has no default.
        default: the default as YAML or as a phrase of the description; empty if there is none.
        meaning: the description without its phrase about the default.
        shown: plain data for the example file: the default, but if that is empty or false the model's example, or
            something of its type.
        nested: the options of the models in it.
        common: whether every check (or every sink) has it, just so.
        leaving: whether it is to be given no more.
    """

    name: str
    path: str
    type: str
    required: bool
    default: str
    meaning: str
    shown: Any
    nested: tuple[Option, ...]
    common: bool = False
    leaving: bool = False


def family(plugin: Plugin) -> Family:
    """What the plugin is, for people."""
    return next(word for word, base in _BASES.items() if issubclass(plugin.config_class, base))


def plugin_options(plugin: Plugin) -> list[Option]:
    """The plugin's options: its own in the order of the model, then those that all its siblings have."""
    options = list(_options(plugin.config_class, "", plugin.name, _BASES[family(plugin)], ()))
    return sorted(options, key=lambda option: option.common)


def walk(option: Option) -> Iterator[Option]:
    """The options of the models inside an option, all levels, in reading order."""
    for inner in option.nested:
        yield inner
        yield from walk(inner)


def _options(
    model: type[BaseModel], prefix: str, owner: str, base: type[BaseModel] | None, above: tuple[type, ...]
) -> Iterator[Option]:
    for attribute, field in model.model_fields.items():
        names = field.validation_alias
        name = names if isinstance(names, str) else field.alias or attribute
        inner = [
            tuple(_options(nested, f"{prefix}{name}{way}.", owner, None, (*above, model)))
            for way, nested in _models(field.annotation)
            if nested not in (*above, model)
        ]
        kind = type_name(field.annotation, field.metadata)
        default = None if field.is_required() else plain(field.get_default(call_default_factory=True), kind)
        text = (field.description or "").strip()
        phrase = _DEFAULT.search(text)
        yield Option(
            name=name,
            path=f"{prefix}{name}",
            type=kind,
            required=field.is_required(),
            default=phrase["text"] if phrase else "" if _empty(default) else flow(default),
            meaning=f"{text[: phrase.start()] if phrase else text}{_history(field)}",
            shown=_shown(field, default, kind, f"{owner}_{name}", inner[0] if inner else ()),
            nested=tuple(option for options in inner for option in options),
            common=base is not None and _same(field, base.model_fields.get(attribute)),
            leaving=bool(field.deprecated),
        )


def _history(field: FieldInfo) -> str:
    """What it was called, or that it goes away."""
    if field.deprecated:
        text = goes_away(field)
        return f" {text[0].upper()}{text[1:]}."
    if not isinstance(field.validation_alias, Renamed):
        return ""
    return "".join(f" Was `{old}`, which {remover} removes." for old, remover in field.validation_alias.old.items())


def _same(field: FieldInfo, other: FieldInfo | None) -> bool:
    return other is not None and (field.annotation, field.description, field.default) == (
        other.annotation,
        other.description,
        other.default,
    )


def _empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _shown(field: FieldInfo, default: Any, kind: str, variable: str, inner: tuple[Option, ...]) -> Any:
    told = not _empty(default) and default is not False and default != MASK
    if field.examples and not told:
        return plain(field.examples[0], kind)
    return default if told or default is False else _sample(field.annotation, field.metadata, variable, inner)


def _sample(annotation: Any, metadata: Sequence[Any], variable: str, inner: tuple[Option, ...]) -> Any:
    """Something of this type, for an option that has neither a default nor an example."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _sample(arguments[0], (*arguments[1:], *metadata), variable, inner)
    if origin in (Union, types.UnionType):
        return _sample(next(item for item in arguments if item is not type(None)), metadata, variable, inner)
    if origin is Literal:
        return plain(arguments[0])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"name": _sample(arguments[1], (), variable, inner)}
    if isinstance(origin, type) and issubclass(origin, Sequence | Set):
        return [_sample(arguments[0], (), variable, inner)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        needed = [option for option in inner if option.required] or inner
        return {option.name: option.shown for option in needed}
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return plain(next(iter(annotation)))
    if annotation is Secret:
        return "${env:" + re.sub(r"\W", "_", variable).upper() + "}"
    if _is_duration(metadata):
        return "10s"
    if _is_size(metadata):
        return "64MB"
    samples = {bool: True, int: 1, float: 1.5, Decimal: 1.5, Path: "/path/to/file"}
    owner, _, word = variable.rpartition("_")
    return samples.get(annotation, owner if word == "name" else word)


def plain(value: Any, kind: str = "") -> Any:
    """A Python value as the plain data that YAML writes it with; seconds of a duration as `15s`."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields.items()
        items = {name: plain(vars(value)[name], type_name(field.annotation, field.metadata)) for name, field in fields}
        return {name: item for name, item in items.items() if not _empty(item)}
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float) and kind.partition(" (")[0] == "duration":
        return duration_text(float(value))
    if isinstance(value, int) and kind.partition(" (")[0] == "size":
        return format_size(value)
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, int | float | Decimal | str):
        return value
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    if isinstance(value, Set):
        return sorted((plain(item) for item in value), key=str)
    return str(value)


def duration_text(seconds: float) -> str:
    """Exact and short, as a user writes it: `500ms`, `15s`, `90s`, `5m`, `1d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds * 1000:.0f}ms" if seconds and seconds * 1000 % 1 == 0 else f"{seconds:g}s"


def _is_duration(metadata: Sequence[Any]) -> bool:
    return any(getattr(item, "func", None) is parse_duration for item in metadata)


def _is_size(metadata: Sequence[Any]) -> bool:
    return any(getattr(item, "func", None) is parse_size for item in metadata)


def type_name(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """A type for people: `integer (1 to 65535)`, `list of strings`, `duration`, `` `get` or `scard` ``."""
    if _is_duration(metadata):
        return f"duration{_bounds(metadata)}"
    if _is_size(metadata):
        return f"size{_bounds(metadata)}"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(arguments[0], (*arguments[1:], *metadata))
    if origin in (Union, types.UnionType):
        names = dict.fromkeys(type_name(item, metadata) for item in arguments if item is not type(None))
        return " or ".join(names)
    if origin is Literal:
        return _one_of(arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"mapping of {_plural(type_name(arguments[0]))} to {_plural(type_name(arguments[1]))}"
    if isinstance(origin, type) and issubclass(origin, Sequence | Set):
        return f"list of {_plural(type_name(arguments[0]))}"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _one_of(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "options"
    if isinstance(annotation, type) and issubclass(annotation, Secret):
        return f"secret{_bounds(metadata)}"
    return f"{_PLAIN.get(annotation) or getattr(annotation, '__name__', 'value').lower()}{_bounds(metadata)}"


def _one_of(values: Iterable[Any]) -> str:
    texts = [f"`{flow(plain(value))}`" for value in values]
    return f"one of {', '.join(texts)}" if len(texts) > 1 else texts[0]


def _plural(name: str) -> str:
    return name if name.endswith(("s", "`", ")", "value")) or " " in name else f"{name}s"


def _bounds(metadata: Sequence[Any]) -> str:
    """` (1 to 65535)`, ` (above 0)` from the constraints of a field."""
    limits = {
        word: getattr(item, word) for item in metadata for word in ("ge", "gt", "le", "lt") if hasattr(item, word)
    }
    limits = {word: limit for word, limit in limits.items() if limit is not None}
    if set(limits) == {"ge", "le"}:
        return f" ({limits['ge']} to {limits['le']})"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    text = ", ".join(f"{words[word]} {limit}" for word, limit in limits.items())
    return f" ({text})" if text else ""


def _models(annotation: Any, way: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The models inside an annotation, each with what leads to it: `[]` for a list, `.<name>` for a mapping."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield way, annotation
    elif origin is Annotated:
        yield from _models(arguments[0], way)
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        yield from _models(arguments[1], f"{way}.<name>")
    elif isinstance(origin, type) and issubclass(origin, Sequence | Set):
        yield from _models(arguments[0], f"{way}[]")
    elif origin in (Union, types.UnionType):
        for item in arguments:
            yield from _models(item, way)
