"""Floor 0: what Python prints by itself, of threads, destructors and warnings: its texts may hold anything."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_log = logging.getLogger("vedette.strays")


def guard() -> None:
    """Have the log say, without the texts, which thread or destructor failed; it has warnings whole, and masks them.

    Not with `VEDETTE_TRACEBACK`, which is for whoever looks for a fault.
    """
    if os.environ.get("VEDETTE_TRACEBACK"):
        return
    threading.excepthook = _of_a_thread
    sys.unraisablehook = _of_a_destructor
    logging.captureWarnings(True)


def _of_a_thread(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_type is not SystemExit:
        name = failure.thread.name if failure.thread is not None else "?"
        _log.error("a thread failed (%s): %s%s", name, failure.exc_type.__name__, _place(failure.exc_traceback))


def _of_a_destructor(failure: sys.UnraisableHookArgs) -> None:
    what = getattr(failure.object, "__qualname__", type(failure.object).__name__)
    _log.error("nobody heard of a failure (%s): %s%s", what, failure.exc_type.__name__, _place(failure.exc_traceback))


def _place(trace: TracebackType | None) -> str:
    """Where it was raised."""
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" at {trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
