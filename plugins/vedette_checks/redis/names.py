"""The metrics of the redis check: which field of INFO feeds which name, and all declarations.

Names and kinds are those of Datadog's redisdb integration, so that its stock dashboards light up. It reports some
totals as per-second rates (Kind.RATE here) and others, such as evicted keys, as they are (Kind.GAUGE).
Fields: https://redis.io/docs/latest/commands/info/
"""

from __future__ import annotations

from vedette import Kind, Metric

TAGS = ("redis_host", "redis_port", "redis_role")
"""Tag keys of every sample."""

# INFO field, metric without `redis.`, unit, help
_GAUGES = (
    ("io_threads_active", "server.io_threads_active", "", "Whether threaded I/O is active: 1 or 0."),
    ("active_defrag_running", "active_defrag.running", "", "Effort of active defragmentation, 0 when idle."),
    ("active_defrag_hits", "active_defrag.hits", "operation", "Reallocations by active defragmentation so far."),
    ("active_defrag_misses", "active_defrag.misses", "operation", "Aborted reallocations so far."),
    ("active_defrag_key_hits", "active_defrag.key_hits", "key", "Keys that were defragmented so far."),
    ("active_defrag_key_misses", "active_defrag.key_misses", "key", "Keys that defragmentation skipped so far."),
    ("aof_last_rewrite_time_sec", "aof.last_rewrite_time", "second", "Duration of the last AOF rewrite."),
    ("aof_rewrite_in_progress", "aof.rewrite", "", "Whether an AOF rewrite is going on: 1 or 0."),
    ("aof_current_size", "aof.size", "byte", "Size of the AOF."),
    ("aof_buffer_length", "aof.buffer_length", "byte", "Size of the AOF buffer."),
    ("loading_total_bytes", "aof.loading_total_bytes", "byte", "Bytes to load, while the server loads its dataset."),
    ("loading_loaded_bytes", "aof.loading_loaded_bytes", "byte", "Bytes loaded, while the server loads."),
    ("loading_loaded_perc", "aof.loading_loaded_perc", "percent", "Share loaded, while the server loads."),
    ("loading_eta_seconds", "aof.loading_eta_seconds", "second", "Time left, while the server loads."),
    ("connected_clients", "net.clients", "connection", "Connected clients, replicas not among them."),
    ("connected_slaves", "net.slaves", "connection", "Connected replicas."),
    ("maxclients", "net.maxclients", "connection", "Most clients that may connect."),
    ("rejected_connections", "net.rejected", "connection", "Connections refused because of maxclients so far."),
    ("total_connections_received", "net.total_connections_received", "connection", "Connections accepted so far."),
    ("instantaneous_input_kbps", "net.instantaneous_input", "kibibyte/second", "Network input now."),
    ("instantaneous_output_kbps", "net.instantaneous_output", "kibibyte/second", "Network output now."),
    ("instantaneous_ops_per_sec", "net.instantaneous_ops_per_sec", "operation/second", "Commands processed now."),
    (
        "instantaneous_ops_per_sec",
        "net.commands.instantaneous_ops_per_sec",
        "command/second",
        "The same under its older name.",
    ),
    ("blocked_clients", "clients.blocked", "connection", "Clients that wait in a blocking call."),
    ("client_biggest_input_buf", "clients.biggest_input_buf", "", "Largest input buffer (before Redis 5)."),
    ("client_longest_output_list", "clients.longest_output_list", "", "Longest output list (before Redis 5)."),
    ("client_recent_max_input_buffer", "clients.recent_max_input_buffer", "", "Largest recent input buffer."),
    ("client_recent_max_output_buffer", "clients.recent_max_output_buffer", "", "Largest recent output buffer."),
    ("evicted_keys", "keys.evicted", "key", "Keys evicted because of maxmemory so far."),
    ("expired_keys", "keys.expired", "key", "Keys that expired so far."),
    ("latest_fork_usec", "perf.latest_fork_usec", "microsecond", "Duration of the last fork."),
    ("pubsub_channels", "pubsub.channels", "", "Channels with subscribers."),
    ("pubsub_patterns", "pubsub.patterns", "", "Patterns with subscribers."),
    ("rdb_bgsave_in_progress", "rdb.bgsave", "", "Whether a snapshot is being saved: 1 or 0."),
    ("rdb_changes_since_last_save", "rdb.changes_since_last", "", "Changes since the last snapshot."),
    ("rdb_last_bgsave_time_sec", "rdb.last_bgsave_time", "second", "Duration of the last snapshot."),
    ("mem_fragmentation_ratio", "mem.fragmentation_ratio", "fraction", "Resident over used memory."),
    ("used_memory", "mem.used", "byte", "Memory that Redis allocated."),
    ("used_memory_lua", "mem.lua", "byte", "Memory of the Lua engine."),
    ("used_memory_peak", "mem.peak", "byte", "Most memory ever used."),
    ("used_memory_rss", "mem.rss", "byte", "Resident memory as the system sees it."),
    ("used_memory_startup", "mem.startup", "byte", "Memory used at start."),
    ("used_memory_overhead", "mem.overhead", "byte", "Memory for the server's own structures."),
    ("maxmemory", "mem.maxmemory", "byte", "Memory limit; 0 means none."),
    (
        "master_last_io_seconds_ago",
        "replication.last_io_seconds_ago",
        "second",
        "On a replica: time since the primary last spoke.",
    ),
    ("master_sync_in_progress", "replication.sync", "", "On a replica: whether a full sync is going on: 1 or 0."),
    ("master_sync_left_bytes", "replication.sync_left_bytes", "byte", "On a replica: bytes left to sync."),
    ("repl_backlog_histlen", "replication.backlog_histlen", "byte", "Data in the replication backlog."),
    ("master_repl_offset", "replication.master_repl_offset", "offset", "Replication offset of this server."),
    ("slave_repl_offset", "replication.slave_repl_offset", "offset", "On a replica: its replication offset."),
)

_RATES = (
    ("total_commands_processed", "net.commands", "command", "Commands processed."),
    ("used_cpu_sys", "cpu.sys", "", "System CPU seconds of the server."),
    ("used_cpu_user", "cpu.user", "", "User CPU seconds of the server."),
    ("used_cpu_sys_children", "cpu.sys_children", "", "System CPU seconds of its background processes."),
    ("used_cpu_user_children", "cpu.user_children", "", "User CPU seconds of its background processes."),
    ("used_cpu_sys_main_thread", "cpu.sys_main_thread", "", "System CPU seconds of its main thread."),
    ("used_cpu_user_main_thread", "cpu.user_main_thread", "", "User CPU seconds of its main thread."),
    ("keyspace_hits", "stats.keyspace_hits", "key", "Lookups of keys that exist."),
    ("keyspace_misses", "stats.keyspace_misses", "key", "Lookups of keys that do not exist."),
    ("io_threaded_reads_processed", "stats.io_threaded_reads_processed", "", "Reads done by I/O threads."),
    ("io_threaded_writes_processed", "stats.io_threaded_writes_processed", "", "Writes done by I/O threads."),
)

_PERCENTILES = ("50", "75", "90", "95", "99", "99.9", "99.99", "100")

GAUGES = tuple((row[0], f"redis.{row[1]}") for row in _GAUGES)
"""(INFO field, metric) of the fields that are reported as they are."""

RATES = tuple((row[0], f"redis.{row[1]}") for row in _RATES)
"""(INFO field, metric) of the totals that Datadog gets per second."""


PERCENTILES = {f"p{name}": f"redis.command.latency.p{name.replace('.', '')}" for name in _PERCENTILES}
"""Percentile as INFO LATENCYSTATS names it: metric."""


def _gauge(name: str, unit: str, text: str, *tags: str) -> Metric:
    unit, _, per = unit.partition("/")
    return Metric(f"redis.{name}", Kind.GAUGE, unit, text, (*TAGS, *tags), per)


_STREAM = ("redis_db", "stream")

METRICS = (
    *(_gauge(name, unit, text) for _, name, unit, text in _GAUGES),
    *(Metric(f"redis.{name}", Kind.RATE, unit, text, TAGS, "second") for _, name, unit, text in _RATES),
    _gauge("keys", "key", "Keys of a database.", "redis_db"),
    _gauge("expires", "key", "Keys of a database with a time to live.", "redis_db"),
    _gauge("expires.percent", "percent", "Share of keys with a time to live.", "redis_db"),
    _gauge("persist", "key", "Keys of a database without a time to live.", "redis_db"),
    _gauge("persist.percent", "percent", "Share of keys without a time to live.", "redis_db"),
    _gauge("replication.delay", "offset", "Bytes that a replica is behind.", "slave_ip", "slave_port", "slave_id"),
    _gauge(
        "replication.master_link_down_since_seconds",
        "second",
        "On a replica: how long it has not heard from its primary, 0 while it does.",
    ),
    _gauge("command.calls", "", "Calls of a command so far (`command_stats`).", "command"),
    _gauge("command.usec_per_call", "", "CPU microseconds per call of a command (`command_stats`).", "command"),
    _gauge(
        "key.length",
        "",
        "Items of a named key, or bytes of a string (`keys`); 0 where it does not exist.",
        "redis_db",
        "key",
        "key_type",
    ),
    *(
        _gauge(
            metric.removeprefix("redis."),
            "microsecond",
            f"Percentile {name[1:]} of a command's latency since the server's start (`latency_percentiles`).",
            "command",
        )
        for name, metric in PERCENTILES.items()
    ),
    _gauge("latency.event.latest_ms", "millisecond", "The latest duration of an event (`latency_events`).", "event"),
    _gauge("latency.event.max_ms", "millisecond", "The longest duration of an event.", "event"),
    _gauge("latency.event.age_seconds", "second", "Time since an event last happened.", "event"),
    Metric(
        "redis.slowlog.micros",
        Kind.HISTOGRAM,
        "microsecond",
        "Duration of a new entry of the slow log (`slowlog`).",
        (*TAGS, "command"),
    ),
    Metric("redis.slowlog.missed", Kind.COUNT, "", "New entries that were beyond the limit, or already gone.", TAGS),
    _gauge("keys.matched", "key", "Keys of a pattern (`scan`), as of the last whole pass.", "redis_db", "pattern"),
    _gauge(
        "keys.prefix", "key", "Keys of a prefix (`scan.by_prefix`), as of the last whole pass.", "redis_db", "prefix"
    ),
    Metric("redis.scan.keys", Kind.COUNT, "key", "Keys visited by this run.", (*TAGS, "redis_db")),
    _gauge("scan.age_seconds", "second", "Time since the last whole pass over the database ended.", "redis_db"),
    _gauge("scan.duration_seconds", "second", "How long that pass took.", "redis_db"),
    _gauge("scan.runs", "", "How many runs that pass took.", "redis_db"),
    _gauge("stream.length", "message", "Entries of a stream (`streams`); 0 where it does not exist.", *_STREAM),
    _gauge("stream.groups", "", "Consumer groups of a stream.", *_STREAM),
    _gauge("stream.last_entry_age_seconds", "second", "Time since something was last added to a stream.", *_STREAM),
    _gauge("stream.group.pending", "message", "Entries delivered and not yet acknowledged.", *_STREAM, "group"),
    _gauge(
        "stream.group.lag",
        "message",
        "Entries not yet delivered (Redis 7 and later; absent where the server cannot tell).",
        *_STREAM,
        "group",
    ),
    _gauge("stream.group.consumers", "", "Consumers of a group.", *_STREAM, "group"),
    _gauge(
        "stream.group.oldest_pending_seconds",
        "second",
        "Age of the oldest entry that was delivered and not yet acknowledged.",
        *_STREAM,
        "group",
    ),
    _gauge("net.connections", "connection", "Connections by the client's name (`clients`).", "source"),
    Metric(
        "redis.acl.denied",
        Kind.COUNT,
        "",
        "Denials in the ACL log since the last run (`acl_log`).",
        (*TAGS, "reason", "context", "username"),
    ),
    _gauge("tags.cut", "", "Names beyond `tag_limit` in the last hour or less; absent if none.", "of"),
    _gauge("info.latency_ms", "millisecond", "Time from sending the run's pipeline to the reply to INFO."),
    _gauge("ping.latency_ms", "millisecond", "Time from sending the run's pipeline to the reply to PING."),
    _gauge("round_trip.latency_ms", "millisecond", "Time to set, get and delete a key (`round_trip`)."),
)
"""Everything the check can emit but for the counters of a configuration."""
