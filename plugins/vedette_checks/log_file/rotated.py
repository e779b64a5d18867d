"""Where a file went: renamed, copied before it was truncated, compressed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from vedette_checks.log_file.content import READABLE, Packed, Plain
from vedette_checks.log_file.tail import Position, Tail, where

_MOST = 2_000  # names of a folder that are looked at
_MOST_FOLDERS = 50  # within a folder, where files are that are rotated into another one
_TRIES = 3  # a copy may be compressed under our eyes: gone as one file, not yet there as the other
_DATE = 8  # digits from which on what a rotation puts behind a name is a date, and rises


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a file was before it was rotated.

    Attributes:
        path: where it was found, perhaps a link.
        real: what that led to: what a rotation calls its files goes by this name, not by the link's.
        folder: into which a rotation was seen to move them; empty where it is that of `real`.
    """

    path: str
    real: str
    folder: str = ""

    @classmethod
    def of(cls, one: Position | Tail) -> Origin:
        """That of a file that is or was followed."""
        return cls(one.path, one.real or one.path, one.folder)

    @property
    def names(self) -> tuple[str, ...]:
        """The file's own name, and that of the link to it."""
        return tuple(dict.fromkeys(map(_name, (self.real, self.path))))

    @property
    def folders(self) -> list[str]:
        """Where the files may be that a rotation has made of it."""
        paths = (self.real, self.path, os.path.realpath(self.path))
        folders = (self.folder, *(os.path.dirname(path) for path in paths))  # noqa: PTH120
        return [folder for folder in dict.fromkeys(folders) if folder]


def renamed(position: Position, encoding: str) -> Tail | None:
    """The file itself under another name, ready to go on; None if it is not there."""
    for path, identity in _all_files(Origin.of(position)):
        if identity == (position.device, position.inode):
            return _opened(path, position, encoding)
    return None


def whereabouts(tail: Tail) -> str:
    """The path of a file that is open, wherever it was moved; empty where nobody knows."""
    path = tail.content.path() if isinstance(tail.content, Plain) else ""
    if path and where(path) == tail.identity:
        return path
    return next((path for path, identity in _files(Origin.of(tail).folders) if identity == tail.identity), "")


def copied(position: Position, encoding: str, taken: Collection[tuple[int, int]]) -> Tail | None:
    """A copy of it, perhaps compressed, that a rotation has made; None if there is none.

    Args:
        position: of the file that was copied; the copy has the same bytes up to there.
        encoding: of its text.
        taken: files that are followed already.
    """
    if not position.prefix_size:
        return None
    origin = Origin.of(position)
    like = re.compile("|".join(map(_like_a_copy, origin.names)))
    for _ in range(_TRIES):
        vanished = False
        for path, identity in _all_files(origin, like.match):
            if identity not in taken:
                if (found := _opened(path, position, encoding)) is not None:
                    return found
                vanished = vanished or where(path) != identity
        if not vanished:
            break
    return None


def _like_a_copy(name: str) -> str:
    stem, end = os.path.splitext(name)  # noqa: PTH122
    return rf"{re.escape(stem)}(?:{re.escape(end)}.|[._-]?[0-9]|[._-](?:old|bak|copy))"


def unseen(
    origin: Origin, since: int, after: str, taken: Collection[tuple[int, int]]
) -> list[tuple[str, tuple[int, int]]]:
    """Files that were rotated away after another was, and perhaps never seen; the oldest first.

    Args:
        origin: where they were, before.
        since: Unix nanoseconds of the last change of that other one.
        after: its path now, as far as known: of names with dates those before are of files that are older, whenever
            they were changed (the kubelet compresses them late, and they look new).
        taken: files that are followed already.
    """
    likes = [_rotated(name) for name in origin.names]
    series = _series_of(origin)
    last = _stamp(after, likes, series)
    found = []
    for one, identity in _files(origin.folders):
        name = _name(one)
        if identity in taken or not (
            any(like.fullmatch(name) for like in likes)
            or (series is not None and series.fullmatch(name))
            or (one == origin.real != origin.path and os.path.realpath(origin.path) != one)
        ):
            continue
        stamp = _stamp(one, likes, series)
        if last is not None and stamp is not None and stamp[0] == last[0] and stamp[1] <= last[1]:
            continue
        try:
            changed = os.stat(one).st_mtime_ns  # noqa: PTH116
        except OSError:
            continue
        if changed >= since:  # the clock of a file system has ticks of some milliseconds
            found.append((changed, one, identity, stamp))
    names = {one for _, one, _, _ in found}
    if len({stamp[0] if stamp else "" for *_, stamp in found}) == 1:
        found.sort(key=lambda one: (one[3] or ("", ()), one))
    else:
        found.sort()
    return [
        (one, identity)
        for _, one, identity, _ in found
        if not one.endswith(READABLE) or os.path.splitext(one)[0] not in names  # noqa: PTH122
    ]


def is_rotated(path: str, before: Origin) -> bool:
    """Whether a path's name is one that a rotation gives to a file that was elsewhere, in whatever folder."""
    name = _name(path)
    return any(_rotated(one).fullmatch(name) for one in before.names)


@lru_cache(4_096)
def _rotated(name: str) -> re.Pattern[str]:
    stem, end = os.path.splitext(name)  # noqa: PTH122
    packed = f"(?:{'|'.join(map(re.escape, READABLE))})?"
    digits = r"[0-9][0-9T:._-]*"
    between = "[._-]" if stem[-1:].isdigit() else "[._-]?"  # app10.log is none of app1.log
    return re.compile(
        rf"{re.escape(name)}(?:[._-]?({digits})|[._-]old){packed}"
        rf"|{re.escape(stem)}{between}({digits}){re.escape(end)}{packed}"
    )


def _series_of(origin: Origin) -> re.Pattern[str] | None:
    """What the files are called between which a link is switched, as from `web-20261126.log` to `web-20261127.log`."""
    now = os.path.realpath(origin.path)
    if origin.real == origin.path or now in (origin.real, origin.path):
        return None
    parts = re.split(r"[0-9]+", _name(origin.real))
    packed = f"(?:{'|'.join(map(re.escape, READABLE))})?"
    like = re.compile("([0-9]+)".join(map(re.escape, parts)) + packed)
    return like if len(parts) > 1 and like.fullmatch(_name(now)) else None


def _stamp(
    path: str, likes: Iterable[re.Pattern[str]], series: re.Pattern[str] | None
) -> tuple[str, tuple[int, ...]] | None:
    """What says of names of the same kind which is later; None where the name does not say."""
    name = _name(path)
    if series is not None and (found := series.fullmatch(name)) is not None:
        return "series", tuple(map(int, found.groups()))
    for like in likes:
        if (found := like.fullmatch(name)) is not None:
            digits = "".join(filter(str.isdigit, found[1] or found[2] or ""))
            return (f"date {len(digits)}", (int(digits),)) if len(digits) >= _DATE else None
    return None


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _all_files(
    origin: Origin, match: Callable[[str], object] = lambda _: True
) -> Iterator[tuple[str, tuple[int, int]]]:
    """The files where those of a rotation may be; then those in the folders there, as `olddir` may say."""
    folders = origin.folders
    yield from ((path, identity) for path, identity in _files(folders) if match(_name(path)))
    within = _folders_in(os.path.dirname(origin.real))  # noqa: PTH120
    files = _files(one for one in within if one not in folders)
    yield from ((path, identity) for path, identity in files if match(_name(path)))


def _folders_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
    return found[:_MOST_FOLDERS]


def _files(folders: Iterable[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """The files in some folders, the last changed first."""
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
    tail = Tail(position.path, position.source, content, encoding, position.real)
    tail.moved, tail.place = True, path
    folder = os.path.dirname(path)  # noqa: PTH120
    tail.folder = folder if folder not in map(os.path.dirname, (tail.real, tail.path)) else position.folder
    try:
        if tail.resume(position):
            return tail
    except OSError:  # it is being compressed, or no file of that kind
        pass
    tail.close()
    return None
