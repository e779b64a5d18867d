"""The options of the dns check."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

import dns.exception
import dns.name
import dns.reversename
from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette import CheckConfig
from vedette_checks.dns.answer import normal

RecordType = Literal[
    "A", "AAAA", "CAA", "CNAME", "DNSKEY", "DS", "HTTPS", "MX", "NAPTR", "NS", "PTR", "SOA", "SRV", "SVCB", "TLSA",
    "TXT", "NXDOMAIN",
]  # fmt: skip
MOST_SERVERS = 20


class DnsConfig(CheckConfig):
    """The options of one name."""

    hostname: str = Field(
        description="The whole name to ask for: no search domain is added. For `PTR` an address will do.",
        min_length=1, examples=["gateway.cards.example.com"],
    )  # fmt: skip
    nameservers: tuple[str, ...] = Field(
        (), description="IP addresses of the servers to ask, each on its own. Default: those of `resolv_conf`.",
        examples=[["10.0.0.2", "10.0.0.3"]],
    )  # fmt: skip
    nameserver_port: int = Field(53, description="Their port.", ge=1, le=65535)
    record_type: RecordType = Field(
        "A", description="What to ask for. `NXDOMAIN` asks for `A` and wants to hear that there is no such name."
    )
    resolves_as: tuple[str, ...] = Field(
        (), description="What the answer must be, all of it and nothing else, in any order.",
        examples=[["192.0.2.10", "192.0.2.11"]],
    )  # fmt: skip
    transport: Literal["udp", "tcp"] = Field(
        "udp", description="With `udp`, an answer that was cut short is asked for again over TCP."
    )
    resolv_conf: Path = Field(Path("/etc/resolv.conf"), description="Where the system's servers are listed.")

    @field_validator("nameservers")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            try:
                ipaddress.ip_address(one)
            except ValueError:
                raise PydanticCustomError("vedette", "a server is given by its IP address") from None
        if len(value) > MOST_SERVERS:
            raise PydanticCustomError("vedette", "must have at most {most} entries", {"most": MOST_SERVERS})
        return tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _askable(self) -> DnsConfig:
        try:
            question(self.hostname, self.record_type)
        except dns.exception.DNSException:
            raise PydanticCustomError("vedette", "hostname cannot be a name in DNS") from None
        if self.resolves_as and self.record_type == "NXDOMAIN":
            raise PydanticCustomError("vedette", "a name that is not there has no resolves_as")
        if self.resolves_as and self.record_type in ("A", "AAAA"):
            for one in self.resolves_as:
                if not _is_address(one, 4 if self.record_type == "A" else 6):
                    raise PydanticCustomError("vedette", "resolves_as holds what is no address of this record_type")
        return self

    @property
    def wanted(self) -> tuple[str, ...]:
        """`resolves_as` in the form in which answers are compared."""
        return tuple(sorted({normal(one, self.record_type) for one in self.resolves_as}))

    @property
    def patience(self) -> float:
        """Seconds that an answer may take: a little less than the run, which then says why it failed."""
        return 0.9 * self.deadline


def question(hostname: str, record_type: str) -> dns.name.Name:
    """The whole name that is asked for; international ones in their ASCII form.

    Raises:
        dns.exception.DNSException: it cannot be a name.
    """
    if record_type == "PTR" and (_is_address(hostname, 4) or _is_address(hostname, 6)):
        return dns.reversename.from_address(hostname)
    return dns.name.from_text(hostname, idna_codec=dns.name.IDNA_2003_Practical)


def _is_address(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text.strip()).version == version
    except ValueError:
        return False
