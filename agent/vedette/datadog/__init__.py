"""Floor 5: monitors and dashboards as code: YAML files in, what stands at Datadog (or JSON for Grafana) out."""
