"""Floor 2: the JSON Schema of a check's file, for editors that complete and check YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema

from vedette.renamed import Renamed
from vedette.render.example import summary
from vedette.render.options import family
from vedette.rules.model import RuleConfig

if TYPE_CHECKING:
    from pydantic_core import core_schema

    from vedette.render.options import Plugin

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = {"type": "string", "pattern": r"\$\{"}
_NOTES = frozenset({"title", "description", "default", "examples", "deprecated", "writeOnly"})
_SCALARS = frozenset({"integer", "number", "boolean", "string"})
_NOT_JSON_SCHEMA = frozenset({"gt", "ge", "lt", "le"})
"""What pydantic leaves behind where a constraint meets a type with a schema of its own, such as Duration."""


def json_schema(plugin: Plugin) -> dict[str, Any]:
    """The schema (draft 2020-12) of a whole check file, or of one list entry for a sink or notifier.

    `${…}` is accepted wherever a scalar is, and a required option may stand in `defaults:` as well as in every
    instance.
    """
    model = plugin.config_class.model_json_schema(schema_generator=_WithOldNames)
    definitions = {name: _open(part) for name, part in model.pop("$defs", {}).items()}
    options: dict[str, Any] = {**_open(model), "title": f"options of {plugin.name}"}
    head = {"$schema": _DRAFT, "title": f"vedette: {plugin.name}", "description": summary(plugin)}
    tail = {"$defs": definitions} if definitions else {}
    if family(plugin) != "check":
        options["properties"]["backend" if family(plugin) == "engine" else "type"] = {"const": plugin.name}
        return {**options, **head, **tail}
    required = [[name] for name in options.pop("required", [])]
    required += [[part["required"][0] for part in one["anyOf"]] for one in options.pop("allOf", ())]  # of `_add_old`
    return {**head, **_file(plugin, options, required), "$defs": {**definitions, "options": options}}


class _WithOldNames(GenerateJsonSchema):
    """Old names of options are known to editors too, as what they are."""

    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        """The schema of a model."""
        made = super().model_schema(schema)
        fields = getattr(schema["cls"], "model_fields", {}).values()
        for names in (field.validation_alias for field in fields):
            if isinstance(names, Renamed):
                _add_old(made, names)
        return made


def _add_old(schema: dict[str, Any], names: Renamed) -> None:
    whole = schema["properties"][names.name]
    for old in names.old:
        text = names.notice(old)
        schema["properties"][old] = {**whole, "description": f"{text[0].upper()}{text[1:]}.", "deprecated": True}
    if names.name in schema.get("required", ()):
        schema["required"] = [name for name in schema["required"] if name != names.name]
        either = {"anyOf": [{"required": [name]} for name in (names.name, *names.old)]}
        schema["allOf"] = [*schema.get("allOf", ()), either]


def _file(plugin: Plugin, options: dict[str, Any], required: list[list[str]]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": "object",
        "properties": {
            "check": {
                "const": plugin.name,
                "description": "The check, where the file's name does not say it.",
            },
            "defaults": {"$ref": "#/$defs/options", "description": "Merged under every instance."},
            "instances": {
                "type": "array",
                "minItems": 1,
                "items": {"$ref": "#/$defs/options"},
                "description": "What to check.",
            },
            "alerts": {
                "type": "array",
                "items": _open(RuleConfig.model_json_schema()),
                "description": "Alert rules for this check.",
            },
        },
        "required": ["instances"],
        "additionalProperties": False,
    }
    if required:
        body["allOf"] = [
            {"anyOf": [where(name) for name in names for where in (_in_defaults, _in_instances)]} for names in required
        ]
    return body


def _in_defaults(name: str) -> dict[str, Any]:
    return {"required": ["defaults"], "properties": {"defaults": {"required": [name]}}}


def _in_instances(name: str) -> dict[str, Any]:
    return {"properties": {"instances": {"items": {"required": [name]}}}}


def _open(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, with `${…}` accepted for every scalar in it."""
    if _is_scalar(schema):
        notes = {key: value for key, value in schema.items() if key in _NOTES}
        rule = {key: value for key, value in schema.items() if key not in _NOTES}
        return {**notes, **_union([rule])}
    opened: dict[str, Any] = {key: value for key, value in schema.items() if key not in _NOT_JSON_SCHEMA}
    for key in ("properties", "patternProperties"):
        if key in opened:
            opened[key] = {name: _open(part) for name, part in opened[key].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(opened.get(key), dict):
            opened[key] = _open(opened[key])
    for key in ("oneOf", "allOf", "prefixItems"):
        if key in opened:
            opened[key] = [_open(part) for part in opened[key]]
    branches = opened.pop("anyOf", None)
    return opened if branches is None else {**opened, **_union(branches)}


def _union(branches: list[dict[str, Any]]) -> dict[str, Any]:
    parts = [part for branch in branches for part in _flat(branch)]
    rules = [part if _is_scalar(part) else _open(part) for part in parts]
    if any(map(_is_scalar, parts)) and not any(map(_takes_any_string, parts)):
        rules.append(_REFERENCE)
    return rules[0] if len(rules) == 1 else {"anyOf": rules}


def _flat(branch: dict[str, Any]) -> list[dict[str, Any]]:
    return branch["anyOf"] if set(branch) - _NOT_JSON_SCHEMA == {"anyOf"} else [branch]


def _is_scalar(schema: dict[str, Any]) -> bool:
    return schema.get("type") in _SCALARS or "enum" in schema or "const" in schema


def _takes_any_string(rule: dict[str, Any]) -> bool:
    return rule.get("type") == "string" and set(rule) <= {"type", "format", "maxLength", *_NOTES}
