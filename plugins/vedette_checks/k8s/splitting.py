"""Cutting bodies into objects while they arrive: 85 MB of pods must never be in memory at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import msgspec

from vedette_checks.k8s.errors import ApiError, Fault

_LONGEST = 32 << 20
"""Bytes of one object; etcd takes 1.5 MiB, so that what is longer is no object."""


class Lines:
    """Cuts the body of a watch, one JSON event a line, wherever its parts end."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, part: bytes) -> list[bytes]:
        """The lines that this part completes, without blank ones.

        Raises:
            ApiError: a line does not end.
        """
        lines = (self._rest + part).split(b"\n") if self._rest else part.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _LONGEST:
            raise ApiError(Fault.INVALID, f"an event of more than {_LONGEST >> 20} MB")
        return [line for line in lines if line]

    @property
    def unfinished(self) -> bool:
        """Whether the body ended within a line: the connection was cut."""
        return bool(self._rest.strip())


class ListHead(msgspec.Struct, frozen=True):
    """What of a list's metadata is used."""

    version: str = msgspec.field(default="", name="resourceVersion")
    token: str = msgspec.field(default="", name="continue")


class _Whole(msgspec.Struct):
    metadata: ListHead = ListHead()
    items: list[msgspec.Raw] | None = None


_WHOLE = msgspec.json.Decoder(_Whole)
_ITEMS = b'"items":['
_NEXT = b'},{"metadata":{'
"""How the server, which writes fields in a fixed order and without blanks, goes from one item of a list to the next.

Within a string every quote is escaped, so that this can only be structure. Where it is some inner structure, what comes
before is no whole object: then it is cut at the next such place.
"""


class Items:
    """Cuts the body of a list into its items; whatever is written differently is taken as a whole at the end.

    Attributes:
        head: the list's metadata; complete once the body is.
    """

    def __init__(self) -> None:
        self.head = ListHead()
        self._rest = bytearray()
        self._begun = False
        self._lead = b""
        self._searched = 0

    def feed(self, part: bytes, take: Callable[[bytes], object]) -> None:
        """Hand over the items that this part completes; the last one comes with `end`.

        Args:
            part: what has come.
            take: decodes an item, which finds out by the way whether it is whole: raises msgspec.DecodeError if not.

        Raises:
            ApiError: an item does not end.
        """
        rest = self._rest
        rest += part
        if not self._begun:
            self._begin(rest)
        if not self._begun:
            return
        begin = 0
        while (found := rest.find(_NEXT, max(begin, self._searched))) >= 0:
            self._searched = found + 1
            with suppress(msgspec.DecodeError):
                take(bytes(memoryview(rest)[begin : found + 1]))
                begin = found + 2
        del rest[:begin]
        self._searched = max(len(rest) - len(_NEXT) + 1, 0)
        if len(rest) > _LONGEST:
            raise ApiError(Fault.INVALID, f"a list item of more than {_LONGEST >> 20} MB")

    def _begin(self, rest: bytearray) -> None:
        found = rest.find(_ITEMS, 0, 1 << 16)
        if found >= 0 and rest[found + len(_ITEMS) : found + len(_ITEMS) + 1] == b"{":
            self._begun = True
            self._lead = bytes(rest[: found + len(_ITEMS)])
            del rest[: found + len(_ITEMS)]

    def end(self, take: Callable[[bytes], object]) -> None:
        """Hand over the items that are left.

        Raises:
            ApiError: the body is no list, or was cut.
        """
        try:
            whole = _WHOLE.decode(self._lead + self._rest)
        except msgspec.MsgspecError as error:
            raise ApiError(Fault.UNREACHABLE, "the list was cut off, or is none") from error
        self._rest = bytearray()
        self.head = whole.metadata
        for item in whole.items or ():
            take(bytes(item))
