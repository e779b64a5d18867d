"""The options of the process check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette import CheckConfig, Duration
from vedette_checks.options import ProcfsPath

Bounds = tuple[Annotated[float, Field(ge=0)], ...]
_AT_LEAST_ONE: Bounds = (1.0, float("inf"))


class Thresholds(BaseModel):
    """How many processes there should be: the least and the most of each range."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    warning: Bounds | None = Field(None, description="WARNING outside of it; without it, where there is none.")
    critical: Bounds | None = Field(None, description="CRITICAL outside of it; without it, where there is none.")

    @field_validator("warning", "critical")
    @classmethod
    def _rising(cls, value: Bounds | None) -> Bounds | None:
        if value is not None and (len(value) != 2 or value[0] > value[1]):
            raise PydanticCustomError("vedette", "must be two numbers, the least first: [least, most]")
        return value


class ProcessConfig(CheckConfig):
    """The options of one group of processes."""

    search_string: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="Names of the programs, as `ps -o comm` has them; one that fits is enough.",
        examples=[["nginx"]],
    )  # fmt: skip
    exact_match: bool = Field(
        True,
        description="`search_string` is the whole name. With `false` it is a pattern (RE2) that fits anywhere in the "
        "command line; one without special characters is plain text.",
    )
    pid: int | None = Field(None, description="A process by its id, instead of names.", ge=1, examples=[4711])
    pid_file: Path | None = Field(
        None, description="A file whose first line is the id, instead of names.", examples=["/run/nginx.pid"]
    )
    user: str | int | None = Field(
        None, description="Only processes of this user, by name or number.", examples=["www-data"]
    )
    collect_children: bool = Field(False, description="The processes that these started, and so on, belong to them.")
    thresholds: Thresholds | None = Field(
        None, description="How many there should be. Without it CRITICAL where there is none.",
        examples=[{"warning": [2, 8], "critical": [1, 16]}],
    )  # fmt: skip
    ignore_denied_access: bool = Field(
        True, description="What this user may not read is left out. With `false` it is a finding."
    )
    list_age: Duration = Field(
        5.0,
        description="A list of processes that another instance read so recently is good enough; where it does not "
        "hold any more, it is read anew.",
        ge=0,
    )
    procfs_path: ProcfsPath = "/proc"

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        if (bool(self.search_string), self.pid is not None, self.pid_file is not None).count(True) != 1:
            raise PydanticCustomError("vedette", "give one of search_string, pid and pid_file")
        if not self.exact_match:
            _compile_all(self.search_string)
        return self

    @property
    def ranges(self) -> tuple[Bounds, Bounds]:
        """Of WARNING and of CRITICAL."""
        given = self.thresholds
        if given is None:
            return _AT_LEAST_ONE, _AT_LEAST_ONE
        return given.warning or _AT_LEAST_ONE, given.critical or _AT_LEAST_ONE


def _compile_all(texts: tuple[str, ...]) -> None:
    for place, one in enumerate(texts):
        try:
            searcher(one)
        except ValueError as error:
            wrong = {"place": place, "why": str(error)}
            raise PydanticCustomError("vedette", "search_string[{place}] {why}", wrong) from None


def searcher(text: str) -> Any:
    """A function that says whether a command line holds a text, or what a pattern stands for.

    Anybody who may start a process writes a command line, so patterns are RE2's, which take linear time on any text.

    Raises:
        ValueError: the pattern is not valid, or RE2 is not installed.
    """
    if not set(text) & set("\\.^$*+?{}[]|()"):
        return lambda line: text in line
    try:
        import re2
    except ModuleNotFoundError:
        raise ValueError("is a pattern, which needs google-re2: pip install 'vedette[process]'") from None
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options).search
    except re2.error:
        hint = " (RE2 has no look-around and no back references)" if re.search(r"\(\?[=!<]|\\[1-9]", text) else ""
        raise ValueError(f"is no valid pattern{hint}") from None
