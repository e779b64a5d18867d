"""Plugins and folders for the tests of the configuration."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vedette import Check, CheckConfig, Duration, Emit, Metric, Remark, Secret, Sink, SinkConfig, hookimpl
from vedette.config import Configuration, load
from vedette.errors import SecretError
from vedette.plugins import Registry

SECRET = "hunter2-s3cret"


class Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    read: Literal["get", "llen"] = "get"
    file: Path | None = None


class Script(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str
    shell: str = "sh"


class ProbeConfig(CheckConfig):
    """One option of every kind that a real check might have."""

    host: str = "localhost"
    port: int = Field(default=80, ge=1, le=65535)
    ratio: float = 0.5
    tls: bool = False
    password: Secret | None = None
    dsn: str | None = None
    wait: Duration = 1.0
    ca_file: Path | None = None
    files: tuple[Path, ...] = ()
    rules: tuple[Rule, ...] = ()
    headers: dict[str, str] = Field(default_factory=dict)
    target: int | str | None = None
    action: Script | int = 0

    @field_validator("dsn")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("db://"):
            raise ValueError(f"{value!r} does not begin with db://")
        if value == "db://boom":
            raise KeyError(value)
        return value

    @model_validator(mode="after")
    def _fits(self) -> ProbeConfig:
        if self.password and not self.tls and self.host != "localhost":
            raise ValueError(f"{self.password.reveal()} for {self.host} needs tls")
        return self


class Probe(Check[ProbeConfig]):
    name = "probe"

    def run(self, emit: Emit) -> None: ...


class Counter(Check[CheckConfig]):
    name = "counter"
    keeps_state = True


class GrumbleConfig(CheckConfig):
    lint: str = ""
    examine: str = ""
    rules: tuple[Rule, ...] = ()
    declare: str = ""


class Grumble(Check[GrumbleConfig]):
    """Its `lint` and `declare` say or raise what the options ask for."""

    name = "grumble"

    @classmethod
    def lint(cls, config: GrumbleConfig) -> Iterable[str]:
        if config.lint == "raise":
            raise RuntimeError(SECRET)
        return [config.lint] if config.lint else []

    @classmethod
    def examine(cls, config: GrumbleConfig) -> Iterable[Remark]:
        if config.examine == "raise":
            raise RuntimeError(SECRET)
        if config.examine:
            yield Remark("is odd", "look again", ("examine",))
        for place, rule in enumerate(config.rules):
            if rule.key == "bad":
                yield Remark("never works", path=("rules", place, "key"), severity="error")
            if rule.key == "bare":
                yield Remark("reads nothing", path=("rules", place, "read"))

    @classmethod
    def declare(cls, config: GrumbleConfig) -> Iterable[Metric]:
        if config.declare == "raise":
            raise RuntimeError(SECRET)
        return ()


class ConsoleConfig(SinkConfig):
    color: bool = False


class Console(Sink[ConsoleConfig]):
    name = "console"


class FileConfig(SinkConfig):
    path: Path
    token: Secret | None = None


class File(Sink[FileConfig]):
    name = "file"


class Vault:
    """Answers references that begin with `ok`; `none`, `sick` and `bug` fail in three ways."""

    name = "vault"

    async def resolve(self, reference: str) -> str:
        if reference == "none":
            raise SecretError("vault: there is no such secret")
        if reference == "sick":
            return None  # type: ignore[return-value]
        if reference == "bug":
            raise RuntimeError(SECRET)
        return f"{SECRET}-from-{reference}"


class Point:
    """An entry point whose module registers one class, or fails to import."""

    dist = None

    def __init__(self, group: str, plugin: Any, error: Exception | None = None) -> None:
        self.name: str = plugin if error else plugin.name
        self.value = f"thirdparty.{self.name}"
        self._group, self._plugin, self._error = group, plugin, error

    def load(self) -> types.ModuleType:
        if self._error is not None:
            raise self._error
        plugin = self._plugin

        def hook(register: Callable[[Any], None]) -> None:
            register(plugin)

        module = types.ModuleType(self.value)
        setattr(module, f"register_{self._group}", hookimpl(hook))
        return module


def registry() -> Registry:
    missing = ModuleNotFoundError("No module named 'redis'", name="redis")
    points = {
        "checks": [
            Point("checks", Probe),
            Point("checks", Counter),
            Point("checks", Grumble),
            Point("checks", "driverless", missing),
            Point("checks", "crashing", RuntimeError("no good")),
        ],
        "sinks": [Point("sinks", Console), Point("sinks", File)],
        "secrets": [Point("secrets", Vault)],
        "notifiers": [],
    }
    return Registry(find=lambda group: points[group.removeprefix("vedette.")])


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write the files below `folder` and return it."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def read(folder: Path, files: Mapping[str, str] | str, **options: Any) -> Configuration:
    """Load a folder with these files; a single text is the file of the probe check."""
    files = {"probe.yaml": files} if isinstance(files, str) else files
    options.setdefault("environ", {})
    return load(write(folder, files), registry(), **options)


def lines(configuration: Configuration) -> list[str]:
    """The problems as printed, with the folder's name cut off."""
    start = f"{configuration.directory.as_posix()}/"
    return [str(problem).removeprefix(start) for problem in configuration.problems]
