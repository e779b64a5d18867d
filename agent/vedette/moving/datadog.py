"""Floor 5: a Datadog Agent's conf.d, translated: what is here goes into files, and what is not is said."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from vedette.errors import VedetteError
from vedette.moving.foreign import CHECK, code_of
from vedette.moving.rules import ELSEWHERE, TRANSLATIONS, Translation, seconds

_ENCODED: Final = re.compile(r"ENC\[([^\]]+)\]")
_TEMPLATE: Final = re.compile(r"%%\w+%%")
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.-]+")


class MoveError(VedetteError):
    """A folder that holds no Datadog configuration; the text says why."""


@dataclass(slots=True)
class Moved:
    """What became of a folder.

    Attributes:
        files: by the name of the check here, such as `redis`: what stands in its YAML.
        notes: what could not be translated, each with its place.
    """

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def move(folder: Path) -> Moved:
    """Translate all checks of a folder such as /etc/datadog-agent/conf.d.

    Raises:
        MoveError: there is no file of a check in it.
        OSError: it cannot be read.
    """
    found = sorted(_files(folder))
    if not found:
        raise MoveError(f"{folder} holds no checks: is it the conf.d of a Datadog Agent, with <check>.d/conf.yaml?")
    moved = Moved()
    for check, path in found:
        _move_file(moved, check, path, folder)
    return moved


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Name of the check and file, of `<check>.d/*.yaml` and `<check>.yaml`; defaults and examples are left out."""
    found = [(path.parent.name.removesuffix(".d"), path) for path in folder.glob("*.d/*.y*ml")]
    found += [(path.stem, path) for path in folder.glob("*.y*ml")]
    return [(check, path) for check, path in found if path.suffix in (".yaml", ".yml")]


def _move_file(moved: Moved, check: str, path: Path, folder: Path) -> None:
    where = str(path.relative_to(folder))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        moved.notes.append(f"{where}{f':{mark.line + 1}' if mark else ''}: is not YAML")
        return
    instances = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(instances, list):
        moved.notes.append(f"{where}: has no list of instances")
        return
    common = content.get("init_config")
    _move_instances(moved, check, common if isinstance(common, dict) else {}, instances, (where, folder))
    if content.get("logs"):
        moved.notes.append(f"{where}: logs: check log_file follows files; see its README")


def _move_instances(
    moved: Moved, check: str, common: dict[str, Any], instances: list[Any], place: tuple[str, Path]
) -> None:
    where, folder = place
    translation = TRANSLATIONS.get(check)
    code = code_of(check, folder) if translation is None and check not in ELSEWHERE else None
    if translation is None and code is None:
        hint = ELSEWHERE.get(
            check,
            "exec, openmetrics, datadog_check (once its package is installed here) or a plugin of your own may do it "
            "(vedette new-plugin)",
        )
        moved.notes.append(f"{where}: there is no check {check} here; {hint}")
        return
    for number, instance in enumerate(instances):
        here = f"{where}: instances[{number}]"
        if not isinstance(instance, dict):
            moved.notes.append(f"{here}: is not a mapping of options")
        elif translation is not None:
            given = {**common, **instance}
            _move_instance(moved, translation, {key: one for key, one in given.items() if one is not None}, here)
        elif code is not None:
            _take_along(moved, check, code, (common, instance), here)


def _take_along(
    moved: Moved, check: str, code: dict[str, str], given: tuple[dict[str, Any], dict[str, Any]], where: str
) -> None:
    """An instance of a check that runs as it is: its options stay what they are."""
    merged = {**given[0], **given[1]}
    made: dict[str, Any] = dict(code)
    try:
        if merged.get("min_collection_interval") is not None:
            made["interval"] = seconds(merged["min_collection_interval"])
        common, instance = (_verbatim(one, where, moved) for one in given)
    except ValueError as error:
        moved.notes.append(f"{where}: {error}")
        return
    made |= {"init_config": common} if common else {}
    made |= {"instance": instance} if instance else {}
    named = _name(Translation("", called=("name", "host", "url", "server", "openmetrics_endpoint")), merged)
    instances = moved.files.setdefault(CHECK, {"instances": []})["instances"]
    name = _unused(f"{check}-{named}" if named else check, {one["name"] for one in instances})
    instances.append({"name": name, **made})


def _verbatim(value: Any, where: str, moved: Moved) -> Any:
    """Options as they are, but for what our files write in another way.

    Raises:
        ValueError: there is something in them that cannot be said here.
    """
    if isinstance(value, dict):
        return {key: _verbatim(inner, f"{where}.{key}", moved) for key, inner in value.items()}
    if isinstance(value, list):
        return [_verbatim(inner, where, moved) for inner in value]
    return _readable(value, where, moved)


def _move_instance(moved: Moved, translation: Translation, given: dict[str, Any], where: str) -> None:
    made: dict[str, Any] = {}
    for key, value in given.items():
        move = translation.options.get(key)
        if move is not None:
            try:
                _put(made, move.to, move.how(_readable(value, f"{where}.{key}", moved)))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                why = str(error) if isinstance(error, ValueError) else "is not of the shape that Datadog documents"
                moved.notes.append(f"{where}.{key}: {why}")
        elif key not in translation.idle:
            moved.notes.append(f"{where}.{key}: there is nothing like it in check {translation.check}")
    if "min_collection_interval" in given:
        made["interval"] = seconds(given["min_collection_interval"])
    tags = [str(tag) for tag in given.get("tags") or ()]
    tags += [f"service:{given['service']}"] if "service" in given else []
    made |= {"tags": tags} if tags else {}
    if "metrics" in given and translation.check == "openmetrics":
        _keep(made, given["metrics"], f"{where}.metrics", moved)
    _add(moved, translation, made, given)


def _keep(made: dict[str, Any], metrics: Any, where: str, moved: Moved) -> None:
    """Which families are kept; a pattern of Datadog's is a regular expression, one of ours is a glob."""
    prefix = f"{made['namespace']}." if made.get("namespace") else ""
    include, rename = [], {}
    for one in metrics if isinstance(metrics, list) else [metrics]:
        for name, new in one.items() if isinstance(one, dict) else [(str(one), None)]:
            glob = str(name).removesuffix("$").removeprefix("^").replace(".*", "*").replace(".+", "*")
            if re.search(r"[\\()\[\]{}|?+^$]", glob):
                moved.notes.append(f"{where}: '{name}' is a regular expression; patterns here are globs")
                continue
            bare = glob.removesuffix("_total")
            include.append(f"{prefix}{bare}" if glob.endswith("*") else f"{prefix}{bare}*")
            if isinstance(new, str) and new != name:
                rename[f"{prefix}{bare}"] = f"{prefix}{new}"
    if include and include != ["*"]:
        made["metrics"] = {"include": include} | ({"rename": rename} if rename else {})


def _readable(value: Any, where: str, moved: Moved) -> Any:
    """Handles of Datadog's secret backend become variables of the environment; a secret in the clear is pointed out."""
    if isinstance(value, str):
        if found := _ENCODED.fullmatch(value.strip()):
            name = re.sub(r"\W+", "_", found[1]).strip("_").upper()
            moved.notes.append(f"{where}: was a handle of the secret backend: set ${name}, or see docs/secrets.md")
            return f"${{env:{name}}}"
        if _TEMPLATE.search(value):
            raise ValueError("holds a template of Autodiscovery; see docs/autodiscovery.md")
        if where.endswith("password") and value:
            moved.notes.append(f"{where}: stands in the clear: ${{env:…}} or ${{file:…}} keeps it out of the file")
        return value.replace("${", "$${") if "${" in value else value
    return value


def _put(made: dict[str, Any], path: str, value: Any) -> None:
    *outer, last = path.split(".")
    for name in outer:
        made = made.setdefault(name, {})
    made[last] = value


def _add(moved: Moved, translation: Translation, made: dict[str, Any], given: dict[str, Any]) -> None:
    instances: list[dict[str, Any]] = moved.files.setdefault(translation.check, {"instances": []})["instances"]
    if translation.one and instances:
        for key, value in made.items():
            if isinstance(value, dict):
                instances[0].setdefault(key, {}).update(value)
            elif key == "tags":
                instances[0][key] = list(dict.fromkeys([*instances[0].get(key, ()), *value]))
            else:
                instances[0].setdefault(key, value)
        return
    if not translation.one:
        made = {"name": _unused(_name(translation, given), {one.get("name") for one in instances}), **made}
    instances.append(made)


def _name(translation: Translation, given: dict[str, Any]) -> str:
    for option in translation.called:
        if option in given:
            text = str(given[option])
            place = urlsplit(text).netloc.rpartition("@")[2] if "://" in text else text
            port = f"-{given['port']}" if option == "host" and "port" in given else ""
            return _NOT_IN_NAMES.sub("-", place + port).strip("-") or translation.check
    return translation.check


def _unused(name: str, taken: set[Any]) -> str:
    number, made = 2, name
    while made in taken:
        number, made = number + 1, f"{name}-{number}"
    return made
