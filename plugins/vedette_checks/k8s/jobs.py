"""Jobs and cron jobs. The jobs of a cron job are reported together, since each has a name of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from vedette import Metric
from vedette_checks.k8s.decode import Condition, Meta
from vedette_checks.k8s.ledger import Group
from vedette_checks.k8s.names import STATE, gauge, workload_tags
from vedette_checks.k8s.nodes import seconds_of, seconds_since
from vedette_checks.k8s.report import Report
from vedette_checks.k8s.workloads import report_counts


class _JobStatus(msgspec.Struct, frozen=True, rename="camel"):
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    start_time: str | None = None
    completion_time: str | None = None
    conditions: tuple[Condition, ...] | None = None


class Job(msgspec.Struct, frozen=True):
    """What of a Job is used."""

    metadata: Meta
    status: _JobStatus = _JobStatus()

    def ended(self, how: str) -> bool:
        """Whether the condition `Complete` or `Failed` holds."""
        return any(one.type == how and one.status == "True" for one in self.status.conditions or ())


class _Ref(msgspec.Struct, frozen=True):
    name: str = ""


class _CronSpec(msgspec.Struct, frozen=True):
    suspend: bool | None = None


class _CronStatus(msgspec.Struct, frozen=True, rename="camel"):
    active: tuple[_Ref, ...] | None = None
    last_schedule_time: str | None = None
    last_successful_time: str | None = None


class CronJob(msgspec.Struct, frozen=True):
    """What of a CronJob is used."""

    metadata: Meta
    spec: _CronSpec = _CronSpec()
    status: _CronStatus = _CronStatus()


_JOB = ("kube_namespace", "kube_job or kube_cronjob")
_CRON = ("kube_namespace", "kube_cronjob")

METRICS: tuple[Metric, ...] = (
    gauge(f"{STATE}job.count", "Jobs in the namespace.", "kube_namespace", unit="job"),
    gauge(f"{STATE}job.succeeded", "Pods that succeeded, of the jobs that there are.", *_JOB, unit="pod"),
    gauge(f"{STATE}job.failed", "Pods that failed, of the jobs that there are.", *_JOB, unit="pod"),
    gauge(f"{STATE}job.completion.succeeded", "Jobs that are complete.", *_JOB, unit="job"),
    gauge(f"{STATE}job.completion.failed", "Jobs that have failed.", *_JOB, unit="job"),
    gauge(f"{STATE}job.duration", "How long the newest job took that has ended, or has run so far.", *_JOB,
          unit="second"),
    gauge("k8s.job.active", "Pods of jobs that have not ended.", *_JOB, unit="pod"),
    gauge(f"{STATE}cronjob.count", "Cron jobs in the namespace.", "kube_namespace"),
    gauge(f"{STATE}cronjob.spec_suspend", "Whether it is suspended: 1 or 0.", *_CRON),
    gauge(f"{STATE}cronjob.duration_since_last_schedule", "Time since a job was scheduled.", *_CRON, unit="second"),
    gauge("k8s.cronjob.duration_since_last_success", "Time since a job succeeded.", *_CRON, unit="second"),
    gauge("k8s.cronjob.active", "Jobs of it that run.", *_CRON, unit="job"),
)  # fmt: skip


def report_jobs(report: Report, jobs: Iterable[Job]) -> None:
    """Report all jobs."""
    counts: Counter[str] = Counter()
    groups: dict[Group, list[Job]] = {}
    for job in jobs:
        counts[job.metadata.namespace] += 1
        groups.setdefault(_group(job), []).append(job)
    for group, those in groups.items():
        if not report.admit("Job", group):
            continue
        tags = workload_tags(*group)
        report.gauge(f"{STATE}job.succeeded", sum(job.status.succeeded for job in those), tags)
        report.gauge(f"{STATE}job.failed", sum(job.status.failed for job in those), tags)
        report.gauge("k8s.job.active", sum(job.status.active for job in those), tags)
        report.gauge(f"{STATE}job.completion.succeeded", sum(job.ended("Complete") for job in those), tags)
        report.gauge(f"{STATE}job.completion.failed", sum(job.ended("Failed") for job in those), tags)
        newest = max(those, key=lambda job: seconds_of(job.status.start_time) or 0.0).status
        begun = seconds_of(newest.start_time)
        if begun is not None:
            report.gauge(f"{STATE}job.duration", (seconds_of(newest.completion_time) or report.now) - begun, tags)
    report_counts(report, f"{STATE}job.count", counts)


def _group(job: Job) -> Group:
    meta = job.metadata
    for owner in meta.owner_references or ():
        if owner.controller and owner.kind == "CronJob":
            return meta.namespace, "CronJob", owner.name
    return meta.namespace, "Job", meta.name


def report_cronjobs(report: Report, found: Iterable[CronJob]) -> None:
    """Report all cron jobs."""
    counts: Counter[str] = Counter()
    for one in found:
        meta, status = one.metadata, one.status
        counts[meta.namespace] += 1
        if not report.admit("CronJob", (meta.namespace, meta.name)):
            continue
        tags = workload_tags(meta.namespace, "CronJob", meta.name)
        report.gauge(f"{STATE}cronjob.spec_suspend", int(one.spec.suspend or False), tags)
        report.gauge("k8s.cronjob.active", len(status.active or ()), tags)
        for name, timestamp in (
            (f"{STATE}cronjob.duration_since_last_schedule", status.last_schedule_time),
            ("k8s.cronjob.duration_since_last_success", status.last_successful_time),
        ):
            if (age := seconds_since(timestamp, report.now)) is not None:
                report.gauge(name, age, tags)
    report_counts(report, f"{STATE}cronjob.count", counts)
