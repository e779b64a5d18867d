"""Clusters of real nodes: all of them visited, and what becomes of the others when one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import AskError, MovedError

from servers import ClusterServer, RedisCluster, RedisServer, eventually
from vedette import Status
from vedette_checks.redis import RedisConfig
from vedette_checks.redis.cluster import ClusterWatch, judge
from vedette_checks.redis.counters import Counter
from vedette_checks.redis.keys import KeyLength
from vedette_checks.redis.shards import Shards, hash_tag, read_shards, slot_of, spoken

from .driver import Outcome, Watch, Watches

pytestmark = pytest.mark.anyio

Clusters = Callable[..., Awaitable[RedisCluster]]
INSTANCE = {"instance:test"}


@pytest.fixture(scope="session")
def quartet(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Three primaries and a replica of the first; shared, so tests do it no harm.

    None calls another down where the machine stood still, or one of them was frozen for a moment.
    """
    made = RedisCluster(binary, tmp_path_factory.mktemp("cluster"), 3, 1, cluster_node_timeout=10_000)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def clusters(binary: Path, tmp_path: Path) -> Iterator[Clusters]:
    made: list[RedisCluster] = []

    async def make(primaries: int, replicas: int = 0) -> RedisCluster:
        made.append(cluster := RedisCluster(binary, tmp_path / f"cluster{len(made)}", primaries, replicas))
        await asyncio.to_thread(cluster.start)
        return cluster

    yield make
    for cluster in made:
        cluster.stop()


def option(*nodes: RedisServer, **more: Any) -> dict[str, Any]:
    return {"addresses": [f"127.0.0.1:{node.port}" for node in nodes], **more}


def place(node: RedisServer) -> set[str]:
    return {"redis_host:127.0.0.1", f"redis_port:{node.port}"}


def statuses(outcome: Outcome, name: str) -> dict[str, tuple[Status, str]]:
    """Status and message by the port tag; empty for the cluster as a whole."""
    found = {}
    for status in outcome.batch.statuses:
        if status.name == name:
            port = [tag.partition(":")[2] for tag in status.tags if tag.startswith("redis_port:")]
            found[port[0] if port else ""] = (status.status, status.message)
    return found


def whole(outcome: Outcome, name: str) -> tuple[Status, str]:
    """The status of the cluster as a whole."""
    return statuses(outcome, name)[""]


def well(*nodes: RedisServer) -> dict[str, tuple[Status, str]]:
    return {str(node.port): (Status.OK, "") for node in nodes}


def key_in(cluster: RedisCluster, primary: int, stem: str) -> str:
    """A key whose slot belongs to this primary."""
    first, last = cluster.ranges[primary]
    return next(key for key in (f"{stem}:{n}" for n in range(1000)) if first <= slot_of(key) <= last)


def clients(server: RedisServer) -> set[str]:
    with server.client() as client:
        return {row["id"] for row in client.client_list() if row["name"] == "vedette"}


async def test_every_node_says_what_a_single_server_says(quartet: RedisCluster, watch: Watches) -> None:
    for number, node in enumerate(quartet.primaries):
        node.command("FLUSHALL")
        for count in range(number + 1):
            node.command("SET", f"{key_in(quartet, number, 'k')}", count)
    outcome = await watch(cluster=option(quartet.nodes[1])).run()
    assert outcome.error is None
    for node in quartet.nodes:
        role = "slave" if node in quartet.replicas else "master"
        sample = outcome.sample("redis.net.maxclients", f"redis_port:{node.port}")
        assert set(sample.tags) == {*INSTANCE, *place(node), f"redis_role:{role}"}
        assert sample.value == int(node.info()["maxclients"])
    for node in quartet.primaries:
        assert outcome.value("redis.keys", f"redis_port:{node.port}", "redis_db:db0") == node.command("DBSIZE") == 1
    replica = f"redis_port:{quartet.replicas[0].port}"
    assert outcome.value("redis.replication.master_link_down_since_seconds", replica) == 0
    for name in ("redis.can_connect", "redis.reads"):
        assert statuses(outcome, name) == well(*quartet.nodes) | ({"": (Status.OK, "")} if "reads" in name else {})


async def test_the_cluster_as_a_whole(quartet: RedisCluster, watch: Watches) -> None:
    outcome = await watch(cluster=option(quartet.nodes[0])).run()
    says = quartet.nodes[0].state()
    expected = {"slots_assigned": 16384, "slots_ok": 16384, "slots_pfail": 0, "slots_fail": 0}
    expected |= {"known_nodes": 4, "size": 3}
    for name, value in expected.items():
        sample = outcome.sample(f"redis.cluster.{name}")
        assert (name, sample.value, set(sample.tags)) == (name, value, INSTANCE)
        assert says[f"cluster_{name}"] == str(value)
    assert (outcome.value("redis.cluster.nodes_failing"), outcome.value("redis.cluster.nodes_pfail")) == (0, 0)
    found = {
        (sample.value, outcome.value("redis.cluster.node.replicas", *sample.tags), frozenset(sample.tags))
        for sample in outcome.samples("redis.cluster.node.slots")
    }
    assert found == {
        (last - first + 1, int(node is quartet.primaries[0]), frozenset({*INSTANCE, *place(node), "redis_role:master"}))
        for node, (first, last) in zip(quartet.primaries, quartet.ranges, strict=True)
    }
    assert whole(outcome, "redis.cluster.state") == (Status.OK, "")


async def test_round_trip_on_primaries(quartet: RedisCluster, watch: Watches) -> None:
    watching = watch(cluster=option(quartet.nodes[0]))
    for _ in range(2):
        outcome = await watching.run()
        assert statuses(outcome, "redis.round_trip") == well(*quartet.primaries)
        assert len(outcome.samples("redis.round_trip.latency_ms")) == 3
    assert not statuses(await watch(cluster=option(quartet.nodes[0]), round_trip=False).run(), "redis.round_trip")


async def test_keys_counters_and_streams_are_read_where_their_slot_is(quartet: RedisCluster, watch: Watches) -> None:
    """They are numbers of the application: tagged without the node, which another may be tomorrow."""
    keys, counters, streams = [], [], []
    for number, node in enumerate(quartet.primaries):
        keys.append(key := key_in(quartet, number, "list"))
        node.command("DEL", key)
        node.command("RPUSH", key, *range(number + 1))
        key = key_in(quartet, number, "number")
        counters.append({"metric": f"app.n{number}", "key": key})
        node.command("SET", key, 100 + number)
        streams.append(key := key_in(quartet, number, "stream"))
        node.command("DEL", key)
        for count in range(number + 2):
            node.command("XADD", key, "*", "count", count)
        node.command("XGROUP", "CREATE", key, "readers", "0")
        node.command("XREADGROUP", "GROUP", "readers", "me", "COUNT", 1, "STREAMS", key, ">")
    watching = watch(cluster=option(quartet.nodes[0]), keys=keys, counters=counters, streams=streams)
    for _ in range(2):
        outcome = await watching.run()
        assert whole(outcome, "redis.reads") == (Status.OK, "")
        for number in range(3):
            tags = {*INSTANCE, "redis_db:db0", f"key:{keys[number]}", "key_type:list"}
            sample = outcome.sample("redis.key.length", f"key:{keys[number]}")
            assert (sample.value, set(sample.tags)) == (number + 1, tags)
            sample = outcome.sample(f"app.n{number}")
            assert (sample.value, set(sample.tags)) == (100 + number, INSTANCE)
            stream = f"stream:{streams[number]}"
            assert outcome.value("redis.stream.length", stream) == number + 2
            assert outcome.value("redis.stream.group.pending", stream, "group:readers") == 1
            assert 0 <= float(str(outcome.value("redis.stream.group.oldest_pending_seconds", stream))) < 60


async def test_the_primaries_share_the_budget_of_scan(clusters: Clusters, watch: Watches) -> None:
    cluster = await clusters(3, 1)

    def fill() -> None:
        keys = [f"k:{n}" for n in range(6000)]
        for node, (first, last) in zip(cluster.primaries, cluster.ranges, strict=True):
            with node.client() as client, client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    if first <= slot_of(key) <= last:
                        pipeline.set(key, 1)
                pipeline.execute()

    await asyncio.to_thread(fill)
    watched = watch(cluster=option(cluster.primaries[0]), scan={"by_prefix": ":", "budget": 1000})
    passes: list[Any] = []
    for _ in range(20):
        outcome = await watched.run()
        visited = outcome.samples("redis.scan.keys")
        assert len(visited) == 3
        assert 0 < sum(sample.value for sample in visited) <= 1000
        assert all("redis_role:master" in sample.tags for sample in visited)
        passes = outcome.samples("redis.keys.prefix")
        if len(passes) == 3:
            break
    assert sum(sample.value for sample in passes) >= 6000


async def test_connections_are_kept_one_to_each_node(quartet: RedisCluster, watch: Watches) -> None:
    """Also where the seed's name is not the one that the cluster uses."""
    watching = watch(cluster={"addresses": [f"localhost:{quartet.nodes[0].port}"]})
    await watching.run()
    await eventually(lambda: len(clients(quartet.nodes[0])) == 1, "the connection by the other name to go")
    before = [clients(node) for node in quartet.nodes]
    assert [len(ids) for ids in before] == [1, 1, 1, 1]
    await watching.run()
    assert [clients(node) for node in quartet.nodes] == before


async def test_no_more_nodes_than_allowed(quartet: RedisCluster, watch: Watches) -> None:
    outcome = await watch(cluster=option(quartet.nodes[0], max_nodes=2)).run()
    visited = statuses(outcome, "redis.can_connect")
    assert len(visited) == 2
    assert set(visited) < {str(node.port) for node in quartet.primaries}
    assert whole(outcome, "redis.reads") == (Status.WARNING, "2 nodes are not visited; raise `cluster.max_nodes`")


async def test_first_seed_down(quartet: RedisCluster, watch: Watches, closed_port: int) -> None:
    options = option(quartet.nodes[0])
    options["addresses"].insert(0, f"127.0.0.1:{closed_port}")
    outcome = await watch(cluster=options).run()
    assert statuses(outcome, "redis.can_connect") == well(*quartet.nodes)


async def test_no_seed_answers(watch: Watches, closed_port: int) -> None:
    port = closed_port
    outcome = await watch(cluster={"addresses": [f"127.0.0.1:{port}"]}).run()
    assert outcome.error is not None
    said = f"no node tells of the cluster: nothing listens on 127.0.0.1:{port}"
    hint = "is the server running, and is this its address?"
    assert (outcome.error.message, outcome.error.hint) == (said, hint)
    assert whole(outcome, "redis.cluster.state") == (Status.CRITICAL, f"{said}; {hint}")
    assert not outcome.batch.samples


async def test_name_of_a_seed_that_does_not_resolve(watch: Watches) -> None:
    outcome = await watch(cluster={"addresses": ["a..b"]}).run()
    assert outcome.error is not None
    assert outcome.error.message == "no node tells of the cluster: the host name a..b does not resolve"
    assert outcome.error.hint == "check `cluster.addresses`, and the machine's DNS"


async def test_not_a_cluster(server: RedisServer, watch: Watches) -> None:
    outcome = await watch(cluster=option(server)).run()
    assert outcome.error is not None
    assert outcome.error.message.endswith(f"127.0.0.1:{server.port} is not part of a cluster")
    assert outcome.error.hint == "use `host` and `port` instead of `cluster`"


class StaleWatch(ClusterWatch):
    """Goes on with the cluster as it was at its first run, as a run does during which a slot moves."""

    kept: Shards | None = None

    async def _find(self, emit: Any) -> Shards:
        self.kept = self.kept or await super()._find(emit)
        return self.kept


class Move:
    """Moves a slot between primaries as `redis-cli --cluster reshard` does, step by step."""

    def __init__(self, slot: int, source: ClusterServer, target: ClusterServer) -> None:
        self.slot, self.source, self.target = slot, source, target

    def begin(self, *keys: str) -> None:
        self.target.cluster("SETSLOT", self.slot, "IMPORTING", self.source.id)
        self.source.cluster("SETSLOT", self.slot, "MIGRATING", self.target.id)
        self.source.command("MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "KEYS", *keys)

    def finish(self) -> None:
        self.target.cluster("SETSLOT", self.slot, "NODE", self.target.id)
        self.source.cluster("SETSLOT", self.slot, "NODE", self.target.id)


async def test_slot_on_the_move(quartet: RedisCluster, watch: Watches) -> None:
    """Half moved, the source says ASK; moved, it says MOVED: either is followed."""
    source, target = quartet.primaries[:2]
    number = key_in(quartet, 0, "moving")
    jobs, members, stream = keys = [f"{{{number}}}:{kind}" for kind in ("jobs", "members", "stream")]
    source.command("DEL", *keys)
    source.command("SET", number, 7)
    source.command("RPUSH", jobs, "a", "b")
    source.command("SADD", members, "a")
    source.command("XADD", stream, "*", "a", "b")
    counters = [{"metric": "app.number", "key": number}, {"metric": "app.members", "key": members, "read": "scard"}]
    watching = watch(cluster=option(source), keys=[jobs], counters=counters, streams=[stream], round_trip=False)
    config = watching.check.config
    assert config.cluster is not None
    read = [Counter(counter, (), UTC) for counter in config.counters]
    watching.check._watch = StaleWatch(config, config.cluster, 9.0, [KeyLength(jobs)], read, {})

    async def values() -> tuple[Any, ...]:
        outcome = await watching.run()
        assert whole(outcome, "redis.reads") == (Status.OK, "")
        return tuple(
            outcome.value(name) for name in ("app.number", "app.members", "redis.key.length", "redis.stream.length")
        )

    forth, back = Move(slot_of(number), source, target), Move(slot_of(number), target, source)
    try:
        assert await values() == (7, 1, 2, 1)
        forth.begin(number, *keys)
        with pytest.raises(AskError):
            source.command("GET", number)
        assert await values() == (7, 1, 2, 1)
        forth.finish()
        with pytest.raises(MovedError):
            source.command("GET", number)
        target.command("INCR", number)
        assert await values() == (8, 1, 2, 1)
    finally:
        back.begin(number, *keys)
        back.finish()
        await eventually(lambda: all(settled(node, quartet) for node in quartet.nodes), "the slot to be back")


def settled(node: ClusterServer, cluster: RedisCluster) -> bool:
    """Whether the node sees the slots where they were at the start."""
    rows = node.cluster("SLOTS")
    return sorted((first, last, nodes[0][1]) for first, last, *nodes in rows) == [
        (first, last, primary.port) for (first, last), primary in zip(cluster.ranges, cluster.primaries, strict=True)
    ]


async def test_crashed_primary(clusters: Clusters, watch: Watches) -> None:
    cluster = await clusters(3)
    crashed, *others = cluster.primaries
    crashed.command("SET", key := key_in(cluster, 0, "number"), 7)
    watching = watch(cluster=option(crashed), counters=[{"metric": "app.number", "key": key}], round_trip=False)
    assert (await watching.run()).value("app.number") == 7
    crashed.kill()
    await eventually(
        lambda: all(node.state()["cluster_state"] == "fail" and "fail" in node.flags(crashed) for node in others),
        "the others to notice",
    )
    outcome = await watching.run()
    assert outcome.error is None
    port, (first, last) = crashed.port, cluster.ranges[0]
    why = f"nothing listens on 127.0.0.1:{port}; is the server running, and is this its address?"
    assert statuses(outcome, "redis.can_connect") == well(*others) | {str(port): (Status.CRITICAL, why)}
    assert {tag for sample in outcome.samples("redis.net.clients") for tag in sample.tags if "port" in tag} == {
        f"redis_port:{node.port}" for node in others
    }
    assert whole(outcome, "redis.cluster.state") == (
        Status.CRITICAL,
        "the cluster does not serve (cluster_state is fail); "
        f"127.0.0.1:{port} is down with the slots {first}-{last}; start the nodes again, or CLUSTER FORGET them",
    )
    assert outcome.value("redis.cluster.slots_fail") == last - first + 1
    assert outcome.value("redis.cluster.nodes_failing") == 1
    assert "app.number" not in outcome.names
    silent = f"app.number (get {key}): 127.0.0.1:{port} does not answer"
    assert whole(outcome, "redis.reads") == (Status.WARNING, silent)
    await asyncio.to_thread(crashed.start)
    await eventually(cluster.well, "the cluster to recover")
    outcome = await watching.run()
    assert whole(outcome, "redis.cluster.state") == (Status.OK, "")
    assert statuses(outcome, "redis.can_connect") == well(*cluster.nodes)


async def test_replica_takes_over(clusters: Clusters, watch: Watches) -> None:
    """The only seed is gone, but the others are known; what the primary had is read from its heir."""
    cluster = await clusters(3, 1)
    crashed, *others = cluster.primaries
    (heir,) = cluster.replicas
    crashed.command("SET", key := key_in(cluster, 0, "number"), 7)
    await eventually(lambda: heir.command("DBSIZE") == 1, "the replica to follow")
    watching = watch(cluster=option(crashed), counters=[{"metric": "app.number", "key": key}])
    before = await watching.run()
    assert f"redis_port:{heir.port}" in before.sample("redis.net.clients", "redis_role:slave").tags
    crashed.kill()
    await eventually(
        lambda: all(
            node.state()["cluster_state"] == "ok" and "fail" in node.flags(crashed) and "master" in node.flags(heir)
            for node in (heir, *others)
        ),
        "the replica to take over",
    )
    outcome = await watching.run()
    assert outcome.error is None
    assert outcome.value("app.number") == 7
    assert f"redis_port:{heir.port}" in [
        tag
        for sample in outcome.samples("redis.net.clients")
        if "redis_role:master" in sample.tags
        for tag in sample.tags
    ]
    assert not [sample for sample in outcome.samples("redis.net.clients") if "redis_role:slave" in sample.tags]
    assert outcome.value("redis.cluster.node.slots", f"redis_port:{heir.port}") == 5461
    assert statuses(outcome, "redis.round_trip") == well(heir, *others)
    assert whole(outcome, "redis.cluster.state") == (
        Status.WARNING,
        f"127.0.0.1:{crashed.port} is down; start the nodes again, or CLUSTER FORGET them",
    )


async def test_hung_node_costs_the_others_nothing(quartet: RedisCluster, watch: Watches) -> None:
    """Frozen is the very node that was asked for the others."""
    hung = quartet.primaries[2]
    others = [node for node in quartet.nodes if node is not hung]
    counters = [{"metric": f"app.n{n}", "key": key_in(quartet, n, "hung")} for n in range(3)]
    for node, counter in zip(quartet.primaries, counters, strict=True):
        node.command("SET", counter["key"], 7)
    watching = watch(cluster=option(hung), counters=counters, timeout="2s")
    await all_answer(watching, *quartet.nodes)
    hung.pause()
    try:
        outcome = await all_answer(watching, *others)
    finally:
        hung.resume()
        await eventually(quartet.well, "the cluster to recover")
    assert outcome.error is None
    found = statuses(outcome, "redis.can_connect")
    assert found[str(hung.port)][0] is Status.CRITICAL
    assert found[str(hung.port)][1].startswith(f"no answer from 127.0.0.1:{hung.port} within 0.81s")
    assert len(outcome.samples("redis.net.clients")) == len(others)
    assert (outcome.value("app.n0"), outcome.value("app.n1")) == (7, 7)
    assert "app.n2" not in outcome.names
    silent = f"app.n2 (get {counters[2]['key']}): 127.0.0.1:{hung.port} does not answer"
    assert whole(outcome, "redis.reads") == (Status.WARNING, silent)
    await all_answer(watching, *quartet.nodes)


async def all_answer(watching: Watch, *nodes: RedisServer) -> Outcome:
    """The first run that heard of all these: of a busy machine the shares of two seconds are soon over."""
    async with asyncio.timeout(60):
        while True:
            outcome = await watching.run()
            if well(*nodes).items() <= statuses(outcome, "redis.can_connect").items():
                return outcome


@pytest.fixture
def fresh(binary: Path, tmp_path: Path) -> Iterator[ClusterServer]:
    """A node that belongs to no cluster."""
    server = ClusterServer(binary, tmp_path / "fresh")
    server.start()
    yield server
    server.kill()


async def test_nodes_come_and_go(quartet: RedisCluster, fresh: ClusterServer, watch: Watches) -> None:
    """A node that is alone does not pass for the cluster, even where it is asked first."""
    watching = watch(cluster=option(fresh, quartet.nodes[0]))
    try:
        assert statuses(await watching.run(), "redis.can_connect") == well(*quartet.nodes)
        quartet.nodes[0].cluster("MEET", "127.0.0.1", fresh.port)
        await eventually(lambda: all("master" in node.flags(fresh) for node in quartet.nodes), "the nodes to meet")
        assert statuses(await watching.run(), "redis.can_connect") == well(*quartet.nodes, fresh)
        assert len(clients(fresh)) == 1
    finally:
        gone = fresh.id
        fresh.cluster("RESET")
        for node in quartet.nodes:
            node.cluster("FORGET", gone)
    outcome = await watching.run()
    assert statuses(outcome, "redis.can_connect") == well(*quartet.nodes)
    assert outcome.value("redis.cluster.known_nodes") == 4
    await eventually(lambda: not clients(fresh), "the connection to go")


async def test_password(quartet: RedisCluster, watch: Watches) -> None:
    for node in quartet.nodes:
        node.command("CONFIG", "SET", "requirepass", "hunter2-is-secret")
    try:
        right = await watch(cluster=option(quartet.nodes[0]), password="hunter2-is-secret").run()
        wrong = await watch(cluster=option(quartet.nodes[0]), password="wrong").run()
    finally:
        for node in quartet.nodes:
            with node.client(password="hunter2-is-secret") as client:
                client.execute_command("CONFIG", "SET", "requirepass", "")
    assert statuses(right, "redis.can_connect") == well(*quartet.nodes)
    assert wrong.error is not None
    assert wrong.error.message == (
        f"no node tells of the cluster: 127.0.0.1:{quartet.nodes[0].port} refused the user name or the password"
    )


async def test_rights(quartet: RedisCluster, watch: Watches) -> None:
    """What the README asks for is enough, and what is missing is named."""
    enough = (
        "+info",
        "+ping",
        "+set",
        "+get",
        "+del",
        "~vedette:*",
        "+cluster|info",
        "+cluster|nodes",
        "+cluster|slots",
    )
    for node in quartet.nodes:
        node.command("ACL", "SETUSER", "vedette", "on", ">hunter2", *enough)
    login: dict[str, Any] = {"username": "vedette", "password": "hunter2"}
    try:
        right = await watch(cluster=option(quartet.nodes[0]), **login).run()
        for node in quartet.nodes:
            node.command("ACL", "SETUSER", "vedette", "-@all", "+info")
        wrong = await watch(cluster=option(quartet.nodes[0]), **login).run()
    finally:
        for node in quartet.nodes:
            node.command("ACL", "DELUSER", "vedette")
    assert statuses(right, "redis.reads") == well(*quartet.nodes) | {"": (Status.OK, "")}
    assert statuses(right, "redis.round_trip") == well(*quartet.primaries)
    assert wrong.error is not None
    assert wrong.error.message == "no node tells of the cluster: the user vedette may not run CLUSTER INFO"
    assert wrong.error.hint == "ACL SETUSER vedette +cluster|info"


LINES = """\
aa 10.0.0.1:6379@16379,one.example myself,master - 0 0 1 connected 0-99 200 [93->-bb]
bb fd00::2:6380@16380 slave aa 0 0 1 connected
cc :6381@16381,three.example master,fail - 0 0 2 disconnected 300-16383
dd :0@0 master,noaddr - 0 0 3 disconnected
"""


def shards(slots: Any = (), lines: str = LINES, state: str = "ok") -> Shards:
    return read_shards("seed:1", "seed", b"cluster_state:%s\r\n" % state.encode(), lines.encode(), slots)


def row(*nodes: list[Any]) -> list[list[Any]]:
    return [[0, 99, *nodes]]


@pytest.mark.parametrize(
    ("slots", "hosts"),
    [
        ((), ["10.0.0.1", "seed", "fd00::2", "seed"]),
        (ValueError("NOPERM"), ["10.0.0.1", "seed", "fd00::2", "seed"]),
        (row([b"10.0.0.1", 6379, b"aa"]), ["10.0.0.1", "seed", "fd00::2", "seed"]),
        (row([b"one.example", 6379, b"aa", []]), ["one.example", "three.example", "fd00::2", "seed"]),
        (row([b"?", 6379, b"aa", []]), ["10.0.0.1", "seed", "fd00::2", "seed"]),
        (row([None, 6379, b"aa", []]), ["seed", "seed", "seed", "seed"]),
        (row([b"", 6379, b"aa"]), ["seed", "seed", "fd00::2", "seed"]),
    ],
)
def test_endpoints(slots: Any, hosts: list[str]) -> None:
    """The endpoint that CLUSTER SLOTS prefers, else the address; none means the host that was asked."""
    assert [member.host for member in shards(slots).members] == [hosts[0], hosts[1], hosts[3], hosts[2]]


def test_members() -> None:
    one, three, lost, two = shards().members
    assert [str(member) for member in (one, two, three)] == ["10.0.0.1:6379", "[fd00::2]:6380", "seed:6381"]
    assert [member.visitable for member in (one, two, three, lost)] == [True, True, True, False]
    assert (one.slots, one.slot_count, three.down, two.primary) == (((0, 99), (200, 200)), 101, True, "aa")
    assert shards().replicas(one) == 1
    assert [shards().owner(slot) for slot in (0, 99, 100, 200, 201, 300, 16383)] == [
        one,
        one,
        None,
        one,
        None,
        three,
        three,
    ]
    assert shards().uncovered() == ((100, 199), (201, 299))
    assert shards(lines="aa a:1@2 myself,master - 0 0 1 connected").uncovered() == ((0, 16383),)


def test_slots_of_keys(quartet: RedisCluster) -> None:
    """The server's own CLUSTER KEYSLOT says the same; the first is in the specification."""
    for key in ("123456789", "{user1000}.following", "foo{}{bar}", "foo{{bar}}zap", "é", "{é}x"):
        assert (key, slot_of(key)) == (key, quartet.nodes[0].cluster("KEYSLOT", key))
    assert slot_of("123456789") == 12739
    (one, *_) = shards().members
    assert one.serves(slot_of(f"vedette:round_trip:{hash_tag(one)}abc"))


@pytest.mark.parametrize(
    ("lines", "state", "verdict"),
    [
        ("aa a:1@2 master - 0 0 1 connected 0-16383", "ok", (Status.OK, "")),
        (
            "aa a:1@2 master - 0 0 1 connected 0-16383\nbb b:1@2 slave,fail? aa 0 0 1 connected",
            "ok",
            (Status.WARNING, "seed:1 gets no answer from b:1"),
        ),
        (
            "aa a:1@2 master - 0 0 1 connected 1-16383",
            "ok",
            (Status.CRITICAL, "no node serves the slots 0; assign them with CLUSTER ADDSLOTS"),
        ),
        (
            "aa a:1@2 master - 0 0 1 connected 0-16383",
            "fail",
            (Status.CRITICAL, "the cluster does not serve (cluster_state is fail)"),
        ),
        (
            "aa a:1@2 master,fail - 0 0 1 connected 0-16383",
            "ok",
            (
                Status.CRITICAL,
                "a:1 is down with the slots 0-16383; start the nodes again, or CLUSTER FORGET them",
            ),
        ),
    ],
)
def test_verdict(lines: str, state: str, verdict: tuple[Status, str]) -> None:
    assert judge(shards(lines=lines, state=state)) == verdict


def test_many_things_wrong_are_counted() -> None:
    lines = "\n".join(f"{n:02} a:{n + 1}@2 master,fail - 0 0 1 connected" for n in range(12))
    message = judge(shards(lines=lines))[1]
    assert "a:10 is down; 2 more nodes are down; " in message
    assert spoken(tuple((n, n) for n in range(0, 14, 2))) == "0, 2, 4, 6, 8 and 2 more ranges"


def test_address_of_the_options() -> None:
    config = RedisConfig.model_validate({"name": "test", "cluster": {"addresses": ["a", "[::1]:7000"]}})
    assert config.cluster is not None
    assert ClusterWatch(config, config.cluster, 1.0, [], [], {})._seeds == [("a", 6379), ("::1", 7000)]
