"""pydantic's errors in our words."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from pydantic_core.core_schema import ErrorType

from config.parts import SECRET, lines, read
from vedette.config.explain import _sentence


def problem(tmp_path: Path, options: str) -> str:
    [line] = lines(read(tmp_path, f"instances:\n  - {options}\n"))
    return line.removeprefix("probe.yaml:2: ")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("prot: 1", "instances[0].prot: unknown option; did you mean 'port'?"),
        ("Port: 1", "instances[0].Port: unknown option; did you mean 'port'?"),
        ("zzz: 1", "instances[0].zzz: unknown option; `vedette example probe` shows the options"),
        ('"hun ter": 1', "instances[0].?: unknown option; `vedette example probe` shows the options"),
        ("port: x", "instances[0].port: must be a whole number"),
        ("port: 1.5", "instances[0].port: must be a whole number"),
        ("port: 0", "instances[0].port: must be at least 1"),
        ("port:", "instances[0].port: must be a whole number"),
        ("ratio: x", "instances[0].ratio: must be a number"),
        ("tls: maybe", "instances[0].tls: must be true or false"),
        ("host: 5", "instances[0].host: must be text; put quotes around it"),
        ("host: {a: b}", "instances[0].host: must be text; put quotes around it"),
        ("host:", "instances[0].host: must be text"),
        ("tags: a", "instances[0].tags: must be a list; such as [one, two]"),
        ("tags: [a, 5]", "instances[0].tags[1]: must be text; put quotes around it"),
        ("headers: [a]", "instances[0].headers: must be a mapping"),
        ("rules: [x]", "instances[0].rules[0]: must be a mapping of options"),
        ("rules: [{key: x, raed: get}]", "instances[0].rules[0].raed: unknown option; did you mean 'read'?"),
        ("rules: [{read: get}]", "instances[0].rules[0].key: is required"),
        ("rules: [{kye: x}]", "instances[0].rules[0].kye: unknown option; did you mean 'key'?"),
        ("rules: [{key: x, read: gte}]", "instances[0].rules[0].read: must be 'get' or 'llen'"),
        ("wait: soon", "instances[0].wait: must be a duration such as 500ms, 15s, 5m, 1h or 1d"),
        ("target: [x]", "instances[0].target: must be a whole number or text"),
        ("action: x", "instances[0].action: must be a mapping of options or a whole number"),
        ("action: {comand: x}", "instances[0].action.comand: unknown option; did you mean 'command'?"),
        ("action: {command: 5}", "instances[0].action.command: must be text; put quotes around it"),
        ("dsn: hunter2", "instances[0].dsn: '****' does not begin with db://"),
        ("dsn: db://boom", "instances[0]: these options make the plugin's own code fail (KeyError)"),
        ("{password: hunter2, host: far}", "instances[0]: **** for **** needs tls"),
    ],
)
def test_sentences(tmp_path: Path, options: str, expected: str) -> None:
    assert problem(tmp_path, options) == expected


@pytest.mark.parametrize("kind", get_args(ErrorType))
def test_every_error_of_pydantic_has_a_sentence(kind: str) -> None:
    """None of them puts the context's free texts (`error`, `input`, a tag) into it."""
    context: dict[str, object] = dict.fromkeys(
        ("error", "tag", "class", "field_type", "encoding", "method_name"), SECRET
    )
    sentence = _sentence(kind, context)
    assert sentence
    assert SECRET not in sentence
    assert "{" not in sentence


def test_our_limits_are_shown(tmp_path: Path) -> None:
    assert problem(tmp_path, f"name: {'x' * 201}") == "instances[0].name: must have at most 200 characters"


def test_inherited_options_are_reported_once_at_their_own_line(tmp_path: Path) -> None:
    text = (
        "defaults:\n  interval: x\n  metrics:\n    exlude: [a]\ninstances:\n  - name: a\n"
        "  - name: b\n    metrics: {incldue: [b]}\n"
    )
    assert lines(read(tmp_path, text)) == [
        "probe.yaml:2: defaults.interval: must be a duration such as 500ms, 15s, 5m, 1h or 1d",
        "probe.yaml:4: defaults.metrics.exlude: unknown option; did you mean 'exclude'?",
        "probe.yaml:8: instances[1].metrics.incldue: unknown option; did you mean 'include'?",
    ]
