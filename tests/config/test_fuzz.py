"""Whatever stands in the files, `load` returns, and no problem shows what stood there."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from config.parts import SECRET, registry
from vedette.config import load

GOOD = f"""\
defaults: &d
  interval: 5s
  tags: ["role:a", 'b']
instances:
  - name: one
    password: {SECRET}
    dsn: db://user:{SECRET}@host/x
    rules: [{{key: {SECRET}, read: get}}]
  - <<: *d
    name: two
    password: "{SECRET}"
    headers: {{x: {SECRET}, y: |
      }}
    dsn: ${{env:DSN:-db://{SECRET}}}
"""
NOISE = "{}[]:,-&*!|>%@`'\"#?~\t\n \\$\r\0\x1b\ufeff\u00a0é😀<=.0159xtrue"


def check(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    for secrets in ("resolve", "lazy"):
        configuration = load(folder, registry(), environ={"X": SECRET}, secrets=secrets)  # type: ignore[arg-type]
        for problem in configuration.problems:
            text = str(problem)
            assert "s3cret" not in text, data
            assert "hunter2" not in text, data
            assert text.isprintable(), data


@pytest.mark.parametrize("name", ["probe.yaml", "agent.yaml"])
def test_truncated(tmp_path: Path, name: str) -> None:
    data = GOOD.encode()
    for end in range(len(data)):
        # a cut secret is a piece of a secret: keep it whole or leave it out
        if GOOD[:end].count("hunter2") == GOOD[:end].count(SECRET):
            check(tmp_path, name, data[:end])


@pytest.mark.parametrize("seed", range(150))
def test_mutated(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    text = GOOD.replace(SECRET, "\x02")  # one character, so that noise does not cut it into unknown pieces
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(text))
        cut = chance.choice((0, 0, 1, 4))
        text = text[:at] + "".join(chance.choices(NOISE, k=chance.randint(0, 3))) + text[at + cut :]
    check(tmp_path, "probe.yaml", text.replace("\x02", SECRET).encode())


@pytest.mark.parametrize("seed", range(60))
def test_random_bytes(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(chance.randint(1, 400))
    check(tmp_path, "probe.yaml", data)
    check(tmp_path, "agent.yaml", "".join(chance.choices(NOISE + "\n: \n- ", k=60)).encode())


@pytest.mark.parametrize(
    "value",
    [
        "{0}",
        "[{0}]",
        "{{a: {0}}}",
        "*{0}",
        "&{0}",
        "!{0}",
        "!!{0} x",
        "|{0}",
        "${{env:X}}${{",
        "${{env:X}}",
        "'{0}",
        '"\\q{0}"',
        "{0}: {0}",
        "{{{0}}}",
        "{{{{ {0} }}}}",
        "[{0}",
        "5, {0}",
        "? {0}",
        "- {0}",
        "#{0}",
        "@{0}",
        "%{0}",
        "`{0}`",
        "\t{0}",
        "<<: {0}",
    ],
)
@pytest.mark.parametrize(
    "option",
    ["name", "host", "port", "tls", "dsn", "wait", "rules", "headers", "metrics", "tags", "action", "schedule", "zzz"],
)
def test_a_secret_in_every_option(tmp_path: Path, option: str, value: str) -> None:
    text = value.format(SECRET)
    check(tmp_path, "probe.yaml", f"instances:\n  - {option}: {text}\n".encode())
    check(tmp_path, "counter.yaml", f"instances:\n  - {{port: 1, {option}: {text}}}\n".encode())
    (tmp_path / "counter.yaml").unlink()
    check(tmp_path, "agent.yaml", f"{option}: {text}\nsinks: [{{type: console, {option}: {text}}}]\n".encode())
