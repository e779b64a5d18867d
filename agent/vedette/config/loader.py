"""Floor 2: a configuration directory in, a `Configuration` with every problem out."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Literal

from vedette.config.agentfile import AgentFile, read_agent, without_secrets
from vedette.config.checkfile import Document, Manner, build, candidates, check_name, report_twins
from vedette.config.files import find, read
from vedette.config.interpolate import Secrets
from vedette.config.model import AgentConfig, Configuration, Instance
from vedette.config.notify import addressable
from vedette.config.problems import Report, printable
from vedette.config.resolvers import resolver_options
from vedette.config.source import Entry, Mapping, Node, parse
from vedette.config.vault import Vault
from vedette.errors import Problem
from vedette.secrets import Masker

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Mapping as Dict
    from pathlib import Path

    from vedette.config.agentfile import Discoveries
    from vedette.config.checkfile import Candidate
    from vedette.config.files import Found
    from vedette.config.template import Template
    from vedette.plugins import Registry
    from vedette.rules.model import Rulebook

AGENT: Final = "agent"
ALERTS: Final = "alerts"
_LITERAL: Final = ("check", "alerts", "maintenance")
"""Keys of a check's file and of alerts.yaml in which references are not resolved."""


def load(
    directory: Path,
    registry: Registry,
    *,
    environ: Dict[str, str] = os.environ,
    secrets: Literal["resolve", "lazy"] = "resolve",
    only: str | None = None,
    sinks: bool = True,
    thorough: bool = False,
    masker: Masker | None = None,
    vault: Vault | None = None,
) -> Configuration:
    """Read a configuration directory. Whatever the user wrote, this returns; what is wrong is in `problems`.

    An error inside one instance keeps that instance out, any other error in a check's file all of the file's.
    Blocking: it reads files and may drive resolver plugins in an event loop of its own. Call it before the
    agent's loop starts, or in a thread.

    Args:
        directory: the folder, as the user named it; problems show it so.
        registry: knows the plugins; only those that the files name are imported.
        environ: environment variables for `${env:…}`.
        secrets: `resolve` resolves every reference and reports failures as errors; `lazy` asks no resolver
            plugin, and a variable or file that is missing is a warning.
        only: read only the files of this check, beside agent.yaml.
        sinks: False leaves `sinks:`, `notifiers:`, `autodiscovery:` and `fleet:` of agent.yaml alone and imports no
            such plugin.
        thorough: ask each check's `examine` too, which may cost time and memory.
        masker: learns the secrets; a running agent gives its own.
        vault: keeps what resolver plugins answered; likewise.
    """
    fresh, masker, vault = masker is None, masker or Masker(), vault or Vault()
    try:
        found, problems = find(directory)
    except (OSError, ValueError) as error:
        return _without_directory(directory, error, masker)
    documents, reports = _parse_all(found, only)
    found_secrets = Secrets(environ, registry, secrets, masker, vault)
    used = secrets == "resolve" or thorough  # `vedette status` reads agent.yaml too, and need not load an SDK for it
    documents, options = _resolvers(documents, found_secrets, registry, masker, used=used)
    found_secrets.prepare((node for document in documents for node in _resolvable(document)), options)
    documents = [_filled(document, found_secrets) for document in documents]

    agent_document = next((d for d in documents if _role(d.found) == AGENT), None)
    agent_report = agent_document.report if agent_document else Report(_shown(directory / f"{AGENT}.yaml"))
    agent = read_agent(agent_document, agent_report, registry, masker, sinks=sinks)
    if fresh and not agent.options.mask_card_numbers:  # for as long as the agent runs: tags are kept as they were made
        masker.spare_cards()
    broken = any(_is_agent(problem, directory) for report in (*reports, agent_report) for problem in report.problems)
    fleet = agent.has_fleet or broken  # agent.yaml may be about to say that there is one
    checks = [document for document in documents if _role(document.found) == "check"]
    manner = Manner(fleet, thorough, _variables(agent.discoveries) if sinks else None)
    instances, templates = _instances(checks, registry, masker, manner)
    if sinks and not agent.discoveries and not agent_report.failed:
        _warn_of_templates(templates, documents)
    rulebook = None
    if sinks and only is None:
        theirs = {file.shown for file in found if _role(file) == "check"}
        missing = any(problem.severity == "error" for problem in problems)  # a dead link, a folder of somebody else's
        parsed = (*reports, *(document.report for document in checks))
        unread = missing or any(report.failed and report.file in theirs for report in parsed)
        whole = not (agent.discoveries or templates or broken or unread)
        rulebook = _rulebook(documents, instances, None if agent_report.failed else agent, masker, complete=whole)
        if missing or any(report.failed for report in (*reports, *(document.report for document in documents))):
            from vedette.rules.model import Rulebook  # only where there may be rules that were not understood

            rulebook = replace(rulebook or Rulebook(), whole=False)
    problems += [p for report in (*reports, agent_report) for p in report.problems]
    if only is None and not problems and not agent.discoveries and not any(_role(f) == "check" for f in found):
        problems.append(_nothing_to_do(directory))
    said = dict.fromkeys(_without_cards(problem, masker) for problem in problems)
    problems = sorted(said, key=lambda problem: (problem.file, problem.line))
    fatal = any(problem.severity == "error" and _is_agent(problem, directory) for problem in problems)
    return Configuration(
        directory,
        agent.options,
        agent.sinks,
        instances,
        tuple(problems),
        masker,
        fatal,
        found_secrets.files,
        vault,
        agent.discoveries,
        templates,
        found_secrets.sources,
        agent.fleet,
        agent.notifiers,
        rulebook,
    )


def _without_cards(problem: Problem, masker: Masker) -> Problem:
    """Every value of a secret was kept out of it already."""
    return replace(
        problem, path=masker.cards(problem.path), message=masker.cards(problem.message), hint=masker.cards(problem.hint)
    )


def _role(found: Found) -> str:
    return found.stem if found.stem in (AGENT, ALERTS) and not found.folder else "check"


def _shown(path: Path) -> str:
    return printable(path.as_posix())


def _is_agent(problem: Problem, directory: Path) -> bool:
    file = PurePath(problem.file)
    return file.stem == AGENT and file.parent == PurePath(_shown(directory))


def _parse_all(found: list[Found], only: str | None) -> tuple[list[Document], list[Report]]:
    documents: list[Document] = []
    reports: list[Report] = []
    taken: dict[str, Found] = {}
    for file in found:
        report = Report(file.shown)
        role = _role(file)
        if role != "check" and taken.setdefault(role, file) is not file:
            report.error(0, (), f"{taken[role].shown} is there too", "keep one of the two")
            reports.append(report)
            continue
        document = _parse(file, report, only)
        if document is not None:
            documents.append(document)
        if document is not None or role == AGENT or only is None or only == (file.folder or file.stem):
            reports.append(report)
    return documents, reports


def _parse(file: Found, report: Report, only: str | None) -> Document | None:
    """The parsed file, or None if it cannot be parsed or is not asked for."""
    data = read(file.path, report)
    if data is None:
        return None
    wanted = only is None or _role(file) == AGENT
    if not wanted and only != (file.folder or file.stem) and (only or "").encode() not in data:
        return None  # nothing in it can name the check: a one-shot run saves the parsing
    root = parse(data, report)
    if root is None:
        return None
    document = Document(file, root, report)
    return document if wanted or check_name(document) == only else None


def _resolvers(
    documents: list[Document], secrets: Secrets, registry: Registry, masker: Masker, *, used: bool
) -> tuple[list[Document], Dict[str, Any]]:
    """The documents without `secrets:` of agent.yaml, and what that says: options of resolvers, by name."""
    kept, options = [], {}
    for document in documents:
        if _role(document.found) == AGENT:
            document, entry = without_secrets(document)
            if entry is not None and used:
                node = secrets.fill(entry.node, ("secrets",), document.found.path.parent, document.report)
                options = resolver_options(replace(entry, node=node), document, registry, masker)
        kept.append(document)
    return kept, options


def _resolvable(document: Document) -> Iterable[Node]:
    role = _role(document.found)
    if role == ALERTS and not isinstance(document.root, Mapping):
        return ()
    if role != AGENT and isinstance(document.root, Mapping):
        return [entry.node for key, entry in document.root.entries.items() if key not in _LITERAL]
    return (document.root,)


def _filled(document: Document, secrets: Secrets) -> Document:
    """The document with its references replaced."""
    role, root = _role(document.found), document.root
    base = document.found.path.parent
    if role == ALERTS and not isinstance(root, Mapping):
        return document
    if role == AGENT or not isinstance(root, Mapping):
        return replace(document, root=secrets.fill(root, (), base, document.report))
    entries = {
        key: entry if key in _LITERAL else Entry(secrets.fill(entry.node, (key,), base, document.report), entry.line)
        for key, entry in root.entries.items()
    }
    return replace(document, root=Mapping(entries, root.line))


def _instances(
    documents: list[Document], registry: Registry, masker: Masker, manner: Manner
) -> tuple[tuple[Instance, ...], tuple[Template, ...]]:
    found = [candidate for document in documents for candidate in candidates(document, registry)]
    report_twins(found)
    built = [(one, _built(one, masker, manner)) for one in found]
    broken = {document.found.shown: document.report.broken_instances() for document in documents}
    good: list[Instance] = []
    templates: list[Template] = []
    for candidate, made in built:
        bad = broken[candidate.document.found.shown]
        if bad is None or candidate.index in bad:
            continue
        if isinstance(made, Instance):
            good.append(made)
        elif made is not None:
            templates.append(made)
    return tuple(good), tuple(templates)


def _built(candidate: Candidate, masker: Masker, manner: Manner) -> Instance | Template | None:
    if candidate.match is None:
        return build(candidate, masker, manner)
    from vedette.config.template import make_template  # only where there is one

    return make_template(candidate, masker, manner)


def _variables(discoveries: Discoveries) -> frozenset[str]:
    return frozenset(name for plugin, _ in discoveries for name in plugin.variables)


def _warn_of_templates(templates: tuple[Template, ...], documents: list[Document]) -> None:
    reports = {document.found.shown: document.report for document in documents}
    for template in templates:
        message = "nothing is ever found for it: agent.yaml has no `autodiscovery:`"
        reports[template.file].warning(template.line, ("instances", template.index, "match"), message)


def _rulebook(
    documents: list[Document], instances: Iterable[Instance], agent: AgentFile | None, masker: Masker, *, complete: bool
) -> Rulebook | None:
    """What the files say of alerts; None where none does. Without agent.yaml's part less can be checked."""
    wanted = [
        (document, check_name(document) or "" if _role(document.found) == "check" else "")
        for document in documents
        if _role(document.found) == ALERTS or (_role(document.found) == "check" and _has_alerts(document.root))
    ]
    if not wanted:
        return None
    from vedette.rules.catalogue import Catalogue  # only where there are rules
    from vedette.rules.reading import read_rules

    names = addressable(agent.notifiers, agent.options.routes) if agent is not None else None
    tags = agent.options.tags if agent is not None else ()
    return read_rules(wanted, Catalogue(instances, tags, complete=complete), masker, names)


def _has_alerts(root: Node) -> bool:
    return isinstance(root, Mapping) and "alerts" in root.entries


def _without_directory(directory: Path, error: Exception, masker: Masker) -> Configuration:
    if isinstance(error, FileNotFoundError):
        message = "this folder does not exist"
    elif isinstance(error, NotADirectoryError):
        message = "is not a folder"
    else:
        message = f"cannot be read: {getattr(error, 'strerror', None) or 'no usable path'}"
    problem = Problem(_shown(directory), 0, "", message, "--conf DIR names the folder with the YAML files")
    return Configuration(directory, AgentConfig(), (), (), (problem,), masker, fatal=True)


def _nothing_to_do(directory: Path) -> Problem:
    hint = f"`vedette example host > {_shown(directory)}/host.yaml` makes one"
    return Problem(_shown(directory), 0, "", "holds no file of a check", hint, "warning")
