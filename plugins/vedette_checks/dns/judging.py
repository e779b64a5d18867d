"""What is asked, and whether the answer is the one that is wanted."""

from __future__ import annotations

import dns.flags
import dns.message

from vedette_checks.dns.answer import Answer, shown
from vedette_checks.dns.config import DnsConfig, question


def ask_for(config: DnsConfig) -> dns.message.QueryMessage:
    """The question, with a number that nobody can guess."""
    kind = "A" if config.record_type == "NXDOMAIN" else config.record_type
    return dns.message.make_query(question(config.hostname, config.record_type), kind, flags=dns.flags.RD)


def judge(answer: Answer, config: DnsConfig) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if config.record_type == "NXDOMAIN":
        if answer.there is None:
            return answer.fault
        seen = f": {shown(answer.records)}" if answer.records else ""
        return f"the name is there{seen}" if answer.there else ""
    if answer.fault:
        return answer.fault
    if config.resolves_as and answer.records != config.wanted:
        return f"resolves as {shown(answer.records)}, not as {shown(config.wanted)}"
    return ""
