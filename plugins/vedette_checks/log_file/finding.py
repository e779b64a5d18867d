"""Which files there are: paths with wildcards, and what is left out."""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".Z", ".lz4", ".7z", ".tgz")
"""Names that end so are of compressed files, which are not followed."""

_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Found:
    """A file that one of the paths matches.

    Attributes:
        path: as it was found, links and all.
        identity: device and inode of what it is.
        changed: Unix seconds of its last change.
        size: in bytes.
        source: the path of the configuration.
    """

    path: str
    identity: tuple[int, int]
    changed: float
    size: int
    source: str


def is_wild(path: Path) -> bool:
    """Whether the path has wildcards."""
    return not _WILD.isdisjoint(str(path))


def find(paths: Iterable[Path], exclude: Iterable[str]) -> list[Found]:
    """The files that there are now, each once, the last changed first."""
    left_out = tuple(exclude)
    found: dict[tuple[int, int], Found] = {}
    for source in paths:
        for path in _matching(source):
            if path.endswith(PACKED) or _excluded(path, left_out):
                continue
            try:
                about = os.stat(path)  # noqa: PTH116 - a Path each costs more than the call
            except OSError:
                continue
            identity = (about.st_dev, about.st_ino)
            if stat.S_ISREG(about.st_mode) and identity not in found:
                found[identity] = Found(path, identity, about.st_mtime, about.st_size, str(source))
    return sorted(found.values(), key=lambda one: -one.changed)


def _matching(source: Path) -> Iterator[str]:
    if is_wild(source):
        yield from sorted(glob.iglob(str(source), recursive=True))  # noqa: PTH207 - strings, see above
    else:
        yield str(source)


def _excluded(path: str, patterns: tuple[str, ...]) -> bool:
    name = path.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(path if "/" in one else name, one) for one in patterns)
