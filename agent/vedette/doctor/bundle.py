"""`vedette bundle`: an archive for whoever is asked for help, with every secret masked."""

from __future__ import annotations

import io
import os
import platform
import resource
import sys
import tarfile
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

from vedette.doctor.masking import Veil, shown_file, shown_instance, shown_options
from vedette.doctor.written import read_all, references, texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vedette.config import Configuration
    from vedette.doctor.written import Written

_LIMITS = ("RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_AS", "RLIMIT_MEMLOCK", "RLIMIT_CORE")
_FACTS = (
    "/etc/os-release", "/proc/meminfo", "/proc/loadavg", "/proc/self/cgroup", "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/pids.max",
)  # fmt: skip
_MOST_LINES = 60


def make_bundle(configuration: Configuration, reports: Mapping[str, str], log: Path | None = None) -> dict[str, str]:
    """The texts of the archive by name, masked. Blocking.

    Args:
        configuration: as it was loaded.
        reports: what else goes in, by file name: the doctor's report, problems, the agent's status.
        log: a file whose last lines go in too.
    """
    files = read_all(configuration.directory)
    veil = Veil(configuration, files)
    made: dict[str, str] = {}
    for written in files:
        made[f"configuration/{_inside(written, configuration.directory)}"] = shown_file(written, veil)
    made["effective.yaml"] = _effective(configuration, files, veil)
    made["environment.txt"] = veil.text(_environment(files))
    made["versions.txt"] = veil.text(_versions())
    made["machine.txt"] = veil.text(_machine())
    made |= {name: veil.text(text) for name, text in reports.items() if text}
    if log is not None:
        made["log.txt"] = veil.text(_last_lines(log))
    return {"README.txt": _contents(made, veil), **made}


def _inside(written: Written, directory: Path) -> str:
    return written.found.path.relative_to(directory).as_posix()


def _effective(configuration: Configuration, files: list[Written], veil: Veil) -> str:
    parts = [shown_options("agent", configuration.agent, veil)]
    parts += [
        shown_options(f"sink {config.name or plugin.name}", config, veil) for plugin, config in configuration.sinks
    ]
    parts += [
        shown_options(f"discovery {config.name or plugin.name}", config, veil)
        for plugin, config in configuration.discoveries
    ]
    parts += [shown_instance(instance, files, veil) for instance in configuration.instances]
    return "".join(parts)


def _environment(files: Iterable[Written]) -> str:
    """Which variables the files refer to, and whether they are set; no values."""
    names = sorted(
        {one.name for written in files for text in texts(written) for one in references(text.text)
         if one.scheme == "env"}
    )  # fmt: skip
    return "".join(f"{name}: {'set' if os.environ.get(name) else 'not set'}\n" for name in names)


def _versions() -> str:
    packages = sorted({(one.name or "?").lower() + " " + one.version for one in distributions()})
    return f"python {sys.version}\nexecutable {sys.executable}\n\n" + "\n".join(packages) + "\n"


def _machine() -> str:
    system = platform.uname()
    lines = [f"{system.system} {system.release} {system.version} {system.machine}", f"cpus {os.cpu_count()}"]
    lines += [f"user {os.geteuid()}, now {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}"]
    for name in _LIMITS:
        soft, hard = resource.getrlimit(getattr(resource, name))
        lines.append(f"{name} {soft} {hard}")
    for fact in _FACTS:
        try:
            text = Path(fact).read_text("utf-8", "replace")
        except OSError:
            continue
        lines += ["", f"{fact}:", *text.splitlines()[:_MOST_LINES]]
    return "\n".join(lines) + "\n"


def _last_lines(log: Path, most: int = 2_000) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 500 * most))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError as error:
        return f"{log}: {error.strerror}\n"
    return "\n".join(lines[-most:]) + "\n"


def _contents(made: Mapping[str, str], veil: Veil) -> str:
    lines = ["What is in this archive:", *(f"  {name}" for name in made), ""]
    lines += ["Comments of the configuration are left out: they may hold what once was secret.", ""]
    lines += ["Masked, or shown as the reference that was written:"]
    lines += [f"  {place}" for place in veil.masked if not place.startswith(":")] or ["  nothing"]
    lines += ["", "Wherever one of these values came up in another text, it is masked there too."]
    return veil.text("\n".join(lines)) + "\n"


def write_archive(path: Path, texts_by_name: Mapping[str, str]) -> None:
    """Write a new file that only its owner can read.

    Raises:
        FileExistsError: there is one already, or OSError: it cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as stream, tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, text in texts_by_name.items():
            data = text.encode("utf-8", "replace")
            entry = tarfile.TarInfo(f"vedette-bundle/{name}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
            archive.addfile(entry, io.BytesIO(data))
