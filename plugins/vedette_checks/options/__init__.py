"""Options that mean the same in several checks: one description and one rule for each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("must be an absolute path such as /host/proc")
    return value.rstrip("/") or "/"


ProcfsPath = Annotated[
    str,
    AfterValidator(_absolute),
    Field(description="Where the machine's procfs is mounted.", examples=["/host/proc"]),
]
CaFile = Annotated[Path | None, Field(description="Certificate authorities (PEM) to trust instead of the system's.")]
CertFile = Annotated[Path | None, Field(description="Certificate (PEM) to show to the server.")]
KeyFile = Annotated[Path | None, Field(description="Its key (PEM), if it is in a file of its own.")]
Verify = Annotated[bool, Field(description="Look at the server's certificate.")]
