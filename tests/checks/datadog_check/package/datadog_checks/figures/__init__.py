from datadog_checks.figures.check import FiguresCheck

__version__ = "1.2.3"
__all__ = ["FiguresCheck"]
