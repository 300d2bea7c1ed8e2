"""`pointsman replay`: recorded outcomes through the loop, beside honest baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from router.commands.console import BAD_INPUT, fail, print_json, say


def replay(options: dict[str, Any], *, ope: bool, plot: Path | None, as_json: bool) -> None:
    """Compare policies on a table, or judge them from logs of ours."""
    from workers.replay import command as replay_command

    try:
        settings = replay_command.parse(options)
        if ope:
            found = replay_command.evaluate(settings, progress=say)
        else:
            found = replay_command.compare(settings, plot=plot, progress=say)
    except replay_command.BadInput as error:
        fail(str(error), BAD_INPUT)
    if as_json:
        print_json(found)
    elif ope:
        replay_command.show_evaluation(found)
    else:
        replay_command.show(found)
