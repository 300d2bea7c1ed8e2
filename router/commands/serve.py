"""`pointsman serve`: the router alone."""

from __future__ import annotations

from pathlib import Path

from router.commands.console import BAD_INPUT, FAILED, fail
from router.commands.inputs import check_layout, compiled, opened_store, require_port
from router.commands.state import require_state, state_of
from router.config.places import find_file
from router.net.address import CannotListen, SharedPort
from router.serving import run
from telemetry import logs


def serve(config: Path | None, ready: Path | None, shared: str | None = None) -> None:
    """Serve calls until a signal asks to stop."""
    logs.configure()
    configuration = compiled(config)
    one_of = None if shared is None else SharedPort.parse(shared)
    if one_of is None:
        require_port(configuration.server)
    require_state(state_of(configuration.server))
    with opened_store(configuration) as address:
        check_layout(configuration, address)
        try:
            run(configuration, address, find_file(config), ready=ready, shared=one_of)
        except CannotListen as error:
            fail(str(error), FAILED if error.is_taken else BAD_INPUT)
