"""Where a file went: renamed, copied before it was truncated, compressed."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from functools import lru_cache

from vedette_checks.log_file.content import READABLE, Packed, Plain
from vedette_checks.log_file.tail import Position, Tail, where

_MOST = 2_000  # names of a folder that are looked at
_TRIES = 3  # a copy may be compressed under our eyes: gone as one file, not yet there as the other


def renamed(position: Position, encoding: str) -> Tail | None:
    """The file itself under another name in its folder, ready to go on; None if it is not there."""
    for path, identity in _siblings(position.path):
        if identity == (position.device, position.inode):
            return _opened(path, position, encoding)
    return None


def copied(position: Position, encoding: str, taken: Collection[tuple[int, int]]) -> Tail | None:
    """A copy of it, perhaps compressed, that a rotation has made in its folder; None if there is none.

    Args:
        position: of the file that was copied; the copy has the same bytes up to there.
        encoding: of its text.
        taken: files that are followed already.
    """
    if not position.prefix_size:
        return None
    stem, end = os.path.splitext(os.path.basename(position.path))  # noqa: PTH119, PTH122
    like = re.compile(rf"{re.escape(stem)}(?:{re.escape(end)}.|[._-]?[0-9]|[._-](?:old|bak|copy))")
    for _ in range(_TRIES):
        vanished = False
        for path, identity in _siblings(position.path):
            if identity not in taken and like.match(path.rpartition("/")[2]):
                if (found := _opened(path, position, encoding)) is not None:
                    return found
                vanished = vanished or where(path) != identity
        if not vanished:
            break
    return None


def unseen(path: str, since: int, taken: Collection[tuple[int, int]]) -> list[tuple[str, tuple[int, int]]]:
    """Files that were rotated away from a path after another was, and perhaps never seen there; the oldest first.

    Args:
        path: where they were, before.
        since: Unix nanoseconds of the last change of that other one.
        taken: files that are followed already.
    """
    like = _rotated(os.path.basename(path))  # noqa: PTH119
    found = []
    for one, identity in _siblings(path):
        if identity not in taken and like.fullmatch(one.rpartition("/")[2]):
            try:
                changed = os.stat(one).st_mtime_ns  # noqa: PTH116
            except OSError:
                continue
            if changed >= since:  # the clock of a file system has ticks of some milliseconds
                found.append((changed, one, identity))
    names = {one for _, one, _ in found}
    return [
        (one, identity)
        for _, one, identity in sorted(found)
        if not one.endswith(READABLE) or os.path.splitext(one)[0] not in names  # noqa: PTH122
    ]


def is_rotated(path: str, before: str) -> bool:
    """Whether a path's name is one that a rotation gives to a file that was at another path, in whatever folder."""
    return _rotated(os.path.basename(before)).fullmatch(os.path.basename(path)) is not None  # noqa: PTH119


@lru_cache(4_096)
def _rotated(name: str) -> re.Pattern[str]:
    stem, end = os.path.splitext(name)  # noqa: PTH122
    packed = f"(?:{'|'.join(map(re.escape, READABLE))})?"
    numbered = r"[._-]?[0-9][0-9T:._-]*"
    return re.compile(
        rf"{re.escape(name)}(?:{numbered}|[._-]old){packed}|{re.escape(stem)}{numbered}{re.escape(end)}{packed}"
    )


def _siblings(path: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """The files in the folder of a file and, where that is a link, of what it links to; the last changed first."""
    folders = dict.fromkeys(os.path.dirname(one) for one in (path, os.path.realpath(path)))  # noqa: PTH120
    found = []
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_file():
                        about = entry.stat()
                        found.append((-about.st_mtime, entry.path, (about.st_dev, about.st_ino)))
        except OSError:
            continue
    for _, name, identity in sorted(found)[:_MOST]:
        yield name, identity


def _opened(path: str, position: Position, encoding: str) -> Tail | None:
    try:
        content = Packed(path) if path.endswith(READABLE) else Plain(path)
    except OSError:
        return None
    tail = Tail(position.path, position.source, content, encoding)
    tail.moved = True
    try:
        if tail.resume(position):
            return tail
    except OSError:  # it is being compressed, or no file of that kind
        pass
    tail.close()
    return None
