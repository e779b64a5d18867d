"""What a journal has after a write that failed, or a kill, at the worst moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette.alerts.keeping import Journal


def test_half_a_line_spoils_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    journal = Journal(path)
    journal["a"], journal["b"] = 1, 2
    with path.with_suffix(".more").open("a") as file:
        file.write('["c", 3')  # a kill
    journal = Journal(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vedette.alerts.keeping.write_json", _full)
        journal["d"] = 4
        assert dict(Journal(path)) == {"a": 1, "b": 2, "d": 4}
    journal["e"] = 5
    assert dict(Journal(path)) == {"a": 1, "b": 2, "d": 4, "e": 5}


def test_after_a_line_that_could_not_be_written_all_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.json"
    journal = Journal(path)
    journal["a"] = 1
    with monkeypatch.context() as patch:
        patch.setattr("vedette.alerts.keeping.os.open", _full)
        journal["b"] = 2
    assert dict(Journal(path)) == {"a": 1}
    journal["c"] = 3
    assert dict(Journal(path)) == {"a": 1, "b": 2, "c": 3}


def test_a_kill_between_writing_all_and_deleting_the_lines_undoes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept.json"
    journal = Journal(path)
    journal["a"], journal["b"] = 1, 2
    journal = Journal(path)
    monkeypatch.setattr(Path, "unlink", _full)
    del journal["a"]
    assert dict(Journal(path)) == {"b": 2}


def _full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")
