"""Amazon SNS as moto plays it, with SQS and HTTP subscriptions."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from aws import REGION, AwsServer
from notifiers.receivers import alert, receiving
from notifiers.test_http import huge
from vedette import Undelivered
from vedette.notifiers.sns import Sns, SnsConfig, body, publication, subject

pytestmark = pytest.mark.anyio


def topic(aws: AwsServer, *, fifo: bool = False) -> tuple[str, str]:
    """A topic with a queue subscribed to it: its ARN, and the queue's URL."""
    more, name = ({"FifoTopic": "true"}, "alerts.fifo") if fifo else ({}, "alerts")
    with aws.making() as client:
        arn = client("sns").create_topic(Name=name, Attributes=more)["TopicArn"]
        options = {"FifoQueue": "true", "ContentBasedDeduplication": "false"} if fifo else {}
        url = client("sqs").create_queue(QueueName=name, Attributes=options)["QueueUrl"]
        queue = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        client("sns").subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue)
    return arn, url


def received(aws: AwsServer, url: str) -> list[dict[str, Any]]:
    with aws.making() as client:
        made = client("sqs").receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"], MessageAttributeNames=["All"]
        )
    return list(made.get("Messages", []))


def notifier(aws: AwsServer, arn: str, **options: Any) -> Sns:
    return Sns(SnsConfig(type="sns", topic_arn=arn, base_url=aws.url, **options))


async def test_a_queue_gets_json_with_attributes_and_a_subject(aws: AwsServer) -> None:
    arn, url = topic(aws)
    made = notifier(aws, arn)
    try:
        assert (await made.send(alert())).startswith("message id ")
        await made.send_all([alert("resolved", key="b", severity="info"), alert(severity="warning", key="c")])
    finally:
        await made.close()
    first, second = (json.loads(one["Body"]) for one in received(aws, url))
    assert first["Subject"] == "CRITICAL: payments flow down"
    assert {name: one["Value"] for name, one in first["MessageAttributes"].items()} == {
        "severity": "critical", "state": "firing", "rule": "payments flow down"
    }  # fmt: skip
    (told,) = json.loads(first["Message"])["alerts"]
    assert (told["key"], told["evidence"]["threshold"], len(told["evidence"]["values"])) == (
        "payments flow down",
        97.0,
        10,
    )
    assert {name: one["Value"] for name, one in second["MessageAttributes"].items()} == {
        "severity": "warning", "state": "firing", "rule": "payments flow down", "alerts": "2"
    }  # fmt: skip
    assert aws.actions == {"sns:Publish"}
    assert {call.region for call in aws.calls} == {REGION}


async def test_a_fifo_topic_tells_nothing_twice_and_keeps_an_incidents_order(aws: AwsServer) -> None:
    arn, url = topic(aws, fifo=True)
    made = notifier(aws, arn)
    try:
        for state in ("firing", "firing", "resolved"):
            await made.send(alert(state, at=1_790_000_060.0))
        await made.send(alert(key="another"))
    finally:
        await made.close()
    calls = [call.parameters for call in aws.calls if call.action == "sns:Publish"]
    assert (
        calls[0]["MessageDeduplicationId"] == calls[1]["MessageDeduplicationId"] != calls[2]["MessageDeduplicationId"]
    )
    assert calls[0]["MessageGroupId"] == calls[2]["MessageGroupId"] != calls[3]["MessageGroupId"]
    states = [json.loads(json.loads(one["Body"])["Message"])["alerts"][0]["state"] for one in received(aws, url)]
    assert len(states) >= 1
    assert states[0] == "firing"


def test_a_fifo_topic_that_groups_keeps_one_order() -> None:
    options: dict[str, Any] = {"type": "sns", "topic_arn": "arn:aws:sns:eu-central-1:123456789012:alerts.fifo"}
    grouping = SnsConfig(**options, group=30)
    made = [publication([alert(), alert(key="b")], grouping), publication([alert("resolved")], grouping)]
    assert {one["MessageGroupId"] for one in made} == {"vedette"}
    new, old = alert(since=time.time() - 200), alert(since=time.time() - 400)
    assert [Sns(SnsConfig(**options)).deduplicates(one) for one in (new, old)] == [True, False]
    assert not Sns(grouping).deduplicates(new)


async def test_an_http_subscription_gets_it_too(aws: AwsServer) -> None:
    arn, _ = topic(aws)
    async with receiving() as receiver:
        with aws.making() as client:
            await asyncio.to_thread(
                client("sns").subscribe, TopicArn=arn, Protocol="http", Endpoint=f"{receiver.url}/sns"
            )
        made = notifier(aws, arn)
        try:
            await made.send(alert())
        finally:
            await made.close()
        notes = [one for one in receiver.bodies if one["Type"] == "Notification"]
        assert len(notes) == 1
        assert json.loads(notes[0]["Message"])["alerts"][0]["summary"] == "Nobody can pay."


def test_no_message_is_beyond_256_kb_and_no_subject_beyond_100() -> None:
    config = SnsConfig(type="sns", topic_arn="arn:aws:sns:eu-central-1:123456789012:alerts")
    made = publication([huge(key=f"k{n}") for n in range(20)], config)
    assert (
        len(made["Message"].encode()) + sum(len(json.dumps(one)) for one in made["MessageAttributes"].values())
        < 262_144
    )
    assert json.loads(json.loads(made["Message"])["sqs"])["cut"] is True
    assert len(made["Subject"]) < 100
    assert made["Subject"].isascii()
    one = json.loads(body([alert()]))
    assert set(one) == {"default", "sms", "sqs", "lambda", "http", "https", "firehose"}
    assert one["sms"] == "CRITICAL: payments flow down"
    assert one["default"].splitlines()[:2] == ["CRITICAL: payments flow down", "Nobody can pay."]
    assert subject("🔥 größer\nals") == "gr??er als"
    assert subject("🔥") == "alert"


async def test_what_aws_refuses_is_one_sentence(aws: AwsServer) -> None:
    arn, _ = topic(aws)
    aws.refused.append(("sns:Publish", b""))
    made = notifier(aws, arn)
    try:
        with pytest.raises(Undelivered) as caught:
            await made.send(alert())
    finally:
        await made.close()
    assert "sns:Publish" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.again
