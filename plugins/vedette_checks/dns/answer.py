"""What a server's message says."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from dataclasses import dataclass

import dns.exception
import dns.message
import dns.rcode
import dns.rdata
import dns.rdtypes.txtbase

from vedette.kit import cut_text

_MOST_SHOWN = 5
_LONGEST = 80


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found.

    Attributes:
        records: the values, sorted, without what a chain of aliases leads through.
        ttl: seconds for which others may remember the shortest-lived part of it; None without records.
        fault: what is wrong with it as an answer to the question; empty if nothing is.
        there: whether there is such a name; None where the server does not say.
    """

    records: tuple[str, ...]
    ttl: int | None
    fault: str
    there: bool | None


def read(message: dns.message.Message, record_type: str) -> Answer:
    """What a message says about the name that was asked for."""
    rcode = message.rcode()
    if rcode == dns.rcode.NXDOMAIN:
        return Answer((), None, "there is no such name (NXDOMAIN)", there=False)
    if rcode != dns.rcode.NOERROR:
        return Answer((), None, f"the server says {dns.rcode.to_text(rcode)}", there=None)
    assert isinstance(message, dns.message.QueryMessage)  # noqa: S101 - for the type checker
    try:
        chain = message.resolve_chaining()
    except dns.exception.DNSException:
        return Answer((), None, "its aliases lead nowhere", there=True)
    if chain.answer is None:
        return Answer((), None, f"the name has no {record_type} record", there=True)
    found = sorted({_text(one, record_type) for one in chain.answer})
    return Answer(tuple(found), chain.minimum_ttl, "", there=True)


def _text(record: dns.rdata.Rdata, record_type: str) -> str:
    if isinstance(record, dns.rdtypes.txtbase.TXTBase):  # a long text comes in pieces
        return b"".join(record.strings).decode("utf-8", "replace")
    return normal(record.to_text(), record_type)


def normal(text: str, record_type: str) -> str:
    """A value in the one form in which values are compared: addresses short, names without the last dot."""
    text = text.strip()
    if record_type in ("A", "AAAA"):
        with suppress(ValueError):
            return str(ipaddress.ip_address(text))
    return text if record_type == "TXT" else text.lower().removesuffix(".")


def shown(values: tuple[str, ...]) -> str:
    """Some of these values, for people; what a server says may be long."""
    some = ", ".join(cut_text(one, _LONGEST) for one in values[:_MOST_SHOWN])
    return f"{some} and {len(values) - _MOST_SHOWN} more" if len(values) > _MOST_SHOWN else some
