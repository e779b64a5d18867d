"""The recorded answers of a real API server in tests/data/kubernetes, by file."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent.parent / "tests" / "data" / "kubernetes"


@dataclass(frozen=True, slots=True)
class Recording:
    """One answer: its status, headers and body as the server sent them."""

    file: str
    path: str
    status: int
    headers: tuple[tuple[str, str], ...]

    @property
    def body(self) -> bytes:
        return body(self.file)

    @property
    def lines(self) -> list[bytes]:
        return self.body.splitlines(keepends=True)


@cache
def index() -> dict[str, Recording]:
    """All recordings, by their file's name without `.gz`."""
    made = {}
    for entry in json.loads((FOLDER / "index.json").read_text()):
        if entry["file"]:
            headers = tuple((str(name), str(value)) for name, value in entry["response_headers"])
            name = entry["file"].removesuffix(".gz")
            made[name] = Recording(name, entry["path_with_query"], entry["status"], headers)
    return made


def recording(file: str) -> Recording:
    """The recording with this file name, such as `list/pods.json`."""
    return index()[file]


@cache
def body(file: str) -> bytes:
    return gzip.decompress((FOLDER / f"{file}.gz").read_bytes())


@cache
def parsed(file: str) -> Any:
    """A recorded body by plain json; one and the same object every time, not to be changed."""
    return json.loads(body(file))


def chunks(raw: bytes) -> list[bytes]:
    """The chunks of a body that was recorded with its framing (RFC 9112, 7.1)."""
    made = []
    while True:
        size, _, raw = raw.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return made
        made.append(raw[:length])
        raw = raw[length + 2 :]
