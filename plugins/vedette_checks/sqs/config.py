"""The options of the sqs check."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette import Duration
from vedette_checks.aws import AwsConfig

_NAME = re.compile(r"[A-Za-z0-9_-]{1,75}|[A-Za-z0-9_-]{1,75}\.fifo")
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,80}")
_URL = re.compile(r"https?://[^/\s]+/(?:[^/\s]+/)*\d{12}/[A-Za-z0-9_.-]{1,80}")
_HOST = re.compile(r"https?://(?:sqs\.)?([a-z]{2,4}(?:-[a-z]+)+-\d{1,2})\.(?:queue\.)?amazonaws\.com")


class Thresholds(BaseModel):
    """From which figures on a queue is in trouble. None: never."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    depth_warning: int | None = Field(None, description="WARNING from so many waiting messages on.", ge=1)
    depth_critical: int | None = Field(None, description="CRITICAL from so many on.", ge=1)
    age_warning: Duration | None = Field(
        None, description="WARNING once the oldest message has waited so long. Asks CloudWatch, which costs.", gt=0
    )
    age_critical: Duration | None = Field(None, description="CRITICAL once it has waited so long.", gt=0)
    dead_letter_warning: int | None = Field(
        None, description="WARNING from so many messages in the dead-letter queue on. Default: the instance's.", ge=1
    )

    @model_validator(mode="after")
    def _in_order(self) -> Thresholds:
        in_order(self.depth_warning, self.depth_critical, "depth")
        in_order(self.age_warning, self.age_critical, "age")
        return self

    @property
    def of_age(self) -> bool:
        """Whether any of them is of the age of the oldest message."""
        return self.age_warning is not None or self.age_critical is not None


def in_order(warning: float | None, critical: float | None, what: str) -> None:
    """Refuse a critical figure below that of a warning.

    Raises:
        PydanticCustomError: it is.
    """
    if warning is not None and critical is not None and critical < warning:
        text = "{what}_critical must not be less than {what}_warning"
        raise PydanticCustomError("vedette", text, {"what": what})


class QueueConfig(Thresholds):
    """One entry of `queues:`: a queue by name or URL, or all whose names begin with a prefix."""

    name: str = Field("", description="Name of the queue.", examples=["orders"])
    url: str = Field(
        "",
        description="Its URL, for one of another account; it is tagged `account`.",
        examples=["https://sqs.eu-central-1.amazonaws.com/123456789012/orders"],
    )
    prefix: str | None = Field(
        None, description="All queues whose names begin so; an empty text is all.", examples=["shop-"]
    )
    match: str = Field("", description="Of these, those whose whole names match.", examples=["shop-.*-prod"])
    exclude: str = Field("", description="Of these, not those whose whole names match.", examples=[".*-dlq"])
    tags: tuple[str, ...] = Field((), description="Tags of these queues.", examples=[["team:payments"]])

    @field_validator("name")
    @classmethod
    def _named(cls, value: str) -> str:
        if value and not _NAME.fullmatch(value):
            raise PydanticCustomError("vedette", "is not the name of a queue: letters, digits, - and _, and .fifo")
        return value

    @field_validator("url")
    @classmethod
    def _addressed(cls, value: str) -> str:
        if value and not _URL.fullmatch(value):
            text = "is not the URL of a queue, such as https://sqs.eu-central-1.amazonaws.com/123456789012/orders"
            raise PydanticCustomError("vedette", text)
        return value

    @field_validator("prefix")
    @classmethod
    def _begun(cls, value: str | None) -> str | None:
        if value and not _PREFIX.fullmatch(value):
            raise PydanticCustomError("vedette", "is no beginning of a name: letters, digits, - and _")
        return value

    @field_validator("match", "exclude")
    @classmethod
    def _regular(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error:
            raise PydanticCustomError("vedette", "is not a regular expression") from None
        return value

    @model_validator(mode="after")
    def _one_way(self) -> QueueConfig:
        if (bool(self.name), bool(self.url), self.prefix is not None).count(True) != 1:
            raise PydanticCustomError("vedette", "give one of name, url and prefix")
        if (self.match or self.exclude) and self.prefix is None:
            raise PydanticCustomError("vedette", "match and exclude go with prefix")
        return self

    @property
    def region(self) -> str:
        """The region in the URL; empty where there is none."""
        found = _HOST.match(self.url)
        return found[1] if found else ""

    @property
    def account(self) -> str:
        """The number of the account in the URL; empty where there is no URL."""
        return self.url.split("/")[-2] if self.url else ""

    def takes(self, name: str) -> bool:
        """Whether a queue with the prefix is meant."""
        if self.match and not re.fullmatch(self.match, name):
            return False
        return not (self.exclude and re.fullmatch(self.exclude, name))


def _one_queue(value: Any) -> Any:
    """`orders` for `{name: orders}`, an address for `{url: …}`."""
    if isinstance(value, str):
        return {"url": value} if "://" in value else {"name": value}
    return value


Queue = Annotated[QueueConfig, BeforeValidator(_one_queue, json_schema_input_type=str | QueueConfig)]


class SqsConfig(AwsConfig):
    """The options of one sqs instance."""

    example: ClassVar[tuple[str, ...]] = ("region", "depth_warning", "depth_critical")

    interval: Duration = Field(30.0, description="Time between runs.", examples=["30s"])
    queues: tuple[Queue, ...] = Field(
        description="Which queues: names, URLs, or options such as `{prefix: shop-}` and thresholds of their own.",
        examples=[["orders", {"prefix": "shop-", "exclude": ".*-dlq", "depth_critical": 50000}]],
        min_length=1,
    )
    depth_warning: int | None = Field(
        None, description="`sqs.queue` is WARNING from so many waiting messages on.", examples=[1000], ge=1
    )
    depth_critical: int | None = Field(
        None, description="`sqs.queue` is CRITICAL from so many on.", examples=[10000], ge=1
    )
    age_warning: Duration | None = Field(
        None, description="`sqs.queue` is WARNING once the oldest message has waited so long.", examples=["5m"], gt=0
    )
    age_critical: Duration | None = Field(
        None, description="`sqs.queue` is CRITICAL once it has waited so long.", examples=["30m"], gt=0
    )
    dead_letter_warning: int = Field(
        1, description="`sqs.queue` is WARNING from so many messages in its dead-letter queue on.", ge=1
    )
    dead_letters: bool = Field(True, description="Read the dead-letter queue of each queue too.")
    age: bool | None = Field(
        None,
        description="Ask CloudWatch for the age of the oldest message: SQS itself does not tell, and CloudWatch "
        "charges for each queue and question. Default: where a threshold needs it.",
    )
    age_every: Duration = Field(60.0, description="Time between two questions for ages.", ge=60)
    discover_every: Duration = Field(300.0, description="Time between two looks at what queues there are.", ge=30)
    limit: int = Field(200, description="Most queues to watch, per region; those beyond are counted.", ge=1, le=10_000)
    at_once: int = Field(8, description="Most calls at the same time, per region.", ge=1, le=50)
    price: float = Field(0.40, description="US dollars for a million requests to SQS.", ge=0, le=1000)
    cloudwatch_price: float = Field(
        0.01, description="US dollars for 1,000 metrics requested of CloudWatch.", ge=0, le=1000
    )

    @model_validator(mode="after")
    def _ordered(self) -> SqsConfig:
        in_order(self.depth_warning, self.depth_critical, "depth")
        in_order(self.age_warning, self.age_critical, "age")
        return self

    @property
    def cadence(self) -> float:
        """Seconds between two values of a series: ages come least often."""
        asked = any(self.wants_age(self.thresholds(queue)) for queue in self.queues)
        return max(super().cadence, self.age_every) if asked else super().cadence

    def thresholds(self, queue: QueueConfig) -> Thresholds:
        """Those of a queue: its own, else the instance's. One of its own displaces both of the instance's."""
        own = queue.model_fields_set
        chosen: dict[str, Any] = {}
        for kind in ("depth", "age"):
            pair = (f"{kind}_warning", f"{kind}_critical")
            source: Any = queue if own.intersection(pair) else self
            chosen |= {name: getattr(source, name) for name in pair}
        dead = queue.dead_letter_warning
        return Thresholds(dead_letter_warning=self.dead_letter_warning if dead is None else dead, **chosen)

    def wants_age(self, thresholds: Thresholds) -> bool:
        """Whether to ask for the age of the oldest message of a queue with these thresholds."""
        if self.age is not None:
            return self.age
        return thresholds.of_age
