"""A configuration as it may be shown to strangers: no comments, no secrets, references as they were written."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import yaml
from pydantic import BaseModel

from vedette.config.checkfile import merge
from vedette.config.problems import show_path
from vedette.config.source import Mapping, Node, Scalar, Sequence
from vedette.doctor.house import known_secrets
from vedette.doctor.written import Text, Written, is_plain_secret, nearest, references, texts
from vedette.secrets import MASK, Masker, mask_passwords

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vedette.config import Configuration, Instance

_DEFAULT = re.compile(r"(\$\{env:[A-Za-z_][A-Za-z0-9_]*:-)[^}]*\}")
_WHOLE = re.compile(r":\x00+@|[=:]\s*\x00+(?=[\s&;,'\"]|\Z)")
"""A password that consists of references alone, each written as NUL: it may be shown."""
_ORDINARY = frozenset({"true", "false", "yes", "no", "on", "off", "null", "none"})
"""Values of references that hide nothing, and that would make a text unreadable if they were masked."""


class Veil:
    """Takes out everything that is, or may be, a secret of one configuration.

    It masks more than the log does: whatever a reference stands for, however short or numeric, since the archive
    goes to somebody else.

    Args:
        configuration: as it was loaded.
        files: as they were written.
    """

    def __init__(self, configuration: Configuration, files: Iterable[Written]) -> None:
        self._masker = Masker()
        self._loaded = configuration.masker
        self._secrets = known_secrets(configuration)
        self.masked: dict[str, None] = {}
        """The places in the files where something was masked."""
        for value in self._secrets:
            self._masker.add(value)
            if password := _password_in(value):
                self._masker.add(unquote(password))
        for written in files:
            for text in texts(written):
                self._learn(text, written)

    def _learn(self, text: Text, written: Written) -> None:
        for one in references(text.text):
            value = os.environ.get(one.name) if one.scheme == "env" else None
            if one.scheme == "file":
                value = _content(written.found.path.parent / one.name)
            for known in (value, one.default):
                if known and known.strip().lower() not in _ORDINARY:
                    self._masker.add(known)
        if is_plain_secret(text, self._secrets) and "://" not in text.text:
            self._masker.add(text.text)

    def text(self, text: str) -> str:
        """Any text, without what is known to be secret."""
        return self._masker(self._loaded(text))

    def known(self, text: str) -> str:
        """The same, but what only looks like a secret stays."""
        return self._masker.known(self._loaded.known(text))

    def value(self, text: Text) -> Any:
        """A value of a file as it may be shown; what was masked is noted."""
        if references(text.text):
            shown = self._references(text.text)
        elif is_plain_secret(text, self._secrets):
            shown = self.text(mask_passwords(text.text)) if "://" in text.text else MASK
        else:
            shown = self.text(text.text)
        if shown != text.text:
            self.masked[f"{text.file}:{text.line}: {text.path}"] = None
        return shown

    def _references(self, text: str) -> str:
        """References stay, their defaults do not, and of the text around them only what is no secret."""
        shown = _DEFAULT.sub(rf"\g<1>{MASK}}}", text)
        pieces = re.split(r"(\$\{[^}]*\})", shown)
        pieces[::2] = [self.text(piece) for piece in pieces[::2]]
        joined = "".join(pieces)
        bare = _WHOLE.sub("\x01", re.sub(r"\$\{[^}]*\}", "\x00", joined))
        return joined if mask_passwords(bare) == bare else mask_passwords(joined)


def _password_in(text: str) -> str | None:
    try:
        return urlsplit(text).password if "://" in text else None
    except ValueError:
        return None


def _content(path: Any) -> str | None:
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError):
        return None
    return str(text).strip() or None


def shown_file(written: Written, veil: Veil) -> str:
    """A YAML file without comments and secrets."""
    if written.root is None:
        return "# it cannot be read as YAML, so nobody knows what in it is secret: left out\n"
    return _dump(_shown(written.root, (), "", written.found.shown, veil), veil)


def shown_instance(instance: Instance, files: Iterable[Written], veil: Veil) -> str:
    """All options of an instance, defaults included; references as they were written."""
    options = instance.config.model_dump(mode="json")
    node = next((found for written in files if (found := _node_of(instance, written)) is not None), None)
    return _dump({instance.id: _overlaid(_plain(options), node, "", veil)}, veil)


def shown_options(name: str, options: BaseModel, veil: Veil) -> str:
    """Options of the agent or of a sink; what a reference stood for is masked."""
    return _dump({name: _overlaid(_plain(options.model_dump(mode="json")), None, "", veil)}, veil)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value


def _node_of(instance: Instance, written: Written) -> Mapping | None:
    """The options as they were written, with `defaults` under them."""
    root = written.root
    if written.found.shown != instance.file or not isinstance(root, Mapping):
        return None
    items, defaults = root.entries.get("instances"), root.entries.get("defaults")
    if items is None or not isinstance(items.node, Sequence):
        return None
    below = defaults.node if defaults is not None and isinstance(defaults.node, Mapping) else Mapping({}, 0)
    for item in items.node.items:
        if isinstance(item, Mapping) and item.line == instance.line:
            return merge(below, item)
    return None


def _overlaid(value: Any, node: Node | None, key: str, veil: Veil) -> Any:
    """The value masked; where the node beside it refers to something, the reference instead."""
    if isinstance(value, dict):
        entries = node.entries if isinstance(node, Mapping) else {}
        return {
            veil.text(name): _overlaid(item, entries[name].node if name in entries else None, nearest(key, name), veil)
            for name, item in value.items()
        }
    if isinstance(value, list):
        items = node.items if isinstance(node, Sequence) and len(node.items) == len(value) else [None] * len(value)
        return [_overlaid(item, beside, key, veil) for item, beside in zip(value, items, strict=True)]
    written = str(node.value) if isinstance(node, Scalar) else ""
    if references(written):
        return veil.value(Text("", 0, "", key, written))
    if value is None or isinstance(value, bool):
        return value
    shown = veil.value(Text("", 0, "", key, str(value)))
    return value if shown == str(value) else shown


def _shown(node: Node, path: tuple[str | int, ...], key: str, file: str, veil: Veil) -> Any:
    if isinstance(node, Mapping):
        return {
            veil.text(name): _shown(entry.node, (*path, name), nearest(key, name, path, file), file, veil)
            for name, entry in node.entries.items()
        }
    if isinstance(node, Sequence):
        return [_shown(item, (*path, place), key, file, veil) for place, item in enumerate(node.items)]
    if not isinstance(node, Scalar) or node.value is None or isinstance(node.value, bool):
        return None if not isinstance(node, Scalar) else node.value
    shown = veil.value(Text(file, node.line, show_path(path), key, str(node.value)))
    return node.value if shown == str(node.value) else shown


def _dump(value: Any, veil: Veil) -> str:
    return veil.known(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000))
