"""The agent's own files: who may read what, and what stands in them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from vedette.config.values import harvest
from vedette.doctor.written import is_plain_secret, read_all, references, texts
from vedette.probes import kubelets_own, mode_change, probe_file, quoted
from vedette.state import state_directory

if TYPE_CHECKING:
    from vedette.advice import Diagnosis
    from vedette.config import Configuration
    from vedette.doctor.written import Text, Written

_CREDENTIALS = Path("/run/credentials")
_HINT = "put it into a file of its own, readable by the agent only, or into the environment"


def look_at_house(configuration: Configuration, diagnosis: Diagnosis) -> None:
    """Look at the configuration, secret files and the state directory. Blocking."""
    files = read_all(configuration.directory)
    secrets = known_secrets(configuration)
    _look_at_folder(configuration.directory, diagnosis)
    for written in files:
        _look_at_file(written, secrets, diagnosis)
    for path in dict.fromkeys(_secret_files(files)):
        probe_file(diagnosis, path, "secret file", private=True)
        _look_at_credential(path, diagnosis)
    _look_at_state(configuration, diagnosis)


def known_secrets(configuration: Configuration) -> frozenset[str]:
    """The values of every secret option."""
    values: set[str] = set()
    for instance in configuration.instances:
        harvest(instance.config, values.add)
    for _, config in (*configuration.sinks, *([configuration.fleet] if configuration.fleet is not None else [])):
        harvest(config, values.add)
    return frozenset(values - {""})


def _look_at_folder(directory: Path, diagnosis: Diagnosis) -> None:
    try:
        mode = directory.stat().st_mode
    except OSError as error:
        diagnosis.failed("configuration", f"{directory}: {error.strerror}")
        return
    if mode & stat.S_IWOTH:
        text = f"everybody may put files into {directory}"
        diagnosis.failed("configuration", text, "what stands there is run", f"chmod o-w {quoted(directory)}")
    else:
        diagnosis.ok("configuration", str(directory))


def _look_at_file(written: Written, secrets: frozenset[str], diagnosis: Diagnosis) -> None:
    found = written.found
    try:
        mode = found.path.stat().st_mode
        fixed = kubelets_own(found.path)  # a ConfigMap in a pod: no chmod could mend it
        no_change, no_look = mode_change(found.path, "o-w"), mode_change(found.path, "o-rwx")
    except OSError:
        return  # loading it has said so
    plain = [text for text in texts(written) if is_plain_secret(text, secrets)]
    for text in plain:
        diagnosis.warning("plain text", f"{_place(text)} is a secret written down", _HINT, _reference(text))
    if mode & stat.S_IWOTH:
        seen = f"{found.shown} can be changed by everybody"
        diagnosis.failed("permissions", seen, *no_change)
    elif plain and mode & stat.S_IROTH and not fixed:
        seen = f"{found.shown} holds secrets and can be read by everybody"
        diagnosis.failed("permissions", seen, *no_look)


def _place(text: Text) -> str:
    return f"{text.file}:{text.line}: {text.path}"


def _reference(text: Text) -> str:
    name = text.key if text.key.isidentifier() else "secret"
    return "" if "://" in text.text else f'{name}: "${{file:/run/secrets/{name}}}"'


def _secret_files(files: list[Written]) -> list[Path]:
    return [
        written.found.path.parent / one.name
        for written in files
        for text in texts(written)
        for one in references(text.text)
        if one.scheme == "file"
    ]


def _look_at_credential(path: Path, diagnosis: Diagnosis) -> None:
    """What systemd hands a service is copied at its start: systemd.exec(5) on LoadCredential=."""
    if not path.is_relative_to(_CREDENTIALS):
        return
    unit = path.relative_to(_CREDENTIALS).parts[0]
    text = f"{path} is a copy that systemd makes once, at the start: a rotation takes effect with a restart"
    diagnosis.info("credential", text, f"systemctl restart {unit}")


def _look_at_state(configuration: Configuration, diagnosis: Diagnosis) -> None:
    directory = state_directory(configuration.agent.state_directory, os.environ)
    there = directory
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        who = os.geteuid()
        what = "is not a folder" if not there.is_dir() else "cannot be written to"
        name = quoted(directory)
        diagnosis.failed(
            "state", f"{there} {what}", "state is kept in memory only", f"install -d -o {who} -m 700 {name}"
        )
    elif there != directory:
        diagnosis.ok("state", f"{directory} will be made at the first start")
    else:
        diagnosis.ok("state", f"{directory} can be written to")
