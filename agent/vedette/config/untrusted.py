"""Floor 2: the rules for options that others than the operator wrote, such as a pod's annotation.

Their author may have the agent look at the target itself, and nothing else: no reference is resolved, no file of the
agent's machine is named, no budget of the operator's is changed, nothing is reported in another's name, and every host
that the instance reaches is the target's own or one that agent.yaml lists.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from vedette.check import Check
from vedette.config.explain import types_at
from vedette.config.problems import Path, Report, one_line
from vedette.config.source import Entry, Mapping, Scalar, Sequence, values
from vedette.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Collection

    from vedette.config.model import Instance
    from vedette.discovery import DiscoveryConfig, Target

MAX_BYTES: Final = 16 * 1024
MAX_VALUES: Final = 2_000
MAX_FILLED: Final = 64 * 1024
MAX_TIMEOUT: Final = 60.0
MAX_TAGS: Final = 20
MAX_TAG: Final = 200
RESERVED: Final = ("isolate", "memory_limit", "run_on", "schedule")
"""Options of every instance that only the operator may give."""
OWN_METRICS: Final = ("vedette.", "health_check.")
"""What the names of the agent's own metrics begin with."""
OWN_TAGS: Final = ("instance", "host", "check")
"""Keys of tags that say where a sample comes from."""
_HOST: Final = 'write "%%host%%", or have it added to `hosts:` of agent.yaml'


def is_open(plugin: Any) -> bool:
    """Whether a check says of its options what they reach, without which nobody but the operator may set them."""
    own: Any = Check.reaches
    return plugin.reaches.__func__ is not own.__func__


def refuse_written(plugin: Any, own: Mapping, path: Path, report: Report) -> None:
    """Report what may not be written at all; nothing of it is looked at before."""
    for inner, node, line in values(own, path, own.line):
        if isinstance(node, Scalar) and isinstance(node.value, str) and "${" in node.value:
            report.error(node.line, inner, "a '${' is not resolved here", "%%env:NAME%% is a variable of the target")
        if any(_names_files(each) for each in types_at(plugin.config_class, inner[len(path) :])):
            report.error(line, inner, "only the operator may name files of the agent's machine")
    for option in RESERVED:
        if option in own.entries:
            report.error(own.entries[option].line, (*path, option), "only the operator may set this option")
    metrics = own.entries.get("metrics")
    if metrics is not None and isinstance(metrics.node, Mapping) and "rename" in metrics.node.entries:
        line = metrics.node.entries["rename"].line
        report.error(line, (*path, "metrics", "rename"), "only the operator may rename metrics")


def _names_files(annotation: Any) -> bool:
    """Whether values of this type are paths, or know paths that are relative to their file (`localized`)."""
    return isinstance(annotation, type) and (issubclass(annotation, PurePath) or hasattr(annotation, "localized"))


def _holds_path(value: Any) -> bool:
    """Whether a path was given anywhere in validated options, be it under another spelling of its option."""
    if isinstance(value, BaseModel):
        return any(_holds_path(getattr(value, name)) for name in value.model_fields_set)
    if isinstance(value, dict):
        return any(map(_holds_path, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_holds_path, value))
    return isinstance(value, PurePath)


def refuse_size(own: Mapping, path: Path, report: Report) -> None:
    """Report options that variables made too long."""
    texts = (node.value for _, node, _ in values(own, path, own.line) if isinstance(node, Scalar))
    if sum(len(text) for text in texts if isinstance(text, str)) > MAX_FILLED:
        report.error(own.line, path, f"is larger than {MAX_FILLED // 1024} KiB once its variables are filled in")


def refuse_tags(own: Mapping, taken: Collection[str], path: Path, report: Report) -> None:
    """Report tags that would say that samples come from elsewhere, and what would make every sample large."""
    entry = own.entries.get("tags")
    items = entry.node.items if entry is not None and isinstance(entry.node, Sequence) else ()
    if entry is not None and len(items) > MAX_TAGS:
        report.error(entry.line, (*path, "tags"), f"must have at most {MAX_TAGS} entries")
    for place, item in enumerate(items):
        if isinstance(item, Scalar) and len(str(item.value)) > MAX_TAG:
            report.error(item.line, (*path, "tags", place), f"must have at most {MAX_TAG} characters")
        if isinstance(item, Scalar) and str(item.value).partition(":")[0].strip().lower() in taken:
            report.error(item.line, (*path, "tags", place), "the agent itself sets this tag")


def with_interval(own: Mapping, least: float) -> Mapping:
    """The options with an interval, where the default would be shorter than what is allowed."""
    if "interval" in own.entries:
        return own
    default = Check.config_class.model_fields["interval"].default
    if default >= least:
        return own
    return Mapping({**own.entries, "interval": Entry(Scalar(least, own.line), own.line)}, own.line)


def refuse_built(instance: Instance, target: Target, options: DiscoveryConfig, candidate: Any) -> None:
    """Report what a valid instance may not be like.

    Args:
        instance: validated.
        target: for which it is.
        options: what agent.yaml allows.
        candidate: what it was built from.
    """
    config, report, path = instance.config, candidate.document.report, candidate.path

    def say(option: str, message: str, hint: str = "") -> None:
        entry = candidate.own.entries.get(option)
        report.error(entry.line if entry else candidate.line, (*path, option) if entry else path, message, hint)

    if config.interval < options.min_interval:
        say("interval", f"must be at least {format_duration(options.min_interval)}, says `min_interval:` of agent.yaml")
    if _holds_path(config):
        say("", "only the operator may name files of the agent's machine")
    if (config.timeout or 0.0) > MAX_TIMEOUT:
        say("timeout", f"must be at most {format_duration(MAX_TIMEOUT)}")
    if any(metric.name.startswith(OWN_METRICS) for metric in instance.plugin.declare(config)):
        say("", "names a metric of the agent's own")
    try:
        hosts = instance.plugin.reaches(config)
        reached = None if hosts is None else [str(host) for host in hosts]
    except ValueError as error:
        say("", one_line(str(error)))
    except Exception as error:
        say("", f"the check's own `reaches` failed ({type(error).__name__})")
    else:
        if reached is None:
            say("", "only the operator may configure this check")
        elif not all(_may_reach(host, target, options) for host in reached):
            say("host", f"reaches a host that is not the {target.kind}'s own", _HOST)


def _may_reach(host: str, target: Target, options: DiscoveryConfig) -> bool:
    host = host.lower()
    return host == target.host.lower() or any(fnmatchcase(host, pattern.lower()) for pattern in options.hosts)
