"""What plugin authors may rely on is pinned, light to import, and documented."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import vedette
import vedette.instrument
import vedette.kit
import vedette.testing

ROOT = Path(__file__).parents[1]
SOURCES = [path for folder in ("agent", "plugins") for path in sorted((ROOT / folder).rglob("*.py"))]

PUBLIC = {
    vedette: [
        "Alert", "Batch", "Check", "CheckConfig", "CheckError", "Container", "Diagnosis", "Discovery",
        "DiscoveryConfig", "Duration", "Emit", "Engine", "EngineConfig", "EngineConflict", "EngineRecord",
        "EngineUnavailable", "Estimate", "Evidence", "Found", "Kind", "Listener", "Login", "Metric", "Notifier",
        "NotifierConfig", "Password", "Remark", "Resolver", "ResolverConfig", "Sample", "Secret", "SecretError", "Sink",
        "SinkConfig", "Status", "Target", "Undelivered", "hookimpl",
    ],
    vedette.instrument: [
        "BusinessMetrics", "JsonFormatter", "MetricsMiddleware", "QueueWorker", "RealtimeCounters", "Recorded", "Stats",
        "TechnicalMetrics", "Vocabulary", "instrument_asyncpg", "instrument_redis", "instrument_sqlalchemy",
    ],
    vedette.kit: [
        "Batches", "Budget", "Courier", "DamagedError", "Deltas", "Entry", "HttpOptions", "ListenOptions", "Masker",
        "Outcome", "Piece", "PromNames", "Record", "Renamed", "Reply", "Size", "Sketch", "Spool",
        "SpoolTakenError", "Totals",
        "alert_data", "alert_from", "alert_text", "cards", "clip", "cut_tag", "cut_text", "delivery_id", "facts",
        "figure",
        "given", "headline", "http_date", "json_objects", "links", "mask", "moment", "plot_line", "probe_clock",
        "probe_dns",
        "probe_file", "probe_tcp", "probe_tls", "probe_unix", "retry_after", "sparkline", "ssl_context",
        "tells_of_secret", "title_of", "tls_context",
    ],
    vedette.testing: [
        "CheckRun", "Serving", "UdpCapture", "assert_declared", "run_check", "serve_check", "udp_capture",
    ],
}  # fmt: skip
"""A change here is a change for every plugin or application: it needs a line in CHANGELOG.md."""


@pytest.mark.parametrize("module", list(PUBLIC), ids=lambda module: module.__name__)
def test_public_names_are_these(module: Any) -> None:
    assert sorted(module.__all__) == PUBLIC[module]
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert missing == []


def test_lazy_names_are_the_same_for_type_checkers_and_at_run_time() -> None:
    tree = ast.parse(Path(vedette.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == {name: f"vedette.{home}" for name, home in vedette._HOME.items()}
    assert sorted(typed) == sorted(vedette.__all__)
    assert set(vedette.__all__) <= set(dir(vedette))
    with pytest.raises(AttributeError, match="module 'vedette' has no attribute 'Chekc'"):
        vedette.Chekc  # noqa: B018


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after the statement."""
    code = f"import sys, json; {statement}; print(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import vedette", {"pydantic", "pydantic_core", "pluggy", "anyio", "asyncio", "yaml", "psutil", "datadog"}),
        ("from vedette import Metric, Kind, Status, Batch", {"pydantic", "pluggy", "anyio", "asyncio"}),
        ("from vedette import Check, hookimpl", {"anyio", "rich", "psutil", "datadog", "redis", "yaml", "pytest"}),
    ],
)
def test_imports_stay_light(statement: str, unwanted: set[str]) -> None:
    assert loaded_by(statement) & unwanted == set()


def test_the_measure_of_lightness_can_tell() -> None:
    assert loaded_by("from vedette import CheckConfig") >= {"vedette", "pydantic"}


def undocumented(path: Path) -> list[str]:
    """Public modules, classes, functions and methods of a file that have no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [] if ast.get_docstring(tree) else ["the module"]
    nodes: list[tuple[str, ast.AST]] = [("", node) for node in tree.body]
    while nodes:
        prefix, node = nodes.pop()
        if isinstance(node, ast.If):  # TYPE_CHECKING and version blocks
            nodes += [(prefix, inner) for inner in node.body]
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node) and not _inherits_docstring(node, prefix, tree):
            found.append(f"{prefix}{node.name}")
        if isinstance(node, ast.ClassDef):
            nodes += [(f"{node.name}.", inner) for inner in node.body]
    return sorted(found)


CONTRACT = {
    "open",
    "close",
    "run",
    "serve",
    "send",
    "resolve",
    "declare",
    "lint",
    "acts",
    "reaches",
    "estimate",
    "diagnose",
}
"""Methods of the contracts, documented there once."""


def _inherits_docstring(node: ast.AST, prefix: str, tree: ast.Module) -> bool:
    return bool(prefix) and getattr(node, "name", "") in CONTRACT and _has_base(prefix.rstrip("."), tree)


def _has_base(name: str, tree: ast.Module) -> bool:
    return any(isinstance(node, ast.ClassDef) and node.name == name and node.bases for node in tree.body)


def test_every_public_module_class_and_function_has_a_docstring() -> None:
    assert len(SOURCES) > 20
    wrong = [f"{path.relative_to(ROOT)}: {name}" for path in SOURCES for name in undocumented(path)]
    assert not wrong, "\n".join(wrong)


def test_undocumented_names_are_found(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text("class A(B):\n    def run(self): ...\n    def go(self): ...\ndef f(): ...\ndef _g(): ...\n")
    assert undocumented(path) == ["A", "A.go", "f", "the module"]


@pytest.mark.parametrize("module", [vedette, vedette.kit], ids=lambda module: module.__name__)
def test_every_public_name_has_a_docstring(module: Any) -> None:
    texts = {name: _docstring(module, name) for name in module.__all__}
    assert [name for name, text in texts.items() if not text] == []


def _docstring(module: Any, name: str) -> str:
    """The docstring of a class or function; of a value (Duration, hookimpl) the string below its assignment."""
    value = getattr(module, name)
    home = sys.modules[f"vedette.{vedette._HOME[name]}"] if module is vedette else module
    if isinstance(value, type) or getattr(value, "__module__", "") == home.__name__:
        return str(vars(value).get("__doc__") or "") if isinstance(value, type) else str(value.__doc__ or "")
    body = ast.parse(Path(str(home.__file__)).read_text(encoding="utf-8")).body
    for node, following in pairwise(body):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            return str(following.value.value) if is_text else ""  # type: ignore[attr-defined]
    return str(value.__doc__ or "")


def test_the_version_is_said_once_for_people_and_once_for_programs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert vedette.__version__ == project["version"]
