"""Floor 1: the contract of a discovery, which finds what instances are to be made for, such as the pods of a node."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from vedette.check import model_of
from vedette.units import Duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vedette.advice import Diagnosis


@dataclass(frozen=True, slots=True)
class Container:
    """One program of a target.

    Attributes:
        name: its name in the target.
        image: the image it was started from, as it was asked for.
        ports: port numbers by name; one without a name is under its number.
        environ: its environment variables, those with literal values: never what comes from a secret.
        tags: tags for instances that are made for this container.
    """

    name: str
    image: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """Something that was found and runs now.

    Attributes:
        id: tells it from one of the same name that was there before, such as a pod's UID: instances start anew.
        name: for people, and for the names of its instances, such as `payments/api-7f9c`.
        host: its address.
        kind: what it is, in a word.
        namespace: the group it belongs to.
        containers: its programs.
        labels: what it is marked with.
        tags: tags for all of its instances.
        variables: more `%%name%%` than those that every target has.
        asks: YAML in which its author asks for instances; empty if it asks for none. Nobody has to trust it.
        source: where that stands, such as the annotation's name.
    """

    id: str
    name: str
    host: str
    kind: str = "target"
    namespace: str = ""
    containers: tuple[Container, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    asks: str = ""
    source: str = ""


class Found(Protocol):
    """Where a discovery tells what is there now."""

    def __call__(self, targets: Iterable[Target]) -> None:
        """Take over the complete list; what is not in it any more ends. Never waits."""
        ...


class DiscoveryConfig(BaseModel):
    """The options of one discovery. Subclass it and add its own; unknown options are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    type: str = Field(description="Which discovery.")
    name: str = Field("", description="Name of the discovery. Default: its type, `-n` from the second on.")
    allow: tuple[str, ...] = Field(
        (),
        description="Checks that a target may ask for by itself, as a pod does by its annotation. Templates in conf.d "
        "need no permission.",
        examples=[["redis", "postgres"]],
    )
    hosts: tuple[str, ...] = Field(
        (),
        description="Host names and addresses, beside its own, that what a target asks for may reach (glob patterns).",
        examples=[["*.rds.amazonaws.com"]],
    )
    metric_names: tuple[str, ...] = Field(
        (),
        description="Names of metrics that what a target asks for may make up, as in `counters` of redis (glob "
        "patterns). Those of the check itself need no permission.",
        examples=[["shop.*"]],
    )
    min_interval: Duration = Field(10.0, description="Shortest interval that a target may ask for.", gt=0, le=3600)
    max_instances: int = Field(10, description="Most instances that one target may ask for.", ge=1, le=1000)


D = TypeVar("D", bound=DiscoveryConfig)


class Discovery(Generic[D]):
    """Finds targets. Subclass it as `Discovery[YourConfig]`, set `name` and write `run`.

    An exception from `run` is logged and counted, and `run` is called again after a pause; what was found last stays
    in force meanwhile.
    """

    name: ClassVar[str] = ""
    """The entry point's name, and the word after `type:` in agent.yaml."""
    variables: ClassVar[Iterable[str]] = ()
    """The names of what its targets have in `variables`: for `vedette validate`."""
    config_class: ClassVar[type[DiscoveryConfig]] = DiscoveryConfig

    def __init__(self, config: D) -> None:
        self.config = config
        self.log = logging.getLogger(f"vedette.discovery.{config.name or self.name}")
        self.errors = 0
        """Failures so far."""
        self.trouble = ""
        """What is wrong now; empty while all is well."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        model = model_of(cls, DiscoveryConfig)
        if model is not None:
            cls.config_class = model

    async def run(self, found: Found) -> None:
        """Look, call `found` with the complete list, and again whenever it changes, until cancelled."""
        raise NotImplementedError

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """For `vedette doctor`: look at what the discovery needs, and say how it came out.

        Called instead of `run`, on an object of its own, inside a deadline.
        """

    def failed(self, what: str) -> None:
        """Count a failure that `run` goes on after; logs only when this is news."""
        self.errors += 1
        if what != self.trouble:
            self.trouble = what
            self.log.warning("%s", what)

    def recovered(self) -> None:
        """All is well; logs only when it was not before."""
        if self.trouble:
            self.trouble = ""
            self.log.info("works again")
