"""Floor 5: values of another agent's files as ours have them, and the secrets that are found among them."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from typing import Any, Final

from vedette.secrets import Masker

_ENCODED: Final = re.compile(r"ENC\[([^\]]+)\]")
_TEMPLATE: Final = re.compile(r"%%\w+%%")
_SECRET: Final = re.compile(
    r"(?:pass|password|passwd|token|secret|secret_key|api_?key|app_?key|authorization|credentials?|cookie)$", re.I
)
_LOGIN: Final = re.compile(r"://[^/@\s]*:[^/@\s]+@")
_CLEAR: Final = "stands in the clear: ${env:…} or ${file:…} keeps it out of the file"


@dataclass(frozen=True, slots=True)
class Words:
    """Reads values.

    Attributes:
        notes: what there is to say of them, each with its place.
        masker: learns the secrets that stand in the clear.
    """

    notes: list[str] = field(default_factory=list)
    masker: Masker = field(default_factory=Masker)

    def say(self, where: str, what: str) -> None:
        """Add a note, once."""
        if (note := f"{where}: {what}") not in self.notes:
            self.notes.append(note)

    def read(self, value: Any, where: str, *, secret: bool = False) -> Any:
        """A value as our files write it, all that is in it too.

        Handles of Datadog's secret backend become variables of the environment; a secret in the clear is pointed out.

        Args:
            value: what YAML made of it.
            where: its place, for notes.
            secret: whether what it stands under is a secret's name.

        Raises:
            ValueError: there is something in it that cannot be said here.
        """
        secret = secret or _SECRET.search(where) is not None
        if isinstance(value, dict):
            return {key: self.read(inner, f"{where}.{key}", secret=secret) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.read(inner, f"{where}[{place}]", secret=secret) for place, inner in enumerate(value)]
        if isinstance(value, datetime.date):
            return str(value)
        if secret and value not in (None, "") and not isinstance(value, bool):
            return self._secret(str(value), value, where)
        return self._text(value, where) if isinstance(value, str) else value

    def _secret(self, shown: str, value: Any, where: str) -> Any:
        if not _ENCODED.fullmatch(shown.strip()) and not _TEMPLATE.search(shown):
            for spelling in (shown, _escaped(shown)):
                self.masker.add(spelling)
            self.say(where, _CLEAR)
        return self._text(value, where) if isinstance(value, str) else value

    def _text(self, value: str, where: str) -> str:
        if found := _ENCODED.fullmatch(value.strip()):
            name = re.sub(r"\W+", "_", found[1]).strip("_").upper()
            self.say(where, f"was a handle of the secret backend: set ${name}, or see docs/secrets.md")
            return f"${{env:{name}}}"
        if _TEMPLATE.search(value):
            raise ValueError("holds a template of Autodiscovery; see docs/autodiscovery.md")
        if _LOGIN.search(value):
            self.masker.add(value)
            self.say(where, _CLEAR)
        return _escaped(value)

    def tags(self, given: dict[str, Any], where: str) -> list[str]:
        """The tags of an instance, and its service; what is no tag is said and left out."""
        listed = given.get("tags") or []
        if not isinstance(listed, list):
            self.say(f"{where}.tags", "is not a list")
            listed = []
        made: list[str] = []
        for place, tag in enumerate(listed):
            here = f"{where}.tags[{place}]"
            if tag is None or isinstance(tag, dict | list):
                self.say(here, "is not text: left out")
                continue
            try:
                made.append(str(self.read(str(tag), here)))
            except ValueError as error:
                self.say(here, f"{error}: left out")
        if given.get("service") not in (None, ""):
            try:
                made.append(f"service:{self.read(str(given['service']), f'{where}.service')}")
            except ValueError as error:
                self.say(f"{where}.service", f"{error}: left out")
        return made


def _escaped(value: str) -> str:
    return value.replace("${", "$${")
