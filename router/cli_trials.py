"""Signature of the verb that compares by chance: `trial`."""

from __future__ import annotations

from typing import Annotated

import typer

from router.cli_options import Config, Json


def trial(
    what: Annotated[
        str, typer.Argument(metavar="[TASK]", help="A task; or list, stop ID, resume ID.")
    ] = "",
    id_: Annotated[str, typer.Argument(metavar="[ID]", help="Of stop and resume.")] = "",
    app_: Annotated[
        str | None, typer.Option("--app", help="Which app; without a TASK all of it.")
    ] = None,
    strategy: Annotated[str | None, typer.Option(help="Under it; else the app's own.")] = None,
    role: Annotated[str | None, typer.Option(help="In this role; else in none.")] = None,
    challenger: Annotated[
        str | None, typer.Option(help="The endpoint; else the most promising.")
    ] = None,
    days: Annotated[float, typer.Option(help="How long, at most.")] = 14.0,
    cap_usd: Annotated[
        float | None, typer.Option("--cap-usd", help="What the challenger's side may cost.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: Config = None,
    json_: Json = False,
) -> None:
    """Compare incumbent and challenger on sessions that chance assigns."""
    from router.commands import trial as verb
    from router.commands.trial_plan import AskedTrial

    asked = AskedTrial("", app_, strategy, role, challenger, days, cap_usd)
    verb.trial(what, id_, asked, verb.How(config, yes, json_))
