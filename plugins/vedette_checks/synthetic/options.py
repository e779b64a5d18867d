"""The options of a step: what is requested, what must come back, what is taken out of it."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from vedette import Duration, Secret

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110, 9.2.1), so that a request may be repeated."""
METHODS = SAFE | {"POST", "PUT", "PATCH", "DELETE"}
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
_FAMILY = re.compile(r"[1-5]xx")


def _statuses(value: tuple[int | str, ...]) -> tuple[int | str, ...]:
    for one in value:
        if isinstance(one, int) and not 100 <= one <= 599:
            raise ValueError("a status is a number from 100 to 599")
        if isinstance(one, str) and not _FAMILY.fullmatch(one):
            raise ValueError("a family of statuses is written as 2xx")
    return value


def _headers(value: dict[str, str]) -> dict[str, str]:
    if not all(_TOKEN.fullmatch(name) for name in value):
        raise ValueError("has a name that no header can have")
    return value


def has_blank(address: str) -> bool:
    """Whether an address has a blank, those within `{{ }}` left out."""
    return any(letter.isspace() for letter in re.sub(r"\{\{.*?\}\}", "", address))


def _one_or_many(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


_ONE = [{"type": "integer"}, {"type": "string"}]
Statuses = Annotated[
    tuple[int | str, ...],
    BeforeValidator(_one_or_many),
    AfterValidator(_statuses),
    WithJsonSchema({"anyOf": [*_ONE, {"type": "array", "items": {"anyOf": _ONE}}]}),
]
Headers = Annotated[dict[str, str], AfterValidator(_headers)]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Conditions(_Options):
    """What an answer must be like."""

    status: Statuses = Field(
        default=(),
        description="Status codes that are right: `200`, `[200, 201]`, `2xx`. Default: any below 400.",
        examples=[[200, 201]],
    )
    json_values: dict[str, Any] = Field(
        default={},
        alias="json",
        description="Values that the JSON must have: JMESPath to value. `null` is a value that is null or not there.",
        examples=[{"currency": "USD", "length(wallets) > `0`": True}],
    )
    regex: str = Field(
        default="", description="Pattern (RE2) that the body must match somewhere.", examples=["[Ww]elcome"]
    )
    headers: Headers = Field(
        default={},
        description="Patterns (RE2) that response headers must match somewhere, by name.",
        examples=[{"Content-Type": "json"}],
    )


class Expect(Conditions):
    """`expect:`, what an answer must be like and what it may take."""

    max_time: Duration | None = Field(
        default=None, description="Longest time of the step; a longer one fails it.", examples=["800ms"], gt=0
    )
    max_size: int | None = Field(default=None, description="Largest body, bytes.", examples=[100_000], ge=0)
    min_size: int | None = Field(default=None, description="Smallest body, bytes.", examples=[1], ge=0)
    certificate_days: float | None = Field(
        default=None, description="Days that the server's certificate must still be valid.", examples=[14], gt=0
    )


class Until(Conditions):
    """`until:`, asking again and again; the time it takes is the step's."""

    status: Statuses = Field(
        default=(),
        description="Status codes to wait for: any other is asked again, also a 404. Default: any below 400; another "
        "fails the step at once.",
        examples=[[200]],
    )
    every: Duration = Field(0.5, description="Pause between two requests.", ge=0.01)
    within: Duration = Field(10.0, description="How long to go on. Then the step has failed.", gt=0)

    @model_validator(mode="after")
    def _something(self) -> Until:
        if not (self.status or self.json_values or self.regex or self.headers):
            raise ValueError("needs what to wait for: json, regex, status or headers")
        return self


class Auth(_Options):
    """`auth:`, the `Authorization` header."""

    username: str = Field("", description="User of HTTP Basic authentication.", examples=["monitor"])
    password: Secret | None = Field(None, description="Its password.", examples=["${env:SHOP_PASSWORD}"])
    bearer: Secret | None = Field(None, description="Token of `Authorization: Bearer`.", examples=["{{ token }}"])

    @model_validator(mode="after")
    def _one(self) -> Auth:
        if bool(self.username) == bool(self.bearer):
            raise ValueError("needs either username (with password) or bearer")
        return self


class StepConfig(_Options):
    """One entry of `steps:` or `cleanup:`."""

    name: str = Field(description="Name of the step: letters, digits, `_`.", examples=["login"])
    request: str = Field(
        description="Method and address: a path under `base_url`, or a URL.", examples=["POST /api/v1/auth/login"]
    )
    headers: Headers = Field(
        {}, description="Request headers, beside the flow's.", examples=[{"Authorization": "Bearer {{ token }}"}]
    )
    query: dict[str, Any] = Field({}, description="Query of the URL.", examples=[{"limit": 10}])
    json_body: Any = Field(
        None,
        alias="json",
        description="Body as JSON.",
        examples=[{"email": "synthetic.test@example.com", "password": "${env:SYNTHETIC_PASSWORD}"}],
    )
    form: dict[str, Any] | None = Field(None, description="Body as an HTML form.", examples=[{"user": "synthetic"}])
    body: str | None = Field(None, description="Body as it is.", examples=["<ping/>"])
    auth: Auth | None = Field(None, description="HTTP authentication.", examples=[{"bearer": "{{ token }}"}])
    extract: dict[str, str] = Field(
        {},
        description="Variables to take out of the answer: `json.<JMESPath>`, `header.<name>`, `regex:<pattern>` (its "
        "group, if it has one).",
        examples=[{"token": "json.access_token"}],
    )
    expect: Expect = Field(default=Expect(), description="What the answer must be like.", examples=[{"status": 200}])
    until: Until | None = Field(
        None,
        description="Ask again until the answer is like this.",
        examples=[{"json": {"status": "completed"}, "every": "500ms", "within": "10s"}],
    )
    when: str = Field(
        "",
        description="JMESPath over the variables; where it gives null, false or something empty, the step is skipped.",
        examples=["balance > `0`"],
    )
    timeout: Duration | None = Field(
        None, description="Longest time of one request. Default: what is left of the flow's.", examples=["5s"], gt=0
    )
    retry: int = Field(
        0,
        description="How often to repeat a request that never left (no address, no connection, no TLS); one that "
        "changes nothing also where no answer came.",
        ge=0,
        le=5,
    )
    safe: bool | None = Field(
        None, description="Whether the request changes nothing. Default: true for GET, HEAD and OPTIONS."
    )

    @field_validator("request")
    @classmethod
    def _trimmed(cls, value: str) -> str:
        return value.strip()

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.request.partition(" ")[0]

    @property
    def target(self) -> str:
        """The address as written, a template."""
        return self.request.partition(" ")[2].strip()

    @property
    def changes_nothing(self) -> bool:
        """Whether the request may be repeated."""
        return self.method in SAFE if self.safe is None else self.safe
