"""What an instance needs of AWS, and what it lacks: for `vedette doctor`."""

from __future__ import annotations

import time
from time import monotonic
from typing import Any

from vedette import CheckError, Diagnosis
from vedette_checks.aws import Account, identify, print_policy
from vedette_checks.sqs.age import Ages
from vedette_checks.sqs.config import SqsConfig
from vedette_checks.sqs.queues import Depth, Region
from vedette_checks.sqs.rights import grants

_PATIENCE = 5.0


async def diagnose(config: SqsConfig, account: Account, diagnosis: Diagnosis) -> None:
    """The credentials, who they are, what each region says, and the smallest policy that allows all of it."""
    who = await identify(account, config.places, diagnosis)
    dead: set[str] = set()
    if not who.known:
        diagnosis.not_reached("queues")
    for place, name in enumerate(who.regions if who.known else ()):
        urls = await _look(config, account, Region(config, account, name, first=place == 0), diagnosis)
        dead |= {f"arn:{who.partition}:sqs:{name}:{url.split('/')[-2]}:{url.split('/')[-1]}" for url in urls}
    print_policy(grants(config, who.regions, who.account, who.partition, sorted(dead)), account, diagnosis)


async def _look(config: SqsConfig, account: Account, region: Region, diagnosis: Diagnosis) -> set[str]:
    """What a run would find in a region; returns the URLs of the dead-letter queues."""
    survey = await region.survey(monotonic() + _PATIENCE)
    what = f"queues in {region.name}"
    if survey.lost is not None:
        diagnosis.failed(what, survey.lost.message, survey.lost.hint)
        return set()
    missing = [queue.name for queue in survey.queues if not queue.url and queue.error is None]
    refused = {queue.name: queue.error for queue in survey.queues if queue.error is not None}
    for url, depth in survey.depths.items():
        if isinstance(depth, CheckError):
            refused[url.rpartition("/")[2]] = depth
    if missing:
        diagnosis.failed(what, f"there is no {', '.join(missing)}", "check the names, the region and the account")
    for name, error in refused.items():
        diagnosis.failed(f"queue {name}", error.message, error.hint)
    if not survey.queues:
        diagnosis.warning(what, "none is found", "check `prefix` and `match`")
    elif not missing and not refused:
        diagnosis.ok(what, f"{len(survey.queues)} answer")
    if any(config.wants_age(queue.thresholds) for queue in survey.queues):
        await _try_ages(account, region.name, [queue.name for queue in survey.queues], diagnosis)
    depths: list[Any] = [one for one in survey.depths.values() if isinstance(one, Depth)]
    return {one.dead_letter_url for one in depths if one.dead_letter_url and config.dead_letters}


async def _try_ages(account: Account, region: str, names: list[str], diagnosis: Diagnosis) -> None:
    try:
        await Ages(account, region, 0.0).of(names[:1], time.time(), monotonic() + _PATIENCE)
    except CheckError as error:
        diagnosis.failed("cloudwatch:GetMetricData", error.message, error.hint)
    else:
        diagnosis.ok("cloudwatch:GetMetricData", region)
