"""For `vedette doctor`: is the interpreter there, with the base, and does the check take its options?"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from vedette import CheckError

if TYPE_CHECKING:
    from vedette import Diagnosis
    from vedette_checks.datadog_check.config import DatadogCheckConfig
    from vedette_checks.datadog_check.process import Ready


async def diagnose(config: DatadogCheckConfig, diagnosis: Diagnosis, examined: Callable[[], Awaitable[Ready]]) -> None:
    """Look at the interpreter and the file, then have the check made without running it.

    Args:
        config: the options.
        diagnosis: told how each came out.
        examined: makes the check in its process.
    """
    for what, path, mode in (("python", config.python, os.X_OK), ("path", config.path, os.R_OK)):
        if path is None:
            continue
        if not path.is_file():
            diagnosis.failed(what, f"there is no file {path}")
            return
        if not os.access(path, mode):
            diagnosis.failed(what, f"{path} may not be used by this user", snippet=f"ls -l {path}")
            return
    try:
        ready = await examined()
    except CheckError as error:
        diagnosis.failed("check", error.message, error.hint)
        return
    diagnosis.ok("datadog-checks-base", f"{ready.base or 'of an unknown version'}, Python {ready.python}")
    diagnosis.ok("check", f"{ready.check} takes its options")
