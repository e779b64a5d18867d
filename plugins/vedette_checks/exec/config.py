"""The options of the exec check."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from vedette import CheckConfig, Secret
from vedette.kit import Size

Format = Literal["nagios", "json", "prometheus", "influx"]


class ExecConfig(CheckConfig):
    """The options of one program."""

    command: tuple[str, ...] = Field(
        description="The program and its arguments, a list: no shell reads it. A relative path starts from "
        "`directory`; a bare name is looked for in `PATH`.",
        min_length=1,
        examples=[["/usr/lib/nagios/plugins/check_disk", "-w", "10%", "-c", "5%", "-p", "/"]],
    )
    format: Format = Field(
        "nagios",
        description="What the program prints: a line and perfdata as the Monitoring Plugins do (Nagios), `json`, "
        "`prometheus` (text or OpenMetrics) or `influx` (lines).",
    )
    namespace: str = Field(
        "exec.{name}",
        description="What names of metrics begin with; `{name}` is the instance's name. Empty leaves them as they are.",
        pattern=r"^(?:[A-Za-z][A-Za-z0-9_.]*)?(?:\{name\}[A-Za-z0-9_.]*)?$",
    )
    environment: dict[str, Secret] = Field(
        default_factory=dict,
        description="The program's environment, beside `PATH`, `HOME`, `USER`, `LANG` and `TZ` of the agent. Nothing "
        "else of the agent's gets in.",
        examples=[{"PGPASSWORD": "${env:PGPASSWORD}"}],
    )
    directory: Path | None = Field(None, description="Where the program runs. Default: `/`.", examples=["/var/lib/app"])
    thresholds: bool = Field(
        False,
        description="For `nagios`: emit `….warning`, `….critical`, `….minimum` and `….maximum` of perfdata too.",
    )
    max_output: Size = Field(
        10 << 20, description="Most that it may print; a program that prints more is ended.", gt=0, examples=["1MB"]
    )

    max_samples: int = Field(
        50_000, description="Most samples (items of perfdata) of one run; the rest is cut and counted.", gt=0
    )

    @field_validator("command", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                words = ", ".join(shlex.split(value))
            except ValueError:
                words = "program, argument"
            raise PydanticCustomError("vedette", "is a list, such as [{words}]: no shell reads it", {"words": words})
        return value

    @field_validator("command")
    @classmethod
    def _program(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value[0] or any("\0" in word for word in value):
            raise PydanticCustomError("vedette", "begins with the name of a program, and holds no zero bytes")
        return value

    @field_validator("environment")
    @classmethod
    def _names(cls, value: dict[str, Secret]) -> dict[str, Secret]:
        for name, secret in value.items():
            if not name or "=" in name or "\0" in name or "\0" in secret.reveal():
                raise PydanticCustomError("vedette", "has a name with `=`, or a zero byte: no environment holds that")
        return value

    @property
    def prefix(self) -> str:
        """`namespace` with the instance's name, and the dot after it."""
        made = self.namespace.replace("{name}", self.name or "exec")
        return f"{made}." if made else ""
