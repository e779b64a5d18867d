"""Floor 2: an instance of a file with `match:`: a template, of which instances are made for each target that fits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from vedette.config.checkfile import Candidate, Document, build
from vedette.config.explain import Section, types_at, validate
from vedette.config.problems import Report
from vedette.config.source import Mapping, Scalar, has_hole, values
from vedette.config.variables import Samples, substitute, with_entry
from vedette.passwords import Minted
from vedette.secrets import Masker, Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette.config.checkfile import Manner
    from vedette.config.files import Found
    from vedette.discovery import Container, Target

NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,60}", re.ASCII)
NAME_SHAPE: Final = "must be letters, digits, '_', '.' and '-', since it follows the name of what was found"
_SENT: Final = "this secret is sent to whatever has such an image or label"
_NAMESPACE: Final = 'add `namespace:` to `match:`; "*" is all of them'
_SAMPLE_NAME: Final = "sample"


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Patterns = Annotated[tuple[str, ...], BeforeValidator(_one_or_many)]


class Match(BaseModel):
    """`match:` of an instance: for which targets it is made. All that is given must fit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: Patterns = Field(
        default=(), description="Images of a container, with or without registry and tag (glob patterns)."
    )
    labels: dict[str, str] = Field(default_factory=dict, description="Labels and their values (glob patterns).")
    namespace: Patterns = Field(default=(), description="Namespaces (glob patterns).")
    discovery: str = Field(default="", description="Name of the discovery that found it.")

    @model_validator(mode="after")
    def _something(self) -> Match:
        if not (self.image or self.labels or self.namespace):
            raise PydanticCustomError("vedette", "needs image, labels or namespace")
        return self

    def containers(self, target: Target, discovery: str) -> tuple[Container, ...] | None:
        """Those of a target's containers that it is about; None if the target does not fit."""
        if self.discovery not in ("", discovery):
            return None
        if self.namespace and not _fits(target.namespace, self.namespace):
            return None
        labels = target.labels
        if not all(key in labels and fnmatchcase(labels[key], value) for key, value in self.labels.items()):
            return None
        if not self.image:
            return target.containers
        chosen = tuple(one for one in target.containers if any(_fits(n, self.image) for n in spellings(one.image)))
        return chosen or None


def _fits(text: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def spellings(image: str) -> Iterator[str]:
    """`registry/library/redis:7@sha256:…`, and the same without digest, tag, registry and folders; no tag is `latest`.

    Source: the grammar of references, https://pkg.go.dev/github.com/distribution/reference.
    """
    yield image
    tagged = image.partition("@")[0]
    folder, slash, last = tagged.rpartition("/")
    bare = f"{folder}{slash}{last.partition(':')[0]}"
    if tagged == bare and tagged == image:  # neither tag nor digest
        tagged = f"{bare}:latest"
    for name in (tagged, bare):
        yield name
        while "/" in name:
            name = name.partition("/")[2]
            yield name


@dataclass(frozen=True, slots=True)
class Template:
    """An instance that waits for targets.

    Attributes:
        check: the check's name.
        plugin: the check's class.
        match: for which targets.
        own: its options as written, with `defaults` merged in, secrets resolved, variables not.
        name: what follows the target's name in the instance's; may be empty.
        found: its file.
        index: its position in `instances`.
        line: where it stands.
    """

    check: str
    plugin: Any
    match: Match
    own: Mapping
    name: str
    found: Found
    index: int
    line: int

    @property
    def file(self) -> str:
        """The YAML file as the user named it."""
        return self.found.shown

    def candidate(self, name: str, own: Mapping, report: Report) -> Candidate:
        """The instance that these options make, before its validation."""
        own = with_entry(own, "name", Scalar(name, self.line, quoted=True), self.line)
        document = Document(self.found, own, report)
        return Candidate(document, self.check, self.plugin, self.index, name, True, own, self.line)


def make_template(candidate: Candidate, masker: Masker, manner: Manner) -> Template | None:
    """The template, checked with sample values as far as that goes; None after reporting what is wrong.

    Args:
        candidate: an instance with `match:`.
        masker: knows secrets.
        manner: how its instances are made.
    """
    found, own = candidate.document.found, candidate.own
    report = Report(found.shown)
    if candidate.given and not NAME.fullmatch(candidate.name):
        report.error(own.entries["name"].line, (*candidate.path, "name"), NAME_SHAPE)
    match = _match(candidate, report, masker)
    sample = substitute(own, Samples(manner.variables), candidate.path, report)
    made = None
    if match is not None and isinstance(sample, Mapping):
        made = Template(
            candidate.check, candidate.plugin, match, own, candidate.name, found, candidate.index, candidate.line
        )
        build(made.candidate(_SAMPLE_NAME, sample, report), Masker(masker), manner)
    if match is not None and not match.namespace:
        _warn_of_secrets(own, candidate, report)
    candidate.document.report.take(report)
    return None if report.failed or has_hole(own) else made


def _warn_of_secrets(own: Mapping, candidate: Candidate, report: Report) -> None:
    """Images and labels are what whoever starts a program says of it: a secret goes to all who say so."""
    for path, node, line in values(own, (), candidate.line):
        secret = isinstance(node, Scalar) and (node.fixed or isinstance(node.value, Minted))
        kinds = types_at(candidate.plugin.config_class, path) if secret else ()
        if any(_is_secret(kind) or hasattr(kind, "localized") for kind in kinds):
            report.warning(line, (*candidate.path, *path), _SENT, _NAMESPACE)


def _is_secret(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Secret)


def _match(candidate: Candidate, report: Report, masker: Masker) -> Match | None:
    entry, path = candidate.match, (*candidate.path, "match")
    if entry is None or not isinstance(entry.node, Mapping):
        line = entry.line if entry is not None else candidate.line
        report.error(line, path, "must be a mapping of options", 'such as {image: "redis:*"}')
        return None
    made: Match | None = validate(Section(Match, entry.node, path, entry.line), report, masker)
    return made
