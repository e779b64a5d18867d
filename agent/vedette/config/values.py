"""Floor 2: walks validated options, for paths that are relative to their file and for secrets.

By `vars`, since to read an option that goes away as an attribute makes pydantic warn.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from vedette.config.source import PLACEHOLDER
from vedette.passwords import Password
from vedette.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vedette.passwords import Minted
    from vedette.secrets import Masker


def absolute(path: str | Path, base: Path) -> Path:
    """The path as seen from a folder; `..` goes by the text, so that no folder on the way matters."""
    return Path(os.path.abspath(base / path))  # noqa: PTH100 - resolve() would follow links


def localize(value: Any, base: Path) -> Any:
    """The options with every relative `pathlib.Path` in them made absolute: it starts from the YAML file's folder.

    A value with a method `localized(base)` sees to itself.
    Works on models inside models, lists, tuples and dicts; what holds no relative path is returned as it is.
    """
    if hasattr(value, "localized"):
        return value.localized(base)
    if isinstance(value, Path):
        return value if value.is_absolute() else absolute(value, base)
    if isinstance(value, BaseModel):
        changed = {}
        for name in type(value).model_fields:
            old = vars(value)[name]
            new = localize(old, base)
            if new is not old:
                changed[name] = new
        if not changed:
            return value
        copy = value.model_copy(update=changed)
        object.__setattr__(copy, "__pydantic_fields_set__", set(value.model_fields_set))
        return copy
    if isinstance(value, dict):
        made = {key: localize(item, base) for key, item in value.items()}
        return made if any(made[key] is not value[key] for key in value) else value
    if type(value) in (list, tuple, set, frozenset):
        items = [localize(item, base) for item in value]
        return type(value)(items) if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value


def lend(value: Any, masker: Masker) -> None:
    """Have the masker learn whatever passwords of these options are made from now on."""
    if isinstance(value, Password) and value.minted is not None:
        name = str(value.minted)
        value.minted.learn = lambda login, made: masker.lend((name, login), made)
    elif isinstance(value, BaseModel):
        for option in type(value).model_fields:
            lend(vars(value)[option], masker)


def minted(value: Any) -> Iterator[Minted]:
    """Whatever passwords of these options are made for each connection."""
    if isinstance(value, Password) and value.minted is not None:
        yield value.minted
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from minted(vars(value)[name])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from minted(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from minted(item)


def harvest(value: Any, add: Callable[[str], None]) -> None:
    """Give every secret in the options to `add`, so that even one written down in the YAML file is masked."""
    if isinstance(value, Secret):
        if value.reveal() != PLACEHOLDER:
            add(value.reveal())
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            harvest(vars(value)[name], add)
    elif isinstance(value, dict):
        for item in value.values():
            harvest(item, add)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            harvest(item, add)
