"""Floor 2: which files of a configuration directory are read, and what each is for."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vedette.config.problems import Report, printable
from vedette.config.source import MAX_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from vedette.errors import Problem

    Mark = tuple[str | int, ...]

_SUFFIXES: Final = (".yaml", ".yml")
_AS_FOLDER: Final = "a folder of files for one check is named like redis.d"


@dataclass(frozen=True, slots=True)
class Found:
    """A YAML file.

    Attributes:
        path: where to read it.
        shown: its name for people: the directory as the user gave it, and the rest.
        stem: its name without suffix.
        folder: the check that its `<check>.d` folder names, or empty at the top level.
    """

    path: Path
    shown: str
    stem: str
    folder: str = ""


def mark(path: Path) -> Mark:
    """What tells one state of a file from another: path, inode, size, mode, times of change. Of none: the path."""
    try:
        seen = path.stat()
    except (OSError, ValueError):
        return (str(path),)
    return (str(path), seen.st_ino, seen.st_size, seen.st_mode, seen.st_mtime_ns, seen.st_ctime_ns)


def find(directory: Path) -> tuple[list[Found], list[Problem]]:
    """The YAML files of a directory and its `<check>.d` folders, sorted, and what is wrong with the others.

    Hidden names are skipped (a Kubernetes volume keeps its real files under `..data`); symbolic links are followed.

    Raises:
        OSError: the directory itself cannot be listed.
    """
    found: list[Found] = []
    problems: list[Problem] = []
    for entry in _listing(directory):
        if entry.name.lower().endswith(_SUFFIXES):
            _take(directory / entry.name, "", directory, found, problems)
        elif entry.is_dir() and entry.name.endswith(".d"):
            _folder(directory / entry.name, directory, found, problems)
        elif entry.is_dir():
            _unread(directory / entry.name, directory, problems)
    return found, problems


def _folder(folder: Path, directory: Path, found: list[Found], problems: list[Problem]) -> None:
    try:
        entries = _listing(folder)
    except OSError as error:
        report = Report(_shown(folder, directory))
        report.error(0, (), f"cannot be read: {error.strerror}")
        problems += report.problems
        return
    for entry in entries:
        if entry.name.lower().endswith(_SUFFIXES):
            _take(folder / entry.name, folder.name.removesuffix(".d"), directory, found, problems)
        elif entry.is_dir():
            _unread(folder / entry.name, directory, problems)


def _listing(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)


def _shown(path: Path, directory: Path) -> str:
    return printable((directory / path.relative_to(directory)).as_posix())


def _take(path: Path, folder: str, directory: Path, found: list[Found], problems: list[Problem]) -> None:
    report = Report(_shown(path, directory))
    try:
        mode = path.stat().st_mode
    except OSError as error:
        broken_link = isinstance(error, FileNotFoundError) and path.is_symlink()
        reason = "is a symbolic link to nothing" if broken_link else f"cannot be read: {error.strerror}"
        report.error(0, (), reason)
    else:
        if stat.S_ISDIR(mode):
            report.error(0, (), "is a folder, not a file", _AS_FOLDER)
        elif not stat.S_ISREG(mode):
            report.error(0, (), "is not a regular file")
        else:
            found.append(Found(path, report.file, path.name.rpartition(".")[0], folder))
    problems += report.problems


def _unread(folder: Path, directory: Path, problems: list[Problem]) -> None:
    """Warn of a folder whose YAML files nobody reads."""
    try:
        ignored = any(entry.name.lower().endswith(_SUFFIXES) for entry in _listing(folder))
    except OSError:
        return
    if ignored:
        report = Report(_shown(folder, directory))
        top = folder.parent == directory
        hint = _AS_FOLDER if top else "folders are read one level deep"
        report.warning(0, (), "the YAML files in this folder are not read", hint)
        problems += report.problems


def read(path: Path, report: Report) -> bytes | None:
    """The file's bytes, at most one more than `MAX_BYTES`, or None after reporting why there are none."""
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        report.error(0, (), f"cannot be read: {error.strerror}")
        return None
