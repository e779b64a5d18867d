"""Where a file went: renamed, copied before it was truncated, compressed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

from vedette_checks.log_file.content import READABLE, Packed, Plain
from vedette_checks.log_file.tail import Position, Tail

_MOST = 2_000  # names of a folder that are looked at


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
    stem = os.path.splitext(os.path.basename(position.path))[0]  # noqa: PTH119, PTH122
    for path, identity in _siblings(position.path):
        name = path.rpartition("/")[2]
        if identity in taken or not name.startswith(stem):
            continue
        if (found := _opened(path, position, encoding)) is not None:
            return found
    return None


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
