"""The tests' lease server answers what a real API server was recorded to answer."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lease_server import LeaseApi, lease_api

pytestmark = pytest.mark.anyio

RECORDINGS = Path(__file__).parents[1] / "data" / "kubernetes"
PAYMENTS = "/apis/coordination.k8s.io/v1/namespaces/payments/leases"


@pytest.fixture
async def api() -> AsyncIterator[LeaseApi]:
    async with lease_api() as made:
        yield made


@pytest.fixture
async def client(api: LeaseApi) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{api.port}", headers={"User-Agent": "vedette"}, timeout=30
    ) as made:
        yield made


def flow() -> list[dict[str, Any]]:
    index = json.loads((RECORDINGS / "index.json").read_text())
    return [entry for entry in index if (entry["file"] or "").startswith("lease/")]


VARYING = re.compile(r'("uid":|"creationTimestamp":|"time":)"[^"]*"')
VERSION = re.compile(r'"resourceVersion": ?"(\d+)"')


async def test_it_answers_what_was_recorded(client: httpx.AsyncClient) -> None:
    ours: dict[str, str] = {}  # resourceVersions by what they were in the recording
    assert len(flow()) == 19
    for entry in flow():
        body = VERSION.sub(lambda found: f'"resourceVersion":"{ours[found[1]]}"', entry.get("request_body", ""))
        headers = {
            name: value for name, value in entry["request_headers_that_matter"].items() if name != "Authorization"
        }
        answer = await client.request(entry["method"], entry["path_with_query"], content=body, headers=headers)
        text = gzip.decompress((RECORDINGS / entry["file"]).read_bytes()).decode()
        assert answer.status_code == entry["status"], entry["file"]
        for theirs, mine in zip(VERSION.findall(text), VERSION.findall(answer.text), strict=True):
            assert ours.setdefault(theirs, mine) == mine, f"{entry['file']}: an update that changes nothing"
        assert len(set(ours.values())) == len(ours), f"{entry['file']}: a change has a version of its own"
        assert normal(answer.text) == normal(text), entry["file"]
        assert answer.headers["Content-Type"].startswith(dict(entry["response_headers"])["Content-Type"])


def normal(text: str) -> str:
    return VERSION.sub('"resourceVersion":"?"', VARYING.sub(r'\1"?"', text))


async def test_a_put_creates_what_was_deleted_unless_it_names_the_uid(client: httpx.AsyncClient) -> None:
    lease = {"metadata": {"name": "a"}, "spec": {"holderIdentity": "x"}}
    made = (await client.post(PAYMENTS, json=lease)).json()
    await client.delete(f"{PAYMENTS}/a")
    refused = await client.put(f"{PAYMENTS}/a", json=made)
    assert (refused.status_code, refused.json()["reason"]) == (409, "Conflict")
    assert refused.json()["message"].endswith(
        f"Precondition failed: UID in precondition: {made['metadata']['uid']}, UID in object meta: "
    )
    del made["metadata"]["uid"]
    again = await client.put(f"{PAYMENTS}/a", json=made)
    assert again.status_code == 201


async def test_a_delete_has_preconditions(client: httpx.AsyncClient) -> None:
    made = (await client.post(PAYMENTS, json={"metadata": {"name": "a"}, "spec": {}})).json()["metadata"]
    for wrong in ({"resourceVersion": "1"}, {"uid": "another"}):
        refused = await client.request("DELETE", f"{PAYMENTS}/a", json={"preconditions": wrong})
        assert (refused.status_code, refused.json()["reason"]) == (409, "Conflict")
    right = {key: made[key] for key in ("uid", "resourceVersion")}
    assert (await client.request("DELETE", f"{PAYMENTS}/a", json={"preconditions": right})).status_code == 200
    assert (await client.get(f"{PAYMENTS}/a")).status_code == 404


async def test_lists_have_pages_and_watches_tell_what_came_after(api: LeaseApi, client: httpx.AsyncClient) -> None:
    for name in "abc":
        await client.post(PAYMENTS, json={"metadata": {"name": name, "labels": {"of": name}}, "spec": {}})
    first = (await client.get(PAYMENTS, params={"limit": 2})).json()
    assert ([one["metadata"]["name"] for one in first["items"]], first["metadata"]["remainingItemCount"]) == (
        ["a", "b"],
        1,
    )
    token = first["metadata"]["continue"]
    rest = (await client.get(PAYMENTS, params={"limit": 2, "continue": token})).json()
    assert [one["metadata"]["name"] for one in rest["items"]] == ["c"]
    assert (await client.get(PAYMENTS, params={"limit": 2, "continue": token})).status_code == 410

    version = first["metadata"]["resourceVersion"]
    await client.delete(f"{PAYMENTS}/a")
    await client.delete(f"{PAYMENTS}/b")
    watch = {"watch": "true", "timeoutSeconds": "0.05", "labelSelector": "of in (b, c)", "resourceVersion": version}
    events = [json.loads(line) for line in (await client.get(PAYMENTS, params=watch)).text.splitlines()]
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [("DELETED", "b")]
    api.store.compact()
    (error,) = (await client.get(PAYMENTS, params=watch)).text.splitlines()
    told = json.loads(gzip.decompress((RECORDINGS / "watch/410-error-event.after-restart.ndjson.gz").read_bytes()))
    told["object"]["message"] = f"too old resource version: {version} ({api.store.version})"
    assert json.loads(error) == told
    ahead = await client.get(PAYMENTS, params={"resourceVersion": "999999999"})
    assert (ahead.status_code, ahead.json()["details"]["causes"][0]["reason"]) == (504, "ResourceVersionTooLarge")


async def test_rights_and_logins_are_refused_as_recorded() -> None:
    async with lease_api(tokens={"t": "agent"}, allowed=frozenset()) as api:
        url = f"http://127.0.0.1:{api.port}{PAYMENTS}/vedette"
        async with httpx.AsyncClient(timeout=30) as client:
            for token, file in (("t", "auth/403-no-rbac.lease-get"), ("other", "auth/401-invalid-token")):
                answer = await client.get(url, headers={"Authorization": f"Bearer {token}"})
                assert answer.text == gzip.decompress((RECORDINGS / f"{file}.json.gz").read_bytes()).decode()
