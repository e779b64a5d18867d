"""Floor 2: `secrets:` of agent.yaml: the options of secret resolvers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vedette.config.explain import Section, validate
from vedette.config.problems import one_line, suggest
from vedette.config.source import Hole, Mapping, Scalar
from vedette.config.values import harvest, localize
from vedette.errors import VedetteError

if TYPE_CHECKING:
    from vedette.config.checkfile import Document
    from vedette.config.source import Entry
    from vedette.plugins import Registry
    from vedette.secrets import Masker

_PATH: Final = ("secrets",)


def resolver_options(entry: Entry, document: Document, registry: Registry, masker: Masker) -> dict[str, Any]:
    """The options of each resolver that `secrets:` speaks of, by its name; problems go to the document's report.

    A key is the name of a resolver, or the first word of several names: `aws` is for all that begin with `aws-`.
    """
    node, report = entry.node, document.report
    if not isinstance(node, Mapping):
        if not isinstance(node, Hole) and not (isinstance(node, Scalar) and node.value is None):
            report.error(entry.line, _PATH, "must be a mapping of resolvers to their options")
        return {}
    installed = registry.names("secrets")
    made: dict[str, Any] = {}
    for key in sorted(node.entries, key=len):  # what is said of one resolver goes before what is said of its family
        names = [name for name in installed if name == key or name.startswith(f"{key}-")]
        if not names:
            families = {name.partition("-")[0] for name in installed}
            hint = suggest(key, {*installed, *families}) or "`vedette plugins` lists the resolvers"
            report.error(node.entries[key].line, (*_PATH, key), "no resolver has this name", hint)
            continue
        for name in names:
            config = _options(name, key, node.entries[key], document, registry, masker)
            if config is not None:
                made[name] = config
    return made


def _options(name: str, key: str, entry: Entry, document: Document, registry: Registry, masker: Masker) -> Any:
    report, path = document.report, (*_PATH, key)
    if not isinstance(entry.node, Mapping):
        if not isinstance(entry.node, Hole):
            report.error(entry.line, path, "must be a mapping of options")
        return None
    try:
        plugin: Any = registry.load("secrets", name)
    except VedetteError as error:
        report.error(entry.line, path, one_line(str(error)))
        return None
    except Exception as error:
        report.error(entry.line, path, f"'{name}' cannot be loaded ({type(error).__name__})")
        return None
    model = getattr(plugin, "config_class", None)
    if model is None:
        report.error(entry.line, path, f"'{name}' has no options")
        return None
    config = validate(Section(model, entry.node, path, entry.line), report, masker)
    if config is None:
        return None
    harvest(config, masker.add)
    return localize(config, document.found.path.parent)
