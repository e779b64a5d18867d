"""Floor 4: evaluates the alert rules over the batches that pass, and tells people of what becomes of them."""

from vedette.alerts.engine import AlertEngine, Tell
from vedette.alerts.vitals import AlertsVitals, AlertVitals

__all__ = ["AlertEngine", "AlertVitals", "AlertsVitals", "Tell"]
