"""Floor 5: checks of the Datadog Agent without a counterpart here, whose code is at hand: they run as they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

CHECK: Final = "datadog_check"
"""The check that runs them."""
_AGENT: Final = Path("/opt/datadog-agent")


def code_of(check: str, folder: Path, agent: Path = _AGENT) -> dict[str, str] | None:
    """Where the code of a check is, as options of `datadog_check`; None if it is nowhere.

    Looked for in the `checks.d` beside the conf.d, in this Python, and in a Datadog Agent that is installed.

    Args:
        check: its name there.
        folder: the conf.d.
        agent: where the Datadog Agent is.
    """
    if not check.isidentifier():
        return None
    python = agent / "embedded" / "bin" / "python3"
    theirs = {"python": str(python)} if python.exists() else {}
    here = _is_here("datadog_checks.base")
    for place in (folder.resolve().parent / "checks.d" / f"{check}.py", agent / "checks.d" / f"{check}.py"):
        if place.is_file():
            return {"path": str(place)} | ({} if here else theirs)
    if here and _is_here(f"datadog_checks.{check}"):
        return {"module": f"datadog_checks.{check}"}
    pattern = f"embedded/lib/python3*/site-packages/datadog_checks/{check}/__init__.py"
    if theirs and any(agent.glob(pattern)):
        return {"module": f"datadog_checks.{check}"} | theirs
    return None


def _is_here(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
