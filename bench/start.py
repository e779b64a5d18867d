"""`vedette check host`, shell to shell."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import report


def main() -> None:
    """Print the figures."""
    command = Path(sys.executable).with_name("vedette")
    walls = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(11):
            begun = time.perf_counter()
            subprocess.run([command, "check", "host"], cwd=folder, stdout=subprocess.DEVNULL, check=True)
            walls.append(time.perf_counter() - begun)
    report(("vedette check host, median of 11", statistics.median(walls), "s", "<= 0.5"))


if __name__ == "__main__":
    main()
