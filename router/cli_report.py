"""The signature of `pointsman report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from router.cli_options import Config, Json

MONTH = "--month"


class WithMonth(TyperCommand):
    """A verb whose `--month` may stand without a month: it is this one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Return the arguments that are left, with the month written out."""
        told = list(args)
        for place, one in enumerate(args):
            if one == MONTH and (place + 1 == len(args) or args[place + 1].startswith("-")):
                told.insert(place + 1, "this")
                break
        return super().parse_args(ctx, told)


def report(
    since: Annotated[str | None, typer.Option(help="Days such as 7d, or a day; else 7d.")] = None,
    month: Annotated[
        str | None, typer.Option(metavar="[YYYY-MM]", help="A month on one page, for who pays.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Open this task: its endpoints.")] = None,
    app_: Annotated[str | None, typer.Option("--app", help="This app alone.")] = None,
    role: Annotated[str | None, typer.Option(help="This role alone.")] = None,
    strategy: Annotated[str | None, typer.Option(help="This strategy alone.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every task, and all the rest.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it as a page; - is the output.")
    ] = None,
    config: Config = None,
    json_: Json = False,
) -> None:
    """Show whether routing is worth it, by task; what changed, what it cost, what is amiss."""
    given = {"since": since, "month": month, "task": task, "app": app_, "role": role}
    from router.commands import report as verb

    verb.report(config, strategy, given, shows_all=all_, as_json=json_, html=html)
