"""The engine over Leases: what people see of them, an API server's moods, rights, and what the doctor says."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from lease_server import Fault, LeaseApi, lease_api, write_kubeconfig
from lease_store import LeaseStore
from servers import eventually, free_port
from vedette import Diagnosis, EngineConflict, EngineUnavailable
from vedette.advice import Grade
from vedette_checks.k8s import engine as module
from vedette_checks.k8s.engine import KubernetesEngine, KubernetesEngineConfig
from vedette_checks.k8s.leases import micro_time
from vedette_checks.k8s.rbac import fleet_rules

from .conftest import LONG

pytestmark = pytest.mark.anyio

MANIFEST = Path(__file__).parents[2] / "packaging" / "kubernetes" / "rbac-fleet.yaml"
TOKEN = "agent-token"

Opening = Callable[..., Awaitable[KubernetesEngine]]


@pytest.fixture
async def api() -> AsyncIterator[LeaseApi]:
    async with lease_api(tokens={TOKEN: "agent"}, store=LeaseStore(namespaces=frozenset({"vedette"}))) as made:
        yield made


@pytest.fixture
async def opened(api: LeaseApi, tmp_path: Path) -> AsyncIterator[Opening]:
    made: list[KubernetesEngine] = []

    async def open_(token: str = TOKEN, **options: Any) -> KubernetesEngine:
        kubeconfig = write_kubeconfig(options.pop("port", api.port), tmp_path / f"kubeconfig{len(made)}", token)
        given = {"backend": "kubernetes", "kubeconfig": kubeconfig, "namespace": "vedette", "ttl": 30, **options}
        made.append(KubernetesEngine(KubernetesEngineConfig.model_validate(given)))
        await made[-1].open()
        return made[-1]

    yield open_
    for engine in made:
        await engine.close()


def claim(owner: str, token: int, **state: Any) -> str:
    return json.dumps({"owner": owner, "token": token, "state": state})


async def test_what_kubectl_shows_is_true(api: LeaseApi, opened: Opening) -> None:
    engine = await opened(ttl=7.5)
    await engine.write("members/node-7_00ff", '{"identity":"node-7","seq":1}', None)
    await engine.write("catalogues/ab", '{"instances":[]}', None)
    revision = await engine.write("claims/sqs/orders", claim("node-7_00ff", 3), None)
    leases = {
        re.sub("[0-9a-f]{20}$", "", name): lease
        for (namespace, name), lease in api.store.objects.items()
        if namespace == "vedette"
    }
    assert sorted(leases) == ["vedette-default-c-", "vedette-default-k-", "vedette-default-m-"]
    for lease in leases.values():
        kubernetes_validate.validate({**lease, "metadata": without_fields(lease)}, "1.36", strict=True)
    spec = leases["vedette-default-m-"]["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("node-7", 8, 0)
    first = leases["vedette-default-c-"]
    assert first["metadata"]["labels"] == {"vedette.dev/fleet": "default", "vedette.dev/kind": "claim"}
    assert (first["spec"]["holderIdentity"], first["spec"]["leaseTransitions"]) == ("node-7_00ff", 3)
    assert first["spec"]["acquireTime"] == first["spec"]["renewTime"]

    async def rewritten(value: str, revision: str, by: KubernetesEngine = engine) -> tuple[str, dict[str, Any]]:
        revision = await by.write("claims/sqs/orders", value, revision)
        return revision, api.store.objects["vedette", first["metadata"]["name"]]["spec"]

    revision, kept = await rewritten(claim("node-7_00ff", 3, mark=1), revision)
    assert kept["acquireTime"] == first["spec"]["acquireTime"]
    assert kept["renewTime"] > kept["acquireTime"]
    revision, released = await rewritten(claim("", 3, mark=1), revision)
    assert (released["holderIdentity"], released["leaseTransitions"]) == ("", 3)
    other = await opened()
    await other.read("claims/")
    revision, taken = await rewritten(claim("node-8_11ee", 4, mark=1), revision, other)
    assert (taken["holderIdentity"], taken["leaseTransitions"]) == ("node-8_11ee", 4)
    assert taken["acquireTime"] == taken["renewTime"] > released["renewTime"]
    _, again = await rewritten(claim("node-8_11ee", 4, mark=2), revision, other)
    assert again["acquireTime"] == taken["acquireTime"]


def without_fields(lease: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in lease["metadata"].items() if key != "managedFields"}


def test_times_have_six_digits() -> None:
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", micro_time()) for _ in range(1000))


async def test_a_put_that_is_sent_twice_is_no_conflict(api: LeaseApi, opened: Opening) -> None:
    """aiohttp sends it again where a kept connection turns out to be closed; the server may have done it already."""
    engine = await opened()
    revision = await engine.write("members/a", '{"seq":1}', None)
    for verb in ("update", "delete"):
        api.faults.append(Fault([verb], does="hang up", executed=True))
        if verb == "update":
            revision = await engine.write("members/a", '{"seq":2}', revision)
        else:
            await engine.remove("members/a", revision)
        assert [one[0] for one in api.seen].count(verb) == 2
    assert await engine.get("members/a") is None


async def test_an_overloaded_server_is_waited_for(api: LeaseApi, opened: Opening) -> None:
    engine = await opened()
    for verb in ("create", "get", "list", "update", "delete"):
        api.faults.append(Fault([verb], status=429, retry_after=0, text="Too many requests, please try again later."))
    revision = await engine.write("members/a", "1", None)
    assert await engine.get("members/a")
    assert await engine.read("members/")
    await engine.remove("members/a", await engine.write("members/a", "2", revision))
    assert all(fault.times == 0 for fault in api.faults)
    hurried = await opened(ttl=1)
    api.faults.append(Fault(["get"], status=429, retry_after=60))
    with pytest.raises(EngineUnavailable, match=r"^cannot get leases: the API server: no answer within 0.333s"):
        await hurried.get("members/a")


async def test_what_went_wrong_is_one_sentence(api: LeaseApi, opened: Opening) -> None:
    engine = await opened()
    wrong = (
        (Fault(["get"], status=504, text='{"message":"Timeout: request did not complete"}'),
         r"^cannot get leases: the API server is overloaded or half down: HTTP 504, Timeout: request did"),
        (Fault(["get"], status=200, text="<html>"), "^cannot get leases: the API server answers what is no JSON"),
        (Fault(["get"], times=2, does="hang up"), "^cannot get leases: the API server: it closed the connection"),
    )  # fmt: skip
    for fault, text in wrong:
        api.faults = [fault]
        with pytest.raises(EngineUnavailable, match=text):
            await engine.get("members/a")
    api.faults = [Fault(["create"], status=503, executed=True)]
    with pytest.raises(EngineUnavailable, match=r"^cannot create leases: "):  # who knows; it was
        await engine.write("members/a", "1", None)
    with pytest.raises(EngineConflict, match="members/a is there already"):
        await engine.write("members/a", "1", None)
    with pytest.raises(
        EngineUnavailable, match=r"^cannot create leases: the API server refused: .* Too long: may not be"
    ):
        await engine.write("claims/a", json.dumps("ä" * 140_000, ensure_ascii=False), None)
    elsewhere = await opened(namespace="nowhere")
    with pytest.raises(EngineUnavailable, match='namespaces "nowhere" not found; does the namespace exist'):
        await elsewhere.write("members/a", "1", None)
    stranger = await opened(token="yesterday")
    with pytest.raises(EngineUnavailable, match="the API server does not know the token") as caught:
        await stranger.get("members/a")
    assert "yesterday" not in str(caught.value)
    api.allowed = frozenset()
    with pytest.raises(EngineUnavailable, match=r"cannot list .*; see packaging/kubernetes/rbac-fleet"):
        await engine.read("members/")
    with pytest.raises(EngineUnavailable, match=r"^cannot get leases: the API server: nothing listens on"):
        await (await opened(port=free_port())).get("members/a")


async def test_pages_that_expire_are_read_anew(api: LeaseApi, opened: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAGE", "2")
    engine = await opened()
    for number in range(5):
        await engine.write(f"members/{number}", "{}", None)
    api.seen.clear()
    assert len(await engine.read("members/")) == 5
    assert len(api.seen) == 3

    class Forgetful(dict[str, Any]):
        def pop(self, key: str, *default: Any) -> Any:
            api.pages = dict(self)  # the next one is there again
            return None

    api.pages = Forgetful()
    assert len(await engine.read("members/")) == 5
    assert not any("resourceVersion" in query for verb, _, query in api.seen if verb == "list")  # a cache might lag
    api.allowed -= {"list"}
    with pytest.raises(EngineUnavailable):
        await engine.read("members/")


async def test_a_watch_goes_on_and_begins_anew(api: LeaseApi, opened: Opening) -> None:
    api.bookmarks = 0.01
    engine, other = await opened(), await opened()
    revision = await other.write("members/a", "{}", None)
    async with asyncio.timeout(LONG), aclosing(engine.changes()) as changes:
        await anext(changes)
        await other.write("claims/a", claim("a", 1), None)
        await anext(changes)
        api.cut()
        with pytest.raises(EngineUnavailable, match=r"^cannot watch leases: the API server: "):
            await anext(changes)
    async with asyncio.timeout(LONG), aclosing(engine.changes()) as changes:
        await anext(changes)
        watches = [query["resourceVersion"] for verb, _, query in api.seen if verb == "watch"]
        api.faults.append(Fault(["watch"], status=410, text='{"reason":"Expired","message":"too old"}'))
        with pytest.raises(EngineUnavailable, match="too old"):
            await anext(changes)
    async with asyncio.timeout(LONG), aclosing(engine.changes()) as changes:
        await anext(changes)
        await other.remove("members/a", revision)
        await anext(changes)
    assert watches
    assert "0" not in watches
    api.allowed -= {"watch"}
    async with asyncio.timeout(LONG), aclosing(engine.changes()) as changes:
        await anext(changes)
        with pytest.raises(EngineUnavailable, match=r"^may not watch leases: "):
            await anext(changes)


async def test_a_watch_that_ends_is_taken_up(api: LeaseApi, opened: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, other = await opened(), await opened()
    monkeypatch.setattr(module, "_LIFETIME", "0.05")
    monkeypatch.setattr(module, "_SHORT", 0.0)
    async with asyncio.timeout(LONG), aclosing(engine.changes()) as changes:
        await anext(changes)
        news = asyncio.ensure_future(anext(changes))
        await eventually(lambda: sum(verb == "watch" for verb, _, _ in api.seen) >= 3, "some watches", LONG)
        await other.write("claims/a", claim("a", 1), None)
        await news
    monkeypatch.undo()
    monkeypatch.setattr(module, "_LIFETIME", "0")
    async with asyncio.timeout(LONG), aclosing(engine.changes()) as changes:
        await anext(changes)
        with pytest.raises(EngineUnavailable, match="ends as soon as it begins"):
            await anext(changes)


async def test_the_manifest_grants_exactly_what_the_requests_need(api: LeaseApi, opened: Opening) -> None:
    engine = await opened()
    revision = await engine.write("members/a", "1", None)
    revision = await engine.write("members/a", "2", revision)
    await engine.get("members/a")
    await engine.read("")
    async with asyncio.timeout(LONG), aclosing(engine.changes()) as changes:
        await anext(changes)
        await engine.remove("members/a", revision)
        await anext(changes)
    documents = list(yaml.safe_load_all(MANIFEST.read_text()))
    (rule,) = documents[0]["rules"]
    assert (rule["apiGroups"], rule["resources"]) == (["coordination.k8s.io"], ["leases"])
    assert set(rule["verbs"]) == {verb for verb, _, _ in api.seen}
    (own,) = fleet_rules("vedette")
    assert (own.group, own.resource, set(own.verbs), own.namespace) == (
        "coordination.k8s.io",
        "leases",
        set(rule["verbs"]),
        documents[0]["metadata"]["namespace"],
    )


async def doctor(engine: KubernetesEngine) -> dict[str, tuple[Grade, str, str, str]]:
    diagnosis = Diagnosis()
    await engine.diagnose(diagnosis)
    return {one.what: (one.grade, one.seen, one.hint, one.snippet) for one in diagnosis.symptoms}


async def test_the_doctor_says_what_is_missing(api: LeaseApi, opened: Opening) -> None:
    engine = await opened()
    found = await doctor(engine)
    assert found["login"][:2] == (Grade.OK, "as agent")
    assert found["rights"][:2] == (Grade.OK, "all 6 that the fleet needs")
    assert found["leases"][:2] == (Grade.OK, "in the namespace vedette")
    assert not api.store.objects

    api.allowed -= {"update", "watch"}
    grade, seen, _, snippet = (await doctor(await opened()))["rights"]
    assert (grade, seen) == (Grade.FAILED, "agent may not update and watch leases")
    role = next(yaml.safe_load_all(snippet))
    assert (role["kind"], role["metadata"]["namespace"]) == ("Role", "vedette")
    assert role["rules"][0]["verbs"] == ["update", "watch"]

    grade, seen, _, snippet = (await doctor(await opened(namespace="nowhere")))["leases"]
    assert (grade, seen, snippet) == (Grade.FAILED, "there is no namespace nowhere", "kubectl create ns nowhere")
    found = await doctor(await opened(port=free_port()))
    assert (found["TCP"][0], found["login"][0]) == (Grade.FAILED, Grade.NOT_REACHED)


async def test_outside_a_pod_a_namespace_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="`kubeconfig` needs `namespace`"):
        KubernetesEngineConfig.model_validate({"backend": "kubernetes", "kubeconfig": tmp_path})
    with pytest.raises(ValidationError, match="must be the name of a namespace"):
        KubernetesEngineConfig.model_validate({"backend": "kubernetes", "namespace": "Vedette"})
    engine = KubernetesEngine(KubernetesEngineConfig(backend="kubernetes"))
    with pytest.raises(EngineUnavailable, match="this is no pod, so the fleet's leases have no home; set `namespace`"):
        await engine.get("members/a")
    assert (await doctor(engine))["namespace"][:3] == (
        Grade.FAILED,
        "this is no pod, so the fleet's leases have no home",
        "set `namespace`",
    )
