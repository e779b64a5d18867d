"""What the tests of the instrumentation share: lines of the wire taken apart, and the strategy's list."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).parents[1] / "data" / "strategy-metrics.csv"
LETTERS = {"count": "c", "gauge": "g", "histogram": "h", "set": "s"}


@dataclass(frozen=True)
class Line:
    """One line of DogStatsD."""

    name: str
    value: str
    kind: str
    tags: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Line:
        head, _, tags = text.partition("|#")
        assert "|" not in tags
        name, _, rest = head.partition(":")
        value, kind = rest.rsplit("|", 1)
        return cls(name, value, kind, tuple(tags.split(",")) if tags else ())

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(tag.partition(":")[0] for tag in self.tags)


def instrument_rows() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Kind letter and tag keys by name, of what the strategy wants of applications."""
    with LIST.open() as file:
        return {
            row["metric"]: (LETTERS[row["kind"]], tuple(filter(None, row["tags"].split(";"))))
            for row in csv.DictReader(file)
            if row["emitted_by"] == "instrument"
        }
