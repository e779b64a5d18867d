"""The options of the statsd listener."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from vedette import CheckConfig, Duration
from vedette.kit import Size
from vedette_checks.statsd.mapping import check_match, check_template

_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.%\w]+)\]|([^:\[\]\s]*)):(\d{1,5})", re.ASCII)
_MODE = re.compile(r"(?:0o?)?([0-7]{3})", re.ASCII)
_TAG_KEY = re.compile(r"[^\s:,|#]+")


def _mode(value: Any) -> str:
    """Permissions as `chmod` takes them. YAML reads 0660 without quotes as an octal number, which is what is meant."""
    match = _MODE.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        return f"0{match[1]}"
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 0o777:
        return f"0{value:03o}"
    raise ValueError('must be permissions as chmod takes them, such as "0660"')


Mode = Annotated[str, BeforeValidator(_mode), WithJsonSchema({"type": "string", "pattern": "^(0o?)?[0-7]{3}$"})]
"""Permissions, as four octal digits."""


class MappingConfig(BaseModel):
    """One entry of `mappings:`; of several that match a name, the first counts."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    match: str = Field(
        description="Names it is for, part by part between dots: `*` is one whole part, a last `**` all that follow.",
        examples=["payments.*.*.duration"],
    )
    name: str = Field(
        "",
        description="New name; `$1` is what the first `*` stood for. Default: it stays.",
        examples=["payments.duration"],
    )
    tags: dict[str, str] = Field(
        default_factory=dict,
        description="Tags to add, `$1` as in `name`.",
        examples=[{"method": "$1", "outcome": "$2"}],
    )
    drop: bool = Field(False, description="Drop these metrics instead.")

    @field_validator("match")
    @classmethod
    def _pattern(cls, value: str) -> str:
        check_match(value)
        return value

    @field_validator("tags")
    @classmethod
    def _keys(cls, value: dict[str, str]) -> dict[str, str]:
        if not all(map(_TAG_KEY.fullmatch, value)):
            raise ValueError("a tag's key has no blank, colon, comma, bar or hash")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.drop and (self.name or self.tags):
            raise ValueError("what is dropped needs no name and tags")
        if not self.drop and not self.name and not self.tags:
            raise ValueError("give a name, tags, or drop: true")
        for text in (self.name, *self.tags.values()):
            check_template(text, self.match)
        return self


class StatsdConfig(CheckConfig):
    """Options of the statsd listener."""

    interval: Duration = Field(
        10.0,
        description="How long to aggregate before it is handed on, as Datadog's agent does for 10s.",
        examples=["10s"],
    )
    listen: str | None = Field(
        "127.0.0.1:8125",
        description="Address and port for UDP; `null` for none, port 0 takes a free one.",
        examples=["127.0.0.1:8125"],
    )
    socket: Path | None = Field(None, description="Unix socket for datagrams.", examples=["/run/vedette/dsd.socket"])
    stream_socket: Path | None = Field(
        None,
        description="Unix socket for streams of packets, each after its length in four bytes, least first.",
        examples=["/run/vedette/dsd-stream.socket"],
    )
    socket_mode: Mode = Field(
        "0660",
        description="Permissions of the unix sockets: who may write to them may send.",
        examples=["0660"],
    )
    socket_group: str = Field("", description="Group of the unix sockets. Default: the agent's.", examples=["payments"])
    receive_buffer: Size = Field(
        4 << 20,
        description="What the kernel may keep for each socket while the agent is busy; it may grant less "
        "(`net.core.rmem_max`).",
        examples=["4MB"],
    )
    max_contexts: int = Field(
        10_000,
        ge=1,
        le=1_000_000,
        description="Most series (name and tags) that one origin may have at a time. An origin is a container or pod "
        "where the client tells it, else the sender's address or the socket.",
    )
    max_total_contexts: int = Field(
        100_000,
        ge=1,
        le=10_000_000,
        description="Most series of all origins together, at least `max_contexts`: it bounds the memory whatever "
        "origins the clients tell.",
    )
    mappings: tuple[MappingConfig, ...] = Field(
        (),
        description="Rules that turn parts of a name into tags, or drop metrics.",
        examples=[[{"match": "payments.*.duration", "name": "payments.duration", "tags": {"method": "$1"}}]],
    )
    drop_tags: tuple[str, ...] = Field((), description="Keys of tags to take away.", examples=[["user_id"]])
    origin_tags: bool = Field(
        False,
        description="Tag with what the client tells of its container: `kube_container_name`, `pod_uid` from the "
        "cardinality `orchestrator` on, `container_id` from `high` on; `low` unless the client says another.",
    )

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None:
            match = _ADDRESS.fullmatch(value)
            if match is None or int(match[3]) > 65535:
                raise ValueError("must be an address and a port, such as 127.0.0.1:8125 or [::1]:8125")
        return value

    @field_validator("receive_buffer")
    @classmethod
    def _sensible_buffer(cls, value: int) -> int:
        if not 64 << 10 <= value <= 1 << 30:
            raise ValueError("must be between 64KB and 1GB")
        return value

    @field_validator("drop_tags")
    @classmethod
    def _tag_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(_TAG_KEY.fullmatch, value)):
            raise ValueError("must be keys of tags, without values")
        return value

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.listen is None and self.socket is None and self.stream_socket is None:
            raise ValueError("nothing to listen on: give listen, socket or stream_socket")
        if self.socket is not None and self.socket == self.stream_socket:
            raise ValueError("socket and stream_socket must be two paths")
        if self.schedule is not None:
            raise ValueError("a listener has an interval, no schedule")
        return self

    @property
    def most_contexts(self) -> int:
        """Most series of all origins together."""
        return max(self.max_total_contexts, self.max_contexts)

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port for UDP."""
        match = _ADDRESS.fullmatch(self.listen) if self.listen is not None else None
        return (match[1] or match[2] or "0.0.0.0", int(match[3])) if match else None  # noqa: S104 - if no host is given

    @property
    def exposed(self) -> bool:
        """Whether other machines reach the UDP port."""
        if self.address is None or self.address[0] == "localhost":
            return False
        try:
            return not ip_address(self.address[0]).is_loopback
        except ValueError:
            return True
