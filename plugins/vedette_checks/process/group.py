"""Which processes an instance is about, and what they use at this moment."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vedette import CheckError
from vedette_checks.process.config import searcher
from vedette_checks.process.procfs import Stat, Table, Usage, boot_clock, listing, look_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vedette_checks.process.config import ProcessConfig

_COMM = 15
"""Bytes of a name that Linux keeps."""
_LONGEST_PID = 64


@dataclass(frozen=True, slots=True)
class Group:
    """What was found.

    Attributes:
        processes: each with what it uses.
        listed: when the table was taken in which they were looked for, by the boot clock.
        at: when they were looked at.
        changed: whether some of that table had ended by then.
    """

    processes: tuple[Usage, ...]
    listed: float
    at: float
    changed: bool


class Finder:
    """Looks for the processes of one instance.

    Args:
        config: its options.
    """

    def __init__(self, config: ProcessConfig) -> None:
        self._config = config
        self._names = tuple(map(os.fsencode, config.search_string))
        self._searchers = () if config.exact_match else tuple(map(searcher, config.search_string))

    def look(self, since: float) -> Group:
        """Look for them, and at them.

        Args:
            since: how old the table of processes may be, by the boot clock.

        Raises:
            CheckError: procfs or the file with the id cannot be read, nobody knows the user, or the kernel does not
                tell this agent which processes are that user's.
        """
        config, at = self._config, boot_clock()
        uid = None if config.user is None else _told_apart(_uid(config.user), config.user)
        if config.search_string:
            table = self._table(since)
            wanted, listed = [one for one in table.processes if self._fits(table, one)], table.taken
            wanted = table.with_children(wanted) if config.collect_children else wanted
        else:
            first = _by_id(config)
            wanted, listed = [] if first is None else [first.stat], at
            if first is not None and config.collect_children:
                table = self._table(since)
                wanted, listed = table.with_children(wanted), table.taken
        seen = [look_at(config.procfs_path, one.pid, one.started) for one in wanted]
        alive = [one for one in seen if one is not None]
        mine = tuple(one for one in alive if uid is None or one.uid == uid)
        return Group(mine, listed, at, changed=len(alive) < len(wanted))

    def _table(self, since: float) -> Table:
        try:
            return listing(self._config.procfs_path).since(since)
        except OSError as error:
            raise _no_procfs(self._config, error) from error

    def _fits(self, table: Table, one: Stat) -> bool:
        if self._searchers:
            line = b" ".join(table.command(one.pid)).decode("utf-8", "replace")
            return any(fits(line) for fits in self._searchers)
        for name in self._names:
            if name == one.comm:
                return True
            if len(name) > _COMM and name.startswith(one.comm) and len(one.comm) == _COMM:
                return table.command(one.pid)[0].rpartition(b"/")[2] == name
        return False


def _no_procfs(config: ProcessConfig, error: OSError) -> CheckError:
    hint = "`procfs_path` must be where the machine's /proc is mounted"
    return CheckError(f"{config.procfs_path}: {error.strerror}", hint=hint)


def _by_id(config: ProcessConfig) -> Usage | None:
    pid = config.pid if config.pid_file is None else _read_pid(config.pid_file)
    if pid is None:
        return None
    if not Path(config.procfs_path, "stat").exists():
        raise _no_procfs(config, FileNotFoundError(2, "No procfs is mounted there"))
    return look_at(config.procfs_path, pid)


def _read_pid(path: Path) -> int | None:
    """The id in a file; None where there is no such file, as when what writes it does not run.

    Raises:
        CheckError: it cannot be read, or holds something else.
    """
    try:
        with path.open("rb") as stream:
            line = stream.readline(_LONGEST_PID).strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckError(f"{path}: {error.strerror}", hint="the agent's user must be able to read it") from error
    if not line.isdigit() or not 0 < int(line) < 1 << 31:
        raise CheckError(f"{path}: holds no process id", hint="its first line must be a number")
    return int(line)


def _uid(user: str | int) -> int:
    if isinstance(user, int) or user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise CheckError(
            f"there is no user {user} here", hint="in a container, give the user's number on the machine"
        ) from None


def _told_apart(uid: int, user: str | int) -> int:
    """The user's number, if the kernel shows it: in a user namespace those that it does not map are all nobody.

    Source: user_namespaces(7).

    Raises:
        CheckError: it does not.
    """
    try:
        ranges = Path("/proc/self/uid_map").read_text().splitlines()
    except OSError:  # a kernel without user namespaces
        return uid
    if maps(ranges, uid):
        return uid
    raise CheckError(
        f"processes of user {user} cannot be told from others': this agent's user namespace does not map {uid}",
        hint="under systemd use the drop-in processes.conf (PrivateUsers=no), see docs/install.md",
    )


def maps(ranges: Iterable[str], uid: int) -> bool:
    """Whether a user namespace knows a user.

    Args:
        ranges: the lines of `uid_map`: first number inside, first number outside, how many.
        uid: the number inside.
    """
    split = (line.split() for line in ranges)
    return any(int(first) <= uid < int(first) + int(number) for first, _, number in split)
