"""Floor 2: a configuration directory in, a `Configuration` with every problem out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Literal

from vedette.config.agentfile import Sinks, read_agent
from vedette.config.checkfile import Candidate, Document, build, candidates, check_name, unique
from vedette.config.files import Found, find, read
from vedette.config.interpolate import Secrets
from vedette.config.model import AgentConfig, Configuration, Instance
from vedette.config.problems import Report
from vedette.config.source import Entry, Mapping, Node, parse, plain
from vedette.errors import Problem
from vedette.secrets import Masker

if TYPE_CHECKING:
    from collections.abc import Mapping as Dict
    from pathlib import Path

    from vedette.plugins import Registry

AGENT: Final = "agent"
ALERTS: Final = "alerts"


def load(
    directory: Path,
    registry: Registry,
    *,
    environ: Dict[str, str] = os.environ,
    secrets: Literal["resolve", "lazy"] = "resolve",
    only: str | None = None,
    sinks: bool = True,
) -> Configuration:
    """Read a configuration directory. Whatever the user wrote, this returns; what is wrong is in `problems`.

    Blocking: it reads files and, with `secrets="resolve"`, may drive resolver plugins in an event loop of its
    own. Call it before the agent's loop starts, or in a thread.

    Args:
        directory: the folder, as the user named it; problems show it so.
        registry: knows the plugins; only those that the files name are imported.
        environ: environment variables for `${env:…}`.
        secrets: `resolve` resolves every reference and reports failures as errors; `lazy` asks no resolver
            plugin, and a variable or file that is missing is a warning.
        only: read only the files of this check, beside agent.yaml.
        sinks: False leaves `sinks:` of agent.yaml alone.
    """
    masker = Masker()
    try:
        found, problems = find(directory)
    except (OSError, ValueError) as error:
        return _no_directory(directory, error, masker)
    loading = _Loading(registry, Secrets(environ, registry, secrets, masker), masker)
    loading.problems += problems
    agent, checks = loading.read(found, only)
    loading.secrets.prepare([node for document in checks for node in _parts(document)])
    config, made_sinks, fatal = loading.agent(agent, found, directory, sinks)
    instances = loading.instances(checks, only)
    order = {name: i for i, name in enumerate(loading.order)}
    return Configuration(
        directory=directory,
        agent=config,
        sinks=made_sinks,
        instances=instances,
        problems=tuple(sorted(loading.everything(), key=lambda p: (p.file, p.line))),
        masker=masker,
        fatal=fatal,
    )
