"""Floor 2: what discoveries found, as instances: those that targets ask for, and those of templates that fit them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Final

from vedette.config.checkfile import Candidate, Document, Manner, build
from vedette.config.files import Found
from vedette.config.problems import Path, Report, printable, suggest
from vedette.config.source import Entry, Mapping, Node, Scalar, Sequence, parse
from vedette.config.template import NAME, NAME_SHAPE
from vedette.config.untrusted import (
    MAX_BYTES,
    MAX_VALUES,
    OWN_TAGS,
    refuse_built,
    refuse_size,
    refuse_tags,
    refuse_written,
    with_interval,
)
from vedette.config.variables import Scope, substitute, with_entry
from vedette.errors import Problem, VedetteError
from vedette.secrets import Masker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping as Dict
    from collections.abc import Sequence as Many

    from vedette.config.model import Configuration, Instance
    from vedette.config.template import Template
    from vedette.discovery import Container, DiscoveryConfig, Target
    from vedette.plugins import Registry

MOST_PROBLEMS: Final = 20
"""Problems of one target that are kept: whoever writes a thousand mistakes gets no more room than others."""
MOST_SHOWN: Final = 200
"""Problems of all targets together."""
_LONGEST_NAME: Final = 200
_NOWHERE: Final = FilePath("/nonexistent")


@dataclass(frozen=True, slots=True)
class Findings:
    """What was made of all that was found.

    Attributes:
        instances: the valid instances, in the order of the targets.
        problems: what is wrong with what targets ask for, and with templates for single targets.
        made: how many instances came of each discovery, by its name.
        wrong: how many problems.
    """

    instances: tuple[Instance, ...] = ()
    problems: tuple[Problem, ...] = ()
    made: Dict[str, int] = field(default_factory=dict)
    wrong: Dict[str, int] = field(default_factory=dict)


Made = tuple[tuple["Instance", ...], tuple[Problem, ...]]


class Maker:
    """Makes instances of targets. What it made of a target it keeps while neither that nor the files change.

    Args:
        registry: knows the checks; only those that are asked for and allowed are imported.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: dict[tuple[str, str], tuple[Target, Made]] = {}
        self._basis: tuple[Any, ...] = ()

    def make(self, files: Configuration, found: Dict[str, Many[Target]]) -> Findings:
        """The instances of all that was found now. Blocking: it validates, and may import checks.

        Args:
            files: the configuration folder's own, with templates and discoveries.
            found: targets by the name of their discovery; of others nothing is made.
        """
        basis = (files.templates, files.discoveries, files.agent.tags, files.fleet is not None)
        if basis != self._basis:
            self._known, self._basis = {}, basis
        known: dict[tuple[str, str], tuple[Target, Made]] = {}
        taken = {instance.id: instance.origin or f"{instance.file}:{instance.line}" for instance in files.instances}
        instances: list[Instance] = []
        problems: list[Problem] = []
        made: dict[str, int] = {}
        wrong: dict[str, int] = {}
        for _, options in files.discoveries:
            before = len(instances), len(problems)
            for target in found.get(options.name, ()):
                entry = self._known.get((options.name, target.id))
                if entry is None or entry[0] != target:
                    entry = target, self._made(files, options, target)
                known[options.name, target.id] = entry
                problems += entry[1][1]
                for instance in entry[1][0]:
                    if instance.id in taken:
                        problems.append(_twin(instance, taken[instance.id]))
                        continue
                    taken[instance.id] = instance.origin
                    instances.append(instance)
            made[options.name] = len(instances) - before[0]
            wrong[options.name] = len(problems) - before[1]
        self._known = known
        return Findings(tuple(instances), tuple(_some(list(dict.fromkeys(problems)))), made, wrong)

    def _made(self, files: Configuration, options: DiscoveryConfig, target: Target) -> Made:
        """What comes of one target; nothing that it says may keep the others from being made."""
        try:
            return _Maker(files, options, target, self._registry).made()
        except Exception as error:
            message = f"makes vedette's own code fail ({type(error).__name__})"
            return (), (Problem(printable(target.name), 0, "", message),)


def _some(problems: list[Problem]) -> list[Problem]:
    more = len(problems) - MOST_SHOWN
    rest = Problem("autodiscovery", 0, "", f"{more} more problems are not shown") if more > 0 else None
    return problems if rest is None else [*problems[:MOST_SHOWN], rest]


def _twin(instance: Instance, other: str) -> Problem:
    return Problem(instance.file, instance.line, "", f"{instance.origin}: {instance.id} is there already: {other}")


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the instances of one target."""

    files: Configuration
    options: DiscoveryConfig
    target: Target
    registry: Registry

    def made(self) -> Made:
        """Those that it asks for, then those of templates of checks that it does not ask for itself."""
        report = Report(printable(f"{self.target.name}: {self.target.source}"))
        instances = list(self._asked(report)) if self.target.asks else []
        problems = report.problems
        own = {instance.check for instance in instances}
        for template in self.files.templates:
            containers = template.match.containers(self.target, self.options.name)
            if containers is None or template.check in own:
                continue
            for instance, found in self._of_template(template, containers):
                problems += found
                instances += [instance] if instance is not None else []
        if (more := len(problems) - MOST_PROBLEMS) > 0:
            last = Problem(report.file, 0, "", f"and {more} more problems")
            problems = [*problems[:MOST_PROBLEMS], last]
        return tuple(instances), tuple(problems)

    def _name(self, suffix: str) -> str:
        """The instance's name; one that is too long ends in a digest of itself."""
        name = f"{printable(self.target.name).replace('/', '.')}{suffix}"
        if len(name) <= _LONGEST_NAME:
            return name
        return f"{name[: _LONGEST_NAME - 13]}-{sha256(name.encode()).hexdigest()[:12]}"

    @property
    def _origin(self) -> str:
        return printable(f"{self.target.kind} {self.target.name}")

    # What the target asks for

    def _asked(self, report: Report) -> Iterator[Instance]:
        data = self.target.asks.encode(errors="surrogatepass")
        if len(data) > MAX_BYTES:
            report.error(0, (), f"is larger than {MAX_BYTES // 1024} KiB")
            return
        root = parse(data, report, MAX_VALUES)
        if root is None or report.failed:
            return
        if not isinstance(root, Mapping):
            report.error(root.line, (), "must be a mapping of checks", 'such as `redis: [{host: "%%host%%"}]`')
            return
        number = 0
        for check, entry in root.entries.items():
            plugin = self._plugin(check, entry, report)
            for index, item in enumerate(_items(check, entry, report) if plugin is not None else ()):
                number += 1
                if number > self.options.max_instances:
                    most = f"asks for more than {self.options.max_instances} instances"
                    report.error(item.line, (check, index), most, "`max_instances:` of agent.yaml says how many")
                    return
                instance = self._one_asked(check, plugin, index, item, report)
                if instance is not None:
                    yield instance

    def _plugin(self, check: str, entry: Entry, report: Report) -> Any:
        allowed = self.options.allow
        if check not in allowed:
            hint = suggest(check, allowed) or (f"it allows {', '.join(allowed)}" if allowed else "it allows none")
            report.error(entry.line, (check,), "agent.yaml does not allow this check", hint)
            return None
        try:
            return self.registry.load("checks", check)
        except (KeyError, VedetteError):
            report.error(entry.line, (check,), "the agent cannot load this check")
        return None

    def _one_asked(self, check: str, plugin: Any, index: int, item: Node, outer: Report) -> Instance | None:
        path: Path = (check, index)
        if not isinstance(item, Mapping):
            outer.error(item.line, path, "must be a mapping of options", 'such as {host: "%%host%%"}')
            return None
        report = Report(outer.file)
        instance = self._checked(check, plugin, index, item, report)
        outer.take(report)
        return None if report.failed else instance

    def _checked(self, check: str, plugin: Any, index: int, item: Mapping, report: Report) -> Instance | None:
        """The instance, if it breaks no rule; each step is only for what passed the one before."""
        path: Path = (check, index)
        refuse_written(plugin, item, path, report)
        suffix = _suffix(item, index, path, report)
        if report.failed:
            return None
        own = substitute(item, Scope(self.target, self.target.containers), path, report)
        if report.failed or not isinstance(own, Mapping):
            return None
        refuse_size(own, path, report)
        refuse_tags(own, self._taken_tags, path, report)
        if report.failed:
            return None
        own = self._completed(with_interval(own, self.options.min_interval), suffix, self.target.containers)
        found = Found(_NOWHERE / "annotation", report.file, check)
        document = Document(found, own, report)
        name = self._name(suffix)
        candidate = Candidate(document, check, plugin, index, name, True, own, item.line, within=(check,))
        instance = self._built(candidate)
        if instance is not None and not report.failed:
            refuse_built(instance, self.target, self.options, self._taken_tags, candidate)
        return instance

    @property
    def _taken_tags(self) -> frozenset[str]:
        tags = [*self.files.agent.tags, *self.target.tags, *(t for one in self.target.containers for t in one.tags)]
        return frozenset(OWN_TAGS) | {tag.partition(":")[0].lower() for tag in tags}

    # What templates make of it

    def _of_template(
        self, template: Template, containers: tuple[Container, ...]
    ) -> Iterator[tuple[Instance | None, list[Problem]]]:
        """One instance for each container whose image fits, or one for the target where no image was asked for."""
        if not template.match.image or len(containers) == 1:
            yield self._one_of_template(template, containers, "")
            return
        for container in containers:
            yield self._one_of_template(template, (container,), f":{container.name}")

    def _one_of_template(
        self, template: Template, containers: tuple[Container, ...], more: str
    ) -> tuple[Instance | None, list[Problem]]:
        report = Report(template.file)
        own = substitute(template.own, Scope(self.target, containers), ("instances", template.index), report)
        instance = None
        if not report.failed and isinstance(own, Mapping):
            suffix = f":{template.name}{more}" if template.name else more
            completed = self._completed(own, suffix, containers)
            instance = self._built(template.candidate(self._name(suffix), completed, report))
        problems = [replace(one, message=f"{self._origin}: {one.message}") for one in report.problems]
        return None if report.failed else instance, problems

    # Both

    def _completed(self, own: Mapping, suffix: str, containers: tuple[Container, ...]) -> Mapping:
        """The options with the instance's name and the target's tags."""
        tags = [*self.target.tags, *(containers[0].tags if len(containers) == 1 else ())]
        line = own.line
        own = with_entry(own, "name", Scalar(self._name(suffix), line, quoted=True), line)
        entry = own.entries.get("tags")
        if entry is None or isinstance(entry.node, Sequence):
            written = entry.node.items if entry is not None and isinstance(entry.node, Sequence) else ()
            items = (*written, *(Scalar(tag, line, quoted=True) for tag in tags))
            own = with_entry(own, "tags", Sequence(items, line), line if entry is None else entry.line)
        return own

    def _built(self, candidate: Candidate) -> Instance | None:
        masker = Masker(self.files.masker)
        instance = build(candidate, masker, Manner(fleet=self.files.fleet is not None))
        if instance is None:
            return None
        content = {**instance.content, "target": self.target.id}  # another of the same name is another target
        return replace(instance, content=content, origin=self._origin, masker=masker)


def _items(check: str, entry: Entry, report: Report) -> tuple[Node, ...]:
    if isinstance(entry.node, Sequence):
        return entry.node.items
    report.error(entry.line, (check,), "must be a list of instances", "begin each instance with '- '")
    return ()


def _suffix(item: Mapping, index: int, path: Path, report: Report) -> str:
    """What follows the target's name in the instance's: names of others than the operator stay within the target's."""
    entry = item.entries.get("name")
    if entry is None:
        return "" if index == 0 else f":{index + 1}"
    if isinstance(entry.node, Scalar) and isinstance(entry.node.value, str) and NAME.fullmatch(entry.node.value):
        return f":{entry.node.value}"
    report.error(entry.line, (*path, "name"), NAME_SHAPE)
    return ""


def joined(files: Configuration, findings: Findings) -> Configuration:
    """The configuration with what was found."""
    if not findings.instances and not findings.problems:
        return files
    return replace(
        files,
        instances=(*files.instances, *findings.instances),
        problems=(*files.problems, *findings.problems),
    )
