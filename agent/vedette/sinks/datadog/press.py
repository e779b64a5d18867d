"""Compression, of what is sent and of what is on disk."""

from __future__ import annotations

import gzip
import sys
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST = 64 * 1024 * 1024
"""What a record may have raw: one on disk that claims more was not written by us."""
_LEVEL = 1
_ZLIB, _ZSTD = 1, 2


def _zstd() -> Any:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:  # the extra `datadog` is not installed: gzip does it too
        return None
    return zstd


_zstandard: Any = _zstd()


def codings(taken: Sequence[str], wanted: str) -> list[str]:
    """Content codings to try with an endpoint, the best first; none of them where it takes but plain bodies.

    Args:
        taken: what the endpoint takes.
        wanted: what the configuration prefers.
    """
    here = [one for one in taken if one != "zstd" or _zstandard is not None]
    return sorted(here, key=lambda one: one != wanted)


def compress(data: bytes, coding: str) -> bytes:
    """The data in a content coding: `zstd`, `gzip`, `deflate`, or as it is for an empty one."""
    if coding == "zstd":
        made: bytes = _zstandard.compress(data, _LEVEL)
        return made
    if coding == "gzip":
        return gzip.compress(data, _LEVEL, mtime=0)
    return zlib.compress(data, _LEVEL) if coding == "deflate" else data


def pack(data: bytes) -> tuple[int, bytes]:
    """The data as it is kept on disk, and its form."""
    if _zstandard is not None:
        return _ZSTD, _zstandard.compress(data, _LEVEL)
    return _ZLIB, zlib.compress(data, _LEVEL)


def unpack(form: int, body: bytes, raw: int) -> bytes:
    """What was packed.

    Raises:
        ValueError: it was not packed by us, or cannot be unpacked here.
    """
    if raw > _LONGEST:
        raise ValueError("it claims to be too large")
    try:
        if form == _ZSTD and _zstandard is not None:
            data: bytes = _zstandard.ZstdDecompressor().decompress(body, raw + 1)
        elif form == _ZLIB:
            data = zlib.decompressobj().decompress(body, raw + 1)
        else:
            raise ValueError("it was packed in a way that is not installed here")
    except Exception as error:
        raise ValueError(f"it cannot be unpacked: {error}") from None
    if len(data) != raw:
        raise ValueError("it is not as long as it should be")
    return data
