"""What a configuration is once it is read: plain values that the rest of the agent consumes."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette.config.notify import Route
from vedette.config.vault import Key, Source, Vault
from vedette.listen import ListenOptions, split_address
from vedette.secrets import Secret
from vedette.units import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette.check import Check, CheckConfig, Listener
    from vedette.config.files import Mark
    from vedette.config.template import Template
    from vedette.discovery import Discovery, DiscoveryConfig
    from vedette.engine import Engine, EngineConfig
    from vedette.errors import Problem
    from vedette.notifier import Notifier, NotifierConfig
    from vedette.rules.model import Rulebook
    from vedette.secrets import Masker
    from vedette.sink import Sink, SinkConfig


class LogConfig(BaseModel):
    """`log:` of agent.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level to print."
    )
    format: Literal["text", "json"] = Field(default="text", description="Readable lines, or one JSON object a line.")


class ReloadConfig(BaseModel):
    """`reload:` of agent.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    watch: bool = Field(default=True, description="Apply what changes in the configuration folder and in secret files.")
    settle: Duration = Field(
        default=1.0, gt=0, le=60, description="How long files must stay as they are before they are read."
    )


class BudgetConfig(BaseModel):
    """`plan.budget:` of agent.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    series: int | None = Field(default=None, ge=0, description="Most series of one instance.", examples=[500])
    instances: dict[str, int] = Field(
        default_factory=dict,
        description="Most series of single instances instead, by id.",
        examples=[{"postgres/warehouse": 5000}],
    )
    custom_metrics: int | None = Field(
        default=None, ge=0, description="Most Datadog custom metrics of all together, per sink.", examples=[2000]
    )
    usd_per_month: float | None = Field(
        default=None, ge=0, description="Most dollars a month for all together, per sink.", examples=[100]
    )


class PlanConfig(BaseModel):
    """`plan:` of agent.yaml, for `vedette plan`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    usd_per_100_custom_metrics: float = Field(
        default=5.0, ge=0, description="Price of 100 Datadog custom metrics for a month, in dollars."
    )
    included: int = Field(default=0, ge=0, description="Custom metrics that your contract includes for this host.")
    budget: BudgetConfig = Field(default_factory=BudgetConfig, description="What must not be exceeded.")


class HttpConfig(ListenOptions):
    """`http:` of agent.yaml: the status page."""

    listen: str = Field(default="127.0.0.1:8127", description="Address and port of the page; port 0 takes a free one.")
    token: Secret | None = Field(default=None, description="Lets POST requests act (run now, mute, reload).")
    hosts: tuple[str, ...] = Field(
        default=(),
        description="Names under which the page is asked for, beside `localhost` and the machine's own.",
        examples=[["node-7.example.com"]],
    )
    probes: str | None = Field(
        default=None,
        description="A second address and port that answers `/healthz` and `/readyz` and nothing else, to everybody, "
        "without TLS: for a kubelet or a load balancer.",
        examples=["0.0.0.0:8128", "[::]:8128"],
    )

    @field_validator("probes")
    @classmethod
    def _probes_address(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value

    @model_validator(mode="after")
    def _installed(self) -> HttpConfig:
        if not all(find_spec(package) for package in ("starlette", "uvicorn", "markupsafe")):
            raise PydanticCustomError("vedette", "needs packages that are missing; pip install 'vedette[http]'")
        return self


class AgentConfig(BaseModel):
    """agent.yaml, but for its `sinks:`, `secrets:` and so on, whose options belong to their plugins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hostname: str = Field(default="", description="Host name on every sample. Default: the machine's.")
    tags: tuple[str, ...] = Field(default=(), description="Tags on every sample.", examples=[["team:payments"]])
    log: LogConfig = Field(default_factory=LogConfig, description="The agent's own log.")
    state_directory: str = Field(
        default="",
        description="Where checks keep their state. Default: $STATE_DIRECTORY, else $XDG_STATE_HOME/vedette, else "
        "~/.local/state/vedette.",
    )
    reload: ReloadConfig = Field(default_factory=ReloadConfig, description="When the configuration is read again.")
    plan: PlanConfig = Field(default_factory=PlanConfig, description="Prices and budgets for `vedette plan`.")
    auto_isolate: bool = Field(
        default=True,
        description="Run an instance that held up all others in a child process from its next start on; "
        "`isolate: false` exempts it.",
    )
    control_socket: Path | None = Field(
        default=None,
        description="Unix socket on which `vedette status`, `reload`, `run-now` and `mute` reach the agent. Default: "
        "control.sock in $RUNTIME_DIRECTORY, else in the state directory.",
    )
    http: HttpConfig | None = Field(default=None, description="Serve a status page.")
    mask_card_numbers: bool = Field(
        default=True, description="Replace card numbers by `****` in every text and tag that leaves the agent."
    )
    report_interval: Duration = Field(
        default=10.0, gt=0, description="Time between the agent's own metrics (`vedette.*`, `health_check.overall`)."
    )
    report_changes: tuple[Literal["events", "logs"], ...] = Field(
        default=(),
        description="Tell the sinks of each failure and recovery of an instance: as `events`, as structured `logs`.",
        examples=[["events", "logs"]],
    )
    routes: tuple[Route, ...] = Field(
        default=(),
        description="Who is told of alerts whose rule has no `notify:`; all that fit count. Without routes every "
        "notifier is told.",
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
        origin: what was found that it was made for, such as `pod payments/api-7f9c`; empty for one of a file.
        masker: knows the secrets that came with what was found, beside all others; None for one of a file.
        run_on: which agents run it, as it is in force: `every_node` where a check implies `leader` and there is no
            fleet.
    """

    id: str
    check: str
    plugin: type[Check[Any]] | type[Listener[Any]]
    config: CheckConfig
    file: str
    line: int
    content: dict[str, Any] = field(hash=False, repr=False)
    origin: str = ""
    masker: Masker | None = field(default=None, hash=False, repr=False, compare=False)
    run_on: Literal["every_node", "leader", "hash"] = "every_node"

    @property
    def owned(self) -> bool:
        """Whether only one agent of the fleet may run it at a time."""
        return self.run_on != "every_node"


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
        secret_files: the files that `${file:…}` named, whether or not they could be read, as they were just before.
        vault: what resolver plugins answered.
        discoveries: discovery classes with their validated options, in order.
        templates: what instances are made of for each target that fits.
        resolvers: who resolves each reference, by its scheme and name; `env` and `file` are not among them.
        fleet: the coordination engine's class with its validated options; None without a fleet.
        notifiers: notifier classes with their validated options, in order.
        rulebook: the alert rules and what belongs to them; None where no file says anything of alerts.
    """

    directory: Path
    agent: AgentConfig
    sinks: tuple[tuple[type[Sink[Any]], SinkConfig], ...]
    instances: tuple[Instance, ...]
    problems: tuple[Problem, ...]
    masker: Masker
    fatal: bool = False
    secret_files: Mapping[Path, Mark] = field(default_factory=dict)
    vault: Vault = field(default_factory=Vault, repr=False, compare=False)
    discoveries: tuple[tuple[type[Discovery[Any]], DiscoveryConfig], ...] = ()
    templates: tuple[Template, ...] = ()
    resolvers: Mapping[Key, Source] = field(default_factory=dict, repr=False, compare=False)
    fleet: tuple[type[Engine[Any]], EngineConfig] | None = None
    notifiers: tuple[tuple[type[Notifier[Any]], NotifierConfig], ...] = ()
    rulebook: Rulebook | None = None
