"""`pointsman check --live`: every endpoint called, a few tiny calls each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from router.commands.console import BAD_INPUT, FAILED, fail, print_json, require_consent, say
from router.commands.inputs import check_layout, opened_store
from router.commands.state import naming_state, require_state, state_of
from router.config.compiled import Configuration, compile_entries
from router.config.entries import File
from router.config.file import parse, read
from router.config.lines import Spots
from router.config.named import did_you_mean
from router.config.places import find_file
from router.config.tree import parse_yaml
from router.endpoints.catalog import Endpoint
from router.endpoints.verified import FILE as VERIFIED
from router.endpoints.verified import Verified, keep_verified
from router.errors import ConfigError
from router.profiling import live_verdicts
from router.profiling.heard import HeardComplaints, HeardLog, hearing
from router.profiling.live import (
    LiveResult,
    OwnSidecar,
    check_endpoints,
)
from router.profiling.live_entries import (
    ANSWER_S,
    CheckPlan,
    LiveSkipped,
    live_entries,
    plan_check,
)
from router.profiling.live_lines import lines_of
from router.profiling.live_prices import is_priced, most_calls, most_nano
from router.profiling.live_verdicts import CheckedEndpoint
from router.profiling.live_words import in_short
from router.profiling.own_sidecar import own_sidecar
from telemetry import logs
from telemetry.digests import digest8

NO_BOUND = "without a bound: its params take the limit away, and output_tokens says none"
NO_TERMINAL = "nobody is there to ask: say --yes, and the calls are made and paid for"


class _Read(Struct, frozen=True):
    """A file, read and checked."""

    file: str
    entries: File
    configuration: Configuration
    spots: Spots


def check_live(config: Path | None, endpoints: Sequence[str], *, yes: bool, as_json: bool) -> None:
    """Call endpoints, and say what is not as the configuration has it.

    Args:
        endpoints: ids; empty: all.
        yes: do not ask before anything is paid for.
    """
    logs.configure()
    found = _read(config)
    wanted = _wanted(found.configuration, endpoints)
    plan = plan_check(found.entries, found.configuration, wanted, by_name=bool(endpoints))
    at_s = time.time()
    called = [e for e in found.configuration.catalog.endpoints if e.id in plan.called]
    if called:
        for line in price_lines(called, at_s, answer_s=_answer_s(found.entries)):
            say(line)
        require_consent("make these calls?", no_terminal=NO_TERMINAL, yes=yes)
    results, plan = _called(found, plan, at_s) if called else ([], plan)
    not_kept = _keep(found, results, at_s) if results else ""
    by_id = {one.endpoint: one for one in _compared(found, plan, results, at_s)}
    checked = [by_id[id_] for id_ in wanted]
    if not_kept:
        say(not_kept)
    if as_json:
        spent = sum(one.cost_usd for one in checked)
        rows = [one.as_json() for one in checked]
        is_ok = not (not_kept or any(one.is_failure for one in checked))
        whole = {"ok": is_ok, "file": found.file, "endpoints": rows, "cost_usd": spent}
        is_estimated = any(one.cost_is_estimated for one in checked)
        print_json({**whole, "cost_is_estimated": is_estimated, "not_kept": not_kept or None})
    else:
        for line in lines_of(checked):
            print(line)
    if not_kept or any(one.is_failure for one in checked):
        raise SystemExit(FAILED)


def require_live(*, live: bool) -> None:
    """Refuse what only a live check takes, where none is asked for."""
    if not live:
        fail("--endpoint and --yes are for --live, which calls endpoints", BAD_INPUT)


def _read(config: Path | None) -> _Read:
    """Return the file; keys are asked for once it is known who is called."""
    file = find_file(config)
    try:
        text = read(file)
        entries = parse(text, file=str(file), secrets=False)
    except ConfigError as error:
        fail(str(error), BAD_INPUT)
    version = digest8("configuration", text)
    configuration = compile_entries(entries, version=version, secrets=False)
    return _Read(str(file), entries, configuration, parse_yaml(text, str(file)).findings.spots)


def _wanted(configuration: Configuration, named: Sequence[str]) -> list[str]:
    """Return the ids of those that are meant, as listed."""
    known = [endpoint.id for endpoint in configuration.catalog.endpoints]
    for id_ in named:
        if id_ not in known:
            fail(f"--endpoint {id_}: there is none of that id{did_you_mean(id_, known)}", BAD_INPUT)
    return [id_ for id_ in known if not named or id_ in named]


def price_lines(endpoints: Sequence[Endpoint], at_s: float, *, answer_s: float) -> list[str]:
    """Return what calls cost at most, an endpoint a line, and the sum.

    Args:
        at_s: when the prices hold, in epoch seconds.
        answer_s: as long as an answer is waited for.
    """
    lines, total, without = [], 0, {"price": 0, "bound": 0}
    for endpoint in endpoints:
        nano, n = most_nano(endpoint, at_s, answer_s=answer_s), most_calls(endpoint)
        cost = f"at most {(nano or 0) / 1e9:.5f} USD"
        if nano is None:
            without["bound" if is_priced(endpoint) else "price"] += 1
            cost = NO_BOUND if is_priced(endpoint) else "no price known"
        calls = "1 call" if n == 1 else f"at most {n} calls"
        lines.append(f"{endpoint.id}: {calls}, {cost}")
        total += nano or 0
    beside = "".join(f", beside {n} without a {what}" for what, n in without.items() if n)
    return [*lines, f"together at most {total / 1e9:.5f} USD{beside}; the words sent are ours"]


def _answer_s(entries: File) -> float:
    """Return as long as an answer is waited for."""
    return min(entries.server.deadline_s or ANSWER_S, ANSWER_S)


def _called(found: _Read, plan: CheckPlan, at_s: float) -> tuple[list[LiveResult], CheckPlan]:
    """Return what calls showed, under one app's rules after the other's, and who was called."""
    entries, state_dir = live_entries(found.entries, plan.called), state_of(found.entries.server)
    require_state(state_dir)
    with opened_store(found.entries) as address, naming_state(state_dir), hearing() as heard:
        check_layout(found.entries, address)
        return asyncio.run(_call_all(entries, plan, address, heard, at_s))


async def _call_all(
    entries: File, plan: CheckPlan, address: Any, heard: HeardLog, at_s: float
) -> tuple[list[LiveResult], CheckPlan]:
    out, skipped, complaints = list[LiveResult](), {**plan.skipped}, HeardComplaints()
    answer_s = _answer_s(entries)
    for app, ids in plan.by_app.items():
        try:
            async with own_sidecar(entries, app, address, repeats=False, complaints=complaints) as (
                client,
                configuration,
            ):
                endpoints = [configuration.catalog.by_id[id_] for id_ in ids]
                sidecar = OwnSidecar(client, app, heard, complaints, answer_s)
                out += await check_endpoints(sidecar, endpoints, at_s=at_s)
        except LookupError as error:  # a key that went meanwhile
            skipped |= {id_: LiveSkipped(f"no key: {error}", "put it back") for id_ in ids}
    by_app = {app: ids for app, ids in plan.by_app.items() if skipped.keys().isdisjoint(ids)}
    return out, CheckPlan(by_app, skipped)


def _keep(found: _Read, results: Sequence[LiveResult], at_s: float) -> str:
    """Keep what was found with the date; return why that cannot be, "" where it can."""
    catalog = found.configuration.catalog
    fresh = {
        catalog.by_id[one.endpoint].digest: Verified(
            one.endpoint,
            int(at_s * 1000),
            live_verdicts.found_of(one),
            None if one.served is None else in_short(one.served),
        )
        for one in results
        if one.is_reachable
    }
    state_dir = state_of(found.entries.server)
    try:
        keep_verified(state_dir, fresh)
    except OSError as error:
        return f"{state_dir / VERIFIED}: what was found could not be kept ({error.strerror})"
    return ""


def _compared(
    found: _Read, plan: CheckPlan, results: Sequence[LiveResult], at_s: float
) -> list[CheckedEndpoint]:
    by_id, answer_s = found.configuration.catalog.by_id, _answer_s(found.entries)

    def compare(one: LiveResult) -> CheckedEndpoint:
        endpoint = by_id[one.endpoint]
        nano = most_nano(endpoint, at_s, answer_s=answer_s)
        shown = live_verdicts.compare(one, endpoint, found.entries, found.spots, found.file)
        return structs.replace(shown, most_usd=None if nano is None else nano / 1e9)

    return [
        *(live_verdicts.skipped(id_, why) for id_, why in plan.skipped.items()),
        *map(compare, results),
    ]
