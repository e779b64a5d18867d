"""Which files there are and whether they can be read: for `vedette doctor` and `vedette validate`."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from vedette import Diagnosis, Remark
from vedette_checks.log_file.config import LogFileConfig
from vedette_checks.log_file.finding import Found, find, is_wild

_SPARE = 256  # open files that the agent needs beside those that are followed


def remarks(config: LogFileConfig) -> Iterator[Remark]:
    """What is wrong with the paths on this machine, as warnings: it may not be the one that they are for."""
    for number, path in enumerate(config.paths):
        found = find((path,), config.exclude)
        if not found:
            yield Remark(_nothing(path), "see whether they are written here", ("paths", number))
        elif refused := _refused(found):
            yield Remark(
                f"{len(refused)} of the {len(found)} files that this matches cannot be read",
                "the agent's user needs to be a member of their group",
                ("paths", number),
            )


def _nothing(path: Path) -> str:
    return "matches no file on this machine" if is_wild(path) else "there is no such file on this machine"


def _refused(found: list[Found]) -> list[str]:
    return [one.path for one in found if not os.access(one.path, os.R_OK)]


def diagnose(config: LogFileConfig, diagnosis: Diagnosis) -> None:
    """Look at each path and at what limits how many files can be followed."""
    everything = 0
    for path in config.paths:
        found = find((path,), config.exclude)
        everything += len(found)
        if refused := _refused(found):
            diagnosis.failed(
                str(path),
                f"{len(refused)} of {len(found)} files cannot be read, such as {refused[0]}",
                "let the agent's user read them, by their group or an access list",
                f"setfacl -m u:{quote(_user())}:r {quote(refused[0])}",
            )
        elif found:
            size = sum(one.size for one in found)
            diagnosis.ok(str(path), f"{len(found)} files, {size / 1e6:.1f} MB")
        elif _hidden(path):
            diagnosis.failed(str(path), f"the folder {_hidden(path)} cannot be looked into", "let the agent's user in")
        else:
            diagnosis.warning(str(path), "matches no file", "see whether it is written here, and how it is spelled")
    if everything > config.max_files:
        diagnosis.warning("max_files", f"{everything} files, of which {config.max_files} are followed", "raise it")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and limit < min(everything, 500) + _SPARE:
        diagnosis.warning("open files", f"the agent may have {limit}", "raise LimitNOFILE of its service")


def _hidden(path: Path) -> str:
    """The first folder above a path that is there and may not be looked into, or nothing."""
    for folder in reversed(path.parents):
        if is_wild(folder) or not folder.exists():
            return ""
        if not os.access(folder, os.X_OK | os.R_OK):
            return str(folder)
    return ""


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
