"""The options of the datadog_check check."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette import CheckConfig, Secret
from vedette.kit import tells_of_secret

_SHORTEST: Final = 4
"""Digits of a number that may be a password; what is shorter stands in too many texts to be masked."""
_IDENTIFIER: Final = r"[A-Za-z_]\w*"


class DatadogCheckConfig(CheckConfig):
    """The options of one instance of a check written for the Datadog Agent."""

    module: str | None = Field(
        None,
        description="The check's module, as the Datadog Agent names it: `mycheck` (also below `datadog_checks`), or "
        "`datadog_checks.mycheck:MyCheck` with its class.",
        pattern=rf"^{_IDENTIFIER}(?:\.{_IDENTIFIER})*(?::{_IDENTIFIER})?$",
        examples=["datadog_checks.mycheck"],
    )
    path: Path | None = Field(
        None,
        description="Instead of `module`: the check's file, such as those of checks.d.",
        examples=["/etc/datadog-agent/checks.d/mycheck.py"],
    )
    check_class: str | None = Field(
        None,
        description="Its class, where the module has several. Default: the one subclass of AgentCheck.",
        pattern=rf"^{_IDENTIFIER}$",
        examples=["MyCheck"],
    )
    init_config: dict[str, Any] = Field(
        default_factory=dict,
        description="What stands under `init_config` in the check's own conf.yaml, verbatim.",
        examples=[{"proxy": "http://proxy:3128"}],
    )
    instance: dict[str, Any] = Field(
        default_factory=dict,
        description="One of the `instances` of its conf.yaml, verbatim.",
        examples=[{"url": "http://127.0.0.1:8080/stats", "password": "${env:STATS_PASSWORD}"}],
    )
    python: Path | None = Field(
        None,
        description="The interpreter that has the check and datadog-checks-base; vedette need not be installed there. "
        "Default: the agent's own.",
        examples=["/opt/datadog-agent/embedded/bin/python3"],
    )
    environment: dict[str, Secret] = Field(
        default_factory=dict,
        description="Variables of its environment, beside those that the agent passes on: `PATH`, `HOME`, `USER`, "
        "`LANG`, `TZ`, `PYTHONPATH`, and those of proxies and certificates.",
        examples=[{"ORACLE_HOME": "/opt/oracle"}],
    )
    max_series: int = Field(
        50_000, description="Most series that one run may report; the rest is cut and counted.", gt=0
    )
    example = ("module", "instance")

    @field_validator("init_config", "instance", mode="after")
    @classmethod
    def _hide(cls, value: dict[str, Any]) -> dict[str, Any]:
        hidden: dict[str, Any] = _hidden(value)
        return hidden

    @model_validator(mode="after")
    def _one_place(self) -> DatadogCheckConfig:
        if (self.module is None) == (self.path is None):
            raise PydanticCustomError("vedette", "give module or path: where the check is")
        if self.module is not None and ":" in self.module and self.check_class is not None:
            raise PydanticCustomError("vedette", "module names a class already: leave check_class out")
        return self

    @property
    def cls(self) -> str:
        """The class that is asked for; empty where the module has only one."""
        return self.check_class or (self.module or "").partition(":")[2]

    @property
    def called(self) -> str:
        """The check's name, as the Datadog Agent would call it."""
        return self.path.stem if self.path is not None else (self.module or "").partition(":")[0].rpartition(".")[2]

    @property
    def host_bound(self) -> bool:
        """Not with `empty_default_hostname`, as in the Datadog Agent."""
        ways = (self.instance, self.init_config)
        return not any(str(one.get("empty_default_hostname")).lower() in ("true", "1", "yes") for one in ways)

    @property
    def service_tags(self) -> tuple[str, ...]:
        """`service` of the instance, or else of `init_config`, which the Datadog Agent puts on everything."""
        service = self.instance.get("service") or self.init_config.get("service")
        return (f"service:{service}",) if service else ()


class _Number(Secret):
    """A secret that YAML reads as a number, which it stays for the check."""

    __slots__ = ("given",)

    def __init__(self, given: float) -> None:
        super().__init__(str(given))
        self.given = given


def revealed(value: Any) -> Any:
    """Options as the check gets them."""
    if isinstance(value, _Number):
        return value.given
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, dict):
        return {key: revealed(inner) for key, inner in value.items()}
    return [revealed(inner) for inner in value] if isinstance(value, list | tuple) else value


def _hidden(value: Any, key: str = "") -> Any:
    """The options with what is a secret by its name as one."""
    if isinstance(value, dict):
        return {name: _hidden(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(inner, key) for inner in value]
    if not tells_of_secret(key) or isinstance(value, bool):
        return value
    if isinstance(value, int | float):  # `max_tokens` and its like are amounts
        return value if len(str(value)) < _SHORTEST or key.lower().endswith("tokens") else _Number(value)
    return Secret(value) if isinstance(value, str) and value else value
