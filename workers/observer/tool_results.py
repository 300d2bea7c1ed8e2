"""Whether the result of a tool says that the call failed. Pure.

In doubt it does not: a tool that returns data *about* errors (a log search, a test report) has
worked. So an object counts only where nothing but the error is in it, or where it says
`isError` as tool protocols do; a text counts by how it begins, and only if it reports one error.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

MAX_RESULT_CHARS = 1 << 16
"""Longer results are data."""
_BEGINS = re.compile(
    r"(?:[Ee]rror|ERROR|Exception):"
    # "Error invoking tool", "Error reading file"; no phrases such as "Error handling in ..."
    r"|Error (?:access|apply|call|connect|creat|decod|delet|download|edit|execut|fetch|find|gett|"
    r"import|initializ|invok|list|load|open|pars|perform|process|query|read|retriev|runn|sav|"
    r"search|send|updat|upload|validat|writ)ing "
    r"|An error occurred while running the tool"
    r"|Traceback \(most recent call last\):"
    r"|<tool_use_error>"
)
_NO_FAULT = re.compile(r"Exit code \d+\b|The user doesn't want to |\[Request interrupted by user")
"""What coding agents mark as an error though the call did what it was to do: a command that ran
(tests that fail, a search that finds nothing), and what a person did not allow."""
# fmt: off
_ABOUT_AN_ERROR = frozenset((
    "code", "detail", "details", "errno", "error", "error_code",
    "error_message", "errorCode", "exit_code", "exitCode", "hint", "is_error",
    "isError", "message", "msg", "name", "ok", "reason",
    "request_id", "retryable", "stack", "stacktrace", "status", "status_code",
    "statusCode", "stderr", "success", "suggestion", "tool",
    "tool_call_id", "traceback", "type",
))
# fmt: on
"""What comes with an error; any other filled field makes the result data."""


_WORKED = (("ok", True), ("success", True), ("isError", False), ("is_error", False))
"""Fields by which a result says of itself that the call worked, whatever else is in it."""
_NO_ERROR = frozenset(("", "0", "false", "n/a", "no error", "none", "null", "ok"))
"""Texts of an `error` that say that there was none."""


def is_error(text: str, said: bool | None = None) -> bool:
    """Return whether the result of a tool says that the tool call failed.

    Args:
        said: what a field beside the text says, if there is one.
    """
    if said is not None:
        return said and not _NO_FAULT.match(text)
    if len(text) > MAX_RESULT_CHARS:
        return False
    if text[:1] == "{":
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return False
        return isinstance(value, dict) and _says_error(value)
    if not _BEGINS.match(text):
        return False
    # Several of them, line by line, are what a search found.
    return sum(1 for line in text.splitlines() if _BEGINS.match(line)) == 1


def _says_error(value: dict[str, Any]) -> bool:
    if value.get("isError") is True or value.get("is_error") is True:
        return True
    if any(value.get(key) is told for key, told in _WORKED):
        return False
    if any(filled for key, filled in value.items() if key not in _ABOUT_AN_ERROR):
        return False
    error = value.get("error")
    return (
        error is True
        or (isinstance(error, str) and error.strip().lower() not in _NO_ERROR)
        or (isinstance(error, dict) and any(error.get(key) for key in ("message", "code", "type")))
        or value.get("success") is False
        or value.get("status") == "error"
    )
