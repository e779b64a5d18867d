"""DESIGN's floors: imports go down only, and plugins know nothing but the public names."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import vedette
import vedette.kit

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
SOURCES = (ROOT / "agent", ROOT / "plugins")

FLOORS: dict[str, int] = {
    **dict.fromkeys(
        [
            "metrics",
            "errors",
            "units",
            "secrets",
            "spellings",
            "cards",
            "strays",
            "passwords",
            "cron",
            "lease",
            "renamed",
        ],
        0,
    ),
    **dict.fromkeys(["filters", "emit", "check", "sink", "notifier", "discovery", "engine", "hookspecs", "kit"], 1),
    **dict.fromkeys(
        [
            "advice",
            "probes",
            "listen",
            "outgoing",
            "ownmetrics",
            "resolver",
            "spool",
            "courier",
            "prose",
            "certificates",
        ],
        1,
    ),
    **dict.fromkeys(["plugins", "loading", "config", "render", "rules", "state", "logs"], 2),
    **dict.fromkeys(["runner", "transitions", "vitals", "isolation", "watchdog", "schedule", "outbox"], 3),
    **dict.fromkeys(
        [
            "report",
            "outlets",
            "crew",
            "scouts",
            "watch",
            "renewal",
            "servicemanager",
            "orphans",
            "services",
            "status",
            "control",
            "fleet",
            "ownership",
            "alerts",
        ],
        4,
    ),
    **dict.fromkeys(["agent", "testing", "doctor", "plan", "dry", "datadog", "scaffold", "moving"], 5),
    **dict.fromkeys(["cli", "__main__"], 6),
}
"""The first word after `vedette.` of a module, and its floor."""

ASIDE = ("vedette.sinks", "vedette.notifiers", "vedette_checks")
"""Plugins, even if they come in the same distribution."""
SHARED = {
    "vedette_checks.aws": (
        "vedette_checks.cloudwatch",
        "vedette_checks.sqs",
        "vedette_checks.aws_secrets",
        "vedette.notifiers.sns",
    ),
    "vedette_checks.ending": ("vedette_checks.datadog_check", "vedette_checks.exec"),
    "vedette_checks.exposition": ("vedette_checks.exec", "vedette_checks.openmetrics"),
    "vedette_checks.options": (
        "vedette_checks.host",
        "vedette_checks.openmetrics",
        "vedette_checks.process",
        "vedette_checks.rabbitmq",
        "vedette_checks.tls",
    ),
}
"""Rooms without a check of their own, and the siblings that may look into them."""
APART = "vedette.instrument"
"""For applications: imports nothing of the agent."""


@dataclass(frozen=True)
class Import:
    """One import of a module of ours: who, what, which names; only for type checkers; when the importer loads?"""

    importer: str
    target: str
    names: tuple[str, ...]
    line: int
    typing_only: bool
    at_load: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target}"


def module_name(path: Path) -> str:
    source = next(source for source in SOURCES if path.is_relative_to(source))
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, Path]:
    return {module_name(path): path for source in SOURCES for path in sorted(source.rglob("*.py"))}


def is_ours(name: str) -> bool:
    return name.split(".")[0] in ("vedette", "vedette_checks")


def imports(module: str, text: str, is_package: bool, known: set[str]) -> list[Import]:
    """Every import of our own modules in a source text, those inside functions and TYPE_CHECKING included."""
    tree = ast.parse(text)
    typing_only = _inside(tree, _is_typing_block)
    later = typing_only | _inside(tree, lambda node: isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    found: list[Import] = []
    for node in ast.walk(tree):
        how = (getattr(node, "lineno", 0), node in typing_only, node not in later)
        if isinstance(node, ast.Import):
            found += [Import(module, alias.name, (), *how) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, is_package, node)
            for alias in node.names:  # `from vedette import hookspecs` imports a module
                inner = f"{base}.{alias.name}"
                target, names = (inner, ()) if inner in known else (base, (alias.name,))
                found.append(Import(module, target, names, *how))
    return [each for each in found if is_ours(each.target)]


def _is_typing_block(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _inside(tree: ast.AST, wanted: Callable[[ast.AST], bool]) -> set[ast.AST]:
    """Every statement in the bodies of the nodes that are wanted."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):  # from the outside in: what lies within a body that was walked needs no walk
        if node not in found and wanted(node):
            found.update(inner for statement in getattr(node, "body", []) for inner in ast.walk(statement))
    return found


def _absolute(module: str, is_package: bool, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*parts, *([node.module] if node.module else [])])


@cache
def all_imports() -> list[Import]:
    known = modules()
    return [
        each
        for name, path in known.items()
        for each in imports(name, path.read_text(encoding="utf-8"), path.name == "__init__.py", set(known))
    ]


def floor(module: str) -> int | None:
    """The floor of a core module; None for `vedette` itself, plugins and what stands apart."""
    word = module.split(".")[1] if module.startswith("vedette.") else ""
    if word.startswith("cli"):
        word = "cli"
    return FLOORS.get(word)


def is_in(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def violations(each: Import) -> str:
    """What is wrong with an import; empty if nothing is."""
    source, target = each.importer, each.target
    if is_in(source, APART):
        return "" if is_in(target, APART) else f"{each}: {APART} imports nothing of the agent"
    if is_in(source, *ASIDE):
        return _plugin_violation(each)
    if is_in(target, *ASIDE, APART):
        return f"{each}: the core knows no plugin by name"
    here, there = floor(source), floor(target)
    if source == "vedette":
        return "" if each.typing_only else f"{each}: the public names load lazily, only type checkers import them"
    if here is not None and there is not None and there > here:
        return f"{each}: floor {here} may not look up to floor {there}"
    return ""


def _plugin_violation(each: Import) -> str:
    """A plugin imports public names and its own package."""
    source, target = each.importer, each.target
    depth = 2 if source.startswith("vedette_checks") else 3
    own = ".".join(source.split(".")[:depth])
    if is_in(target, own, *(room for room, siblings in SHARED.items() if is_in(source, *siblings))):
        return ""
    public = {"vedette": vedette.__all__, "vedette.kit": vedette.kit.__all__}.get(target)
    if public is None or not each.names or any(name not in public for name in each.names):
        names = f" ({', '.join(each.names)})" if each.names else ""
        return f"{each}{names}: a plugin imports only public names of vedette and vedette.kit, like a third party"
    return ""


def test_every_core_module_has_a_floor() -> None:
    missing = [
        name
        for name in modules()
        if name.startswith("vedette.") and floor(name) is None and not is_in(name, *ASIDE, APART)
    ]
    assert not missing, f"give each of them a floor in FLOORS of {Path(__file__).name}: {', '.join(missing)}"


def test_imports_go_down_only() -> None:
    found = all_imports()
    assert len(found) > 100
    wrong = [problem for each in found if (problem := violations(each))]
    assert not wrong, "\n".join(wrong)


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for each in all_imports():
        if each.at_load and each.target in graph and each.target != each.importer:
            graph[each.importer].add(each.target)
    loops = sorted(name for name in graph if name in _reachable(name, graph))
    assert not loops, f"in a circle of imports: {', '.join(loops)}"


def _reachable(start: str, graph: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += graph[name]
    return seen


def test_docstrings_name_the_floor() -> None:
    wrong = []
    for name, path in modules().items():
        number = floor(name)
        top_level = name.count(".") == 1
        if number is None or not top_level or name == "vedette.__main__":
            continue
        first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()[:1]
        if not first or not first[0].startswith(f"Floor {number}: "):
            wrong.append(f"{name}: its docstring should begin with 'Floor {number}: '")
    assert not wrong, "\n".join(wrong)


# The rules themselves


KNOWN = {
    "vedette",
    "vedette.check",
    "vedette.hookspecs",
    "vedette.runner",
    "vedette_checks.redis.keys",
    "vedette.sinks.file",
}


@pytest.mark.parametrize(
    ("module", "text", "wrong"),
    [
        ("vedette.check", "from vedette.metrics import Metric", ""),
        ("vedette.check", "from vedette.sink import Sink", ""),
        ("vedette.metrics", "from vedette.check import Check", "floor 0 may not look up to floor 1"),
        ("vedette.metrics", "def f():\n    import vedette.check", "floor 0 may not look up to floor 1"),
        ("vedette.plugins", "from vedette import hookspecs", ""),
        ("vedette.plugins", "from vedette import runner", "floor 2 may not look up to floor 3"),
        ("vedette.plugins", "from . import runner", "floor 2 may not look up to floor 3"),
        ("vedette.config.files", "from ..runner import Runner", "floor 2 may not look up to floor 3"),
        (
            "vedette.outbox",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from vedette.agent import Agent",
            "floor 3 may not look up to floor 5",
        ),
        ("vedette.agent", "from vedette.sinks.file import FileSink", "the core knows no plugin by name"),
        ("vedette.cli", "import vedette_checks.redis", "the core knows no plugin by name"),
        ("vedette_checks.redis", "from vedette import Check, Metric\nfrom vedette.kit import Deltas", ""),
        ("vedette_checks.redis", "from vedette_checks.redis.keys import KEYS\nfrom . import keys", ""),
        ("vedette_checks.redis.info", "from .keys import KEYS", ""),
        ("vedette_checks.redis", "from vedette.metrics import Tags", "a plugin imports only public names"),
        ("vedette_checks.redis", "from vedette import check", "a plugin imports only public names"),
        ("vedette_checks.redis", "import vedette", "a plugin imports only public names"),
        ("vedette_checks.redis", "from vedette.kit import lru_cache", "a plugin imports only public names"),
        ("vedette_checks.redis", "from vedette_checks.host import x", "a plugin imports only public names"),
        ("vedette_checks.cloudwatch", "from vedette_checks.aws import Account", ""),
        ("vedette_checks.redis", "from vedette_checks.aws import Account", "a plugin imports only public names"),
        ("vedette_checks.aws", "from vedette_checks.sqs import x", "a plugin imports only public names"),
        ("vedette.sinks.file", "from vedette import Sink\nfrom vedette.kit import json_objects", ""),
        ("vedette.sinks.file", "from vedette.sinks.console import x", "a plugin imports only public names"),
        ("vedette.instrument.api", "from vedette.instrument import x", ""),
        ("vedette.instrument", "from vedette import Kind", "vedette.instrument imports nothing of the agent"),
        ("vedette", "from vedette.check import Check", "the public names load lazily"),
        ("vedette", "if TYPE_CHECKING:\n    from vedette.check import Check", ""),
    ],
)
def test_the_rules_tell_right_from_wrong(module: str, text: str, wrong: str) -> None:
    is_package = module in ("vedette", "vedette_checks.redis", "vedette.instrument")
    told = [problem for each in imports(module, text, is_package, KNOWN) if (problem := violations(each))]
    assert [wrong in problem for problem in told] == ([True] if wrong else []), told
