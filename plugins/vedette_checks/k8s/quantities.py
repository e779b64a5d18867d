"""Quantities of Kubernetes, exactly: `100m`, `15872Mi`, `4e9`, `33G`, `343597383680m`."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache

NANO = 1_000_000_000
"""Parts of one: amounts are counted in billionths, so that sums are exact whole numbers."""

_SUFFIX = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}  # fmt: skip
_QUANTITY = re.compile(
    r"([+-]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40}))(?:([eE][+-]?\d{1,3})|([KMGTPE]i|[numkMGTPE])?)", re.ASCII
)


@lru_cache(maxsize=8192)
def billionths(quantity: str) -> int | None:
    """The amount in billionths, rounded up as the API server does; None for what is no quantity.

    Source: k8s.io/apimachinery/pkg/api/resource, "Quantity".
    """
    found = _QUANTITY.fullmatch(quantity)
    if found is None:
        return None
    number, exponent, suffix = found.groups()
    amount = Decimal(number + exponent) if exponent else Decimal(number) * _SUFFIX[suffix or ""]
    scaled = amount * NANO
    whole = int(scaled)
    return whole + 1 if scaled > whole else whole


def plain(amount: int) -> int | float:
    """The number that an amount in billionths is: whole where it can be."""
    whole, rest = divmod(amount, NANO)
    return amount / NANO if rest else whole
