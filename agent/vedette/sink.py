"""Floor 1: the contract of a sink."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from vedette.check import model_of
from vedette.filters import MetricFilter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from vedette.advice import Diagnosis
    from vedette.metrics import Batch, Metric


class Batches(Protocol):
    """What a sink iterates over: an async iterator of its queue's batches, oldest first, until the agent stops."""

    def __aiter__(self) -> AsyncIterator[Batch]:
        """Itself."""
        ...

    async def __anext__(self) -> Batch:
        """The next batch; the one before it is done with."""
        ...

    @property
    def waiting(self) -> int:
        """Batches still in the queue behind the one in hand; 0 is the moment to flush a buffer."""
        ...

    @property
    def closed(self) -> bool:
        """Whether the agent stops: nothing comes any more but what waits."""
        ...

    @property
    def goes_on(self) -> bool:
        """Whether only this sink ends, and not the agent: another may be about to `succeed` it."""
        ...

    async def closing(self, timeout: float) -> None:
        """Wait so many seconds, or until the agent stops."""

    @property
    def ended(self) -> bool:
        """Whether there will be nothing more to take."""
        ...

    async def take(self, timeout: float | None = None) -> list[Batch]:
        """Everything that waits, which stays in hand until `release`: for sinks that finish many batches at once."""
        ...

    def release(self, only: Callable[[Batch], bool] | None = None) -> Callable[[], None]:
        """What is in hand is done with, or some of it; call what this returns once a kill cannot undo that."""
        ...


@dataclass(frozen=True, slots=True)
class Home:
    """What a sink may know of the agent that it works for.

    Attributes:
        directory: where a sink may keep what is to outlive the process, in a folder of its own; None if nowhere.
        host: the host's name on samples.
        tags: the agent's tags.
        renew: asks for the secrets of the configuration to be read again: one that was good is refused now.
    """

    directory: Path | None = None
    host: str = ""
    tags: tuple[str, ...] = ()
    renew: Callable[[], None] = lambda: None


class SinkConfig(BaseModel):
    """The options of one sink. Subclass it and add a sink's own; unknown options are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    type: str = Field(description="Which sink.")
    name: str = Field("", description="Name of the sink. Default: its type, `-n` from the second on.")
    queue: int = Field(10_000, gt=0, description="Samples waiting for this sink; beyond that the oldest batch goes.")
    metrics: MetricFilter = Field(
        default=MetricFilter(),
        description="Which metrics this sink gets and under what names: `include`, `exclude`, `rename`.",
    )


S = TypeVar("S", bound=SinkConfig)


class Sink(Generic[S]):
    """Sends batches somewhere. Only it knows its wire format.

    Subclass it as `Sink[YourConfig]`, set `name` and write `run`. An exception from `run` is logged, counted,
    and `run` is called again after a pause; the batch in hand is given to it once more.
    """

    name: ClassVar[str] = ""
    """The entry point's name, and the word after `type:` in agent.yaml."""
    durable: bool = False
    """Whether what it is through with survives a SIGKILL of the agent: commits then wait until it is."""
    billed: ClassVar[bool] = False
    """Whether what it sends ends at Datadog, which bills each series as a custom metric: for `vedette plan`."""
    config_class: ClassVar[type[SinkConfig]] = SinkConfig

    def __init__(self, config: S) -> None:
        self.config = config
        self.log = logging.getLogger(f"vedette.sink.{config.name or self.name}")
        self.catalog: dict[str, Metric] = {}
        """Declared metrics by name, for units and help texts; kept up to date by the agent."""
        self.errors = 0
        """Failed sends so far."""
        self.lost = 0
        """Samples given up so far, beyond those that the queue dropped."""
        self.fenced = 0
        """Samples held back so far since the lease had ended under which they were collected (see `Batch.lease`)."""
        self.trouble = ""
        """What is wrong now; empty while sending works."""
        self.home = Home()
        """The agent; kept up to date by it."""
        self.held = 0
        """Samples that it took and keeps, on disk perhaps, and has still to send."""
        self.sent: int | None = None
        """Samples sent so far, where the sink counts them; else it is what it is through with and did not lose."""
        self.figures: dict[str, float] = {}
        """What else the agent reports of it: names of `vedette.sink.*` in the agent's own metrics, and values."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        model = model_of(cls, SinkConfig)
        if model is not None:
            cls.config_class = model

    async def run(self, batches: Batches) -> None:
        """Set up, then `async for batch in batches`, then tear down: the sink lives as long as this call.

        The iterator ends when the agent stops; what was not sent by then has a few seconds.
        """
        raise NotImplementedError

    def succeed(self, predecessor: Sink[Any]) -> None:
        """Called before `run` where a reload changed this sink's options: take over what the one before it knew."""

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """For `vedette doctor`: look at what the sink needs, and say how it came out.

        Called instead of `run`, on an object of its own, inside a deadline. It must send nothing.
        """

    def failed(self, what: str, lost: int = 0) -> None:
        """Count a failed send and `lost` samples; logs only when this is news."""
        self.errors += 1
        self.lost += lost
        if what != self.trouble:
            self.trouble = what
            self.log.warning("%s", what)

    def recovered(self) -> None:
        """Sending works; logs only when it did not before."""
        if self.trouble:
            self.trouble = ""
            self.log.info("sending again")
