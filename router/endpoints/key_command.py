"""A command whose output is a key: run without a shell, bounded in time and output."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

MOST_S = 10.0
"""A command line of a cloud takes one or two; a start waits for it."""
MOST_BYTES = 64 << 10
"""No key has more, and no header could carry it."""


def run_key_command(
    argv: Sequence[str], *, most_s: float = MOST_S, most_bytes: int = MOST_BYTES
) -> str:
    """Return the key that a command prints.

    What it says otherwise is dropped, and no error repeats what it printed: it may be a key.

    Raises:
        LookupError: it cannot be run, fails, prints nothing or too much, or takes too long.
    """
    name = argv[0]
    try:
        process = subprocess.Popen(  # noqa: S603 - the owner's own command, and no shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no such name"
        raise LookupError(f"{name} cannot be run ({why})") from None
    until = time.monotonic() + most_s
    try:
        printed = _read(process, until, most_bytes)
        code = process.wait(max(until - time.monotonic(), 0.01))
    except subprocess.TimeoutExpired:
        raise LookupError(f"{name} takes longer than {most_s:g} s") from None
    finally:
        _end(process)
    if len(printed) > most_bytes:
        raise LookupError(f"{name} prints more than {most_bytes} bytes; a key alone is wanted")
    if code != 0:
        raise LookupError(f"{name} ended with {code}; run it by hand to see why")
    text = printed.decode("latin-1").strip()
    if not text:
        raise LookupError(f"{name} prints nothing")
    return text


def _read(process: subprocess.Popen[bytes], until: float, most_bytes: int) -> bytes:
    """Return what a process prints, or a little more than it may."""
    assert process.stdout is not None
    printed = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(printed) <= most_bytes:
            left_s = until - time.monotonic()
            if left_s <= 0 or not selector.select(left_s):
                raise subprocess.TimeoutExpired(process.args, 0)
            part = os.read(process.stdout.fileno(), 1 << 16)
            if not part:
                return printed
            printed += part
    process.kill()
    return printed


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that has not ended, with all that it has started."""
    if process.returncode is None:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.stdout is not None
    process.stdout.close()
