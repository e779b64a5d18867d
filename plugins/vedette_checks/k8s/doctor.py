"""What an instance, or the fleet, needs of its cluster, and what it lacks: for `vedette doctor`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import urlsplit

import msgspec

from vedette import CheckError, Diagnosis
from vedette.kit import probe_file, probe_tcp, probe_tls, ssl_context
from vedette_checks.k8s.access import Access
from vedette_checks.k8s.client import Client
from vedette_checks.k8s.config import K8sConfig
from vedette_checks.k8s.errors import ApiError, Fault
from vedette_checks.k8s.findings import of_server
from vedette_checks.k8s.rbac import Rule, path_of, rules, snippet
from vedette_checks.k8s.resources import RESOURCES
from vedette_checks.k8s.usage import METRICS_PATH

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_AT_ONCE = 4


class _Version(msgspec.Struct, rename="camel"):
    git_version: str = ""


class _User(msgspec.Struct):
    username: str = ""


class _WhoStatus(msgspec.Struct, rename="camel"):
    user_info: _User = msgspec.field(default_factory=_User)


class _Who(msgspec.Struct):
    status: _WhoStatus = msgspec.field(default_factory=_WhoStatus)


class _ReviewStatus(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _ReviewStatus = msgspec.field(default_factory=_ReviewStatus)


async def diagnose(config: K8sConfig, diagnosis: Diagnosis) -> None:
    """Look at the way to the API server, layer by layer, then at who the agent is and what it may do."""

    async def look(client: Client, user: str) -> None:
        await judge(client, rules(config), user, "the runs need", diagnosis)
        if config.usage and "nodes" in config.watched:
            await _metrics(client, diagnosis)

    await examine(Access(config.kubeconfig, config.context), diagnosis, look)


async def examine(access: Access, diagnosis: Diagnosis, look: Callable[[Client, str], Awaitable[None]]) -> None:
    """Look at the way to the API server and at who the agent is, then at the rest.

    Args:
        access: the way, not open.
        diagnosis: where to say it.
        look: the rest; gets the client, and the user as the server names it.
    """
    file = access.kubeconfig
    if file is not None and not probe_file(diagnosis, file, "kubeconfig", private=True):
        diagnosis.not_reached("login")
        return
    try:
        await access.open()
        diagnosis.ok("configuration", f"the cluster is {access.server}")
        if not await _reach(access, diagnosis):
            diagnosis.not_reached("login")
            return
        client = Client(access)
        if (user := await _login(client, diagnosis)) is not None:
            await look(client, user or "the agent's user")
    except CheckError as error:
        diagnosis.failed("configuration", error.message, error.hint)
        diagnosis.not_reached("login")
    finally:
        await access.close()


async def _reach(access: Access, diagnosis: Diagnosis) -> bool:
    address = urlsplit(access.server)
    host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    if not await probe_tcp(diagnosis, host, port):
        return False
    if address.scheme != "https":
        diagnosis.warning("TLS", "the address is http: whoever listens on the way can read the token")
        return True
    return await probe_tls(diagnosis, host, port, ssl_context(ca_file=access.authority, verify=access.verify))


async def _login(client: Client, diagnosis: Diagnosis) -> str | None:
    """Who the agent is to the server, empty where it does not tell; None if it cannot log in."""
    try:
        version = msgspec.json.decode(await client.get("/version"), type=_Version).git_version
        diagnosis.ok("API server", f"Kubernetes {version}")
    except ApiError as error:
        if error.fault in (Fault.UNAUTHORIZED, Fault.UNREACHABLE, Fault.UNTRUSTED):
            found = of_server(error)
            diagnosis.failed("login", found.message, found.hint)
            return None
        diagnosis.info("API server", f"it does not tell its version: {error.message}")
    user = await _user(client)
    if user == "system:anonymous":
        diagnosis.failed(
            "login", "the cluster takes the agent for nobody", "no token was sent: see the kubeconfig's user"
        )
        return None
    diagnosis.ok("login", f"as {user}" if user else "the server does not tell as whom")
    return user


async def _user(client: Client) -> str:
    """Who the server takes the agent for; empty where it does not tell (before Kubernetes 1.28)."""
    try:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        return msgspec.json.decode(await client.post(_WHO, body), type=_Who).status.user_info.username
    except (ApiError, msgspec.MsgspecError) as error:
        anonymous = isinstance(error, ApiError) and "system:anonymous" in error.message
        return "system:anonymous" if anonymous else ""


async def judge(client: Client, needed: Iterable[Rule], user: str, who: str, diagnosis: Diagnosis) -> None:
    """Look at whether the agent has some rights, and say how it came out.

    An access review is asked with POST, but the server stores nothing of it.

    Args:
        client: sends the requests.
        needed: the rights.
        user: whose rights.
        who: what they are for, such as `the runs need`.
        diagnosis: where to say it.
    """
    asked = [Rule(rule.group, rule.resource, (verb,), rule.namespace) for rule in needed for verb in rule.verbs]
    gate = asyncio.Semaphore(_AT_ONCE)

    async def ask(rule: Rule) -> bool | None:
        async with gate:
            return await _may(client, rule)

    answers = await asyncio.gather(*map(ask, asked))
    unknown = [rule for rule, answer in zip(asked, answers, strict=True) if answer is None]
    missing: dict[tuple[str, str, str], Rule] = {}
    for rule, answer in zip(asked, answers, strict=True):
        if answer is False:
            place = (rule.namespace, rule.group, rule.resource)
            verbs = (*missing[place].verbs, *rule.verbs) if place in missing else rule.verbs
            missing[place] = Rule(rule.group, rule.resource, verbs, rule.namespace)
    if unknown:
        diagnosis.info("rights", f"of {len(unknown)} rights it could not be found out whether the agent has them")
    if missing:
        what = ", ".join(f"{' and '.join(rule.verbs)} {rule.resource}" for rule in missing.values())
        diagnosis.failed("rights", f"{user} may not {what}", "apply what it lacks", snippet(missing.values(), user))
    elif not unknown:
        diagnosis.ok("rights", f"all {len(asked)} that {who}")


async def _may(client: Client, rule: Rule) -> bool | None:
    """Whether the agent has a right: by an access review, else by trying it; None if neither tells."""
    resource, _, subresource = rule.resource.partition("/")
    wanted = {
        "namespace": rule.namespace,
        "verb": rule.verbs[0],
        "group": rule.group,
        "resource": resource,
        "subresource": subresource,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {key: value for key, value in wanted.items() if value or key == "group"}},
    }
    try:
        return msgspec.json.decode(await client.post(_REVIEWS, body), type=_Review).status.allowed
    except (ApiError, msgspec.MsgspecError):
        return await _try(client, rule)


async def _try(client: Client, rule: Rule) -> bool | None:
    if rule.resource not in RESOURCES or rule.group == "metrics.k8s.io":
        return None
    query = {"limit": "1"}
    if rule.verbs == ("watch",):
        query |= {"watch": "true", "timeoutSeconds": "1", "resourceVersion": "0"}
    try:
        async with client.stream(path_of(rule), query, silence=5.0):
            return True
    except ApiError as error:
        return False if error.fault is Fault.FORBIDDEN else None


async def _metrics(client: Client, diagnosis: Diagnosis) -> None:
    try:
        await client.get(METRICS_PATH)
        diagnosis.ok("metrics.k8s.io", "metrics-server answers")
    except ApiError as error:
        if error.fault is Fault.ABSENT:
            hint = "install metrics-server for CPU and memory utilisation, or say `usage: false`"
            diagnosis.warning("metrics.k8s.io", "the cluster does not have it", hint)
        elif error.fault is not Fault.FORBIDDEN:
            diagnosis.warning("metrics.k8s.io", error.message)
