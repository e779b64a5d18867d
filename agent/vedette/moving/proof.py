"""Floor 5: what was made goes through the loader, and what that refuses is left out and said."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from vedette.config import load
from vedette.moving.writing import to_yaml
from vedette.plugins import Registry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vedette.errors import Problem
    from vedette.moving.words import Words

_INSTANCE: Final = re.compile(r"instances\[(\d+)\]\.?")


@dataclass(frozen=True, slots=True)
class Made:
    """An instance.

    Attributes:
        check: its check here.
        options: what stands in its file.
        where: the place that it came from.
        mode: permissions of the file there.
    """

    check: str
    options: dict[str, Any]
    where: str
    mode: int


def proven(made: Iterable[Made], words: Words) -> list[Made]:
    """Those that the loader takes; the others go to the notes, with what it says of them."""
    good = list(made)
    while good:
        refused = _refused(good, words)
        if not refused:
            break
        for one, why in refused:
            words.say(one.where, f"{why}: left out")
        gone = {id(one) for one, _ in refused}
        good = [one for one in good if id(one) not in gone]
    return good


def _refused(made: list[Made], words: Words) -> list[tuple[Made, str]]:
    files: defaultdict[str, list[Made]] = defaultdict(list)
    for one in made:
        files[one.check].append(one)
    with TemporaryDirectory(prefix="vedette-import-") as folder:
        for check, several in files.items():
            (Path(folder) / f"{check}.yaml").write_text(
                to_yaml({"instances": [one.options for one in several]}), encoding="utf-8"
            )
        loaded = load(Path(folder), Registry(), environ={}, secrets="lazy", sinks=False, masker=words.masker)
    refused: list[tuple[Made, str]] = []
    for problem in loaded.problems:
        if problem.severity == "error":
            several = files.get(Path(problem.file).stem, made)
            found = _INSTANCE.match(problem.path)
            hit = [several[int(found[1])]] if found else several
            refused += [(one, _text(problem)) for one in hit]
    return refused


def _text(problem: Problem) -> str:
    path = _INSTANCE.sub("", problem.path, count=1)
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"check {Path(problem.file).stem} would not take it: {f'{path}: ' if path else ''}{problem.message}{hint}"
