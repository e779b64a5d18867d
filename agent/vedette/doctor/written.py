"""What stands in the YAML files as it was written: references to secrets, and secrets in plain text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from vedette.config.files import find, read
from vedette.config.interpolate import BadReference, Reference, parse_references
from vedette.config.loader import AGENT
from vedette.config.problems import Report, show_path
from vedette.config.source import Mapping, Node, Scalar, Sequence, parse
from vedette.secrets import mask_passwords, tells_of_secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vedette.config.files import Found
    from vedette.config.problems import Path as NodePath


@dataclass(frozen=True, slots=True)
class Written:
    """A YAML file.

    Attributes:
        found: the file.
        root: its tree; None if it is not YAML.
    """

    found: Found
    root: Node | None


@dataclass(frozen=True, slots=True)
class Text:
    """A value in a file.

    Attributes:
        file: the file as the user named it.
        line: where.
        path: where in the document.
        key: the nearest key above it, or one further up that tells of a secret.
        text: the value as it was written.
    """

    file: str
    line: int
    path: str
    key: str
    text: str


def read_all(directory: Path) -> list[Written]:
    """Every YAML file of a configuration; nothing is resolved, what is wrong with them is not said."""
    try:
        found, _ = find(directory)
    except (OSError, ValueError):
        return []
    made = []
    for file in found:
        data = read(file.path, Report(file.shown))
        made.append(Written(file, None if data is None else parse(data, Report(file.shown))))
    return made


def texts(written: Written) -> Iterator[Text]:
    """Every value of a file, as text."""
    if written.root is not None:
        yield from _texts(written.root, (), "", written.found.shown)


def _texts(node: Node, path: NodePath, key: str, file: str) -> Iterator[Text]:
    if isinstance(node, Mapping):
        for name, entry in node.entries.items():
            yield from _texts(entry.node, (*path, name), nearest(key, name, path, file), file)
    elif isinstance(node, Sequence):
        for place, item in enumerate(node.items):
            yield from _texts(item, (*path, place), key, file)
    elif isinstance(node, Scalar) and node.value is not None:
        yield Text(file, node.line, show_path(path), key, str(node.value))


def nearest(key: str, name: str, path: NodePath = ("",), file: str = "") -> str:
    """The key that a value below `key` and `name` belongs to: one that tells of a secret covers all below it.

    Args:
        key: the nearest one above.
        name: the one below it.
        path: where `name` stands; `secrets:` at the top of agent.yaml holds no secrets, but options of resolvers.
        file: the file.
    """
    if not path and name == "secrets" and PurePath(file).stem == AGENT:
        return ""
    return key if tells_of_secret(key) else name


def references(text: str) -> list[Reference]:
    """The `${…}` in a value; none where it is malformed."""
    try:
        return [piece for piece in parse_references(text) if isinstance(piece, Reference)]
    except BadReference:
        return []


def is_plain_secret(text: Text, secrets: frozenset[str]) -> bool:
    """Whether a value is, or holds, a secret that was written down instead of referred to.

    Args:
        text: the value.
        secrets: the values of all options that are secret, as resolved.
    """
    if references(text.text) or "{{" in text.text or text.key == "sql":
        return False  # referred to, taken from an answer, or a column of that name
    if mask_passwords(text.text) != text.text:
        return True
    if "://" in text.text:  # an address is secret for the password that it may hold, and this one holds none
        return False
    return text.text in secrets or (tells_of_secret(text.key) and len(text.text) > 1)
