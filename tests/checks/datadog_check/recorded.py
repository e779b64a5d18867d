"""Runs a check with the base's own stub aggregator, and prints what it recorded in each run as JSON.

python recorded.py MODULE RUNS INIT_CONFIG INSTANCE
"""

import importlib
import json
import sys

from datadog_checks.base import AgentCheck
from datadog_checks.base.stubs import aggregator, datadog_agent

module, runs, init_config, instance = sys.argv[1], int(sys.argv[2]), *map(json.loads, sys.argv[3:5])
datadog_agent.set_hostname("node-7")
found = next(
    one
    for one in vars(importlib.import_module(module)).values()
    if isinstance(one, type) and issubclass(one, AgentCheck) and one is not AgentCheck
)
check = found(module.rpartition(".")[2], init_config, [instance])
check.check_id = "figures:1"
recorded = []
for _ in range(runs):
    aggregator.reset()
    error = check.run()
    recorded.append(
        {
            "error": error,
            "metrics": [one._asdict() for name in aggregator.metric_names for one in aggregator.metrics(name)],
            "statuses": [
                one._asdict() for name in aggregator.service_check_names for one in aggregator.service_checks(name)
            ],
            "events": aggregator.events,
            "buckets": [
                one._asdict() for name in aggregator._histogram_buckets for one in aggregator.histogram_bucket(name)
            ],
        }
    )
print(json.dumps(recorded))
