"""What broke that nobody foresaw: told by its kind and the lines it came through, never in words.

The message of an error may hold whatever the code had in its hands: a prompt, a key, an address
with a password. So do the reprs that event loops print of tasks and callbacks. Kind and lines are
what finds the fault.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OURS = ("router", "telemetry", "bandit", "workers")
"""The packages whose lines say where an error is."""
MAX_LINES = 40
"""Of a trace, the innermost: a recursion has thousands."""
MAX_CAUSES = 8
KNOWN_LOGGERS = ("asyncio",)
"""Libraries whose lines begin with words that hold nothing of a call."""
WORDS = re.compile(r"[A-Za-z ,.]*")


def place_of(error: BaseException) -> str:
    """Return file and line of the innermost frame of ours that an error came through."""
    ours = [line for line, is_ours in _lines(error.__traceback__) if is_ours]
    return ours[-1] if ours else ""


def told(error: BaseException) -> dict[str, Any]:
    """Return what may be said of an error: its kind, those of its causes, and its lines."""
    causes = [type(cause).__name__ for cause in _causes(error)]
    trace = [line for line, _ in _lines(error.__traceback__)][-MAX_LINES:]
    return {"error": type(error).__name__, "trace": trace} | ({"causes": causes} if causes else {})


def tell_without_words() -> None:
    """Have this process log whatever breaks in it by kind and lines, in each of its threads."""
    sys.excepthook = _on_end
    threading.excepthook = _on_thread
    sys.unraisablehook = _on_unraisable
    logging.basicConfig(level=logging.WARNING, handlers=[_OneLine()], force=True)


def _lines(trace: TracebackType | None) -> Iterator[tuple[str, bool]]:
    """Yield file and line of each frame, and whether it is of ours."""
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        is_ours = any(file.is_relative_to(ROOT / package) for package in OURS)
        shown = file.relative_to(ROOT) if is_ours else Path(*file.parts[-2:])
        yield f"{shown}:{trace.tb_lineno}", is_ours
        trace = trace.tb_next


def _causes(error: BaseException) -> Iterator[BaseException]:
    for _ in range(MAX_CAUSES):
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None:
            return
        yield cause
        error = cause


def _log(event: str, error: BaseException | None, **more: object) -> None:
    import structlog  # here, because nearly no process ever breaks

    from telemetry import logs

    if not structlog.is_configured():
        logs.configure()
    structlog.get_logger().error(event, **more, **(told(error) if error is not None else {}))


def _on_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        _log("the process breaks off: a fault of Pointsman's own", error)


def _on_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        _log("a thread broke off: a fault of Pointsman's own", args.exc_value)


def _on_unraisable(args: sys.UnraisableHookArgs) -> None:
    _log("an error had nobody to tell", args.exc_value)


class _OneLine(logging.Handler):
    """Logs what libraries complain of, as far as that is words of theirs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            said = ""
            if record.name.partition(".")[0] in KNOWN_LOGGERS:
                found = WORDS.match(str(record.msg))
                said = found[0].strip() if found else ""
            error = record.exc_info[1] if record.exc_info else None
            _log("a library complains", error, library=record.name, says=said)
        except Exception:  # a log line is never worth a fault of its own
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing: by default the record itself would be printed."""
