"""The options of the tcp check."""

from __future__ import annotations

from pydantic import Field

from vedette import CheckConfig


class TcpConfig(CheckConfig):
    """The options of one port."""

    host: str = Field(description="Host name or IP address.", min_length=1, examples=["gateway.internal"])
    port: int = Field(description="TCP port.", ge=1, le=65535, examples=[443])
    all_addresses: bool = Field(False, description="Connect to every address of the name, each with a tag `address`.")

    @property
    def patience(self) -> float:
        """Seconds that a connection may take: a little less than the run, which then says why it failed."""
        return 0.9 * self.deadline
