"""A metric and what is taken of it, formulas of several, and the words that files are made of."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette.metrics import Kind

ID: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,79}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_TAG: Final = re.compile(r"[a-z][a-z0-9_./-]*")
_FORMULA: Final = re.compile(r"[a-z0-9_.+*/() -]+")
_TAKEN_BY: Final = {
    Kind.GAUGE: ("avg", "sum", "min", "max"),
    Kind.SET: ("max", "avg", "sum", "min"),
    Kind.RATE: ("sum", "avg", "min", "max"),
    Kind.COUNT: ("sum",),
    Kind.COUNTER: ("sum",),
    Kind.HISTOGRAM: ("avg", "median", "p95", "max", "count"),
    Kind.DISTRIBUTION: ("avg", "median", "p95", "max", "count"),
}
"""What can be taken of a metric, the usual one first."""


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _id(value: str) -> str:
    if not ID.fullmatch(value):
        raise PydanticCustomError("vedette", "must be lower case letters, digits, '_', '.' and '-', 80 at most")
    return value


def _tag_key(value: str) -> str:
    if not _TAG.fullmatch(value):
        raise PydanticCustomError("vedette", "must be the key of a tag, such as env")
    return value


def _handle(value: str) -> str:
    if not value.startswith("@") or len(value.split()) != 1 or len(value) < 2:
        raise PydanticCustomError("vedette", "must be a handle of Datadog's, such as '@slack-payments'")
    return value


Id = Annotated[str, Field(min_length=1), BeforeValidator(lambda value: _id(value) if isinstance(value, str) else value)]
TagKey = Annotated[str, BeforeValidator(lambda value: _tag_key(value) if isinstance(value, str) else value)]
Handle = Annotated[str, BeforeValidator(lambda value: _handle(value) if isinstance(value, str) else value)]
Handles = Annotated[tuple[Handle, ...], BeforeValidator(_several)]


class Strict(BaseModel):
    """Part of a file, in which no unknown word stands."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Series(Strict):
    """A metric and what is taken of it.

    Attributes:
        kind: the kind that its check declares; Datadog's and Prometheus' queries follow from it.
        take: how series are put together: avg, sum, min, max; of a histogram avg, median, p95, max, count.
        by: tags of which each value is a line or a group of its own.
        where: tags that a series must have.
        per: what a count is shown per.
        grows: whether a gauge is in truth a total so far, as some of Datadog's names are: its growth is looked at.
    """

    metric: str = Field(min_length=1, pattern=r"^[A-Za-z][A-Za-z0-9_.]*$")
    kind: Kind = Kind.GAUGE
    take: str = ""
    by: Annotated[tuple[TagKey, ...], BeforeValidator(_several)] = ()
    where: dict[TagKey, str] = Field(default_factory=dict)
    per: Literal["interval", "second"] = "interval"
    grows: bool = False

    @model_validator(mode="after")
    def _takes_what_there_is(self) -> Series:
        if self.take and self.take not in _TAKEN_BY[self.kind]:
            choice = ", ".join(_TAKEN_BY[self.kind])
            raise PydanticCustomError(
                "vedette", "take: of a {kind} there is {choice}", {"kind": self.kind.value, "choice": choice}
            )
        if self.grows and self.kind is not Kind.GAUGE:
            raise PydanticCustomError("vedette", "grows: is for gauges, other kinds say what they are")
        return self

    @property
    def taken(self) -> str:
        """What is taken, the usual of its kind if nothing is said."""
        return self.take or _TAKEN_BY[self.kind][0]

    @property
    def counted(self) -> bool:
        """Whether its values add up over time: their absence is 0."""
        in_all = self.kind in (Kind.COUNT, Kind.COUNTER) or self.grows
        return in_all or (self.kind in (Kind.HISTOGRAM, Kind.DISTRIBUTION) and self.taken == "count")


class Shown(Strict):
    """What a widget shows or a monitor watches: a metric, or a formula of several.

    Attributes:
        of: series by name.
        formula: of these names, numbers, `+ - * / ( )`; without it a widget shows each series.
    """

    metric: str = ""
    kind: Kind = Kind.GAUGE
    take: str = ""
    by: Annotated[tuple[TagKey, ...], BeforeValidator(_several)] = ()
    where: dict[TagKey, str] = Field(default_factory=dict)
    per: Literal["interval", "second"] = "interval"
    grows: bool = False
    of: dict[str, Series] = Field(default_factory=dict)
    formula: str = ""

    @field_validator("metric")
    @classmethod
    def _a_name(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.]*", value):
            raise PydanticCustomError("vedette", "must be the name of a metric, such as redis.mem.used")
        return value

    @model_validator(mode="after")
    def _adds_up(self) -> Any:
        if self.metric and (self.of or self.formula):
            raise PydanticCustomError("vedette", "give either metric or of, not both")
        for name in self.of:
            if not _NAME.fullmatch(name):
                raise PydanticCustomError("vedette", "a name in of must be lower case letters, digits and '_'")
        if self.metric:
            self.series  # noqa: B018 - whose own rules it must keep
        if self.formula:
            _check_formula(self.formula, set(self.of))
        return self

    @property
    def series(self) -> dict[str, Series]:
        """Every series by name; `a` is the only one of a single metric."""
        if not self.metric:
            return self.of
        own = {name: getattr(self, name) for name in Series.model_fields}
        return {"a": Series(**own)}

    @property
    def formulas(self) -> dict[str, str]:
        """What is shown: a formula by the name of its line, which is empty where there is only one."""
        if self.formula:
            return {"": self.formula}
        names = list(self.series)
        return {"": names[0]} if len(names) == 1 else {name: name for name in names}


def _check_formula(formula: str, names: set[str]) -> None:
    if not _FORMULA.fullmatch(formula):
        raise PydanticCustomError("vedette", "formula: takes names, numbers, + - * / and parentheses")
    used = set(re.findall(r"[a-z_][a-z0-9_]*", formula))
    if used - names:
        raise PydanticCustomError("vedette", "formula: names something that is not in of")
    if names - used:
        raise PydanticCustomError("vedette", "formula: leaves out a series of of")
    if "**" in formula or "//" in formula:
        raise PydanticCustomError("vedette", "formula: takes names, numbers, + - * / and parentheses")
    try:
        compile(formula.strip(), "formula", "eval")
    except SyntaxError:
        raise PydanticCustomError("vedette", "formula: is not complete, see its operators and parentheses") from None
