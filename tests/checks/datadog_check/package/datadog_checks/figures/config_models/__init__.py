"""What the models of an integration look like."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class SharedConfig(BaseModel):
    model_config = ConfigDict(frozen=True)
    service: str | None = None


class InstanceConfig(BaseModel):
    model_config = ConfigDict(frozen=True)
    port: int
    tags: tuple[Any, ...] | None = None
