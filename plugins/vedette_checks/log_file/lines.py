"""From bytes of a file to events: lines, cut where they are too long, put together where they belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from vedette_checks.log_file.codec import Codec
from vedette_checks.log_file.config import MultilineConfig
from vedette_checks.log_file.containers import Piece, merged, pieces_of
from vedette_checks.log_file.patterns import pattern

MARK = b"...TRUNCATED..."
"""What ends a line that was cut, as Datadog's agent does it."""

_LONGEST_WORD = 1_000


@dataclass(slots=True)
class Taken:
    """What was made of a block.

    Attributes:
        events: in UTF-8, complete; none where `text` has them.
        consumed: bytes of the file that need not be read again.
        skipping: whether the file goes on with the rest of a line that was cut.
        more: whether complete events were left in the block, as there were more than the most.
        wants: more bytes must be read at once, or nothing would ever be complete.
        truncated: lines that were cut.
        pieces: of containers, what was said beside each event.
        text: the events as lines of one text, where they can be had so.
    """

    events: list[bytes] = field(default_factory=list)
    consumed: int = 0
    skipping: bool = False
    more: bool = False
    wants: bool = False
    truncated: int = 0
    pieces: list[Piece] | None = None
    text: bytes | None = None


class Splitter:
    """Makes events of blocks. Keeps nothing: what is not complete is read again with what follows.

    Args:
        limit: most bytes of an event.
        multiline: which lines belong together.
    """

    def __init__(self, limit: int, multiline: MultilineConfig | None = None) -> None:
        self._limit = limit
        self._multiline = multiline
        self._start = pattern(multiline.start) if multiline is not None and multiline.start is not None else None
        self._continues = (
            pattern(multiline.continues) if multiline is not None and multiline.continues is not None else None
        )

    def take(
        self,
        data: bytes,
        codec: Codec,
        *,
        most: int,
        container: bool,
        skipping: bool,
        at_end: bool,
        quiet: bool,
        final: bool,
        counts: bool = True,
    ) -> Taken:
        """The events of a block.

        Args:
            data: bytes from where the last block was consumed.
            codec: of the file.
            most: events to take.
            container: whether it is a container's.
            skipping: whether it begins within a line that was cut.
            at_end: whether the file ended with it.
            quiet: whether nothing came for so long that an event without an end is complete.
            final: whether nothing will come any more.
            counts: whether to count lines where they need not be looked at one by one; else there may be more of them.
        """
        taken, whole = Taken(), len(data)
        if skipping:
            begin = codec.first_end(data)
            if not begin:
                taken.consumed, taken.skipping = codec.whole(len(data)), not (final and at_end)
                return taken
            taken.consumed, data = begin, data[begin:]
        elif data[:1] == b"\0" and codec.newline == b"\n":
            data = data.lstrip(b"\0")
            taken.consumed = whole - len(data)
        end = codec.end(data)
        if final and at_end and end < len(data):
            end = len(data)
        if not end:
            self._cut_short(taken, data, codec, at_end=at_end)
            return taken
        body = data if end == len(data) else data[:end]
        if not container and self._multiline is None:
            if counts and codec.newline == b"\n" and body.count(b"\n") >= most:
                beyond = len(body.split(b"\n", most)[most])
                end, taken.more = len(body) - beyond, beyond > 0
                body = body[:end]
            if type(codec) is Codec and len(body) <= self._limit and b"\r" not in body:
                taken.text = body  # nothing is wrong with its lines: they need not be looked at one by one
                taken.consumed += end
                return taken
            lines = codec.lines(body)
            taken.events, taken.more = lines[:most], taken.more or len(lines) > most
            taken.consumed += end if len(lines) <= most else codec.size(taken.events)
        else:
            lines = codec.lines(body)
            done = at_end and (quiet or final)
            self._put_together(taken, lines, end, codec, most=most, container=container, done=done)
            taken.wants = not taken.consumed and not at_end
        self._tidy(taken)
        return taken

    def _cut_short(self, taken: Taken, data: bytes, codec: Codec, *, at_end: bool) -> None:
        """A line without an end in sight."""
        most = codec.whole(self._limit)
        if len(data) < most:
            taken.wants = not at_end
            return
        taken.events = codec.lines(data[:most])[:1]
        taken.events[0] = _cut(taken.events[0] + b" ", len(taken.events[0]))
        taken.consumed, taken.skipping, taken.truncated = taken.consumed + most, True, 1

    def _put_together(
        self, taken: Taken, lines: list[bytes], end: int, codec: Codec, *, most: int, container: bool, done: bool
    ) -> None:
        if container:
            pieces, held = merged(pieces_of(lines), self._limit, done=done)
        else:
            pieces, held = [Piece(line, number, number + 1) for number, line in enumerate(lines)], len(lines)
        if self._multiline is not None:
            pieces, held = self._grouped(pieces, held, done=done)
        if len(pieces) > most:
            pieces, held = _first(pieces, held, most)
            taken.more = held < len(lines)
        taken.pieces = pieces
        taken.events = [piece.content for piece in pieces]
        taken.consumed += end if held == len(lines) else end - codec.size(lines[held:])

    def _grouped(self, pieces: Sequence[Piece], held: int, *, done: bool) -> tuple[list[Piece], int]:
        """Pieces that belong together as one; the last ones wait for what follows, unless all is `done`."""
        assert self._multiline is not None  # noqa: S101 - asked before
        groups: list[list[Piece]] = []
        size = 0
        for piece in pieces:
            if groups and size + len(piece.content) < self._limit and self._goes_on(groups[-1], piece):
                groups[-1].append(piece)
                size += len(piece.content) + 1
            else:
                groups.append([piece])
                size = len(piece.content)
        if groups and not done and held == groups[-1][-1].end:
            held = groups.pop()[0].start
        return [_joined(group) for group in groups], held

    def _goes_on(self, group: Sequence[Piece], piece: Piece) -> bool:
        assert self._multiline is not None  # noqa: S101 - asked before
        if len(group) >= self._multiline.max_lines or group[-1].stream != piece.stream:
            return False
        text = piece.content.decode("utf-8", "replace")
        if self._start is not None:
            return self._start.search(text) is None
        return self._continues.search(text) is not None  # type: ignore[union-attr]

    def _tidy(self, taken: Taken) -> None:
        """Line ends of Windows, and lines that are too long."""
        taken.events = events = [event.removesuffix(b"\r") for event in taken.events]
        for number, event in enumerate(events):
            if len(event) > self._limit:
                events[number] = _cut(event, self._limit)
                taken.truncated += 1


def _first(pieces: list[Piece], held: int, most: int) -> tuple[list[Piece], int]:
    """So many of the pieces, and the number of the first line after them; more where those of two streams overlap."""
    begins = list(accumulate((piece.start for piece in reversed(pieces)), min))[::-1]
    ends = list(accumulate((piece.end for piece in pieces), max))
    for number in range(most, len(pieces)):
        if ends[number - 1] <= begins[number]:
            return pieces[:number], begins[number]
    return pieces, held


def _joined(group: Sequence[Piece]) -> Piece:
    first = group[0]
    if len(group) == 1:
        return first
    content = b"\n".join(piece.content.removesuffix(b"\r") for piece in group)
    return Piece(content, first.start, group[-1].end, first.time, first.stream)


def _cut(event: bytes, limit: int) -> bytes:
    """The beginning of a line and the mark; a word is left out that is cut, as no rule would know a half of it."""
    kept = event[: limit - len(MARK)]
    blank = max(kept.rfind(mark, len(kept) - _LONGEST_WORD) for mark in (b" ", b",", b"\t", b'"'))
    kept = kept[:blank] if blank > 0 else kept[: max(0, len(kept) - _LONGEST_WORD)] or kept
    return kept.decode("utf-8", "ignore").encode().rstrip(b"0123456789 -+") + MARK


def expect(multiline: MultilineConfig | None, default: float) -> float:
    """Seconds without anything new after which an event is complete."""
    return default if multiline is None else multiline.timeout
