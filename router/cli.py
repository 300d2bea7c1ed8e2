"""The verbs' signatures; each is one call into `commands/`, which imports what it needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from router import cli_first_day, cli_recorded, cli_report, cli_trials
from router.cli_options import AdminKey, Config, Json, Key, LongestPause, Url
from router.cli_report import WithMonth
from telemetry import __version__
from telemetry.crashes import tell_without_words
from telemetry.processes import end_with_parent, sparing

app = typer.Typer(
    name="pointsman",
    help="Picks the endpoint of each language model call from what your own traffic has shown.",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command line."""
    tell_without_words()
    end_with_parent()
    app(prog_name="pointsman")


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"pointsman {__version__}")
        raise typer.Exit


app.command()(cli_first_day.init)


@app.command()
def up(
    config: Config = None,
    longest_pause: LongestPause = 10.0,
    processes: Annotated[
        int, typer.Option(min=1, max=64, help="Routers that share the port, each on its core.")
    ] = 1,
) -> None:
    """Run store, worker and router; Ctrl-C ends them all."""
    from router.commands.early import EarlyRouter

    early = EarlyRouter.begin(config) if processes == 1 else None
    try:
        with sparing():  # before anything else imports them
            import redis  # noqa: F401
            import structlog  # noqa: F401

        from router.commands import up as verb

        verb.up(config, longest_pause, processes, early)
    except BaseException:
        if early is not None:
            early.give_up()
        raise


@app.command(hidden=True)
def serve(
    config: Config = None,
    ready: Annotated[Path | None, typer.Option(help="Write the port here once it listens.")] = None,
) -> None:
    """Run the router alone."""
    with sparing():  # before anything else imports them
        import httpx  # noqa: F401
        import redis  # noqa: F401
        import structlog  # noqa: F401

    from router.commands import serve as verb

    verb.serve(config, ready)


@app.command(hidden=True)
def work(config: Config = None, longest_pause: LongestPause = 10.0) -> None:
    """Run a worker and the periodic jobs: events become posteriors, and are archived."""
    from router.commands import up as verb

    verb.work(config, longest_pause)


app.command(hidden=True)(cli_first_day.check)
app.command(hidden=True)(cli_first_day.profile)
app.command(hidden=True)(cli_first_day.classify)


@app.command(hidden=True)
def catalog(config: Config = None, json_: Json = False) -> None:
    """List every endpoint with all that is known of it, and what is missing."""
    from router.commands import catalog as verb

    verb.catalog(config, as_json=json_)


app.command(cls=WithMonth)(cli_report.report)


@app.command()
def spend(
    since: Annotated[str | None, typer.Option(help="A day or time; else 30 days ago.")] = None,
    until: Annotated[str | None, typer.Option(help="The first moment that is not meant.")] = None,
    month: Annotated[str | None, typer.Option(help="YYYY-MM, instead of both.")] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="Of app, role, task, strategy, endpoint, model, user, tag; of hour, day, month."
        ),
    ] = None,
    zone: Annotated[str | None, typer.Option(help="A time zone; else UTC.")] = None,
    app_: Annotated[str | None, typer.Option("--app", help="This app alone.")] = None,
    user: Annotated[str | None, typer.Option(help="This user alone.")] = None,
    tag: Annotated[str | None, typer.Option(help="This tag alone: key=value.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print all rows as CSV.")] = False,
    config: Config = None,
    json_: Json = False,
) -> None:
    """Show what was spent, by app, task, endpoint, user and so on."""
    given = {"since": since, "until": until, "month": month, "by": by, "zone": zone}
    given |= {"app": app_, "user": user, "tag": tag}
    from router.commands import spend as verb

    verb.spend(given, config, as_csv=csv, as_json=json_)


@app.command()
def feedback(
    decision_id: Annotated[str | None, typer.Option(help="x-router-decision-id.")] = None,
    response_id: Annotated[str | None, typer.Option(help="The answer's own id.")] = None,
    ref: Annotated[str | None, typer.Option(help="Your own reference.")] = None,
    session_id: Annotated[
        str | None, typer.Option("--session", "--episode", metavar="ID", help="A whole session.")
    ] = None,
    score: Annotated[float | None, typer.Option(help="A judge's score, 0 to 1.")] = None,
    passed: Annotated[bool | None, typer.Option(help="Whether a test passed.")] = None,
    thumb: Annotated[str | None, typer.Option(help="up or down.")] = None,
    edit_ratio: Annotated[float | None, typer.Option(help="How much was edited, 0 to 1.")] = None,
    match: Annotated[str | None, typer.Option(help="last or all, of several.")] = None,
    key: Key = "",
    url: Url = None,
    config: Config = None,
    json_: Json = False,
) -> None:
    """Say what an answer, or a whole session, was worth."""
    given = dict(locals())
    from router.commands import feedback as verb

    verb.feedback(given, url=url, key=key, config=config, as_json=json_)


@app.command()
def explain(
    id_: Annotated[
        str, typer.Argument(metavar="[ID]", help="Of a decision or its answer, or a reference.")
    ] = "",
    last: Annotated[bool, typer.Option("--last", help="The last decision of the store.")] = False,
    session: Annotated[str, typer.Option("--session", "--episode", help="All of it.")] = "",
    key: AdminKey = "",
    url: Url = None,
    config: Config = None,
    json_: Json = False,
) -> None:
    """Show why a decision fell as it did, with the numbers that it was made from."""
    from router.commands import explain as verb

    verb.explain(id_, session, last=last, url=url, key=key, config=config, as_json=json_)


@app.command(hidden=True)
def ingest(
    file: Annotated[Path, typer.Argument(help="JSON Lines, CSV or parquet.")],
    form: Annotated[
        str | None, typer.Option("--format", help="jsonl, csv or parquet; else by the suffix.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Whose events they are; else the file's name.")
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="COLUMN", help="A column to pass over; may be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be taken.")
    ] = False,
    key: Key = "",
    url: Url = None,
    config: Config = None,
    json_: Json = False,
) -> None:
    """Teach the sidecar from a file of outcomes and feedback; twice has the effect of once."""
    from router.commands import ingest as verb

    verb.ingest(
        file,
        form=form,
        source=source,
        ignore=ignore or (),
        url=url,
        key=key,
        config=config,
        dry_run=dry_run,
        as_json=json_,
    )


@app.command()
def off(config: Config = None) -> None:
    """Switch routing off: every call goes where it would go without us."""
    from router.commands.switch import switch

    switch(config, off=True)


@app.command()
def on(config: Config = None) -> None:
    """Switch routing on again."""
    from router.commands.switch import switch

    switch(config, off=False)


app.command()(cli_trials.trial)


@app.command(hidden=True)
def release(
    what: Annotated[str, typer.Argument(help="accept, undo or list.")] = "list",
    id_: Annotated[str, typer.Argument(metavar="[ID]", help="Of a proposal or release.")] = "",
    config: Config = None,
    json_: Json = False,
) -> None:
    """Say yes to a proposed release, undo one, or list both."""
    from router.commands import release as verb

    verb.release(what, id_, config, as_json=json_)


@app.command(hidden=True)
def key(
    what: Annotated[str, typer.Argument(help="make, list or revoke.")] = "make",
    id_: Annotated[str, typer.Argument(metavar="[ID]", help="Of the key to revoke.")] = "",
    app_: Annotated[str | None, typer.Option("--app", help="Whose key it is to be.")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="The admin's, not an app's.")] = False,
    config: Config = None,
    json_: Json = False,
) -> None:
    """Make a key for an app, list the keys, or say how one is revoked."""
    from router.commands import key as verb

    verb.key(what, id_, app=app_, admin=admin, config=config, as_json=json_)


@app.command(hidden=True)
def forget(
    user: Annotated[str, typer.Argument(help="The label that the user's calls carry.")],
    app_: Annotated[str | None, typer.Option("--app", help="In this app; else in all.")] = None,
    key: AdminKey = "",
    url: Url = None,
    config: Config = None,
    json_: Json = False,
) -> None:
    """Delete what is kept of a user, by the keyed hash that it is kept by."""
    from router.commands import forget as verb

    verb.forget(user, app=app_, url=url, key=key, config=config, as_json=json_)


@app.command(hidden=True)
def audit(
    what: Annotated[str, typer.Argument(help="What to audit: state or privacy.")] = "state",
    above: Annotated[str, typer.Option(help="privacy: only classes above this one.")] = "",
    outside: Annotated[str, typer.Option(help="privacy: only what left this zone.")] = "",
    since: Annotated[str, typer.Option(help="privacy: a day or time in UTC; else all.")] = "",
    config: Config = None,
    json_: Json = False,
) -> None:
    """Check the sums against the archived records; or whether sensitive data left a zone."""
    from router.commands import audit as verb
    from router.commands.audit_privacy import AskedPrivacy

    verb.audit(what, config, AskedPrivacy(above, outside, since), as_json=json_)


@app.command(hidden=True)
def restore(config: Config = None, json_: Json = False) -> None:
    """Rebuild a lost store from the archive; the store must be empty."""
    from router.commands import restore as verb

    verb.restore(config, as_json=json_)


app.command(hidden=True)(cli_recorded.demo)
app.command(hidden=True)(cli_recorded.replay)


@app.command("help", hidden=True)
def help_(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="`all` lists every command.")] = "",
) -> None:
    """Show all commands."""
    if what != "all":
        print("pointsman --help shows the usual verbs, pointsman help all every command")
        return
    for command in app.registered_commands:
        callback = command.callback
        assert callback is not None
        name = command.name or callback.__name__
        print(f"  {name:<10} {(callback.__doc__ or '').strip().splitlines()[0]}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
