"""What is in a file: plain, or compressed by whoever rotated it."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
from collections.abc import Callable
from typing import Any, Protocol

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
READABLE = tuple(_OPENERS)
"""Ends of the names of compressed files that can be read."""


class Content(Protocol):
    """Bytes by their place."""

    def read(self, size: int, offset: int) -> bytes:
        """Up to so many bytes from there; fewer only at the end. Raises OSError."""
        ...

    def size(self) -> int | None:
        """How many bytes there are now; None where that is not known."""
        ...

    def about(self) -> os.stat_result:
        """What the system knows of the file."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class Plain:
    """An open file.

    Args:
        path: where it is.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        about = os.fstat(self._file)
        self.identity = (about.st_dev, about.st_ino)

    def read(self, size: int, offset: int) -> bytes:
        """See `Content`."""
        return os.pread(self._file, size, offset)

    def size(self) -> int | None:
        """See `Content`."""
        return os.fstat(self._file).st_size

    def path(self) -> str:
        """Where it is now, whatever it was renamed to; empty where the system does not tell (proc(5))."""
        try:
            return os.readlink(f"/proc/self/fd/{self._file}")  # noqa: PTH115
        except OSError:
            return ""

    def about(self) -> os.stat_result:
        """See `Content`."""
        return os.fstat(self._file)

    def close(self) -> None:
        """Close it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Packed:
    """A compressed file. Reading on is cheap; going back, but for what was read last, begins at its beginning again.

    Args:
        path: where it is; its name says how it is compressed.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._about = about = os.stat(path)  # noqa: PTH116
        self.identity = (about.st_dev, about.st_ino)
        self._file: Any = _OPENERS[os.path.splitext(path)[1]](path, "rb")  # noqa: PTH122
        self._held, self._at = b"", 0  # what was read last, and where it begins

    def read(self, size: int, offset: int) -> bytes:
        """See `Content`."""
        try:
            if not self._at <= offset <= self._at + len(self._held):
                self._held, self._at = b"", self._file.seek(offset)
            held = self._held[offset - self._at :]
            if len(held) < size:
                held += self._file.read(size - len(held))
            self._held, self._at = held, offset
            return held[:size]
        except (EOFError, lzma.LZMAError, ValueError) as error:  # half written, damaged, or none of this kind
            raise OSError(5, str(error)) from None

    def size(self) -> int | None:
        """It is not known."""
        return None

    def about(self) -> os.stat_result:
        """See `Content`."""
        return self._about

    def close(self) -> None:
        """Close it."""
        self._file.close()


def digest(data: bytes) -> str:
    """A fingerprint of some bytes, from which they cannot be had back."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()
