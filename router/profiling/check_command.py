"""A check command: it reads prompt and answer on its stdin, and passes by exit code 0.

No shell, no environment but PATH, an empty directory of its own, nothing read of what it says, ten
seconds; then all of its process group is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Sequence
from contextlib import suppress

TIMEOUT_S = 10.0


async def passes(command: Sequence[str], told: bytes, *, timeout_s: float = TIMEOUT_S) -> bool:
    """Return whether a command accepts what it is told.

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
            return False
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        return process.returncode == 0
