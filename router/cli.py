"""The verbs; each is one call into the packages. A composition root."""

from __future__ import annotations

import json
import math
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from router.config.compiled import Configuration, load
from router.config.file import find_file
from router.errors import ConfigError
from telemetry import __version__, logs
from telemetry.processes import end_with_parent

app = typer.Typer(
    name="pointsman",
    help="Picks the endpoint of each language model call from what your own traffic has shown.",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Config = Annotated[
    Path | None,
    typer.Option("--config", help="The configuration; else $POINTSMAN_CONFIG, ./pointsman.yaml."),
]
LongestPause = Annotated[
    float, typer.Option(min=0, help="Seconds at most until a part that died starts again.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
BAD_INPUT = 2
FAILED = 1
_NO_URL = "--url {}: write a whole URL, such as http://127.0.0.1:8787"


def main() -> None:
    """Run the command line."""
    logs.configure()
    end_with_parent()
    app(prog_name="pointsman")


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"pointsman {__version__}")
        raise typer.Exit


@app.command()
def up(config: Config = None, longest_pause: LongestPause = 10.0) -> None:
    """Run store, worker, jobs and router; Ctrl-C ends them all."""
    from router.supervisor import STOP_MARGIN_S, Part, Supervisor

    configuration = _load(config)
    _require_port(configuration)
    state_dir = configuration.server.state_directory()
    with _store(configuration) as address:
        _check_layout(configuration, address)
        file = str(find_file(config))
        serve_command = [sys.executable, "-m", "router.cli", "serve", "--config", file]
        server = configuration.server
        _say(f"pointsman: {server.url}/v1  (state in {state_dir})")
        parts = [
            Part("router", serve_command, stop_s=server.drain_s + STOP_MARGIN_S),
            *(Part(name, command) for name, command in _workers(configuration, address)),
        ]
        for part in parts:
            part.longest_pause_s = longest_pause
        Supervisor(parts, tend=address.private.revive if address.private else lambda: None).run()


@app.command(hidden=True)
def serve(
    config: Config = None,
    ready: Annotated[Path | None, typer.Option(help="Write the port here once it listens.")] = None,
) -> None:
    """Run the router alone."""
    from router.server import run

    configuration = _load(config)
    _require_port(configuration)
    with _store(configuration) as address:
        _check_layout(configuration, address)
        run(configuration, address, ready=ready)


@app.command(hidden=True)
def work(config: Config = None, longest_pause: LongestPause = 10.0) -> None:
    """Run a worker and the periodic jobs: events become posteriors, and are archived."""
    from router.supervisor import Part, Supervisor

    configuration = _load(config)
    with _store(configuration) as address:
        _check_layout(configuration, address)
        parts = [Part(name, command) for name, command in _workers(configuration, address)]
        for part in parts:
            part.longest_pause_s = longest_pause
        Supervisor(parts, tend=address.private.revive if address.private else lambda: None).run()


@app.command(hidden=True)
def audit(
    what: Annotated[str, typer.Argument(help="What to audit: state.")] = "state",
    config: Config = None,
    json_: Json = False,
) -> None:
    """Check that the posteriors' sums are what the archived records say, byte for byte."""
    from workers.audit import audit_state

    if what != "state":
        _fail(f"there is no audit {what!r}; known: state", BAD_INPUT)
    with _archive(config) as archive:
        found = audit_state(archive)
    if json_:
        _print_json(found.as_json())
    else:
        print(
            f"{found.shards} shards, {found.files} files, {found.records} records, "
            f"{found.rows} rows compared: {'equal' if found.equal else 'NOT equal'}"
        )
        if found.difference:
            print(f"{found.different} differences; the first: {found.difference}")
    if not found.equal:
        raise typer.Exit(FAILED)


@app.command(hidden=True)
def restore(config: Config = None, json_: Json = False) -> None:
    """Rebuild a lost store from the archive; the store must be empty."""
    from workers.restore import CannotRestore
    from workers.restore import restore as rebuild

    with _archive(config) as archive:
        try:
            found = rebuild(archive)
        except CannotRestore as error:
            _fail(str(error), FAILED)
    if json_:
        _print_json(found.as_json())
    else:
        print(f"restored {found.rows} rows, {found.labels} labels, {found.references} references")
        if found.damaged:
            print(f"{found.damaged} files of the archive are damaged: their records are lost")


@app.command(hidden=True)
def check(config: Config = None, json_: Json = False) -> None:
    """Check the configuration and list every problem."""
    file = find_file(config)
    try:
        configuration = load(file)
    except ConfigError as error:
        if json_:
            problems = [
                {"line": p.line, "field": p.field, "value": p.value, "hint": p.hint}
                for p in error.problems
            ]
            _print_json({"ok": False, "file": str(file), "problems": problems})
        else:
            for problem in error.problems:
                _say(problem.shown(str(file)))
        raise typer.Exit(BAD_INPUT) from None
    catalog = configuration.catalog
    counts = {
        "endpoints": len(catalog.endpoints),
        "groups": len(catalog.group_members),
        "tasks": len(configuration.tasks),
        "strategies": len(configuration.strategies),
        "apps": len(configuration.apps),
    }
    if json_:
        _print_json({"ok": True, "file": str(file), "problems": [], **counts})
    else:
        print(f"{file}: ok, " + ", ".join(f"{n} {what}" for what, n in counts.items()))


@app.command()
def report(
    config: Config = None,
    strategy: Annotated[str | None, typer.Option(help="Judge by this strategy.")] = None,
    json_: Json = False,
) -> None:
    """Show what is known of every endpoint, by task category."""
    from router.report.gather import gather
    from router.report.terminal import print_report

    found = gather(find_file(config), strategy)
    if found.bad_input:
        _fail(found.bad_input, BAD_INPUT)
    if json_:
        _print_json(found.as_json())
    else:
        print_report(found)


@app.command()
def feedback(
    decision_id: Annotated[str | None, typer.Option(help="x-router-decision-id.")] = None,
    response_id: Annotated[str | None, typer.Option(help="The answer's own id.")] = None,
    ref: Annotated[str | None, typer.Option(help="Your own reference.")] = None,
    score: Annotated[float | None, typer.Option(help="A judge's score, 0 to 1.")] = None,
    passed: Annotated[bool | None, typer.Option(help="Whether a test passed.")] = None,
    thumb: Annotated[str | None, typer.Option(help="up or down.")] = None,
    edit_ratio: Annotated[float | None, typer.Option(help="How much was edited, 0 to 1.")] = None,
    match: Annotated[str | None, typer.Option(help="last or all, of several.")] = None,
    key: Annotated[str, typer.Option(envvar="POINTSMAN_KEY", help="The app's key.")] = "",
    url: Annotated[str | None, typer.Option(help="The sidecar; else as configured.")] = None,
    config: Config = None,
    json_: Json = False,
) -> None:
    """Say what an answer was worth."""
    import httpx

    given = {
        "decision_id": decision_id,
        "response_id": response_id,
        "ref": ref,
        "score": score,
        "passed": passed,
        "thumb": thumb,
        "edit_ratio": edit_ratio,
        "match": match,
    }
    url, headers = _sidecar(url, key, config)
    body = {name: value for name, value in given.items() if value is not None}
    try:
        raw = json.dumps(body, allow_nan=False).encode()
    except ValueError:
        _fail("--score and --edit-ratio are numbers from 0 to 1", BAD_INPUT)
    try:
        with httpx.Client(trust_env=False, timeout=10) as client:
            answer = client.post(f"{url}/v1/feedback", content=raw, headers=headers)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL):
        _fail(_NO_URL.format(url), BAD_INPUT)
    except httpx.TransportError as error:
        _fail(f"no sidecar at {url} ({type(error).__name__}); start it with `pointsman up`", FAILED)
    try:
        found = answer.json()
        said = found["results"][0]["status"] if answer.is_success else found["error"]["message"]
    except (ValueError, KeyError, TypeError, IndexError):
        _fail(f"what answers at {url} is no pointsman (status {answer.status_code})", FAILED)
    if json_:
        _print_json(found)
    elif answer.is_success:
        hint = ": no such answer is known yet; it is joined if it appears within a day"
        print(said + (hint if said == "held" else ""))
    if not answer.is_success:
        _fail(said, BAD_INPUT if answer.status_code < 500 else FAILED)


@app.command()
def explain(
    decision_id: Annotated[str, typer.Argument(help="x-router-decision-id of an answer.")],
    key: Annotated[
        str, typer.Option(envvar="POINTSMAN_ADMIN_KEY", help="The admin key, if one is needed.")
    ] = "",
    url: Annotated[str | None, typer.Option(help="The sidecar; else as configured.")] = None,
    config: Config = None,
    json_: Json = False,
) -> None:
    """Show why a decision fell as it did, with the numbers that it was made from."""
    import httpx

    from router import explain_command

    url, headers = _sidecar(url, key, config)
    try:
        answer = explain_command.ask(decision_id, url=url, headers=headers)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL):
        _fail(_NO_URL.format(url), BAD_INPUT)
    except httpx.TransportError as error:
        _fail(f"no sidecar at {url} ({type(error).__name__}); start it with `pointsman up`", FAILED)
    try:
        found = answer.json()
        refused = None if answer.is_success else found["error"]["message"]
    except (ValueError, KeyError, TypeError):
        _fail(f"what answers at {url} is no pointsman (status {answer.status_code})", FAILED)
    if refused is not None:
        _fail(refused, BAD_INPUT if answer.status_code < 500 else FAILED)
    if json_:
        _print_json(found)
    else:
        explain_command.show(found)


@app.command(hidden=True)
def ingest(
    file: Annotated[Path, typer.Argument(help="JSON Lines, CSV or parquet.")],
    form: Annotated[
        str | None, typer.Option("--format", help="jsonl, csv or parquet; else by the suffix.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Whose events they are; else the file's name.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be taken.")
    ] = False,
    key: Annotated[str, typer.Option(envvar="POINTSMAN_KEY", help="The app's key.")] = "",
    url: Annotated[str | None, typer.Option(help="The sidecar; else as configured.")] = None,
    config: Config = None,
    json_: Json = False,
) -> None:
    """Teach the sidecar from a file of outcomes and feedback; twice has the effect of once."""
    import httpx

    from router import ingest_command
    from router.ingest_file import BadFile

    url, headers = _sidecar(url, key, config)
    try:
        found = ingest_command.run(
            file, form=form, source=source, url=url, headers=headers, dry_run=dry_run
        )
    except BadFile as error:
        _fail(str(error), BAD_INPUT)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL):
        _fail(_NO_URL.format(url), BAD_INPUT)
    if json_:
        _print_json(found.as_json())
    else:
        ingest_command.show(found)
    if found.failure:
        _fail(found.failure, BAD_INPUT if found.is_refused else FAILED)
    if found.n_rejected:
        raise typer.Exit(FAILED)


@app.command()
def off(config: Config = None) -> None:
    """Switch routing off: every call goes where it would go without us."""
    _switch(config, off=True)


@app.command()
def on(config: Config = None) -> None:
    """Switch routing on again."""
    _switch(config, off=False)


@app.command(hidden=True)
def demo(
    outcomes: Annotated[
        Path | None, typer.Option(help="A table of recorded outcomes, parquet or CSV.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Only rows with column=value; repeatable.")
    ] = None,
    endpoints: Annotated[str | None, typer.Option(help="Only these, separated by commas.")] = None,
    requests: Annotated[int, typer.Option(min=1, max=1_000_000, help="Calls to make.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the client's choices.")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Calls at a time.")] = 16,
    time_scale: Annotated[
        float, typer.Option(min=0, max=10, help="Of the recorded latencies.")
    ] = 0.01,
    feedback_delay: Annotated[
        float, typer.Option(min=0, max=60, help="Seconds from answer to feedback.")
    ] = 0.5,
    incumbent: Annotated[
        str | None, typer.Option(help="Who has the traffic now; else learning mode.")
    ] = None,
    tool_calls: Annotated[
        bool, typer.Option("--tool-calls", help="Answers call a tool, the better the more validly.")
    ] = False,
    no_feedback: Annotated[
        bool, typer.Option("--no-feedback", help="The client says nothing of any answer.")
    ] = False,
    json_: Json = False,
) -> None:
    """Run the whole stack against simulated endpoints that replay recorded outcomes."""
    from router.demo.client import DemoSettings
    from router.demo.figures import print_result
    from router.demo.run import run_demo
    from telemetry.recorded import BadTable, Selection

    named = tuple(e.strip() for e in (endpoints or "").split(",") if e.strip())
    if endpoints is not None and not named:
        _fail(f"--endpoints {endpoints}: names no endpoint", BAD_INPUT)
    if outcomes is None and (where or named):
        _fail("--where and --endpoints select from a table: name it by --outcomes", BAD_INPUT)
    if not math.isfinite(time_scale) or not math.isfinite(feedback_delay):
        _fail("--time-scale and --feedback-delay are numbers", BAD_INPUT)
    selection = Selection(where=tuple(where or ()), endpoints=named)
    settings = DemoSettings(
        outcomes=outcomes,
        selection=selection,
        requests=requests,
        seed=seed,
        concurrency=concurrency,
        time_scale=time_scale,
        feedback_delay_s=feedback_delay,
        incumbent=incumbent,
        tool_calls=tool_calls,
        feedback=not no_feedback,
    )
    try:
        result = run_demo(settings)
    except BadTable as error:
        _fail(str(error), BAD_INPUT)
    if json_:
        _print_json(result.as_json())
    else:
        print_result(result)
    if not result.is_sound:
        raise typer.Exit(FAILED)


@app.command(hidden=True)
def replay(
    file: Annotated[Path, typer.Argument(help="A table of recorded outcomes, parquet or CSV.")],
    where: Annotated[
        list[str] | None, typer.Option(help="Only rows with column=value; repeatable.")
    ] = None,
    endpoints: Annotated[str | None, typer.Option(help="Only these, separated by commas.")] = None,
    keep_unpriced: Annotated[
        bool, typer.Option("--keep-unpriced", help="Keep rows without a cost, as the dearest.")
    ] = False,
    policy: Annotated[
        list[str] | None, typer.Option(help="Repeatable; else pointsman and the usual baselines.")
    ] = None,
    profile: Annotated[
        int, typer.Option(min=0, max=10_000, help="Prompts a category graded beforehand.")
    ] = 0,
    prior_where: Annotated[
        list[str] | None, typer.Option(help="Other rows of the file as prior; repeatable.")
    ] = None,
    prior: Annotated[Path | None, typer.Option(help="Another file as prior.")] = None,
    strategy: Annotated[
        str, typer.Option(help="quality, balanced, cheapest or fastest.")
    ] = "quality",
    value_usd: Annotated[float | None, typer.Option(help="What a success is worth.")] = None,
    budget_usd_per_1k: Annotated[
        float | None, typer.Option(help="USD that 1,000 calls may cost.")
    ] = None,
    latency_slo_s: Annotated[float | None, typer.Option(help="Seconds to answer within.")] = None,
    latency_prob: Annotated[float, typer.Option(help="With this probability.")] = 0.95,
    incumbent: Annotated[
        str | None, typer.Option(help="Who has the traffic now; else learning mode.")
    ] = None,
    release_every: Annotated[int, typer.Option(min=1, help="Calls between reviews.")] = 200,
    floor: Annotated[
        float | None, typer.Option(help="Share of calls spread over the safe; .02 or 0.")
    ] = None,
    holdout: Annotated[float, typer.Option(help="Share of calls kept at one endpoint.")] = 0.0,
    holdout_endpoint: Annotated[str | None, typer.Option(help="Which; else the incumbent.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="Seeds 0 to N-1.")] = 16,
    repeat: Annotated[
        int | None, typer.Option(min=1, max=10_000_000, help="Calls, drawn with replacement.")
    ] = None,
    calls_per_second: Annotated[float, typer.Option(help="Of the replay's clock.")] = 1.0,
    arrivals: Annotated[
        Path | None, typer.Option(help="Times of arrival, column offset_s, instead.")
    ] = None,
    scenario: Annotated[str, typer.Option(help="What happens on the way.")] = "stationary",
    ope: Annotated[
        bool, typer.Option("--ope", help="Judge other policies from logs of ours instead.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Write regret over time here, as SVG.")] = None,
    json_: Json = False,
) -> None:
    """Replay recorded outcomes: what routing would have gained, beside honest baselines."""
    from workers import replay_command

    options = {k: v for k, v in locals().items() if k not in ("replay_command", "json_", "plot")}
    try:
        settings = replay_command.parse(options)
        if ope:
            found = replay_command.evaluate(settings, progress=_say)
        else:
            found = replay_command.compare(settings, plot=plot, progress=_say)
    except replay_command.BadInput as error:
        _fail(str(error), BAD_INPUT)
    if json_:
        _print_json(found)
    elif ope:
        replay_command.show_evaluation(found)
    else:
        replay_command.show(found)


@app.command(hidden=True)
def bench(
    what: Annotated[str, typer.Argument(help="What to measure: http, draw or pipeline.")] = "http",
    arms: Annotated[int, typer.Option(min=2, max=1000, help="Endpoints, of `draw`.")] = 10,
    rounds: Annotated[int, typer.Option(min=1, max=100)] = 5,
    seconds: Annotated[float, typer.Option(min=0.5, max=60, help="A round and setting.")] = 3.0,
    peer: Annotated[str | None, typer.Option(help="Also measure this one: litellm.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Less of it, of `pipeline`.")] = False,
    json_: Json = False,
) -> None:
    """Measure the sidecar against nginx in the same run, a single draw, or the pipeline."""
    if what not in ("http", "draw", "pipeline"):
        _fail(f"there is no bench {what!r}; known: http, draw, pipeline", BAD_INPUT)
    if what == "pipeline":
        from workers import bench_pipeline

        measured = bench_pipeline.run_bench(bench_pipeline.QUICK if quick else bench_pipeline.FULL)
        if json_:
            _print_json(measured)
        else:
            bench_pipeline.print_table(measured)
        return
    if what == "draw":
        from workers.bench_draw import run_bench as bench_draw

        found = bench_draw(arms)
        if json_:
            _print_json(found)
        else:
            print(f"{arms} endpoints: p50 {found['p50_us']:.1f} µs, p99 {found['p99_us']:.1f} µs")
        return
    if peer not in (None, "litellm"):
        _fail(f"there is no peer {peer!r}; known: litellm", BAD_INPUT)
    from router.bench import MissingProgram, print_table, run_bench

    try:
        result = run_bench(rounds=rounds, seconds=seconds, peer=peer)
    except MissingProgram as error:
        _fail(str(error), FAILED)
    if json_:
        _print_json(result)
    else:
        print_table(result)


@app.command("help", hidden=True)
def help_(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="`all` lists every command.")] = "",
) -> None:
    """Show all commands."""
    if what != "all":
        print("pointsman --help shows the six verbs, pointsman help all every command")
        return
    for command in app.registered_commands:
        callback = command.callback
        assert callback is not None
        name = command.name or callback.__name__
        print(f"  {name:<10} {(callback.__doc__ or '').strip().splitlines()[0]}")


def _sidecar(url: str | None, key: str, config: Path | None) -> tuple[str, dict[str, str]]:
    """Return where the sidecar is, and the header that carries the app's key."""
    if url is None:
        server = _load(config, secrets=False).server
        if server.port == 0:
            _fail("server.port is 0, any free one: say where by --url", BAD_INPUT)
        url = server.url
    if not key.isascii() or not key.isprintable():
        _fail("--key holds characters that no header may carry", BAD_INPUT)
    return url, {"authorization": f"Bearer {key}"} if key else {}


def _load(config: Path | None, *, secrets: bool = True) -> Configuration:
    try:
        return load(find_file(config), secrets=secrets)
    except ConfigError as error:
        _fail(str(error), BAD_INPUT)


@contextmanager
def _store(configuration: Configuration) -> Iterator[Any]:
    from telemetry.errors import TelemetryError
    from telemetry.store import open_store

    url = configuration.store.url() or os.environ.get("POINTSMAN_STORE_URL")
    try:
        with open_store(configuration.server.state_directory(), url=url) as address:
            yield address
    except TelemetryError as error:
        _fail(str(error), FAILED)


@contextmanager
def _archive(config: Path | None) -> Iterator[Any]:
    from telemetry.errors import TelemetryError
    from telemetry.store import StoreErrors, connect
    from workers.archive import Archive

    configuration = _load(config, secrets=False)
    root = configuration.server.state_directory() / "archive"
    with _store(configuration) as address:
        client = connect(address, timeout_s=60.0)
        try:
            yield Archive(client, root, configuration.store.shards)
        except (TelemetryError, *StoreErrors) as error:
            _fail(str(error), FAILED)


def _workers(configuration: Configuration, address: Any) -> list[tuple[str, list[str]]]:
    """Return names and commands of what folds and archives; the store's URL goes by environment."""
    from router.supervisor import jobs_command, worker_command

    url = None if address.private else address.url
    if url:
        os.environ["POINTSMAN_STORE_URL"] = url
    state_dir, keep = configuration.server.state_directory(), configuration.archive
    worker = worker_command(state_dir, shards=configuration.store.shards, store_url=url)
    jobs = jobs_command(worker, archive=keep)
    return [("worker", worker), ("jobs", jobs)]


def _require_port(configuration: Configuration) -> None:
    """Say at once that the port is taken, instead of failing over and over."""
    server = configuration.server
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((server.host, server.port))
        except OSError as error:
            where = f"{server.host}:{server.port}"
            hint = "is another pointsman running? else set server.host and server.port"
            _fail(f"cannot listen on {where} ({error.strerror}): {hint}", FAILED)


def _check_layout(configuration: Configuration, address: Any) -> None:
    """Refuse a store that was made with other shards; one that is away may come later."""
    from telemetry.errors import StoreMismatch
    from telemetry.store import StoreErrors, connect, prepare

    try:
        prepare(connect(address, timeout_s=1.0), shards=configuration.store.shards)
    except StoreMismatch as error:
        _fail(str(error), BAD_INPUT)
    except StoreErrors:
        return


def _switch(config: Path | None, *, off: bool) -> None:
    """A file switches whoever shares the state directory, the store the others.

    It must work when little else does: of the configuration only the two places are read.
    """
    from router.beliefs.keeper import OFF_FILE
    from router.config.file import places
    from telemetry import keys
    from telemetry.errors import TelemetryError
    from telemetry.store import StoreErrors, connect, parse_address

    file = find_file(config)
    if config is not None and not file.exists():
        _fail(f"--config {file}: there is no such file, so nothing was switched", BAD_INPUT)
    state_dir, url = places(file)
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    switch = state_dir / OFF_FILE
    if off:
        switch.touch()
    else:
        switch.unlink(missing_ok=True)
    told = ""
    if url:
        try:
            client = connect(parse_address(url), timeout_s=1.0)
            client.set(keys.OFF, "1") if off else client.delete(keys.OFF)
            told = " and everywhere on its store"
        except (TelemetryError, *StoreErrors) as error:
            told = f"; its store was not told ({type(error).__name__})"
    print(f"routing is {'off' if off else 'on'} for sidecars with state in {state_dir}{told}")
    if not (state_dir / "journal").is_dir():
        _say("no sidecar has ever run there; is it another configuration's? See --config")


def _print_json(value: object) -> None:
    print(json.dumps(value))


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _fail(text: str, code: int) -> NoReturn:
    _say(text)
    raise typer.Exit(code)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
