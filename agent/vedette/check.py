"""Floor 1: the contract of a check, and the options that every instance has."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette.filters import MetricFilter
from vedette.units import Duration, Size

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping

    from vedette.advice import Diagnosis, Estimate
    from vedette.emit import Emit
    from vedette.errors import Remark
    from vedette.metrics import Metric

_LEAST_MEMORY = 64 << 20


class CheckConfig(BaseModel):
    """The options of one instance. Subclass it and add a check's own; unknown options are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
    example: ClassVar[tuple[str, ...]] = ()
    """Optional options that the example file sets, where not all of them go together."""

    name: str = Field(
        "", description="Name of the instance, unique per check. Default: the file's stem.", max_length=200
    )
    interval: Duration = Field(15.0, description="Time between runs.", examples=["15s"])
    schedule: str | None = Field(None, description="Cron expression instead of an interval.", examples=["5 * * * *"])
    timezone: str = Field("UTC", description="Time zone of `schedule`.", examples=["Europe/Berlin"])
    timeout: Duration | None = Field(
        None, description="Deadline of one run. Default: the interval, at most 10s.", examples=["5s"]
    )
    tags: tuple[str, ...] = Field((), description="Tags added to every sample.", examples=[["role:primary"]])
    run_on: Literal["every_node", "leader", "hash"] = Field(
        "every_node", description="Which agents of a fleet run it; `leader` and `hash` need `fleet:` in agent.yaml."
    )
    isolate: bool = Field(
        False, description="Run it in a child process, which can neither crash nor stall the agent (some 40 MB)."
    )
    memory_limit: Size | None = Field(
        None, description="With `isolate`, the most memory that its process may have.", examples=["512MB"]
    )
    metrics: MetricFilter = Field(
        default=MetricFilter(),
        description="Which metrics to keep and how to name them: `include`, `exclude`, `rename`.",
    )

    @field_validator("interval", "timeout")
    @classmethod
    def _positive(cls, value: float | None) -> float | None:
        if value is not None and value <= 0:
            raise PydanticCustomError("vedette", "must be longer than 0s")
        return value

    @field_validator("memory_limit")
    @classmethod
    def _enough(cls, value: int | None) -> int | None:
        if value is not None and value < _LEAST_MEMORY:
            raise PydanticCustomError("vedette", "must be at least 64MB, which the process itself needs")
        return value

    @field_validator("schedule")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        if value is not None:
            from vedette.cron import check_cron

            check_cron(value)
        return value

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        from vedette.cron import zone

        zone(value)
        return value

    @model_validator(mode="after")
    def _one_clock(self) -> CheckConfig:
        if self.schedule is not None and "interval" in self.model_fields_set:
            raise PydanticCustomError("vedette", "give either interval or schedule, not both")
        return self

    @property
    def deadline(self) -> float:
        """Seconds that a run may take: `timeout`, else the interval (a minute for cron), at most 10 s."""
        if self.timeout is not None:
            return self.timeout
        return min(60.0 if self.schedule else self.interval, 10.0)

    @property
    def grace(self) -> float:
        """Seconds that a cancelled run may take to clean up; longer only for what must not be left undone."""
        return 2.0

    @property
    def host_bound(self) -> bool:
        """Whether this instance's series belong to this host, where those of its check do."""
        return True

    @property
    def cadence(self) -> float:
        """Seconds between two runs, for sinks that forget what was not seen for long; 0 where that is not fixed."""
        return 0.0 if self.schedule else self.interval


C = TypeVar("C", bound=CheckConfig)


def model_of(cls: type, base: type) -> Any:
    """The model named in `Base[Model]` among the bases of `cls`, or None."""
    for origin in getattr(cls, "__orig_bases__", ()):
        for argument in get_args(origin):
            if isinstance(argument, type) and issubclass(argument, base):
                return argument
    return None


class _Instance(Generic[C]):
    """What periodic checks and listeners have in common."""

    name: ClassVar[str] = ""
    """The entry point's name, and the word after `check:` in YAML."""
    metrics: ClassVar[Iterable[Metric]] = ()
    """The metrics with fixed names."""
    statuses: ClassVar[Iterable[str]] = ()
    """The service checks."""
    open_names: ClassVar[bool] = False
    """Let undeclared names pass: for bridges, whose names come from elsewhere."""
    host_bound: ClassVar[bool] = True
    """Whether series belong to this host; False for checks of something that many agents could ask."""
    keeps_state: ClassVar[bool] = False
    """Whether it commits state, so that its instances need explicit names."""
    config_class: ClassVar[type[CheckConfig]] = CheckConfig

    def __init__(self, config: C, state: Mapping[str, Any] | None = None) -> None:
        self.config = config
        self.state: Mapping[str, Any] = MappingProxyType({}) if state is None else state
        """What `emit.commit` stored, as of now."""
        self.log = logging.getLogger(f"vedette.check.{self.name}.{config.name}")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        model = model_of(cls, CheckConfig)
        if model is not None:
            cls.config_class = model

    @classmethod
    def declare(cls, config: C) -> Iterable[Metric]:
        """The metrics this configuration can emit: `metrics`, unless names follow the configuration.

        Pure and without I/O: validate, plan and alerts call it too.
        """
        return cls.metrics

    @classmethod
    def lint(cls, config: C) -> Iterable[str]:
        """Warnings about a valid configuration, one sentence each; no I/O, no values."""
        return ()

    @classmethod
    def examine(cls, config: C) -> Iterable[Remark]:
        """What only a closer look at a valid configuration finds; `vedette validate` alone asks. No I/O, no values."""
        return ()

    @classmethod
    def reaches(cls, config: C) -> Iterable[str] | None:
        """Every host that an instance connects to, for a valid configuration that others than the operator wrote.

        Called for what a target of a discovery asks for, such as a pod by its annotation: its author may send the agent
        only to the target itself, and must learn nothing of the agent's machine. Options that are a `pathlib.Path` are
        refused before this is asked. None, the default: nobody but the operator may configure this check.

        Raises:
            ValueError: the options ask for something of the agent's machine, or could be led elsewhere by an answer;
                the text says what, and repeats no value.
        """
        return None

    @classmethod
    def acts(cls, config: C) -> bool:
        """Whether a run changes something at its target: `plan` and `doctor` then do not run it unasked."""
        return False

    async def estimate(self) -> Iterable[Estimate]:
        """Lines of its own for `vedette plan`: what its runs cost the target, such as statements or requests.

        Called once after some runs, before `close`, inside a deadline.
        """
        return ()

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """For `vedette doctor`: look at each thing that the instance needs, and say how it came out.

        Called instead of `open` and `run`, on an object of its own, inside a deadline; `close` follows. It must change
        nothing at the target. Whether a run succeeds, doctor finds out by itself.
        """

    async def open(self) -> None:
        """Called before the first run, inside its deadline; connect here."""

    async def close(self) -> None:
        """Called when the instance stops and before a reopening; has 2 s and must not raise."""


class Check(_Instance[C]):
    """A periodic check: `run` is called every interval.

    Subclass it as `Check[YourConfig]`, set `name`, `metrics` and `statuses`, and register it from a hook.
    """

    def run(self, emit: Emit) -> Awaitable[None] | None:
        """One collection. Write it as `async def`, or as `def` to have it run in a worker thread.

        Raises:
            CheckError: for a finding (the target refused, timed out, answered nonsense).
        """
        raise NotImplementedError

    def next_due(self, after: float) -> float | None:
        """For a check with a clock of its own: the first time after `after` at which to run, Unix seconds.

        Asked at the start and after every run. None, the default, leaves it to `interval` or `schedule`.
        """
        return None


class Listener(_Instance[C]):
    """A check that waits for data to come: `serve` runs for the instance's whole life."""

    async def serve(self, emit: Emit) -> None:
        """Receive, emit and `await emit.flush()`, which waits for room in the sinks' queues.

        If it returns or raises it is started again with a growing pause.
        """
        raise NotImplementedError

    def succeed(self, predecessor: Listener[Any]) -> None:
        """Called before `open` where a reload changed this instance's options: take over what may not be lost.

        The predecessor serves no more and closes after this, so what is taken of it must be taken away, such as a
        socket with what waits in it. Not called for instances in child processes.
        """
