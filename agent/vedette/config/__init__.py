"""Floor 2: YAML files in, `Instance` objects or a list of every problem out."""

from vedette.config.loader import load
from vedette.config.model import AgentConfig, Configuration, HttpConfig, Instance, LogConfig

__all__ = ["AgentConfig", "Configuration", "HttpConfig", "Instance", "LogConfig", "load"]
