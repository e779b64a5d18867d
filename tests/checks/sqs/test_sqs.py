"""The sqs check on moto's queues."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from aws import ACCOUNT, REGION, AwsServer, minutes
from vedette import CheckError, Diagnosis, Status
from vedette.emit import Channel, Emit
from vedette.metrics import Batch
from vedette.testing import run_check
from vedette_checks.sqs import Sqs, SqsConfig
from vedette_checks.sqs.age import Age
from vedette_checks.sqs.config import QueueConfig, Thresholds
from vedette_checks.sqs.queues import Depth, depth_of
from vedette_checks.sqs.verdict import judge

pytestmark = pytest.mark.anyio


def make(aws: AwsServer, queues: Mapping[str, int], dead: Mapping[str, str] = {}, region: str = REGION) -> None:
    """Queues with so many messages; `dead` says which is the dead-letter queue of which."""
    with aws.making() as client:
        sqs = client("sqs", region)
        for name, messages in queues.items():
            url = sqs.create_queue(QueueName=name)["QueueUrl"]
            for n in range(0, messages, 10):
                entries = [{"Id": str(i), "MessageBody": "x"} for i in range(min(10, messages - n))]
                sqs.send_message_batch(QueueUrl=url, Entries=entries)
        for name, target in dead.items():
            policy = {"deadLetterTargetArn": f"arn:aws:sqs:{region}:{ACCOUNT}:{target}", "maxReceiveCount": 3}
            url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
            sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": json.dumps(policy)})


def receive(aws: AwsServer, name: str, count: int) -> None:
    with aws.making() as client:
        sqs = client("sqs")
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        assert len(sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=count)["Messages"]) == count


class Watch:
    """One instance whose runs the test starts one by one."""

    def __init__(self, aws: AwsServer, **options: Any) -> None:
        self.aws = aws
        config = SqsConfig(**{"region": REGION, "endpoint_url": aws.url, **options})
        self.check = Sqs(config)
        self._channel = Channel("sqs/x", "sqs", Sqs.declare(config), Sqs.statuses)

    async def run(self) -> tuple[Batch, str, Counter[str]]:
        """The batch, the finding that ended the run, and the calls that it took."""
        self.aws.calls.clear()
        emit = Emit(self._channel, 1_790_000_000.0)
        found = ""
        try:
            await self.check.run(emit)
        except CheckError as error:
            found = error.message
        assert not self._channel.dropped
        return emit.batch(), found, Counter(call.action for call in self.aws.calls)


def values(batch: Batch, name: str) -> dict[str, Any]:
    """By queue; by region where there is none."""
    found = {}
    for sample in batch.samples:
        if sample.name == name:
            tags = dict(tag.split(":", 1) for tag in sample.tags)
            found[tags.get("queue") or tags["region"]] = sample.value
    return found


def statuses(batch: Batch, name: str = "sqs.queue") -> dict[str, tuple[str, str]]:
    found = {}
    for one in batch.statuses:
        if one.name == name:
            tags = dict(tag.split(":", 1) for tag in one.tags)
            found[tags.get("queue") or tags.get("region", "")] = (one.status.name, one.message)
    return found


async def test_figures_of_named_queues_with_one_call_each(aws: AwsServer) -> None:
    make(aws, {"orders": 12, "mails": 0, "other": 5})
    await asyncio.to_thread(receive, aws, "orders", 3)
    watch = Watch(aws, queues=["orders", "mails"])
    batch, found, calls = await watch.run()
    assert found == ""
    assert values(batch, "sqs.messages_visible") == {"orders": 9, "mails": 0}
    assert values(batch, "sqs.messages_in_flight") == {"orders": 3, "mails": 0}
    assert values(batch, "sqs.messages_delayed") == {"orders": 0, "mails": 0}
    assert values(batch, "sqs.queues") == {REGION: 2}
    assert statuses(batch) == {"orders": ("OK", ""), "mails": ("OK", "")}
    assert statuses(batch, "sqs.can_connect") == statuses(batch, "sqs.complete") == {REGION: ("OK", "")}
    assert calls == {"sqs:GetQueueUrl": 2, "sqs:GetQueueAttributes": 2}
    batch, _, calls = await watch.run()
    assert calls == {"sqs:GetQueueAttributes": 2}  # the addresses are known
    assert [
        (s.value, dict(t.split(":", 1) for t in s.tags)["action"]) for s in batch.samples if s.name == "sqs.api_calls"
    ] == [(2, "sqs:GetQueueAttributes")]
    await watch.check.close()


async def test_thresholds_of_the_instance_and_of_a_queue(aws: AwsServer) -> None:
    make(aws, {"calm": 4, "busy": 5, "flooded": 20, "special": 20})
    queues = ["calm", "busy", "flooded", {"name": "special", "depth_critical": 21, "tags": ["team:shop"]}]
    watch = Watch(aws, queues=queues, depth_warning=5, depth_critical=20)
    batch, _, _ = await watch.run()
    assert statuses(batch) == {
        "calm": ("OK", ""),
        "busy": ("WARNING", "busy: 5 messages wait (a warning from 5 on)"),
        "flooded": ("CRITICAL", "flooded: 20 messages wait (critical from 20 on)"),
        "special": ("OK", ""),
    }
    assert [one.tags for one in batch.statuses if "queue:special" in one.tags] == [
        ("queue:special", f"region:{REGION}", "team:shop")
    ]
    await watch.check.close()


async def test_dead_letters_are_read_once_for_all_queues_that_share_them(aws: AwsServer) -> None:
    make(aws, {"a": 1, "b": 1, "c": 1, "dlq": 2, "empty-dlq": 0}, {"a": "dlq", "b": "dlq", "c": "empty-dlq"})
    watch = Watch(aws, queues=["a", "b", {"name": "c", "dead_letter_warning": 1}])
    batch, _, calls = await watch.run()
    assert values(batch, "sqs.dead_letter_messages") == {"a": 2, "b": 2, "c": 0}
    assert statuses(batch) == {
        "a": ("WARNING", "a: 2 messages in the dead-letter queue dlq"),
        "b": ("WARNING", "b: 2 messages in the dead-letter queue dlq"),
        "c": ("OK", ""),
    }
    assert calls["sqs:GetQueueAttributes"] == 5
    await watch.check.close()
    unwatched = Watch(aws, queues=["a"], dead_letters=False)
    batch, _, calls = await unwatched.run()
    assert (calls["sqs:GetQueueAttributes"], statuses(batch)) == (1, {"a": ("OK", "")})
    await unwatched.check.close()


async def test_discovery_by_prefix_and_pattern_looks_now_and_then(aws: AwsServer) -> None:
    make(aws, {"shop-a": 1, "shop-b": 2, "shop-a-dlq": 3, "mail": 4})
    watch = Watch(aws, queues=[{"prefix": "shop-", "exclude": ".*-dlq"}, {"prefix": "", "match": "m..l"}])
    batch, _, calls = await watch.run()
    assert values(batch, "sqs.messages_visible") == {"shop-a": 1, "shop-b": 2, "mail": 4}
    assert calls == {"sqs:ListQueues": 2, "sqs:GetQueueAttributes": 3}
    make(aws, {"shop-c": 5})
    batch, _, calls = await watch.run()
    assert calls == {"sqs:GetQueueAttributes": 3}
    await watch.check.close()


async def test_more_queues_than_the_limit_are_counted(aws: AwsServer) -> None:
    make(aws, {f"q{n}": 0 for n in range(6)})
    watch = Watch(aws, queues=["q5", {"prefix": "q"}], limit=4)
    batch, _, calls = await watch.run()
    assert len(values(batch, "sqs.messages_visible")) == 4
    assert "q5" in values(batch, "sqs.messages_visible")  # what is named comes first
    assert (values(batch, "sqs.queues_cut"), calls["sqs:GetQueueAttributes"]) == ({REGION: 2}, 4)
    text = "2 queues are left out: raise `limit`, or narrow `prefix` and `match`"
    assert statuses(batch, "sqs.complete") == {REGION: ("WARNING", text)}
    await watch.check.close()


async def test_ages_are_asked_for_in_one_call_and_carry_their_own_time(aws: AwsServer) -> None:
    make(aws, {"old": 3, "new": 1, "empty": 0})
    times = minutes(5, ago=120)
    for name, seconds in (("old", 700.0), ("new", 5.0), ("empty", 9.0)):
        aws.points(
            "AWS/SQS",
            "ApproximateAgeOfOldestMessage",
            {"QueueName": name},
            {at: seconds + i for i, at in enumerate(times)},
        )
    watch = Watch(aws, queues=["old", "new", "empty"], age_warning="5m", age_critical="1h")
    batch, _, calls = await watch.run()
    assert calls["cloudwatch:GetMetricData"] == 1
    samples = {s.tags: (s.value, s.time) for s in batch.samples if s.name == "sqs.oldest_message_age"}
    assert samples == {
        ("queue:new", f"region:{REGION}"): (9.0, times[-1]),
        ("queue:old", f"region:{REGION}"): (704.0, times[-1]),
    }  # a queue without messages has no oldest one
    assert statuses(batch)["old"] == ("WARNING", "old: the oldest message has waited 11.7m (a warning from 5m on)")
    assert values(batch, "sqs.metrics_requested") == {REGION: 2}
    batch, _, calls = await watch.run()
    assert calls["cloudwatch:GetMetricData"] == 0  # a minute has not passed
    assert statuses(batch)["old"][0] == "WARNING"
    assert values(batch, "sqs.metrics_requested") == {}
    await watch.check.close()


async def test_what_is_not_there_is_critical_and_comes_back(aws: AwsServer) -> None:
    make(aws, {"orders": 1})
    watch = Watch(aws, queues=["orders", "ghost"])
    batch, found, _ = await watch.run()
    assert found == ""
    assert statuses(batch)["ghost"] == ("CRITICAL", f"there is no queue ghost in {REGION}")
    assert "ghost" not in values(batch, "sqs.messages_visible")
    make(aws, {"ghost": 2})
    batch, _, _ = await watch.run()
    assert values(batch, "sqs.messages_visible") == {"orders": 1, "ghost": 2}
    with aws.making() as client:
        client("sqs").delete_queue(QueueUrl=client("sqs").get_queue_url(QueueName="ghost")["QueueUrl"])
    batch, found, _ = await watch.run()
    assert (found, statuses(batch)["ghost"][0]) == ("", "CRITICAL")
    await watch.check.close()


async def test_a_queue_that_we_may_not_read_is_unknown_and_the_others_go_on(
    aws: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(aws, {"open": 1, "closed": 2, "dlq": 3}, {"open": "dlq"})
    arns = [f"arn:aws:sqs:{REGION}:{ACCOUNT}:open"]
    allowed = {"Effect": "Allow", "Action": "sqs:GetQueueAttributes", "Resource": arns}
    names = {"Effect": "Allow", "Action": "sqs:GetQueueUrl", "Resource": "*"}
    with aws.making() as client:
        client("iam").create_user(UserName="watcher")
        document = json.dumps({"Version": "2012-10-17", "Statement": [allowed, names]})
        client("iam").put_user_policy(UserName="watcher", PolicyName="p", PolicyDocument=document)
        key = client("iam").create_access_key(UserName="watcher")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    watch = Watch(aws, queues=["open", "closed"])
    aws.demand_permissions(True)
    try:
        batch, found, _ = await watch.run()
    finally:
        aws.demand_permissions(False)
    assert found == ""
    assert values(batch, "sqs.messages_visible") == {"open": 1}
    assert statuses(batch)["closed"][0] == "UNKNOWN"
    assert statuses(batch)["closed"][1].startswith(
        f"closed: {REGION}: sqs:GetQueueAttributes is refused to arn:aws:iam:"
    )
    assert statuses(batch, "sqs.complete")[REGION][1].startswith("the dead-letter queue dlq: ")
    await watch.check.close()


async def test_urls_and_several_regions(aws: AwsServer) -> None:
    make(aws, {"here": 1, "both": 2})
    make(aws, {"both": 3}, region="us-east-1")
    url = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/here"
    watch = Watch(aws, region=None, regions=[REGION, "us-east-1"], queues=["both", url])
    batch, _, calls = await watch.run()
    found = {(dict(t.split(":", 1) for t in s.tags)["region"], dict(t.split(":", 1) for t in s.tags)["queue"]): s.value
             for s in batch.samples if s.name == "sqs.messages_visible"}  # fmt: skip
    assert found == {(REGION, "both"): 2, ("us-east-1", "both"): 3, (REGION, "here"): 1}
    assert calls == {"sqs:GetQueueUrl": 2, "sqs:GetQueueAttributes": 3}
    await watch.check.close()


async def test_two_queues_of_one_name_in_two_accounts_stay_two(aws: AwsServer) -> None:
    foreign = "111122223333"
    make(aws, {"orders": 2, "mails": 1})
    url = f"{aws.url}/{foreign}/orders"  # moto answers with the figures of the caller's own queue of that name
    (at,) = minutes(1, ago=120)
    for name in ("orders", "mails"):
        aws.points("AWS/SQS", "ApproximateAgeOfOldestMessage", {"QueueName": name}, {at: 7200.0})
    said = f"its age is not watched: CloudWatch tells of account {ACCOUNT} only"
    waited = "the oldest message has waited 2h (critical from 1h on)"
    mails = url.replace(foreign, ACCOUNT).replace("orders", "mails")
    for queues, asked in ((["orders", url, mails], 0), ([url, mails], 1)):
        watch = Watch(aws, queues=queues, age_critical="1h")
        batch, found, calls = await watch.run()
        await watch.check.close()
        assert found == ""
        assert calls["sts:GetCallerIdentity"] == asked, "SQS tells the account where a queue goes by name"
        region, mine = f"region:{REGION}", [("CRITICAL", f"orders: {waited}", {f"region:{REGION}", "queue:orders"})]
        told = [(one.status.name, one.message, set(one.tags)) for one in batch.statuses if one.name == "sqs.queue"]
        assert told == [
            *(mine if "orders" in queues else []),
            ("OK", f"orders: {said}", {region, "queue:orders", f"account:{foreign}"}),
            ("CRITICAL", f"mails: {waited}", {region, "queue:mails", f"account:{ACCOUNT}"}),
        ]
        visible = {one.tags: one.value for one in batch.samples if one.name == "sqs.messages_visible"}
        assert sorted(visible.values()) == ([1, 2] if asked else [1, 2, 2]), "a series for each"
        aged = [set(one.tags) for one in batch.samples if one.name == "sqs.oldest_message_age"]
        assert all(f"account:{foreign}" not in tags for tags in aged)
        assert len(aged) == len(queues) - 1
        status, complete = statuses(batch, "sqs.complete")[REGION]
        assert (status, complete.partition(";")[0]) == ("WARNING", f"orders of account {foreign}: {said}")
    silent = Watch(aws, queues=[{"url": url, "age_critical": None}], age_critical="1h")
    batch, _, calls = await silent.run()
    await silent.check.close()
    assert (statuses(batch), statuses(batch, "sqs.complete")) == ({"orders": ("OK", "")}, {REGION: ("OK", "")})
    assert calls == {"sqs:GetQueueAttributes": 1}


async def test_a_service_that_is_down_is_a_finding(aws: AwsServer) -> None:
    run = await run_check(Sqs, {"region": REGION, "endpoint_url": "http://127.0.0.1:9", "queues": ["a"]})
    assert run.error is not None
    assert run.error.message == f"{REGION}: sqs:GetQueueUrl: no connection to http://127.0.0.1:9/"
    assert run.status("sqs.can_connect") is Status.CRITICAL
    assert run.values("sqs.messages_visible") == []


async def test_without_credentials(aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    run = await run_check(Sqs, {"region": REGION, "endpoint_url": aws.url, "queues": ["a"]})
    assert run.error is not None
    assert run.error.message.startswith("no AWS credentials are found")
    assert run.status("sqs.can_connect") is Status.CRITICAL


async def test_the_plan(aws: AwsServer) -> None:
    make(aws, {"a": 1, "b": 1, "dlq": 0}, {"a": "dlq"})
    watch = Watch(aws, queues=[{"prefix": "a"}, "b"], interval=30, age_critical="1h", discover_every="5m")
    await watch.run()
    lines = {one.what: (one.value, one.unit) for one in await watch.check.estimate()}
    assert lines == {
        "SQS requests a run": (3, "requests"),
        "SQS requests": ((3 * 730 * 120 + 730 * 12), "requests/month"),
        "SQS cost, at most": (0.11, "USD/month"),
        "CloudWatch metrics requested for ages, at most": (2 * 730 * 60, "metrics/month"),
        "CloudWatch cost for ages, at most": (0.88, "USD/month"),
    }
    await watch.check.close()


async def test_one_queue_that_is_refused_leaves_the_others(aws: AwsServer) -> None:
    make(aws, {"payouts": 2, "big": 1, "shop-a": 3})
    watch = Watch(aws, queues=["payouts", "big", {"prefix": "shop-"}])
    aws.refused += [("sqs:GetQueueUrl", b'"big"'), ("sqs:ListQueues", b"")]
    batch, found, _ = await watch.run()
    assert found == ""
    assert statuses(batch, "sqs.can_connect") == {REGION: ("OK", "")}
    assert values(batch, "sqs.messages_visible") == {"payouts": 2}
    assert statuses(batch)["payouts"] == ("OK", "")
    status, said = statuses(batch)["big"]
    assert status == "UNKNOWN"
    assert said.startswith(f"big: {REGION}: sqs:GetQueueUrl is refused")
    assert statuses(batch, "sqs.complete")[REGION][0] == "WARNING"
    assert "what queues there are is not known: " in statuses(batch, "sqs.complete")[REGION][1]
    batch, _, _ = await watch.run()
    assert values(batch, "sqs.messages_visible") == {"payouts": 2, "big": 1, "shop-a": 3}
    assert {one[0] for one in statuses(batch).values()} == {"OK"}
    await watch.check.close()


async def test_an_age_that_cannot_be_asked_for_makes_nothing_well(aws: AwsServer, monkeypatch: Any) -> None:
    make(aws, {"old": 3})
    (at,) = minutes(1, ago=120)
    aws.points("AWS/SQS", "ApproximateAgeOfOldestMessage", {"QueueName": "old"}, {at: 7200.0})
    watch = Watch(aws, queues=["old"], age_critical="30m")
    waited = "old: the oldest message has waited 2h (critical from 30m on)"
    batch, _, _ = await watch.run()
    assert statuses(batch)["old"] == ("CRITICAL", waited)
    ages = watch.check._ages[REGION]
    for later, status, said in (
        (0.0, "CRITICAL", waited),  # it is young
        (600.0, "UNKNOWN", "old: the age of the oldest message is not known"),
    ):
        ages._due = 0.0  # a minute has passed
        monkeypatch.setattr(watch.check, "now", lambda later=later: at + 120.0 + later)
        aws.refused.append(("cloudwatch:GetMetricData", b""))
        batch, _, _ = await watch.run()
        assert statuses(batch)["old"] == (status, said)
        assert values(batch, "sqs.oldest_message_age") == {}, "it was said before"
        assert statuses(batch, "sqs.complete")[REGION][0] == "WARNING"
    await watch.check.close()


def test_sinks_keep_ages_until_the_next_are_asked_for() -> None:
    more: dict[str, Any] = {"region": REGION, "interval": "10s", "age_every": "5m"}
    assert SqsConfig(queues=("a",), age_warning=60, **more).cadence == 300
    assert SqsConfig(queues=("a",), **more).cadence == 10


async def test_doctor_prints_the_policy_of_what_is_called(aws: AwsServer) -> None:
    make(aws, {"orders": 1, "shop-a": 0, "dlq": 0}, {"orders": "dlq"})
    options: dict[str, Any] = {"queues": ["orders", {"prefix": "shop-"}], "age_critical": "1h"}
    watch = Watch(aws, **options)
    _, _, called = await watch.run()
    await watch.check.close()
    check, diagnosis = Sqs(SqsConfig(region=REGION, endpoint_url=aws.url, **options)), Diagnosis()
    await check.diagnose(diagnosis)
    await check.close()
    lines = {one.what: (str(one.grade), one.seen) for one in diagnosis.symptoms}
    assert lines["credentials"] == ("ok", "env")
    assert lines[f"queues in {REGION}"] == ("ok", "2 answer")
    assert lines["cloudwatch:GetMetricData"] == ("ok", REGION)
    policy = json.loads(next(one.snippet for one in diagnosis.symptoms if one.what == "IAM policy"))
    allowed = {action: one["Resource"] for one in policy["Statement"] for action in one["Action"]}
    assert set(allowed) == set(called)
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}"
    assert allowed == {
        "sqs:GetQueueAttributes": [f"{arn}:dlq", f"{arn}:orders", f"{arn}:shop-*"],
        "sqs:GetQueueUrl": f"{arn}:orders",
        "sqs:ListQueues": "*",
        "cloudwatch:GetMetricData": "*",
    }


async def test_doctor_names_a_queue_that_is_missing(aws: AwsServer) -> None:
    check, diagnosis = Sqs(SqsConfig(region=REGION, endpoint_url=aws.url, queues=("ghost",))), Diagnosis()
    await check.diagnose(diagnosis)
    await check.close()
    assert [(one.what, str(one.grade), one.seen) for one in diagnosis.symptoms][2] == (
        f"queues in {REGION}", "failed", "there is no ghost"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"queues": []}, "at least 1 item"),
        ({"queues": ["a b"]}, "is not the name of a queue"),
        ({"queues": ["https://example.org/x"]}, "is not the URL of a queue"),
        ({"queues": [{"prefix": "a", "name": "b"}]}, "give one of name, url and prefix"),
        ({"queues": [{"name": "a", "match": "x"}]}, "match and exclude go with prefix"),
        ({"queues": [{"prefix": "a", "match": "("}]}, "is not a regular expression"),
        (
            {"queues": ["a"], "depth_warning": 5, "depth_critical": 4},
            "depth_critical must not be less than depth_warning",
        ),
        ({"queues": [{"name": "a", "age_warning": "5m", "age_critical": "1m"}]}, "age_critical must not be less"),
    ],
)
def test_options_that_are_wrong(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        SqsConfig(**options)


@pytest.mark.parametrize(
    ("depth", "age", "letters", "status", "message"),
    [
        (9, None, None, Status.OK, ""),
        (10, None, 0, Status.WARNING, "10 messages wait (a warning from 10 on)"),
        (1234, 30.0, 0, Status.CRITICAL, "1,234 messages wait (critical from 100 on)"),
        (1, 60.0, 0, Status.WARNING, "the oldest message has waited 1m (a warning from 1m on)"),
        (10, 7200.0, 3, Status.CRITICAL,
         "the oldest message has waited 2h (critical from 1h on); 10 messages wait (a warning from 10 on); 3 messages "
         "in the dead-letter queue d"),
    ],
)  # fmt: skip
def test_verdicts(depth: int, age: float | None, letters: int | None, status: Status, message: str) -> None:
    limits = Thresholds(depth_warning=10, depth_critical=100, age_warning=60, age_critical=3600, dead_letter_warning=1)
    made = judge(Depth(depth, 0, 0, "d"), None if age is None else Age(age, 0), letters, limits)
    assert made == (status, message)


def test_a_threshold_of_a_queue_displaces_both_of_the_instance() -> None:
    config = SqsConfig(queues=("a",), depth_warning=1, depth_critical=2, age_critical=60)
    made = config.thresholds(QueueConfig(name="a", depth_critical=50))
    assert (made.depth_warning, made.depth_critical, made.age_critical, made.dead_letter_warning) == (None, 50, 60, 1)


def test_attributes_that_are_missing_are_no_dead_letter_queue() -> None:
    url = "http://x/123456789012/a"
    assert depth_of({"ApproximateNumberOfMessages": "7", "RedrivePolicy": "{}"}, url) == Depth(7, 0, 0)
