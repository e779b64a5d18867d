"""The ACL log: every denial once, by whom and why, and never what was asked for."""

from __future__ import annotations

from typing import Any

import pytest
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.retry import Retry

from servers import RedisServer
from vedette import Kind

from .driver import Outcome, Servers, Watches

pytestmark = pytest.mark.anyio


def deny(server: RedisServer, times: int, *command: str, user: str = "poor") -> None:
    """Have a command refused so many times."""
    with server.client(username=user, password="pw") as client:
        for _ in range(times):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)


def fail_login(server: RedisServer, user: str) -> None:
    once = Retry(NoBackoff(), 0)
    with server.client(retry=once) as client, pytest.raises(AuthenticationError):
        client.execute_command("AUTH", user, "wrong")


def denied(outcome: Outcome) -> dict[str, Any]:
    found = {}
    for sample in outcome.samples("redis.acl.denied"):
        assert sample.kind is Kind.COUNT
        tags = dict(tag.split(":", 1) for tag in sample.tags)
        found[" ".join(tags[key] for key in ("reason", "context", "username") if key in tags)] = sample.value
    return found


@pytest.fixture
def guarded(server: RedisServer) -> RedisServer:
    """A server with an empty log, and users who may do little."""
    for user in ("poor", "rich"):
        server.command("ACL", "SETUSER", user, "on", ">pw", "~mine", "+get", "+multi", "+exec", "+client")
    server.command("ACL", "LOG", "RESET")
    return server


async def test_each_denial_once(guarded: RedisServer, watch: Watches) -> None:
    server = guarded
    deny(server, 3, "SET", "mine", "1")
    watched = watch(server, acl_log=True)
    assert not denied(await watched.run())  # of before our time
    assert not denied(await watched.run())
    deny(server, 2, "SET", "mine", "1")  # the same entry of the log grows
    deny(server, 1, "GET", "secret")
    deny(server, 1, "SET", "mine", "1", user="rich")
    deny(server, 4, "DEL", "mine", user="rich")
    fail_login(server, "poor")
    fail_login(server, "\U0001f600\nnobody")
    assert denied(await watched.run()) == {
        "command toplevel poor": 2,
        "command toplevel rich": 5,
        "key toplevel poor": 1,
        "auth toplevel": 2,
    }
    assert not denied(await watched.run())


async def test_an_empty_log_is_a_beginning(guarded: RedisServer, watch: Watches) -> None:
    watched = watch(guarded, acl_log=True)
    assert not denied(await watched.run())
    deny(guarded, 3, "SET", "mine", "1")
    assert denied(await watched.run()) == {"command toplevel poor": 3}
    guarded.command("ACL", "LOG", "RESET")
    assert not denied(await watched.run())
    deny(guarded, 2, "SET", "mine", "1")
    assert denied(await watched.run()) == {"command toplevel poor": 2}


async def test_reset_between_two_runs(guarded: RedisServer, watch: Watches) -> None:
    watched = watch(guarded, acl_log=True)
    deny(guarded, 3, "SET", "mine", "1")
    deny(guarded, 3, "DEL", "mine")
    await watched.run()
    guarded.command("ACL", "LOG", "RESET")
    deny(guarded, 2, "SET", "mine", "1")
    assert denied(await watched.run()) == {"command toplevel poor": 2}


async def test_restart_of_the_server(servers: Servers, watch: Watches) -> None:
    server = servers()
    user = ("ACL", "SETUSER", "poor", "on", ">pw", "~mine", "+get", "+client")
    server.command(*user)
    deny(server, 5, "SET", "mine", "1")
    watched = watch(server, acl_log=True)
    await watched.run()
    server.restart()
    server.command(*user)
    deny(server, 2, "SET", "mine", "1")
    assert denied(await watched.run()) == {"command toplevel poor": 2}
    assert not denied(await watched.run())


async def test_restart_of_the_agent(guarded: RedisServer, watch: Watches) -> None:
    """Where entries have ids, the count goes on; else it begins anew."""
    watched = watch(guarded, acl_log=True)
    deny(guarded, 5, "SET", "mine", "1")
    await watched.run()
    deny(guarded, 2, "SET", "mine", "1")
    numbered = b"entry-id" in guarded.command("ACL", "LOG")[0]
    again = watch(guarded, acl_log=True, state=watched.state)
    assert denied(await again.run()) == ({"command toplevel poor": 2} if numbered else {})
    deny(guarded, 1, "SET", "mine", "1")
    assert denied(await again.run()) == {"command toplevel poor": 1}


async def test_a_log_that_overflows(guarded: RedisServer, watch: Watches) -> None:
    guarded.command("CONFIG", "SET", "acllog-max-len", 4)
    try:
        watched = watch(guarded, acl_log=True)
        for n in range(4):
            deny(guarded, 2, "GET", f"old{n}")
        await watched.run()
        for n in range(3):
            deny(guarded, 2, "GET", f"new{n}")
        assert denied(await watched.run()) == {"key toplevel poor": 6}
    finally:
        guarded.command("CONFIG", "SET", "acllog-max-len", 128)


async def test_users_beyond_the_limit_and_nothing_of_what_was_asked(guarded: RedisServer, watch: Watches) -> None:
    for user in ("u1", "True", "it's\"\U0001f600"):
        guarded.command("ACL", "SETUSER", user, "on", ">pw", "+client")
    watched = watch(guarded, acl_log=True, tag_limit=2)
    await watched.run()
    for user in ("poor", "u1", "True", "it's\"\U0001f600"):
        deny(guarded, 1, "GET", "card-of-a-customer", user=user)  # the newest comes first
    outcome = await watched.run()
    assert outcome.value("redis.tags.cut", "of:acl_log") == 2
    assert "card-of-a-customer" not in repr(outcome.batch) + repr(watched.state)
    assert sum(denied(outcome).values()) == 4
    users = {
        tag for sample in outcome.samples("redis.acl.denied") for tag in sample.tags if tag.startswith("username:")
    }
    assert users == {"username:it's\"\U0001f600", "username:true", "username:other"}


@pytest.mark.parametrize("stored", [5, "x", [], {}, {"server": "a", "number": 1, "counts": [], "time": 0}])
async def test_a_state_that_is_none_begins_anew(guarded: RedisServer, watch: Watches, stored: Any) -> None:
    deny(guarded, 1, "SET", "mine", "1")
    watched = watch(guarded, acl_log=True, state={"acl_log": stored})
    assert not denied(await watched.run())
    deny(guarded, 1, "SET", "mine", "1")
    assert denied(await watched.run()) == {"command toplevel poor": 1}
