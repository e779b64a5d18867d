"""What a configuration is once it is read: plain values that the rest of the agent consumes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vedette.units import Duration

if TYPE_CHECKING:
    from pathlib import Path

    from vedette.check import Check, CheckConfig, Listener
    from vedette.errors import Problem
    from vedette.secrets import Masker
    from vedette.sink import Sink, SinkConfig


class LogConfig(BaseModel):
    """`log:` of agent.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level to print."
    )
    format: Literal["text", "json"] = Field(default="text", description="Readable lines, or one JSON object a line.")


class AgentConfig(BaseModel):
    """agent.yaml, but for its `sinks:`, whose options belong to their plugins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hostname: str = Field(default="", description="Host name on every sample. Default: the machine's.")
    tags: tuple[str, ...] = Field(default=(), description="Tags on every sample.", examples=[["team:payments"]])
    log: LogConfig = Field(default_factory=LogConfig, description="The agent's own log.")
    state_directory: str = Field(
        default="",
        description="Where checks keep their state. Default: $STATE_DIRECTORY, else $XDG_STATE_HOME/vedette, else "
        "~/.local/state/vedette.",
    )
    auto_isolate: bool = Field(
        default=True,
        description="Run an instance that held up all others in a child process from its next start on; "
        "`isolate: false` exempts it.",
    )
    report_interval: Duration = Field(
        default=10.0, gt=0, description="Time between the agent's own metrics (`vedette.*`, `health_check.overall`)."
    )
    stop_timeout: Duration = Field(
        default=10.0, gt=0, description="Time that a stop may take: running checks end, queues are flushed."
    )


@dataclass(frozen=True, slots=True)
class Instance:
    """One configured instance of a check, validated and ready to start.

    Attributes:
        id: `<check>/<name>`, unique.
        check: the check's name.
        plugin: the check's class.
        config: its validated options, `name` filled in.
        file: the YAML file as the user named it.
        line: where the instance stands in it.
        content: the resolved options as plain data; two instances are equal if this is.
    """

    id: str
    check: str
    plugin: type[Check[Any]] | type[Listener[Any]]
    config: CheckConfig
    file: str
    line: int
    content: dict[str, Any] = field(hash=False, repr=False)


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that was read from a configuration directory.

    Attributes:
        directory: the folder.
        agent: agent.yaml's options.
        sinks: sink classes with their validated options, in order.
        instances: the valid instances, in file order.
        problems: everything that is wrong, warnings included.
        masker: knows every secret that was resolved.
        fatal: nothing may start: agent.yaml is broken.
    """

    directory: Path
    agent: AgentConfig
    sinks: tuple[tuple[type[Sink[Any]], SinkConfig], ...]
    instances: tuple[Instance, ...]
    problems: tuple[Problem, ...]
    masker: Masker
    fatal: bool = False
