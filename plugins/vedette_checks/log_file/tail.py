"""A file that is followed: how far it was read, and whether it still is the one that it was."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from vedette_checks.log_file.codec import Codec, codec_of
from vedette_checks.log_file.content import Content, Packed, Plain, digest

PREFIX = 1024
"""First bytes of a file that tell it from others."""
OVERLAP = 128
"""Bytes before the place that was read to, which are read again to see whether they are the same."""

_FEWEST = 12  # values of a position, before it knew where links lead


class ChangedError(Exception):
    """The file is shorter than what was read of it, or is another one in the same place: it was truncated."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file was read, as it is stored. Of its content there are fingerprints only.

    Attributes:
        path: where the file was found.
        source: the path of the configuration that matched it.
        device, inode: of the file.
        offset: bytes that were handed on.
        prefix_size: how many of its first bytes `prefix` is of.
        prefix: their fingerprint.
        changed: when the file was changed last, in nanoseconds.
        before: fingerprint of the bytes before the offset.
        skipping: whether the offset is within a line that was cut.
        key_lines: how many lines of a private key may follow.
        moved: whether it is the file at its path no more.
        real: what the path led to, where it is a link; empty if that is not known.
        folder: another one into which a rotation was seen to move it.
        size: bytes in the file when it was last looked at.
    """

    path: str
    source: str
    device: int
    inode: int
    offset: int
    prefix_size: int
    prefix: str
    before: str
    changed: int
    skipping: bool = False
    key_lines: int = 0
    moved: bool = False
    real: str = ""
    folder: str = ""
    size: int = 0

    def stored(self) -> list[Any]:
        """As JSON has it."""
        return [getattr(self, name) for name in self.__slots__]

    @classmethod
    def restored(cls, value: Any) -> Position | None:
        """From JSON, also of versions that stored less; None where it is none of these."""
        kinds = (str, str, int, int, int, int, str, str, int, bool, int, bool, str, str, int)
        if not isinstance(value, list) or not _FEWEST <= len(value) <= len(kinds):
            return None
        return cls(*value) if all(map(isinstance, value, kinds)) else None


class Tail:
    """A file and the place up to which it was read.

    Args:
        path: where it was found.
        source: the path of the configuration that matched it.
        content: the open file.
        encoding: of its text.
        real: what the path led to, where it is a link.
    """

    def __init__(self, path: str, source: str, content: Plain | Packed, encoding: str, real: str = "") -> None:
        self.path = path
        self.real = real or path
        self.folder = ""
        """Another one into which a rotation was seen to move it, or the one before it."""
        self.place = ""
        """Where it was seen after it was moved."""
        self.source = source
        self.content: Content | None = content
        self.identity = content.identity
        self.tags: tuple[str, ...] = ()
        self.service = ""
        self.container = False
        self.slot = ""
        """Under which it is stored."""
        self.changed = True
        """Whether its position is another than the one that is stored."""
        self.fresh = True
        """Whether nothing of it was read yet: it might be a copy of another."""
        self.offset = 0
        self.skipping = False
        self.key_lines = 0
        self.moved = False
        """Whether another file, or none, is at its path now."""
        self.deleted = False
        self.size = 0
        """Bytes in the file when it was last looked at."""
        self.wants = 0
        """Bytes to read beyond a block, because a block had nothing complete."""
        self.written = 0
        """When it was changed last, in Unix nanoseconds, as of then."""
        self.grown = 0.0
        """Monotonic time at which it was seen to have grown, or begun with."""
        self.ended = 0
        """Size at which there was nothing complete left to read."""
        self.waits = self.quiet = self.last = False
        """Whether something behind the offset is not complete; whether that was asked as complete, and as the last."""
        self.finished = False
        """Whether all of it was read and nothing will come."""
        self._encoding = encoding
        self._codec: tuple[Codec, int] | None = None
        self._prefix = b""
        self._prefix_digest = digest(b"")
        self._before = b""

    @property
    def codec(self) -> Codec:
        """Its encoding; of UTF-16 the first bytes say which."""
        return (self._codec or codec_of(self._encoding, self._prefix))[0]

    @property
    def packed(self) -> bool:
        """Whether it is a compressed file, which does not grow."""
        return isinstance(self.content, Packed)

    def read(self, size: int) -> bytes:
        """The bytes from the offset on, at most so many. May be called in a thread.

        Raises:
            ChangedError: those before are not the same any more.
            OSError: it cannot be read.
        """
        assert self.content is not None  # noqa: S101 - parked files are opened before
        if len(self._prefix) < PREFIX:
            self._learn_prefix()
        known = self._before
        data = self.content.read(size + len(known), self.offset - len(known))
        if not data.startswith(known):
            raise ChangedError
        return data[len(known) :] if known else data

    def is_as_before(self) -> bool:
        """Whether what was read last is still where it was.

        Raises:
            OSError: it cannot be read.
        """
        known = self._before
        return self.content is None or self.content.read(len(known), self.offset - len(known)) == known

    def _learn_prefix(self) -> None:
        assert self.content is not None  # noqa: S101 - asked before
        prefix = self.content.read(PREFIX, 0)
        if not prefix.startswith(self._prefix):
            raise ChangedError
        if len(prefix) > len(self._prefix):
            self._prefix, self._prefix_digest = prefix, digest(prefix)
        if self._codec is None and len(prefix) >= 4:
            self._codec = codec_of(self._encoding, prefix)
            if not self.offset:
                self.offset = self._codec[1]
                self._before = prefix[: self.offset]

    def advance(self, data: bytes, consumed: int) -> None:
        """So many of these bytes, which were read last, are done with."""
        if consumed:
            done = data[max(0, consumed - OVERLAP) : consumed]
            self._before = done if len(done) == OVERLAP else (self._before + done)[-OVERLAP:]
            self.offset += consumed
            self.changed, self.fresh = True, False

    def begin_at(self, offset: int) -> None:
        """Go to a place without having read what is before.

        Raises:
            OSError: the file cannot be read.
        """
        assert self.content is not None  # noqa: S101 - it was opened for this
        self._learn_prefix()
        self.offset, self.fresh = offset, False
        self._before = self.content.read(min(OVERLAP, offset), max(0, offset - OVERLAP))

    def begin_anew(self) -> None:
        """The file was truncated: it begins again."""
        self.offset = self.key_lines = self.ended = self.wants = self.size = 0
        self.skipping = self.waits = self.quiet = self.last = self.finished = False
        self.changed = self.fresh = True
        self._prefix, self._prefix_digest, self._before, self._codec = b"", digest(b""), b"", None

    def position(self) -> Position:
        """How far it was read, for the state."""
        return Position(
            self.path,
            self.source,
            *self.identity,
            self.offset,
            len(self._prefix),
            self._prefix_digest,
            digest(self._before),
            self.written,
            self.skipping,
            self.key_lines,
            self.moved,
            self.real,
            self.folder,
            self.size,
        )

    def resume(self, position: Position) -> bool:
        """Go on from where an earlier run was; False, with nothing changed, if this is not the file that was read."""
        assert self.content is not None  # noqa: S101 - it was opened for this
        size = self.content.size()
        if size is not None and size < max(position.offset, position.prefix_size):
            return False
        prefix = self.content.read(max(PREFIX, position.prefix_size), 0)
        if digest(prefix[: position.prefix_size]) != position.prefix:
            return False
        before = self.content.read(min(OVERLAP, position.offset), max(0, position.offset - OVERLAP))
        if position.offset and digest(before) != position.before:
            return False
        self._prefix, self._prefix_digest, self._before = prefix, digest(prefix), before
        self.offset, self.skipping, self.key_lines = position.offset, position.skipping, position.key_lines
        self._codec = codec_of(self._encoding, prefix)
        self.fresh = not self.offset
        return True

    def is_copy_of(self, other: Tail) -> bool:
        """Whether all that is in it now is in the other file too, at the same place."""
        if self.content is None:
            return False
        if other.content is None:  # it was read to its end
            return other.offset > 0 and self._has(other.offset, other._prefix, other._before)
        if self.packed:
            begins = self.content.read(PREFIX, 0)
            if not begins:
                return True  # it is only just being made, of another that is there too
            if not other.offset:
                return begins == other.content.read(PREFIX, 0)
            return self._has(other.offset, other._prefix, other._before)
        size = self.size
        prefix, others = self.content.read(PREFIX, 0), other._prefix or other.content.read(PREFIX, 0)
        if not size or not others or not (prefix.startswith(others) or others.startswith(prefix)):
            return False
        if size >= other.offset > 0 and not self._has(other.offset, other._prefix, other._before):
            return False
        there = other.content.size()
        if there is None or there < size:
            return size >= other.offset > 0
        at = max(0, size - OVERLAP)
        return self.content.read(size - at, at) == other.content.read(size - at, at)

    def is_empty(self) -> bool:
        """Whether nothing can be read of it yet.

        Raises:
            OSError: it cannot be read.
        """
        assert self.content is not None  # noqa: S101 - asked before
        return not self.content.read(1, 0)

    def ends_at(self, size: int) -> bool:
        """Whether there is nothing behind this place, and something before it."""
        assert self.content is not None  # noqa: S101 - asked before
        return len(self.content.read(2, max(0, size - 1))) == 1

    def _has(self, offset: int, prefix: bytes, before: bytes) -> bool:
        """Whether it begins so and has these bytes before a place."""
        assert self.content is not None  # noqa: S101 - asked before
        begins = self.content.read(len(prefix), 0)
        return begins == prefix and self.content.read(len(before), offset - len(before)) == before

    def close(self) -> None:
        """Close the file; the place in it stays known."""
        if self.content is not None:
            self.content.close()
            self.content = None


def where(path: str) -> tuple[int, int] | None:
    """Device and inode of what is at a path now."""
    try:
        about = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return about.st_dev, about.st_ino
