"""`vedette import`: another agent's configuration in our words."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from vedette.cli import OK, WARNING

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from vedette.secrets import Masker


def import_(options: Namespace) -> int:
    """Write or print the files; what could not be translated goes to standard error."""
    from vedette.moving import move

    moved = move(options.folder)
    notes, hidden = list(moved.notes), False
    for check, content in sorted(moved.files.items()):
        if options.to is None:
            shown = _masked(content, moved.masker)
            hidden = hidden or shown != content
            print(f"# {check}.yaml\n{_yaml(shown)}")
        else:
            notes += _write(options.to / f"{check}.yaml", content, options.folder, moved.modes[check])
    for note in notes:
        print(note, file=sys.stderr)
    if hidden:
        print("secrets are shown as ****; --to FOLDER writes files that have them", file=sys.stderr)
    return WARNING if notes else OK


def _write(path: Path, content: dict[str, Any], source: Path, mode: int) -> list[str]:
    """Write a file that its owner and group read, or fewer where fewer read what it was made of; one there stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return [f"{path} is there already and stays as it is"]
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600 | 0o640 & mode)
        file.write(f"# Translated from {source} by `vedette import datadog`.\n{_yaml(content)}")
    print(path)
    return []


def _masked(value: Any, masker: Masker) -> Any:
    if isinstance(value, dict):
        return {key: _masked(inner, masker) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner, masker) for inner in value]
    return masker(value) if isinstance(value, str) else value


def _yaml(content: dict[str, Any]) -> str:
    from vedette.moving.writing import to_yaml

    return to_yaml(content)
