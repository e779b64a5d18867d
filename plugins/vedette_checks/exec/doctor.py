"""For `vedette doctor`: is the program there?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette import Diagnosis
    from vedette_checks.exec.config import ExecConfig


def diagnose(config: ExecConfig, diagnosis: Diagnosis, path: str) -> None:
    """Look for the folder and the program, and whether it may be run.

    Args:
        config: the options.
        diagnosis: told how each came out.
        path: the `PATH` in which a bare name is looked for.
    """
    folder = config.directory or Path("/")
    if folder.is_dir():
        diagnosis.ok("directory", str(folder))
    else:
        diagnosis.failed("directory", f"there is no folder {folder}", snippet=f"mkdir -p {folder}")
    program = config.command[0]
    place = Path(program) if os.sep not in program else folder / program
    found = shutil.which(str(place) if os.sep in program else program, path=path)
    if found is not None:
        diagnosis.ok("program", found)
    elif os.sep in program and place.exists():
        diagnosis.failed("program", f"{place} may not be run by this user", snippet=f"chmod a+x {place}")
    else:
        where = f"there is no {place}" if os.sep in program else f"no '{program}' in {path}"
        diagnosis.failed("program", where, "install it, or give its whole path")
