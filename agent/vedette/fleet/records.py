"""Floor 4: what the members of a fleet write into the engine for one another, as JSON."""

from __future__ import annotations

from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal
from zlib import compress, decompress
from zlib import error as ZlibError

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

MEMBERS, CLAIMS, CATALOGUES = "members/", "claims/", "catalogues/"
LARGEST = 200_000
"""Bytes of JSON that every engine takes under one key."""
PROTOCOL = 1
LONGEST_TTL = 600.0
"""Seconds; see `EngineConfig.ttl`."""

Mode = Literal["leader", "hash"]


@dataclass(frozen=True, slots=True)
class Member:
    """One agent's sign of life.

    Attributes:
        id: `<identity>_<16 hex>`, new each time the agent joins.
        identity: what the agent is called by people.
        seq: one more at each beat.
        ready: it has been here long enough to own instances.
        order: grows with every joiner; the ready member with the lowest leads.
        catalogue: digest of what its configuration has; empty as long as the catalogue is not stored.
        ttl: seconds without a change of this record until it counts as dead.
        token: the highest fencing token that it knows of, in case the engine forgets.
    """

    id: str
    identity: str
    seq: int
    ready: bool
    order: int
    catalogue: str
    ttl: float
    token: int = 0

    def text(self) -> str:
        """As JSON."""
        return _json(
            {
                "identity": self.identity,
                "seq": self.seq,
                "ready": self.ready,
                "order": self.order,
                "catalogue": self.catalogue,
                "ttl": self.ttl,
                "token": self.token,
                "protocol": PROTOCOL,
            }
        )

    @classmethod
    def parse(cls, key: str, text: str, ttl: float) -> Member:
        """From a record; one that cannot be read is a member that is alive and owns nothing.

        Args:
            key: of the record.
            text: its value.
            ttl: seconds, where the record does not tell.
        """
        member_id, value = key.removeprefix(MEMBERS), _object(text)
        try:
            its_ttl = float(value["ttl"])
            if not 0 < its_ttl <= LONGEST_TTL or int(value["protocol"]) != PROTOCOL:
                raise ValueError("another version's, or nobody's")
            return cls(
                id=member_id,
                identity=str(value["identity"]),
                seq=int(value["seq"]),
                ready=value["ready"] is True,
                order=int(value["order"]),
                catalogue=str(value["catalogue"]),
                ttl=its_ttl,
                token=int(value["token"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            return cls(member_id, identity_of(member_id), 0, ready=False, order=0, catalogue="", ttl=ttl)


@dataclass(frozen=True, slots=True)
class Claim:
    """Who owns an instance.

    Attributes:
        owner: member id; empty: nobody.
        token: grows with every change of the owner.
        state: what the owners committed.
    """

    owner: str = ""
    token: int = 0
    state: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """As JSON."""
        return _json({"owner": self.owner, "token": self.token, "state": self.state})

    @classmethod
    def parse(cls, text: str) -> Claim:
        """From a record; one that cannot be read belongs to nobody."""
        value = _object(text)
        owner, token, state = value.get("owner"), value.get("token"), value.get("state")
        return cls(
            owner if isinstance(owner, str) else "",
            token if isinstance(token, int) else 0,
            state if isinstance(state, dict) else {},
        )


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What a configuration has for the fleet; members with the same configuration share one.

    Attributes:
        digest: of the JSON, 32 hex digits.
        text: the JSON; where that is too long for an engine, packed (zlib, base64): that has room for
            ten times as much.
        modes: instance ids, and how their owner is chosen.
    """

    digest: str
    text: str
    modes: Mapping[str, Mode]

    @classmethod
    def of(cls, modes: Mapping[str, Mode]) -> Catalogue:
        """From instance ids and how their owner is chosen."""
        text = _json({mode: sorted(one for one, its in modes.items() if its == mode) for mode in ("hash", "leader")})
        digest = blake2b(text.encode(), digest_size=16).hexdigest()
        if size(text) > LARGEST:
            text = _json({"packed": b64encode(compress(text.encode())).decode()})
        return cls(digest, text, dict(modes))

    @classmethod
    def parse(cls, text: str) -> Mapping[str, Mode]:
        """The instances that a record lists; none if it cannot be read."""
        value = _object(text)
        if isinstance(packed := value.get("packed"), str):
            with suppress(ValueError, ZlibError):
                value = _object(decompress(b64decode(packed, validate=True)))
        modes: dict[str, Mode] = {}
        for mode in ("hash", "leader"):
            ids = value.get(mode)
            modes |= {one: mode for one in ids if isinstance(one, str)} if isinstance(ids, list) else {}
        return modes


def size(text: str) -> int:
    """Bytes in UTF-8, as engines count."""
    return len(text) if text.isascii() else len(text.encode())


def identity_of(member_id: str) -> str:
    """The part of a member id that people know."""
    return member_id.rpartition("_")[0] or member_id


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _object(text: str | bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return value if isinstance(value, dict) else {}
