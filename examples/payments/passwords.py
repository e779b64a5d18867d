"""Passwords as they are kept: salted and hashed by scrypt (RFC 7914)."""

from __future__ import annotations

import hmac
import secrets
from hashlib import scrypt

_COST = 1 << 10  # a real service takes 1 << 17: this one must leave the machine to what is to be seen
_SALT = 16


def hashed(password: str, salt: bytes | None = None) -> bytes:
    """Salt and hash. Takes a while: call it in a thread."""
    salt = secrets.token_bytes(_SALT) if salt is None else salt
    return salt + scrypt(password.encode(), salt=salt, n=_COST, r=8, p=1)


def fits(password: str, kept: bytes) -> bool:
    """Whether this is the password. Takes a while: call it in a thread."""
    return hmac.compare_digest(hashed(password, kept[:_SALT]), kept)
