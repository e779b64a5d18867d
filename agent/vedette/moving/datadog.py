"""Floor 5: a Datadog Agent's conf.d, translated: what is here goes into files, and what is not is said."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from vedette.errors import VedetteError
from vedette.moving.foreign import CHECK, code_of
from vedette.moving.instances import LEFT_OUT, interval, named, translated, unused
from vedette.moving.proof import Made, proven
from vedette.moving.rules import ELSEWHERE, TRANSLATIONS
from vedette.moving.translation import Translation
from vedette.moving.words import Words
from vedette.secrets import Masker

_CALLED: Final = ("name", "host", "url", "server", "openmetrics_endpoint")
_OTHERWISE: Final = (
    "exec, openmetrics, datadog_check (once its package is installed here) or a plugin of your own may do it "
    "(vedette new-plugin)"
)
_JMX: Final = "is a JMX check: run Prometheus' JMX exporter beside the program, and check openmetrics reads it"


class MoveError(VedetteError):
    """A folder that holds no Datadog configuration; the text says why."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a folder.

    Attributes:
        files: by the name of the check here, such as `redis`: what stands in its YAML.
        notes: what could not be translated, each with its place.
        modes: the permissions that the files of a check had there, those that all of them had.
        masker: knows the secrets that stand in the clear.
    """

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    modes: dict[str, int] = field(default_factory=dict)
    masker: Masker = field(default_factory=Masker)


@dataclass(slots=True)
class _Source:
    """A file that is read: its check, its path, the folder it is in, and where it is for people."""

    check: str
    path: Path
    folder: Path
    where: str
    mode: int = 0


def move(folder: Path) -> Moved:
    """Translate all checks of a folder such as /etc/datadog-agent/conf.d.

    Raises:
        MoveError: there is no file of a check in it.
        OSError: it cannot be read.
    """
    found = sorted(_files(folder))
    if not found:
        raise MoveError(f"{folder} holds no checks: is it the conf.d of a Datadog Agent, with <check>.d/conf.yaml?")
    words, made = Words(), list[Made]()
    for check, path in found:
        _move_file(_Source(check, path, folder, str(path.relative_to(folder))), made, words)
    moved = Moved(notes=words.notes, masker=words.masker)
    for one in proven(made, words):
        moved.files.setdefault(one.check, {"instances": []})["instances"].append(one.options)
        moved.modes[one.check] = moved.modes.get(one.check, 0o777) & one.mode
    return moved


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Name of the check and file, of `<check>.d/*.yaml` and `<check>.yaml`; defaults and examples are left out."""
    found = [(path.parent.name.removesuffix(".d"), path) for path in folder.glob("*.d/*.y*ml")]
    found += [(path.stem, path) for path in folder.glob("*.y*ml")]
    return [(check, path) for check, path in found if path.suffix in (".yaml", ".yml")]


def _move_file(source: _Source, made: list[Made], words: Words) -> None:
    try:
        source.mode = stat.S_IMODE(source.path.stat().st_mode)
        content = yaml.safe_load(source.path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        words.say(source.where, f"cannot be read: {error.strerror}")
        return
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        words.say(f"{source.where}{f':{mark.line + 1}' if mark else ''}", "is not YAML")
        return
    if isinstance(content, dict) and content.get("logs"):
        words.say(source.where, "logs: check log_file follows files; see its README")
    if isinstance(content, dict) and content.get("ad_identifiers"):
        words.say(source.where, "is a template of Autodiscovery (ad_identifiers): left out; see docs/autodiscovery.md")
    elif isinstance(content, dict) and _is_jmx(content):
        words.say(source.where, _JMX)
    elif isinstance(content, dict) and isinstance(instances := content.get("instances"), list):
        common = content.get("init_config")
        _move_instances(source, common if isinstance(common, dict) else {}, instances, made, words)
    elif not (isinstance(content, dict) and content.get("logs")):
        words.say(source.where, "has no list of instances")


def _is_jmx(content: dict[str, Any]) -> bool:
    instances = content.get("instances")
    parts = [content.get("init_config"), *(instances if isinstance(instances, list) else ())]
    marks = ("is_jmx", "jmx_url")
    return "jmx_metrics" in content or any(part.get(m) for part in parts if isinstance(part, dict) for m in marks)


def _move_instances(
    source: _Source, common: dict[str, Any], instances: list[Any], made: list[Made], words: Words
) -> None:
    check = source.check
    translation = TRANSLATIONS.get(check)
    code = code_of(check, source.folder) if translation is None and check not in ELSEWHERE else None
    if translation is None and code is None:
        words.say(source.where, f"there is no check {check} here; {ELSEWHERE.get(check, _OTHERWISE)}")
        return
    for number, instance in enumerate(instances):
        here = f"{source.where}: instances[{number}]"
        if not isinstance(instance, dict):
            words.say(here, "is not a mapping of options")
        elif translation is not None and translation.one and number:
            words.say(here, f"check {translation.check} is one for all its parts: {LEFT_OUT}")
        elif translation is not None:
            given = {str(key): one for key, one in {**common, **instance}.items() if one is not None}
            options = translated(translation, given, here, words)
            if options is not None:
                _add(made, translation, given, Made(translation.check, options, here, source.mode))
        elif code is not None:
            _take_along(source, code, (common, instance), here, made, words)


def _take_along(
    source: _Source,
    code: dict[str, str],
    given: tuple[dict[str, Any], dict[str, Any]],
    where: str,
    made: list[Made],
    words: Words,
) -> None:
    """An instance of a check that runs as it is: its options stay what they are."""
    merged = {**given[0], **given[1]}
    try:
        common, instance = (words.read(one, where) for one in given)
    except (ValueError, RecursionError) as error:
        words.say(where, f"{error}: {LEFT_OUT}" if isinstance(error, ValueError) else LEFT_OUT)
        return
    every = interval(merged, where, words)
    options: dict[str, Any] = code | ({"interval": every} if every else {})
    options |= {"init_config": common} if common else {}
    options |= {"instance": instance} if instance else {}
    name = named(_CALLED, merged, "")
    taken = {one.options["name"] for one in made if one.check == CHECK}
    options = {"name": unused(f"{source.check}-{name}" if name else source.check, taken)} | options
    made.append(Made(CHECK, options, where, source.mode))


def _add(made: list[Made], translation: Translation, given: dict[str, Any], one: Made) -> None:
    """Add an instance under a name of its own; of a check that is one for several of Datadog's, to what is there."""
    same = [other for other in made if other.check == one.check]
    if translation.one and same:
        for key, value in one.options.items():
            if isinstance(value, dict):
                same[0].options.setdefault(key, {}).update(value)
            else:
                same[0].options.setdefault(key, value)
    elif translation.one:
        made.append(one)
    else:
        name = unused(named(translation.called, given, one.check), {other.options.get("name") for other in same})
        made.append(Made(one.check, {"name": name} | one.options, one.where, one.mode))
