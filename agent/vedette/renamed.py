"""Floor 0: names that have become others. The old ones work on, and say what to write instead and until when."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

    Names = Mapping[str, tuple[str, str]]
    """By the old name: the new one, and what removes the old one, such as `vedette 2.0`."""


class Renamed(AliasChoices):
    """The names of an option that was called otherwise once: `Field(validation_alias=Renamed("limit", {…}))`.

    The old names are accepted wherever the new one is. Where a file has one, `validate` and the agent warn, with its
    line; where it has both, that is an error. The JSON Schema marks them, the table of options tells of them.

    Args:
        name: the option's name, which is its attribute's too.
        old: by each old name, what removes it: a package and a version, such as `vedette-queue-depth 2.0`.
    """

    def __init__(self, name: str, old: Mapping[str, str]) -> None:
        super().__init__(name, *old)
        self.name = name
        self.old = dict(old)

    def notice(self, old: str) -> str:
        """What is said where an old name is given."""
        return f"renamed to {self.name}; {self.old[old]} removes it"


def goes_away(field: FieldInfo) -> str:
    """What is said of an option that is `deprecated`: its text, where it has one."""
    return "goes away" if field.deprecated is True else f"goes away: {field.deprecation_message}"


def stand_in(module: str, names: Names, name: str) -> Any:
    """What an old name of a module stands for, after a DeprecationWarning to whoever uses it.

    For a module's `__getattr__`, which Python asks for names that it does not find (PEP 562).

    Raises:
        AttributeError: the module never had that name.
    """
    if name not in names:
        raise AttributeError(f"module '{module}' has no attribute {name!r}")
    new, remover = names[name]
    text = f"{module}.{name} is now called {new}; {remover} removes the old name"
    warnings.warn(text, DeprecationWarning, stacklevel=3)
    return getattr(sys.modules[module], new)
