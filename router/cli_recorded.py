"""Signatures of the verbs that play recorded outcomes: `demo`, `replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from router.cli_options import Incumbent, Json, Where


def demo(
    outcomes: Annotated[
        Path | None, typer.Option(help="A table of recorded outcomes, parquet or CSV.")
    ] = None,
    where: Where = None,
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
    incumbent: Incumbent = None,
    tool_calls: Annotated[
        bool, typer.Option("--tool-calls", help="Answers call a tool, the better the more validly.")
    ] = False,
    no_feedback: Annotated[
        bool, typer.Option("--no-feedback", help="The client says nothing of any answer.")
    ] = False,
    budget_usd_per_1k: Annotated[
        float | None, typer.Option(min=1e-6, help="USD that 1,000 calls may cost.")
    ] = None,
    calls_per_s: Annotated[
        float | None,
        typer.Option(min=0.1, max=10_000, help="So many come; else at will."),
    ] = None,
    stay: Annotated[
        bool, typer.Option("--stay", help="Serve on afterwards, with files in this directory.")
    ] = False,
    json_: Json = False,
) -> None:
    """Run the whole stack against simulated endpoints that replay recorded outcomes."""
    from router.commands import demo as verb
    from router.commands.console import BAD_INPUT, fail
    from router.demo.client import DemoSettings
    from telemetry.recorded import Selection

    named = tuple(e.strip() for e in (endpoints or "").split(",") if e.strip())
    if endpoints is not None and not named:
        fail(f"--endpoints {endpoints}: names no endpoint", BAD_INPUT)
    verb.demo(
        DemoSettings(
            outcomes=outcomes,
            selection=Selection(where=tuple(where or ()), endpoints=named),
            requests=requests,
            seed=seed,
            concurrency=concurrency,
            time_scale=time_scale,
            feedback_delay_s=feedback_delay,
            incumbent=incumbent,
            tool_calls=tool_calls,
            feedback=not no_feedback,
            budget_usd_per_1k=budget_usd_per_1k,
            calls_per_s=calls_per_s,
        ),
        as_json=json_,
        stay=stay,
    )


def replay(
    file: Annotated[Path, typer.Argument(help="A table of recorded outcomes, parquet or CSV.")],
    where: Where = None,
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
    incumbent: Incumbent = None,
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
    options = dict(locals())
    for not_a_setting in ("ope", "plot", "json_"):
        del options[not_a_setting]

    from router.commands import replay as verb

    verb.replay(options, ope=ope, plot=plot, as_json=json_)
