"""Floor 3: what an instance's child process and the agent say to each other, and how it crosses the pipe."""

from __future__ import annotations

import copyreg
import io
import pickle
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vedette.errors import VedetteError
from vedette.metrics import Kind, Status
from vedette.vitals import State

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from vedette.config import Instance
    from vedette.metrics import Batch, Sample

FRAME_LIMIT = 16 << 20
"""Most bytes of one frame."""
_PART = 2_000
_HEAD = struct.Struct("!I")
_FOREIGN = frozenset({"decimal.Decimal"})
_OWN = frozenset({"vedette.metrics", "vedette.isolation.frames"})
_STATES = "vedette.vitals.State"


class FrameError(VedetteError):
    """What came through the pipe is no frame of ours, or what should go through it cannot; the text says why."""


# From the agent to the child


@dataclass(frozen=True, slots=True)
class Hello:
    """The first word: how to find modules, and which records of the log are wanted."""

    path: tuple[str, ...]
    level: int


@dataclass(frozen=True, slots=True)
class Setup:
    """The instance to run and what surrounds it; `secrets` are those that occur in its options."""

    instance: Instance
    tags: tuple[str, ...]
    host: str
    state: dict[str, Any]
    secrets: frozenset[str]
    until: float | None = None
    """See `Lend`; None where it needs no lease."""
    hides_cards: bool = True
    """Whether card numbers are masked."""
    salt: bytes = b""
    """The key of the pseudonyms of a set's members."""


@dataclass(frozen=True, slots=True)
class Lend:
    """Nothing may be begun at or after `until` (on `lease.boottime`): the agent's lease lasts no longer."""

    until: float


@dataclass(frozen=True, slots=True)
class Run:
    """Perform one run now, if it is not later than `until` (see `Lend`)."""

    until: float | None = None


@dataclass(frozen=True, slots=True)
class Relabel:
    """From now on the agent has these tags and this host name."""

    tags: tuple[str, ...]
    host: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Cancel what is going on, close the check and end."""


@dataclass(frozen=True, slots=True)
class Answer:
    """To a `Save`, `Room` or `Settled` with the same number."""

    number: int
    good: bool


# From the child to the agent


@dataclass(frozen=True, slots=True)
class Ready:
    """The check's object is made; `due` is when it wants to run, if it has a clock of its own."""

    due: float | None


@dataclass(frozen=True, slots=True)
class Refused:
    """The child cannot go on, for instance because the check's object cannot be made."""

    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """How things stand after a run or a change of a listener's state.

    Attributes:
        state: see `Vitals`, as `message`, `hint` and `duration`.
        message: without secrets.
        hint: without secrets.
        duration: seconds.
        runs: so far in this process, as `failures`.
        failures: see `Vitals`.
        misbehaved: it overran, crashed or got stuck.
        exhausted: it asked for more memory than it may have.
        dropped: refused samples by reason, so far in this process.
    """

    state: State
    message: str
    hint: str
    duration: float
    runs: int
    failures: int
    misbehaved: bool
    exhausted: bool
    dropped: dict[str, int]


@dataclass(frozen=True, slots=True)
class Part:
    """Samples of the batch that follows: a large one crosses in parts, so that reading it never holds the loop long."""

    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Handed:
    """A batch, complete with the parts before it, and how things stood when it was handed over."""

    batch: Batch
    report: Report


@dataclass(frozen=True, slots=True)
class Standing:
    """A listener's state changed."""

    report: Report


@dataclass(frozen=True, slots=True)
class Done:
    """The run and what follows it is over; `due` as in `Ready`."""

    due: float | None


@dataclass(frozen=True, slots=True)
class Save:
    """Store this value, and answer once it is on disk."""

    number: int
    key: str
    value: Any


@dataclass(frozen=True, slots=True)
class Room:
    """Answer once the sinks have room."""

    number: int


@dataclass(frozen=True, slots=True)
class Settled:
    """Answer once what was committed is durable, or cannot be."""

    number: int


@dataclass(frozen=True, slots=True)
class Logged:
    """A record of the child's log."""

    level: int
    name: str
    text: str


def encode(message: Any) -> bytes:
    """The frame of a message: its length in four bytes, then its pickle.

    Raises:
        FrameError: it is too large, or holds something that cannot be pickled.
    """
    try:
        _Plain(buffer := io.BytesIO(), pickle.HIGHEST_PROTOCOL).dump(message)
    except MemoryError:
        raise
    except Exception as error:
        raise FrameError(f"cannot be handed to another process: {type(error).__name__}: {error}") from error
    body = buffer.getvalue()
    if len(body) > FRAME_LIMIT:
        raise FrameError(
            f"is too large to hand to another process ({len(body) >> 20}MB, at most {FRAME_LIMIT >> 20}MB)"
        )
    return _HEAD.pack(len(body)) + body


def parts(handed: Handed) -> Iterator[Part | Handed]:
    """A batch in portions of some thousand samples, the rest of it last."""
    samples = handed.batch.samples
    *first, last = [samples[start : start + _PART] for start in range(0, max(1, len(samples)), _PART)]
    for some in first:
        yield Part(some)
    yield replace(handed, batch=replace(handed.batch, samples=last))


async def read(reader: asyncio.StreamReader, *, trusting: bool = False) -> Any:
    """The next message.

    Args:
        reader: the pipe.
        trusting: whether it may hold objects of any class: what the agent says may, what a child says may not.

    Raises:
        FrameError: what came is no message.
        EOFError: the other side is gone (`asyncio.IncompleteReadError` is one).
        OSError: the pipe is broken.
    """
    (length,) = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    if length > FRAME_LIMIT:
        raise FrameError("sent something that is no message of vedette's")
    body = await reader.readexactly(length)
    try:
        return pickle.loads(body) if trusting else _Careful(io.BytesIO(body)).load()  # noqa: S301 - see `trusting`
    except FrameError:
        raise
    except Exception as error:  # whatever bytes can do to a pickle machine
        raise FrameError("sent something that is no message of vedette's") from error


def _by_value(member: Any) -> tuple[type[Any], tuple[Any]]:
    return type(member), (member.value,)


class _Plain(pickle.Pickler):
    """Names members of enumerations by their value: Python 3.11 before 3.11.4 would have `getattr` called for them."""

    dispatch_table = {**copyreg.dispatch_table, **dict.fromkeys((Kind, Status, State), _by_value)}  # noqa: RUF012


class _Careful(pickle.Unpickler):
    """Makes only messages and the values that batches hold: a child cannot make the agent run code of its choice."""

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if (module in _OWN and "." not in name) or full in _FOREIGN or full == _STATES:
            made = super().find_class(module, name)
            if isinstance(made, type):
                return made
        raise FrameError(f"handed over a value of the type {full}, which cannot leave its process")
