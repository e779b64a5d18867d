"""The options of the log_file listener."""

from __future__ import annotations

from datetime import tzinfo
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from vedette import CheckConfig, Duration
from vedette.kit import Size
from vedette_checks.log_file.patterns import pattern
from vedette_checks.log_file.rules import NAMED

LONGEST = 976 << 10
"""Most bytes of a line, the most that are no more than the million after which Datadog's intake cuts."""


def _valid(text: str) -> str:
    pattern(text)
    return text


Pattern = Annotated[str, AfterValidator(_valid)]
"""A regular expression in the syntax of RE2."""


class MultilineConfig(BaseModel):
    """Which lines belong together."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    start: Pattern | None = Field(
        None, description="A line that matches begins an event.", examples=[r"^\d{4}-\d\d-\d\d"]
    )
    continues: Pattern | None = Field(
        None, description="Or: a line that matches goes on with the one before.", examples=[r"^\s"]
    )
    timeout: Duration = Field(
        3.0, description="An event is taken for complete when so long nothing followed.", examples=["3s"]
    )
    max_lines: int = Field(500, ge=2, le=100_000, description="Most lines of an event; what follows is another.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.start is None) == (self.continues is None):
            raise ValueError("give either start or continues")
        return self


class RedactConfig(BaseModel):
    """One entry of `redact:`."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    name: str = Field(
        description=f"A kind that is known ({', '.join(NAMED)}), or with `pattern` what to call it in the metrics.",
        examples=["customer"],
        pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,49}$",
    )
    pattern: Pattern | None = Field(None, description="What to replace.", examples=[r"customer-(\d)\d+"])
    replace: str = Field(
        "****", description="With what; `\\1` is what the first group matched.", examples=[r"customer-\1***"]
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.pattern is None and self.name not in NAMED:
            raise ValueError(f"needs a pattern; without one, name is one of {', '.join(NAMED)}")
        groups = pattern(self.pattern).groups if self.pattern is not None else 0
        asked = [int(digit) for digit in _references(self.replace)]
        if any(number > groups for number in asked):
            raise ValueError(f"replace asks for a group that the pattern does not have; it has {groups}")
        return self


def _references(text: str) -> list[str]:
    import re

    rest = text.replace(r"\\", "")
    if re.search(r"\\(?![0-9])", rest):
        raise ValueError(r"replace has a backslash that is followed by no digit; write \\ for a backslash")
    return re.findall(r"\\([0-9])", rest)


def _zone_of(name: str) -> tzinfo | None:
    return None if name == "local" else ZoneInfo(name)


class LogFileConfig(CheckConfig):
    """Options of the log_file listener."""

    example: ClassVar[tuple[str, ...]] = ()

    interval: Duration = Field(10.0, description="How often it says its own metrics.", examples=["10s"])
    paths: tuple[Path, ...] = Field(
        min_length=1,
        description="Files to follow: paths with `*`, `?`, `[…]` in them, `**` for folders of any depth.",
        examples=[["/var/log/payments/*.log"]],
    )
    exclude: tuple[str, ...] = Field(
        (),
        description="Files to leave out: patterns of names, or of whole paths where they have a `/`.",
        examples=[["*debug*"]],
    )
    start_position: Literal["end", "beginning"] = Field(
        "end",
        description="Where to begin in files that are there when a path is followed for the first time. Those that "
        "come later are read from their beginning.",
    )
    format: Literal["auto", "text", "container"] = Field(
        "auto",
        description="`auto` reads lines of JSON as such, and the files of containers (CRI, Docker's json-file) by "
        "their names; `container` takes every file for one of those; `text` takes lines as they are.",
    )
    encoding: Literal["utf-8", "utf-16", "utf-16-le", "utf-16-be", "latin-1"] = Field(
        "utf-8", description="How text is encoded. What cannot be read becomes U+FFFD."
    )
    service: str = Field("", description="`service` of lines that name none.", examples=["payments"], max_length=100)
    source: str = Field(
        "",
        description="Where they come from, for Datadog's pipelines (`ddsource`).",
        examples=["python"],
        max_length=100,
    )
    timezone: str = Field(
        "local",
        description="Time zone of times in JSON that name none; `local` is the machine's.",
        examples=["Asia/Singapore"],
    )
    level: str = Field(
        "auto",
        description="Level of lines that are no JSON; `auto` looks for a word such as ERROR near their beginning.",
        pattern="^[a-z]{2,20}$",
    )
    multiline: MultilineConfig | None = Field(None, description="Lines that belong together, such as stack traces.")
    max_line: Size = Field(LONGEST, description="Longer lines are cut, with `...TRUNCATED...` at their end.")
    include_lines: tuple[Pattern, ...] = Field(
        (), description="Only lines that one of these patterns matches.", examples=[["ERROR|WARN"]]
    )
    exclude_lines: tuple[Pattern, ...] = Field(
        (), description="No lines that one of these matches.", examples=[["GET /health"]]
    )
    card_numbers: bool = Field(
        True, description="Replace card numbers: 13 to 19 digits, with blanks or dashes, that pass Luhn's check."
    )
    credentials: bool = Field(
        True, description="Replace passwords, tokens and keys, by what they look like or are called."
    )
    redact: tuple[RedactConfig, ...] = Field((), description="What else to replace.", examples=[[{"name": "email"}]])
    max_lines_per_second: int | None = Field(
        None, ge=1, description="Most lines in a second, on average over ten. Default: no limit.", examples=[5000]
    )
    max_bytes_per_second: Size | None = Field(
        None, description="Most bytes in a second, on average over ten. Default: no limit.", examples=["5MB"]
    )
    over_budget: Literal["wait", "drop"] = Field(
        "wait", description="Beyond these, read later (nothing is lost while the files are there), or drop and count."
    )
    max_files: int = Field(
        1000, ge=1, le=100_000, description="Most files to follow; beyond that the longest unchanged are left out."
    )
    poll: Duration = Field(1.0, description="How often to look whether a file has grown or was rotated.")
    discover: Duration = Field(10.0, description="How often to look for new files.")

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            _zone_of(value)
        except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
            raise ValueError("must be a time zone such as UTC or Europe/Berlin, or local") from None
        return value

    @property
    def zone(self) -> tzinfo | None:
        """That of times without one; None is the machine's."""
        return _zone_of(self.timezone)

    @field_validator("paths")
    @classmethod
    def _files(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        if any("**" in part and part != "**" for path in value for part in path.parts):
            raise ValueError("`**` stands for whole folders, between two slashes")
        return value

    @field_validator("max_line")
    @classmethod
    def _cut(cls, value: int) -> int:
        if not 256 <= value <= LONGEST:
            raise ValueError("must be between 256B and 976KB, the million bytes that Datadog's intake takes")
        return value

    @field_validator("max_bytes_per_second")
    @classmethod
    def _enough(cls, value: int | None) -> int | None:
        if value is not None and value < 1000:
            raise ValueError("must be at least 1KB")
        return value

    @field_validator("poll", "discover")
    @classmethod
    def _positive_pace(cls, value: float) -> float:
        if not 0.05 <= value <= 3600:
            raise ValueError("must be between 50ms and 1h")
        return value

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.schedule is not None:
            raise ValueError("a listener has an interval, no schedule")
        if self.format == "container" and self.encoding != "utf-8":
            raise ValueError("files of containers are UTF-8")
        return self
