"""`pointsman off` and `pointsman on`: they must work when little else does."""

from __future__ import annotations

import contextlib
import time
from contextlib import closing
from pathlib import Path

from router.commands.console import BAD_INPUT, fail, say
from router.commands.state import naming_state
from router.config.places import OFF_FILE, find_file, places


def switch(config: Path | None, *, off: bool) -> None:
    """Switch routing off or on; of the configuration only the two places are read.

    A file switches whoever shares the state directory, the store the others.
    """
    file = find_file(config)
    if config is not None and not file.exists():
        fail(f"--config {file}: there is no such file, so nothing was switched", BAD_INPUT)
    with naming_state(None):
        state_dir, url, prefix = places(file)
    with naming_state(state_dir):
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if off:
            with contextlib.suppress(FileExistsError):  # it says since when
                (state_dir / OFF_FILE).touch(exist_ok=False)
        else:
            (state_dir / OFF_FILE).unlink(missing_ok=True)
    told = _tell_store(url, prefix, off=off) if url else ""
    print(f"routing is {'off' if off else 'on'} for sidecars with state in {state_dir}{told}")
    if not (state_dir / "journal").is_dir():
        say("no sidecar has ever run there; is it another configuration's? See --config")


def _tell_store(url: str, prefix: str, *, off: bool) -> str:
    """Return what became of it."""
    from telemetry import keys
    from telemetry.errors import TelemetryError
    from telemetry.store import StoreErrors, connect, parse_address
    from telemetry.trouble import trouble_of

    keys.use_prefix(prefix)
    try:
        with closing(connect(parse_address(url), timeout_s=1.0)) as client:
            if off:
                client.set(keys.OFF, int(time.time() * 1000), nx=True)
            else:
                client.delete(keys.OFF)
    except TelemetryError as error:
        return f"; its store was not told: {error}"
    except StoreErrors as error:
        return f"; its store was not told: {trouble_of(error).shown}"
    return " and everywhere on its store"
