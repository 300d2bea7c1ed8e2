"""A check command: it reads prompt and answer on its stdin, and passes by exit code 0.

No shell, no environment but PATH, an empty directory of its own, nothing read of what it says, ten
seconds; then all of its process group is killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import tempfile
from collections.abc import Sequence
from contextlib import suppress

TIMEOUT_S = 10.0
BY_CODE = "exit code "
PR_SET_DUMPABLE = 4


async def passes(command: Sequence[str], told: bytes, *, timeout_s: float = TIMEOUT_S) -> bool:
    """Return whether a command accepts what it is told.

    Raises:
        OSError: it cannot be run.
    """
    return not await refusal_of(command, told, timeout_s=timeout_s)


async def refusal_of(command: Sequence[str], told: bytes, *, timeout_s: float = TIMEOUT_S) -> str:
    """Return why a command does not accept what it is told; "": it does.

    One that takes too long does not.

    Args:
        told: what it reads, JSON.

    Raises:
        OSError: it cannot be run.
    """
    with tempfile.TemporaryDirectory(prefix="pm-check-", ignore_cleanup_errors=True) as directory:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=directory,
            env={"PATH": os.environ.get("PATH", os.defpath)},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(timeout_s):
                await process.communicate(told)
        except TimeoutError:
            return f"took over {timeout_s:g} s"
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        code = process.returncode or 0
        return f"ended by signal {-code}" if code < 0 else f"{BY_CODE}{code}" if code else ""


def hide_environment() -> None:
    """Have no other process of this user read the environment of this one: it holds keys.

    A command could look for it in /proc. Where that cannot be had (it is Linux's) nothing is done;
    root reads it all the same.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
