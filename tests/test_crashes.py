"""What breaks without anybody having foreseen it says where, and never in words of a call."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from telemetry.crashes import told

ROOT = Path(__file__).parent.parent
SECRET = "the patient's name is Ada"
BEGIN = f"""
import asyncio, logging, sys, threading
import structlog, uvloop
from telemetry import logs
from telemetry.crashes import tell_without_words

def fail(*_):
    try:
        raise KeyError({SECRET!r})
    except KeyError as error:
        raise ValueError("cannot go on with {SECRET}") from error

async def die():
    fail()

async def in_loop(begin):
    begin(asyncio.get_running_loop())
    await asyncio.sleep(0.05)

class Odd:
    def __repr__(self):
        return {SECRET!r}
    def __del__(self):
        fail()

tell_without_words()
"""
WAYS = {
    "the process": "fail()",
    "a thread": "t = threading.Thread(target=fail, name='x'); t.start(); t.join()",
    "a task": "asyncio.run(in_loop(lambda loop: loop.create_task(die(), name='t') and None))",
    "a callback": f"asyncio.run(in_loop(lambda loop: loop.call_soon(fail, {SECRET!r})))",
    "a callback of uvloop": f"uvloop.run(in_loop(lambda loop: loop.call_soon(fail, {SECRET!r})))",
    "a finalizer": "odd = Odd(); del odd",
    "a log line": """
logs.configure()
try:
    fail()
except ValueError:
    structlog.get_logger().exception("it broke")
""",
    "a library": f"""
try:
    fail()
except ValueError:
    logging.getLogger("rq.worker").exception("job %s broke: {SECRET}", {SECRET!r})
""",
}


def lines_of(program: str) -> tuple[str, list[dict[str, Any]]]:
    """Return what a program writes to stderr, and the JSON objects in it."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", BEGIN + program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.stdout == ""
    return done.stderr, [json.loads(line) for line in done.stderr.splitlines() if line[:1] == "{"]


@pytest.mark.parametrize("way", WAYS)
def test_a_fault_is_told_by_kind_and_lines_and_not_in_its_own_words(way: str) -> None:
    text, lines = lines_of(WAYS[way])

    assert "Ada" not in text
    (line,) = [each for each in lines if "error" in each]
    assert (line["level"], line["error"], line["causes"]) == ("error", "ValueError", ["KeyError"])
    assert any(place.startswith("<string>:") for place in line["trace"])


def test_a_library_that_is_known_is_quoted_up_to_what_it_repeats() -> None:
    _, lines = lines_of(WAYS["a task"])
    assert lines[0]["says"] == "Task exception was never retrieved"
    _, lines = lines_of(WAYS["a library"])
    assert (lines[0]["library"], lines[0]["says"]) == ("rq.worker", "")


def test_an_interrupt_is_no_fault() -> None:
    text, lines = lines_of("raise KeyboardInterrupt")

    assert lines == []
    assert "KeyboardInterrupt" in text


def test_a_deep_recursion_is_told_briefly() -> None:
    def deep(n: int) -> None:
        if n == 0:
            raise ValueError("end")
        deep(n - 1)

    with pytest.raises(ValueError, match="end") as error:
        deep(200)

    assert len(told(error.value)["trace"]) == 40
