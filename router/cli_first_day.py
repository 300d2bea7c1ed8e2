"""Signatures of the verbs that come before traffic: `init`, `check`, `profile`, `classify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from router.cli_options import Config, Json


def init(
    config: Config = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Take every default, and ask nothing.")
    ] = False,
    source: Annotated[
        str,
        typer.Option("--from", metavar="KIND", help="litellm: read FILE, a config of LiteLLM's."),
    ] = "",
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="What --from reads.")
    ] = None,
    json_: Json = False,
) -> None:
    """Write a configuration from the keys that the environment has."""
    from router.commands import init as verb

    verb.init(config, yes=yes, source=source, file=file, as_json=json_)


def check(
    config: Config = None,
    effective: Annotated[bool, typer.Option("--effective", help="Print all that holds.")] = False,
    app_: Annotated[str | None, typer.Option("--app", help="What holds for this app.")] = None,
    role: Annotated[str | None, typer.Option(help="What holds in this role.")] = None,
    task: Annotated[str | None, typer.Option(help="What holds of this task.")] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Call every endpoint, a few tiny calls each.")
    ] = False,
    endpoint: Annotated[
        list[str] | None, typer.Option("--endpoint", help="With --live: only this; repeatable.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --live: do not ask.")] = False,
    json_: Json = False,
) -> None:
    """Check the configuration and list every problem; or print what holds, and who says so."""
    if live or endpoint or yes:
        from router.commands import check_live

        check_live.require_live(live=live)
        check_live.check_live(config, endpoint or (), yes=yes, as_json=json_)
        return
    from router.commands import check as verb

    wanted = (app_, role, task) if effective or app_ or role or task else None
    verb.check(config, effective=wanted, as_json=json_)


def profile(
    file: Annotated[Path, typer.Argument(metavar="PROMPTS", help="JSON Lines, a prompt a line.")],
    config: Config = None,
    app_: Annotated[
        str | None, typer.Option("--app", help="Under whose rules; else the first.")
    ] = None,
    per_cell: Annotated[
        int, typer.Option(min=1, max=10_000, help="Prompts of each task, at most.")
    ] = 25,
    max_usd: Annotated[float, typer.Option(help="What it may cost at most.")] = 10.0,
    endpoint: Annotated[
        list[str] | None, typer.Option("--endpoint", help="Only this one; repeatable.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="The endpoint that grades what nothing else does.")
    ] = None,
    strategy: Annotated[str | None, typer.Option(help="Judge by this strategy.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Calls at a time.")] = 8,
    allow_commands: Annotated[
        bool, typer.Option("--allow-commands", help="Run the check commands of PROMPTS.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Forget what the same run did before, and pay anew.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write the table here as one page.")] = None,
    json_: Json = False,
) -> None:
    """Run your own prompts on every endpoint, and say which to pin or whether to route.

    Ends with 1 where it was stopped, nobody answered, or --max-usd ended it before a sentence.
    """
    options = dict(locals())
    from router.commands import profile as verb

    verb.profile(options)


def classify(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Exemplars with tasks, JSON Lines; `-`: stdin."),
    ] = None,
    config: Config = None,
    text: Annotated[str | None, typer.Option(help="Say what this prompt looks like.")] = None,
    json_: Json = False,
) -> None:
    """Show how well exemplars tell your tasks apart, on a third that is held out."""
    from router.commands import classify as verb

    verb.classify(file, text, config=config, as_json=json_)
