"""Floor 5: writes the package of a new check, ready to be installed, tested and changed."""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vedette import __version__
from vedette.errors import VedetteError
from vedette.plugins import API, Registry
from vedette.render import example_yaml, fill

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LONGEST = 30  # characters: the lines of the package are formatted for names up to that


class ScaffoldError(VedetteError):
    """A package cannot be written; the text says why, and what to do."""


def write_package(name: str, parent: Path) -> list[Path]:
    """Write the package of a check that connects to a TCP port, as a beginning.

    Args:
        name: the check's name, such as `queue_depth`; the package is then `vedette-queue-depth`.
        parent: where its folder comes to be.

    Returns:
        What was written, relative to `parent`.

    Raises:
        ScaffoldError: the name cannot be a check's, or is taken, or the folder has something in it.
        OSError: the folder cannot be written.
    """
    _check_name(name)
    words = _words(name)
    folder = parent / words["distribution"]
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ScaffoldError(f"{folder} is there already and not empty; take another name, or another folder with --in")
    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".new-plugin-", dir=parent) as hidden:  # all of it comes to be, or nothing
        written = _write(Path(hidden) / folder.name, words)
        (Path(hidden) / folder.name).rename(folder)
    return sorted(folder.relative_to(parent) / path for path in written)


def _write(folder: Path, words: dict[str, str]) -> list[Path]:
    """Write all of the package; returns what, relative to its folder."""
    written = []
    for path, template in _templates(files(__name__) / "package", Path()):
        target = folder / str(path).replace("NAME", words["name"])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(template).substitute(words), encoding="utf-8")
        written.append(target)
    written.append(_describe(folder, words))
    return [path.relative_to(folder) for path in written]


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        better = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        hint = f", such as {better}" if _NAME.fullmatch(better) and not keyword.iskeyword(better) else ""
        raise ScaffoldError(
            f"'{name}' cannot be the name of a check: lower-case letters, digits and single underscores{hint}"
        )
    if len(name) > _LONGEST:
        raise ScaffoldError(f"'{name}' is longer than {_LONGEST} characters")
    registry = Registry()
    if name in registry.names("checks"):
        owner = registry.entry("checks", name).dist
        whose = f" (of {owner.name})" if owner else ""
        raise ScaffoldError(f"there is a check '{name}' already{whose}; take another name")
    if name == "check" or importlib.util.find_spec(f"vedette_{name}") is not None:
        raise ScaffoldError(f"vedette has something of the name '{name}' in Python; take another name")


def _words(name: str) -> dict[str, str]:
    return {
        "name": name,
        "module": f"vedette_{name}",
        "distribution": f"vedette-{name.replace('_', '-')}",
        "camel": "".join(part.capitalize() for part in name.split("_")),
        "version": __version__,
        "api": API,
    }


def _templates(folder: Traversable, path: Path) -> Iterator[tuple[Path, str]]:
    """Where each file goes, and its text with `$words`."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _templates(entry, path / entry.name)
        elif entry.name.endswith(".in"):
            yield path / entry.name.removesuffix(".in"), entry.read_text(encoding="utf-8")


def _describe(folder: Path, words: dict[str, str]) -> Path:
    """Fill the README's tables and write the example file; returns where that is."""
    module = _imported(folder / "src" / words["module"] / "__init__.py", words["module"])
    check = getattr(module, f"{words['camel']}Check")
    readme, example = folder / "README.md", folder / "conf.d" / f"{words['name']}.yaml.example"
    readme.write_text(fill(readme.read_text(encoding="utf-8"), check), encoding="utf-8")
    example.parent.mkdir()
    example.write_text(example_yaml(check), encoding="utf-8")
    return example


def _imported(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ScaffoldError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), module.__dict__)  # noqa: S102 (leaves no __pycache__)
    return module
