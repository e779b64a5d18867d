"""A check as people write them: every kind of submission, over several runs."""

from datadog_checks.base import AgentCheck, ConfigurationError

SERVED = (100, 130, 130, 20, 25)
"""A total that was reset before the fourth run."""


class FiguresCheck(AgentCheck):
    __NAMESPACE__ = "figures"

    def __init__(self, name, init_config, instances):
        super().__init__(name, init_config, instances)
        if self.instance.get("port") == 0:
            raise ConfigurationError("port 0 is nobody's")
        self.runs = 0

    def check(self, instance):
        run, tags = self.runs, [*instance.get("tags", []), f"port:{instance['port']}"]
        self.runs += 1
        self._levels(run, tags)
        self._totals(SERVED[run % len(SERVED)], run, tags)
        for value in (1.5, 2.5, 2.5, 40 + run):
            self.histogram("latency", value, tags=tags)
        for value in (7, 7, 7 + run):
            self.historate("pace", value, tags=tags)
        self.increment("old.style", 2, tags=tags)
        self.decrement("old.style", tags=tags)
        for bound, seen in ((0.0, 3), (0.5, 5)):
            self.submit_histogram_bucket(
                "sizes", seen * (run + 1), bound, bound + 0.5, True, "", tags, flush_first_value=run > 0
            )
        self._states(run, tags)
        self.write_persistent_cache("runs", str(int(self.read_persistent_cache("runs") or 0) + 1))
        self.gauge("cached", int(self.read_persistent_cache("runs")))

    def _levels(self, run, tags):
        self.gauge("temperature", 20.25 + run, tags=[*tags, "ort:küche", b"raw:bytes", None])
        self.gauge("temperature", -1, tags=tags, device_name="sda")
        self.gauge("elsewhere", 3, tags=tags, hostname="db-7")
        self.gauge("other.name", True, tags=tags, raw=True)
        self.gauge("text", "12.5", tags=tags)
        self.gauge("nothing", None, tags=tags)
        self.gauge("twice", 1)
        self.gauge("twice", 2)

    def _totals(self, served, run, tags):
        self.rate("bytes", served * 10, tags=tags)
        self.monotonic_count("served", served, tags=tags)
        self.monotonic_count("served.whole", served, tags=tags, flush_first_value=True)
        self.monotonic_count("late", served, tags=tags, flush_first_value=run > 0)
        for value in (served, served + 5, 3, 8):
            self.monotonic_count("served.often", value, tags=tags)
        self.count("errors", 2, tags=tags)
        self.count("errors", run, tags=tags)

    def _states(self, run, tags):
        good = run != 1
        self.service_check(
            "can_connect", self.OK if good else self.CRITICAL, tags, message=None if good else "refused ß"
        )
        self.service_check("odd", self.WARNING, hostname="db-7", message="slow")
        self.service_check("raw.one", self.UNKNOWN, raw=True)
        self.event(
            {
                "timestamp": 1_700_000_000 + run,
                "event_type": "deploy",
                "msg_title": "Deployed",
                "msg_text": f"Version {run}",
                "alert_type": "success",
                "aggregation_key": "deploys",
                "host": "db-7",
                "tags": tags,
            }
        )
