"""Floor 2: `${env:NAME}`, `${env:NAME:-default}`, `${file:PATH}` and `${resolver:reference}` inside string values.

`$${` is a literal `${`. A result is never parsed again, neither as YAML nor for further references.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from vedette.config.files import mark
from vedette.config.problems import Path as NodePath
from vedette.config.problems import Report, one_line, suggest
from vedette.config.source import Entry, Hole, Mapping, Node, Scalar, Sequence
from vedette.config.vault import Key, Source, Vault
from vedette.errors import VedetteError
from vedette.passwords import Minted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Mapping as Dict

    from vedette.config.files import Mark
    from vedette.plugins import Registry
    from vedette.secrets import Masker

MAX_SECRET_BYTES: Final = 1024 * 1024

_BUILT_IN: Final = ("env", "file")
_OPENING = re.compile(r"\$\$\{|\$\{")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ALONE = "it is made for each connection: make it the whole of `password`"
_SHAPE = "write ${env:NAME} or ${file:PATH}, or $${ for a literal ${"


@dataclass(frozen=True, slots=True)
class Reference:
    """One `${scheme:name}`; `default` only for `env`."""

    scheme: str
    name: str
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a reference has no value; `malformed` ones are errors even where nothing is resolved."""

    message: str
    hint: str = ""
    malformed: bool = False


@dataclass(frozen=True, slots=True)
class Deferred:
    """A reference that only a plugin could resolve, in a load that asks no plugin."""


Value = str | Failure | Deferred | Minted
"""What a reference stands for."""


class BadReference(ValueError):
    """A `${` that does not begin a reference."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def parse_references(text: str) -> list[str | Reference]:
    """The literal pieces and the references of a string, in order.

    Raises:
        BadReference: a `${` is not closed, holds another one or names no scheme; no part of the text is repeated.
    """
    pieces: list[str | Reference] = []
    position = 0
    while match := _OPENING.search(text, position):
        if match.start() > position:
            pieces.append(text[position : match.start()])
        position = match.end()
        if match[0] == "$${":
            pieces.append("${")
            continue
        end = text.find("}", position)
        if end < 0:
            raise BadReference("a '${' is never closed")
        pieces.append(_reference(text[position:end]))
        position = end + 1
    if position < len(text):
        pieces.append(text[position:])
    return pieces


def _reference(body: str) -> Reference:
    if "${" in body:
        raise BadReference("a reference inside another one")
    scheme, colon, name = body.partition(":")
    if not colon or not scheme or (not name and scheme in _BUILT_IN):
        raise BadReference("a '${' that is no reference")
    if scheme != "env":
        return Reference(scheme, name)
    variable, dash, default = name.partition(":-")
    if not _ENV_NAME.fullmatch(variable):
        raise BadReference("a '${env:' without the name of a variable")
    return Reference("env", variable, default if dash else None)


class Secrets:
    """Replaces references by what they stand for.

    Args:
        environ: the environment variables.
        registry: knows the resolver plugins.
        mode: `resolve` asks everything and reports what fails as an error; `lazy` asks no plugin, and what is
            missing is a warning.
        masker: learns the resolved values. Not the defaults of `${env:NAME:-default}`, which stand in the file,
            and not environment values that are numbers or under six characters: masking `6379` or `prod` would
            make the log unreadable. Where such a value ends up in a `Secret` option, the loader adds it after all.
        vault: keeps what resolver plugins answered.
    """

    def __init__(
        self,
        environ: Dict[str, str],
        registry: Registry,
        mode: Literal["resolve", "lazy"],
        masker: Masker,
        vault: Vault | None = None,
    ) -> None:
        self._environ = environ
        self._registry = registry
        self._mode = mode
        self._masker = masker
        self._vault = vault or Vault()
        self._options: Dict[str, Any] = {}
        self._known: dict[tuple[Reference, Path | None], Value] = {}
        self._files: dict[Path, Mark] = {}
        self._sources: dict[Key, Source] = {}

    @property
    def sources(self) -> Dict[Key, Source]:
        """Who resolves each reference that was prepared, passwords that are made for a connection among them."""
        return self._sources

    @property
    def files(self) -> Dict[Path, Mark]:
        """The files that references named so far, as they were just before they were read."""
        return dict(self._files)

    def prepare(self, nodes: Iterable[Node], options: Dict[str, Any] | None = None) -> None:
        """Ask the resolver plugins for everything these trees need, all at once.

        Args:
            nodes: the trees.
            options: the resolvers' options by name, where agent.yaml gives some.
        """
        self._options = options or {}
        plugins = set(self._registry.names("secrets")) - set(_BUILT_IN)
        wanted: dict[Key, Source] = {}
        for ref in {ref for node in nodes for ref in references(node) if ref.scheme in plugins}:
            source = self._source(ref)
            if isinstance(source, Source):
                wanted[ref.scheme, ref.name] = source
            else:
                self._known[ref, None] = source
            if isinstance(source, Minted):
                source = Source(source.plugin, source.config)
            if isinstance(source, Source):
                self._sources[ref.scheme, ref.name] = source
        if self._mode == "lazy":
            self._known |= {(Reference(*key), None): Deferred() for key in wanted}
            return
        self._vault.ask(wanted, self._masker)
        for key in wanted:
            answer = self._vault[key]
            self._known[Reference(*key), None] = Failure(answer.trouble) if answer.value is None else answer.value

    def _source(self, ref: Reference) -> Source | Failure | Minted:
        """Who is to be asked; or why nobody is, or what needs no asking."""
        try:
            plugin: Any = self._registry.load("secrets", ref.scheme)
            config_class = getattr(plugin, "config_class", None)
            config = self._options.get(ref.scheme) or (config_class() if config_class is not None else None)
            objection: str = plugin.objection(ref.name) if hasattr(plugin, "objection") else ""
        except VedetteError as error:
            return Failure(one_line(str(error)), malformed=True)
        except Exception as error:
            return Failure(f"'{ref.scheme}' cannot be used ({type(error).__name__})", malformed=True)
        if objection:
            return Failure(one_line(objection), malformed=True)
        if getattr(plugin, "on_demand", False):
            return Minted(plugin, config, ref.name)
        if not ref.name:
            return Failure(f"a reference to nothing: a name goes behind '{ref.scheme}:'", malformed=True)
        return Source(plugin, config)

    def fill(self, node: Node, path: NodePath, base: Path, report: Report) -> Node:
        """The tree with its references replaced; one that cannot be becomes a `Hole` and is reported.

        Args:
            node: the tree.
            path: where it stands in its document.
            base: the folder that relative `${file:…}` paths start from.
            report: gets the problems.
        """
        if isinstance(node, Scalar):
            if not isinstance(node.value, str) or "${" not in node.value:
                return node
            return self._fill_text(node.value, node.line, path, base, report)
        if isinstance(node, Mapping):
            entries = {
                key: Entry(self.fill(entry.node, (*path, key), base, report), entry.line, entry.inherited)
                for key, entry in node.entries.items()
            }
            return Mapping(entries, node.line)
        if isinstance(node, Sequence):
            items = (self.fill(item, (*path, i), base, report) for i, item in enumerate(node.items))
            return Sequence(tuple(items), node.line)
        return node

    def _fill_text(self, text: str, line: int, path: NodePath, base: Path, report: Report) -> Node:
        try:
            pieces = parse_references(text)
        except BadReference as error:
            report.error(line, path, error.message, _SHAPE)
            return Hole(line)
        filled, fixed = "", []
        hole: Hole | None = None
        for piece in pieces:
            value = piece if isinstance(piece, str) else self._value(piece, base)
            if isinstance(value, Minted) and len(pieces) == 1:
                return Scalar(value, line, quoted=True)
            if isinstance(value, Minted):
                value = Failure(f"{value} cannot be part of a text", _ALONE, malformed=True)
            if isinstance(value, str):
                if not isinstance(piece, str):
                    fixed.append((len(filled), len(filled) + len(value)))
                filled += value
                self._warn_of_age(piece, line, path, report)
                continue
            lenient = self._mode == "lazy" and not (isinstance(value, Failure) and value.malformed)
            hole = Hole(line, pending=lenient and (hole is None or hole.pending))
            if isinstance(value, Failure):
                (report.warning if lenient else report.error)(line, path, value.message, value.hint)
        return hole or Scalar(filled, line, quoted=True, fixed=tuple(fixed))

    def _warn_of_age(self, piece: str | Reference, line: int, path: NodePath, report: Report) -> None:
        """Say so where a secret could not be read anew and an earlier answer is in use."""
        if isinstance(piece, Reference) and piece.scheme not in _BUILT_IN:
            trouble = self._vault[piece.scheme, piece.name].trouble
            if trouble:
                report.warning(line, path, trouble, "the last value stays in use")

    def _value(self, ref: Reference, base: Path) -> Value:
        key = (ref, base if ref.scheme == "file" else None)
        if key not in self._known:
            self._known[key] = self._find(ref, base)
        return self._known[key]

    def _find(self, ref: Reference, base: Path) -> Value:
        if ref.scheme == "env":
            return self._env(ref)
        if ref.scheme == "file":
            path = (base / ref.name).absolute()
            self._files.setdefault(path, mark(path))
            value = _read(base / ref.name, ref.name)
            if isinstance(value, str):
                self._masker.add(value, certain=_CALLED_SECRET.search(ref.name) is not None)
            return value
        known = [*_BUILT_IN, *self._registry.names("secrets")]
        if ref.scheme in known:
            return Failure("only ${env:…} and ${file:…} work here", malformed=True)
        hint = suggest(ref.scheme, known) or _SHAPE
        return Failure("a reference of an unknown kind", hint, malformed=True)

    def _env(self, ref: Reference) -> str | Failure:
        value = self._environ.get(ref.name)
        if ref.default is not None and not value:  # as in a shell, `:-` also replaces an empty value
            return ref.default
        if value is None:
            hint = f"set it, or write ${{env:{ref.name}:-default}}"
            return Failure(f"environment variable {ref.name} is not set", hint)
        if len(value) >= 6 and not _NUMERIC.fullmatch(value):
            self._masker.add(value, certain=_CALLED_SECRET.search(ref.name) is not None)
        return value


_NUMERIC = re.compile(r"[-+]?[0-9.,:]+")
_CALLED_SECRET = re.compile(r"(?i)pass|pwd|(?<![a-z])pw$|secret|token|credential|key$")
"""A variable or file that is called so holds a secret; others may hold the name of a node, a stage, a database."""


def references(node: Node) -> Iterator[Reference]:
    """The references in the texts of a tree."""
    if isinstance(node, Mapping):
        for entry in node.entries.values():
            yield from references(entry.node)
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from references(item)
    elif isinstance(node, Scalar) and isinstance(node.value, str) and "${" in node.value:
        try:
            pieces = parse_references(node.value)
        except BadReference:
            return
        yield from (piece for piece in pieces if isinstance(piece, Reference))


def _read(path: Path, shown: str) -> str | Failure:
    what = f"file {one_line(shown, 100)}"
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return Failure(f"{what} is not a regular file")
        with path.open("rb") as stream:
            data = stream.read(MAX_SECRET_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no usable path"
        return Failure(f"{what} cannot be read: {reason}")
    if len(data) > MAX_SECRET_BYTES:
        return Failure(f"{what} is larger than {MAX_SECRET_BYTES // 1024**2} MiB")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return Failure(f"{what} is not UTF-8 text")
    return text.removesuffix("\n").removesuffix("\r")
