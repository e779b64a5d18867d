"""`vedette import`: another agent's configuration in our words."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from vedette.cli import OK, WARNING

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path


def import_(options: Namespace) -> int:
    """Write or print the files; what could not be translated goes to standard error."""
    from vedette.moving import move

    moved = move(options.folder)
    notes = list(moved.notes)
    for check, content in sorted(moved.files.items()):
        if options.to is None:
            print(f"# {check}.yaml\n{_yaml(content)}")
        else:
            notes += _write(options.to / f"{check}.yaml", content, options.folder)
    for note in notes:
        print(note, file=sys.stderr)
    return WARNING if notes else OK


def _write(path: Path, content: dict[str, Any], source: Path) -> list[str]:
    """Write a file that only its owner and group read; one that is there stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            path.chmod(0o640)
            file.write(f"# Translated from {source} by `vedette import datadog`.\n{_yaml(content)}")
    except FileExistsError:
        return [f"{path} is there already and stays as it is"]
    print(path)
    return []


def _yaml(content: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)
