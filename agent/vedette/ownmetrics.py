"""Floor 1: the metrics that the agent emits beside its instances' own, for rules, catalogues and pages."""

from __future__ import annotations

from vedette.metrics import Kind, Metric

HEALTH_METRICS = (
    Metric(
        "health_check.status", Kind.GAUGE, help="1 if the instance's last run found all well, else 0.", tags=("check",)
    ),
    Metric(
        "health_check.response_time", Kind.HISTOGRAM, "millisecond", "How long the instance's run took.", ("check",)
    ),
)
"""What every instance has."""

_CHECK, _SINK, _DISCOVERY, _FLEET, _NOTIFIER = ("check",), ("sink",), ("discovery",), ("fleet",), ("notifier",)
METRICS = (
    Metric("vedette.agent.up", Kind.GAUGE, help="1, as long as the agent runs: alert where it is missing."),
    Metric("health_check.overall", Kind.GAUGE, help="1 if every instance that is not muted is healthy, else 0."),
    Metric("vedette.check.duration", Kind.GAUGE, "second", "Length of the instance's last run.", _CHECK),
    Metric("vedette.check.lateness", Kind.GAUGE, "second", "Latest start since the last report.", _CHECK),
    Metric("vedette.check.skipped", Kind.COUNTER, "run", "Ticks that were not run, the last run being busy.", _CHECK),
    Metric("vedette.check.failures", Kind.COUNTER, "run", "Runs that raised, timed out or got stuck.", _CHECK),
    Metric("vedette.check.samples", Kind.COUNTER, "sample", "Samples handed to the sinks.", _CHECK),
    Metric("vedette.check.dropped", Kind.COUNTER, "sample", "Samples refused, by reason.", ("check", "reason")),
    Metric("vedette.loop.blocked", Kind.COUNTER, help="Times that it held up all other instances.", tags=_CHECK),
    Metric("vedette.sink.sent", Kind.COUNTER, "sample", "Samples that the sink took and sent.", _SINK),
    Metric("vedette.sink.dropped", Kind.COUNTER, "sample", "Samples given up: queue full or not sendable.", _SINK),
    Metric("vedette.sink.errors", Kind.COUNTER, "error", "Failed sends.", _SINK),
    Metric("vedette.sink.queue", Kind.GAUGE, "sample", "Samples waiting for the sink.", _SINK),
    Metric("vedette.sink.disk", Kind.GAUGE, "byte", "What the sink's queue takes on disk.", _SINK),
    Metric("vedette.sink.unrecoverable", Kind.COUNTER, "sample", "Samples too old for the receiver by now.", _SINK),
    Metric("vedette.sink.refused", Kind.COUNTER, "sample", "Samples that the receiver will never take.", _SINK),
    Metric("vedette.sink.clock_offset", Kind.GAUGE, "second", "How far the receiver's clock is ahead.", _SINK),
    Metric("vedette.notifier.sent", Kind.COUNTER, "message", "Alerts that arrived at the notifier.", _NOTIFIER),
    Metric("vedette.notifier.failed", Kind.COUNTER, "message", "Alerts that were given up.", _NOTIFIER),
    Metric("vedette.notifier.errors", Kind.COUNTER, "error", "Failed attempts to tell.", _NOTIFIER),
    Metric("vedette.notifier.queue", Kind.GAUGE, "message", "Alerts that wait for the notifier.", _NOTIFIER),
    Metric("vedette.notifier.oldest", Kind.GAUGE, "second", "How long the oldest of them has waited.", _NOTIFIER),
    Metric("vedette.state.errors", Kind.COUNTER, "error", "Failed writes of the state store."),
    Metric("vedette.config.problems", Kind.GAUGE, help="Problems in the configuration, warnings included."),
    Metric("vedette.config.broken_files", Kind.GAUGE, "file", "Configuration files that cannot be used as they are."),
    Metric("vedette.config.reloads", Kind.COUNTER, help="How often the configuration was read again."),
    Metric("vedette.discovery.targets", Kind.GAUGE, help="What the discovery found.", tags=_DISCOVERY),
    Metric("vedette.discovery.instances", Kind.GAUGE, help="Instances made of what it found.", tags=_DISCOVERY),
    Metric("vedette.discovery.problems", Kind.GAUGE, help="Problems in what targets ask for.", tags=_DISCOVERY),
    Metric("vedette.discovery.errors", Kind.COUNTER, "error", "Failures of the discovery.", _DISCOVERY),
    Metric("vedette.alerts.rules", Kind.GAUGE, help="Alert rules in force."),
    Metric("vedette.alerts.firing", Kind.GAUGE, "alert", "Alerts that fire, by severity.", ("severity",)),
    Metric("vedette.alerts.pending", Kind.GAUGE, "alert", "Alerts that will fire once they have held for long enough."),
    Metric("vedette.alerts.quiet", Kind.GAUGE, "alert", "Alerts that fire and of which nobody is told."),
    Metric("vedette.alerts.errors", Kind.COUNTER, "error", "Evaluations of alert rules that failed."),
    Metric("vedette.alerts.told", Kind.COUNTER, "message", "What notifiers were given to tell."),
    Metric("vedette.fleet.member", Kind.GAUGE, help="1 while this agent may run what one agent may run.", tags=_FLEET),
    Metric("vedette.fleet.members", Kind.GAUGE, help="Agents that may, as far as this one knows.", tags=_FLEET),
    Metric("vedette.fleet.owned", Kind.GAUGE, help="Instances whose lease this agent holds.", tags=_FLEET),
    Metric("vedette.fleet.orphans", Kind.GAUGE, help="Instances of this agent's files that nobody owns.", tags=_FLEET),
    Metric("vedette.fleet.lease_left", Kind.GAUGE, "second", "Until its leases end unless it is heard.", _FLEET),
    Metric("vedette.fleet.moves", Kind.COUNTER, help="Changes of owner that it has seen.", tags=_FLEET),
    Metric("vedette.fleet.beats", Kind.COUNTER, help="Signs of life that the engine answered.", tags=_FLEET),
    Metric("vedette.fleet.claims", Kind.COUNTER, "write", "Writes of owners and of state.", _FLEET),
    Metric("vedette.fleet.errors", Kind.COUNTER, "error", "Requests that the engine did not answer.", _FLEET),
    Metric("vedette.fleet.fenced", Kind.COUNTER, "sample", "Not sent since the lease had ended.", _FLEET),
)
"""Everything the agent emits beside its instances."""

AGENT_METRICS = (*HEALTH_METRICS, *METRICS)
"""What the core emits in all: for catalogues and documentation."""
