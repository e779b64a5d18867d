"""For `vedette doctor`: what is seen of the machine, and of the processes that are wanted."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from vedette import CheckError, Status
from vedette.kit import probe_file
from vedette_checks.process.group import Finder
from vedette_checks.process.procfs import Table, Usage, boot_clock
from vedette_checks.process.verdict import judge

if TYPE_CHECKING:
    from vedette import Diagnosis
    from vedette_checks.process.config import ProcessConfig


def diagnose(config: ProcessConfig, diagnosis: Diagnosis) -> None:
    """The list, the file with the id, how many fit, and what may not be read of them."""
    if not _look_at_procfs(config, diagnosis):
        diagnosis.not_reached("processes")
        return
    if config.pid_file is not None and not probe_file(diagnosis, config.pid_file, "pid_file"):
        diagnosis.not_reached("processes")
        return
    try:
        those = Finder(config).look(boot_clock()).processes
    except CheckError as error:
        diagnosis.failed("processes", error.message, error.hint)
        return
    status, reason = judge(len(those), config)
    if status is Status.OK:
        diagnosis.ok("processes", f"{len(those)} found: {_ids(those)}" if those else "none found, as it should be")
    else:
        say = diagnosis.failed if status is Status.CRITICAL else diagnosis.warning
        way = "name" if config.exact_match else "pattern"
        say("processes", reason, f"do they run, and is it their {way}? `ps -eo pid,user,comm` lists all")
    if those:
        _look_at_rights(those, diagnosis)


def _look_at_procfs(config: ProcessConfig, diagnosis: Diagnosis) -> bool:
    if sys.platform != "linux":
        diagnosis.failed("procfs", "there is none on this system", "this check needs Linux")
        return False
    try:
        table = Table(config.procfs_path)
    except OSError as error:
        hint = "`procfs_path` must be where the machine's /proc is mounted"
        diagnosis.failed("procfs", f"{config.procfs_path}: {error.strerror}", hint)
        return False
    seen = f"{len(table.processes)} processes in {config.procfs_path}"
    if not table.processes:
        diagnosis.failed("procfs", seen, "`procfs_path` must be where the machine's /proc is mounted")
        return False
    if not any(one.pid == 1 for one in table.processes):
        hint = "it is mounted with hidepid: others' processes are not seen; gid= of the mount names who may"
        diagnosis.warning("procfs", f"{seen}, process 1 is not among them", hint)
    else:
        diagnosis.ok("procfs", seen)
    return True


def _look_at_rights(those: tuple[Usage, ...], diagnosis: Diagnosis) -> None:
    for what, denied in (
        ("open files", sum(one.descriptors is None for one in those)),
        ("reads and writes", sum(one.io is None for one in those)),
    ):
        if denied:
            hint = f"the agent runs as user {os.geteuid()}: it needs to be theirs, root, or to have CAP_SYS_PTRACE"
            diagnosis.info(what, f"of {denied} of {len(those)} processes may not be read", hint)
        else:
            diagnosis.ok(what)


def _ids(those: tuple[Usage, ...]) -> str:
    some = ", ".join(str(one.stat.pid) for one in those[:10])
    return f"{some}, …" if len(those) > 10 else some
