"""Floor 2: alert rules as they are written: the language of their conditions, and how they are read and checked."""

from vedette.rules.grammar import parse
from vedette.rules.model import Heartbeat, Maintenance, Rule, Rulebook
from vedette.rules.scanner import ConditionError
from vedette.rules.tree import Condition

__all__ = ["Condition", "ConditionError", "Heartbeat", "Maintenance", "Rule", "Rulebook", "parse"]
