"""Floor 2: the rules for options that others than the operator wrote, such as a pod's annotation.

Their author may have the agent look at the target itself, and nothing else: no reference is resolved, no file of the
agent's machine is named, no budget of the operator's is changed, nothing is reported in another's name, and every host
that the instance reaches is the target's own or one that agent.yaml lists.
"""

from __future__ import annotations

import unicodedata
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
    from collections.abc import Callable, Collection

    from vedette.config.model import Instance
    from vedette.discovery import DiscoveryConfig, Target

MAX_BYTES: Final = 16 * 1024
MAX_VALUES: Final = 2_000
MAX_FILLED: Final = 64 * 1024
MAX_TIMEOUT: Final = 60.0
MAX_TAGS: Final = 20
MAX_TAG: Final = 200
MAX_ITEMS: Final = 50
"""Entries of any list: each may be a request or a series of its own."""
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
        return any(_holds_path(vars(value)[name]) for name in value.model_fields_set)
    if isinstance(value, dict):
        return any(map(_holds_path, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_holds_path, value))
    return isinstance(value, PurePath)


def refuse_size(own: Mapping, path: Path, report: Report) -> None:
    """Report lists that are too long, and options that variables made too long."""
    size = 0
    for inner, node, line in values(own, path, own.line):
        if isinstance(node, Scalar) and isinstance(node.value, str):
            size += len(node.value)
        if isinstance(node, Sequence) and inner[-1] != "tags" and len(node.items) > MAX_ITEMS:
            report.error(line, inner, f"must have at most {MAX_ITEMS} entries")
    if size > MAX_FILLED:
        report.error(own.line, path, f"is larger than {MAX_FILLED // 1024} KiB once its variables are filled in")


def refuse_tags(own: Mapping, taken: Collection[str], path: Path, report: Report) -> None:
    """Report tags, wherever they are, that would say that samples come from elsewhere or make every sample large."""
    for inner, node, line in values(own, path, own.line):
        if inner[-1] != "tags" or not isinstance(node, Sequence):
            continue
        if len(node.items) > MAX_TAGS:
            report.error(line, inner, f"must have at most {MAX_TAGS} entries")
        for place, item in enumerate(node.items):
            if isinstance(item, Scalar) and (wrong := _wrong_tag(str(item.value), taken)):
                report.error(item.line, (*inner, place), wrong)


def _wrong_tag(tag: str, taken: Collection[str]) -> str:
    if len(tag) > MAX_TAG:
        return f"must have at most {MAX_TAG} characters"
    if any(char in ",|" or unicodedata.category(char).startswith("C") for char in tag):
        return "must not hold a comma, a '|' or an invisible character"  # where a line or a list of tags may end
    return "the agent itself sets this tag" if _is_taken(tag.partition(":")[0], taken) else ""


def _is_taken(key: str, taken: Collection[str]) -> bool:
    return unicodedata.normalize("NFKC", key).strip().lower() in taken


def with_interval(own: Mapping, least: float) -> Mapping:
    """The options with an interval, where the default would be shorter than what is allowed."""
    if "interval" in own.entries:
        return own
    default = Check.config_class.model_fields["interval"].default
    if default >= least:
        return own
    return Mapping({**own.entries, "interval": Entry(Scalar(least, own.line), own.line)}, own.line)


def refuse_built(
    instance: Instance, target: Target, options: DiscoveryConfig, taken: Collection[str], candidate: Any
) -> None:
    """Report what a valid instance may not be like.

    Args:
        instance: validated.
        target: for which it is.
        options: what agent.yaml allows.
        taken: keys of tags that the agent sets.
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
    _refuse_metrics(instance, options, taken, say)
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


def _refuse_metrics(
    instance: Instance, options: DiscoveryConfig, taken: Collection[str], say: Callable[[str, str, str], None]
) -> None:
    """Report metrics that the options name so that they could pass for what another check measures."""
    plugin = instance.plugin
    known = {metric.name for metric in plugin.metrics}
    for metric in plugin.declare(instance.config):
        if metric.name in known:
            continue
        if metric.name.startswith(OWN_METRICS):
            return say("", "names a metric of the agent's own", "")
        own = metric.name.startswith(f"{plugin.name}.")
        if not own and not any(fnmatchcase(metric.name, pattern) for pattern in options.metric_names):
            return say(
                "", "names a metric that agent.yaml does not allow", "see `metric_names:` of its `autodiscovery:`"
            )
        if any(_is_taken(key, taken) for key in metric.tags):
            return say("", "names a tag that the agent itself sets", "")
    return None


def _may_reach(host: str, target: Target, options: DiscoveryConfig) -> bool:
    host = host.lower()
    return host == target.host.lower() or any(fnmatchcase(host, pattern.lower()) for pattern in options.hosts)
