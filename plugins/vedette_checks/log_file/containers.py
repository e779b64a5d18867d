"""Files of containers: CRI's format and Docker's json-file, and what the names of the files say.

Sources: Kubernetes, "CRI: log management for container stdout/stderr streams" (`<RFC3339Nano> <stream> <tags> <text>`;
the first tag is `P` for a part and `F` for the last one); Docker, "JSON File logging driver"; the kubelet's links
`/var/log/containers/<pod>_<namespace>_<container>-<id>.log` to `/var/log/pods/<namespace>_<pod>_<uid>/<container>/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

_LINK = re.compile(r"(?P<pod>[^_/]+)_(?P<namespace>[^_/]+)_(?P<container>[^/]+)-(?P<id>[0-9a-f]{64})\.log")
_FOLDER = re.compile(r"/(?P<namespace>[^_/]+)_(?P<pod>[^_/]+)_(?P<uid>[0-9a-f-]{8,})/(?P<container>[^/]+)/\d+\.log$")
_DOCKER = re.compile(r"/(?P<id>[0-9a-f]{64})-json\.log$")


class Piece(NamedTuple):
    """A line, or several that belong together.

    Attributes:
        content: what was said, in UTF-8.
        start: number of its first line in the block.
        end: number after its last line.
        time: RFC 3339, empty where nothing says it.
        stream: `stdout`, `stderr`, or empty.
        partial: whether the next piece of the same stream goes on with it.
    """

    content: bytes
    start: int
    end: int
    time: str = ""
    stream: str = ""
    partial: bool = False


class _Docker(msgspec.Struct):
    log: str
    stream: str = ""
    time: str = ""


_decode = msgspec.json.Decoder(_Docker).decode


def tags_of(path: str) -> tuple[str, ...] | None:
    """Datadog's tags for a container's file, or None where the path is none's."""
    found = _LINK.search(path.rpartition("/")[2]) or _FOLDER.search(path) or _DOCKER.search(path)
    if found is None:
        return None
    named = found.groupdict()
    keys = (
        ("pod_name", "pod"),
        ("kube_namespace", "namespace"),
        ("container_name", "container"),
        ("kube_container_name", "container"),
        ("container_id", "id"),
        ("pod_uid", "uid"),
    )
    return tuple(f"{key}:{named[group]}" for key, group in keys if named.get(group))


def pieces_of(lines: Sequence[bytes]) -> Iterable[Piece]:
    """What each line says; one that is in neither format stands for itself."""
    for number, line in enumerate(lines):
        yield _docker(line, number) if line[:1] == b"{" else _cri(line, number)


def _cri(line: bytes, number: int) -> Piece:
    parts = line.split(b" ", 3)
    if len(parts) < 3 or parts[1] not in (b"stdout", b"stderr"):
        return Piece(line, number, number + 1)
    time, stream, tags = (part.decode("ascii", "replace") for part in parts[:3])
    return Piece(parts[3] if len(parts) > 3 else b"", number, number + 1, time, stream, tags.partition(":")[0] == "P")


def _docker(line: bytes, number: int) -> Piece:
    try:
        said = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Piece(line, number, number + 1)
    content = said.log.encode("utf-8", "replace")
    whole = content.endswith(b"\n")
    return Piece(content[:-1] if whole else content, number, number + 1, said.time, said.stream, not whole)


def merged(pieces: Iterable[Piece], limit: int, *, done: bool) -> tuple[list[Piece], int]:
    """Parts put together, each stream's for itself.

    Args:
        pieces: one for each line.
        limit: bytes beyond which parts are not put together any more.
        done: whether a part that nothing follows is all there is.

    Returns:
        Complete ones, and the number of the first line that must be read again because it is in none of them.
    """
    whole: list[Piece] = []
    open_: dict[str, Piece] = {}
    count = 0
    for piece in pieces:
        count = piece.end
        before = open_.pop(piece.stream, None)
        if before is not None:
            piece = piece._replace(content=before.content + piece.content, start=before.start, time=before.time)
        if piece.partial and len(piece.content) < limit:
            open_[piece.stream] = piece
        else:
            whole.append(piece)
    if done:
        whole += open_.values()
        return whole, count
    held = min((piece.start for piece in open_.values()), default=count)
    while any(piece.end > held > piece.start for piece in whole):
        held = min(piece.start for piece in whole if piece.end > held > piece.start)
    return [piece for piece in whole if piece.end <= held], held
