"""Floor 1: a durable queue on disk: records in segment files with checksums, taken from either end, settled in parts.

It knows neither what its records hold nor where they go: no address and no key is in its files.
"""

from vedette.spool.records import DamagedError, Entry, Outcome, Piece, Record
from vedette.spool.spool import Spool, SpoolTakenError

__all__ = ["DamagedError", "Entry", "Outcome", "Piece", "Record", "Spool", "SpoolTakenError"]
