"""Whether a check keeps to its own declaration."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette.metrics import Sample
    from vedette.testing.results import Results


def assert_declared(run: Results) -> None:
    """Check that everything the check said was declared, and that nothing of it was dropped.

    - No metric or service check was emitted that `metrics`, `declare` or `statuses` does not name, or with another
      kind; nothing was dropped for any other reason (not finite, emitted twice).
    - Each tag of a sample is the instance's own, or on every sample of the check (such as the server's address), or
      its key is among the `tags` of its `Metric`.

    Raises:
        AssertionError: one line for each thing that is wrong.
    """
    problems = _dropped(run) + _stray_tags(run)
    if problems:
        raise AssertionError("\n".join(problems))


def _dropped(run: Results) -> list[str]:
    names = ", ".join(sorted(run.channel.undeclared))
    problems = [f"not declared, or with another kind: {names}"] if names else []
    others = {reason: n for reason, n in run.dropped.items() if reason not in ("undeclared", "wrong_kind")}
    return problems + [f"dropped {n} as {reason}" for reason, n in sorted(others.items())]


def _stray_tags(run: Results) -> list[str]:
    samples = [sample for batch in run.batches for sample in batch.samples]
    original = {out: name for (name, _), out in run.channel.names.items()}
    usual = _keys(run.channel.base_tags) | _on_every(samples)
    stray: dict[str, set[str]] = {}
    for sample in samples:
        metric = run.metrics.get(original.get(sample.name, sample.name))
        if metric is not None:
            stray.setdefault(metric.name, set()).update(_keys(sample.tags) - usual - set(metric.tags))
    return [f"{name}: tags not declared: {', '.join(sorted(keys))}" for name, keys in stray.items() if keys]


def _on_every(samples: list[Sample]) -> set[str]:
    """Tag keys that all samples carry; none where there is one metric only, since nothing can be told from it."""
    if len({sample.name for sample in samples}) < 2:
        return set()
    return set.intersection(*(_keys(sample.tags) for sample in samples))


def _keys(tags: tuple[str, ...]) -> set[str]:
    return {tag.partition(":")[0] for tag in tags}
