"""The process that makes the calls of `pointsman profile`.

It has a session of its own and outlives the command: where that is gone, it begins nothing more,
finishes what is under way, writes it down, and ends. So nothing that is paid for is lost.
`python -m router.commands.profile_child`; it is told a task on stdin, and tells lines of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from bandit.profiled import MIN_GRADED
from router.commands.console import BAD_INPUT, FAILED, VerbFailed
from router.commands.inputs import opened_store, written
from router.commands.profile_told import CommandGone, CommandLine
from router.config.compiled import Configuration
from router.profiling.asking import foretell
from router.profiling.check_command import hide_environment
from router.profiling.heard import LostCalls
from router.profiling.labels import send, unsent
from router.profiling.log import Logged, LogLine, RunLog
from router.profiling.no_answer import Explainer, listening
from router.profiling.own_sidecar import own_sidecar
from router.profiling.plan import (
    Ask,
    Foretold,
    ProfilePlan,
    enough_usd,
    judging_usd,
    make_plan,
)
from router.profiling.prompts import ProfilePrompt
from router.profiling.run import Runner
from router.profiling.runs import LOG, RunBusy, at_work
from router.profiling.states import ProfileProgress
from telemetry import logs
from telemetry.store import Address

LOOK_S = 0.1
TELL_EVERY_S = 0.2
FORETOLD_AT_ONCE = 16
LOOKED_AT = 5000
"""After so many prompts that are tried dry a word is said: of a large file that takes minutes."""
ALL_CUT_OFF = (
    "nothing is left to be sent: {} calls ended with their process, and whether they were paid is "
    "not known; --again forgets them and pays anew, or add prompts"
)


class ProfileTask(Struct, frozen=True):
    """What the command wants done."""

    config: str
    directory: str
    app: str
    endpoints: list[str]
    judge: str | None
    per_cell: int
    max_usd: float
    workers: int
    again: bool
    prompts: list[ProfilePrompt]


def main() -> int:
    """Do what stdin says; return the exit code."""
    logs.configure()
    hide_environment()
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=ProfileTask)
    try:
        asyncio.run(_serve(task))
    except CommandGone:
        return FAILED
    return 0


async def _serve(task: ProfileTask) -> None:
    line = CommandLine()
    line.listen()
    try:
        entries = written(Path(task.config))
        state_dir = Path(task.directory).parent.parent
        async with _lock(state_dir, line):
            with opened_store(entries) as address:
                await run_task(task, line, address)
    except VerbFailed as error:
        line.tell("failed", text=error.text, code=error.code)
    except (LookupError, OSError) as error:
        line.tell("failed", text=str(error), code=FAILED)
    except httpx.HTTPError as error:
        line.tell("failed", text=f"our own sidecar failed ({type(error).__name__})", code=FAILED)


@contextlib.asynccontextmanager
async def _lock(state_dir: Path, line: CommandLine) -> AsyncIterator[None]:
    """Hold the lock; wait for it as long as the command does."""
    told = False
    while True:
        held = at_work(state_dir)
        try:
            held.__enter__()
            break
        except RunBusy:
            if line.gone.is_set():
                raise CommandGone from None
            if not told:
                line.tell("waiting")
                told = True
            await asyncio.sleep(LOOK_S)
    with contextlib.ExitStack() as stack:
        stack.push(held)
        yield


async def run_task(task: ProfileTask, line: CommandLine, address: Address) -> None:
    """Plan, wait for the user's word, make the calls, and send their labels.

    Raises:
        CommandGone: nobody waits for it any more.
        VerbFailed: nothing can be sent; says why.
    """
    entries = written(Path(task.config))
    log, lost = RunLog(Path(task.directory)), LostCalls()
    try:
        with listening() as heard:
            async with own_sidecar(entries, task.app, address, complaints=lost) as (
                client,
                configuration,
            ):
                logged = Logged() if task.again else log.logged
                plan = await _plan(task, line, client, configuration, logged)
                told = plan.as_json(max_usd=task.max_usd, workers=task.workers)
                line.tell("plan", **told, incumbent=plan.incumbent)
                if plan.asks or logged.answered:
                    await line.wait_for_go()
                if task.again:
                    log.begin_anew()
                if not log.logged.run:
                    log.write(LogLine("start", time.time(), run=secrets.token_hex(8)))
                explainer = Explainer(entries, heard, Path(task.directory) / LOG)
                await _run(task, line, client, plan, log, explainer, lost)
    finally:
        log.close()


async def _plan(
    task: ProfileTask,
    line: CommandLine,
    client: httpx.AsyncClient,
    configuration: Configuration,
    logged: Logged,
) -> ProfilePlan:
    by_id = configuration.catalog.by_id
    foretold = await _foretold(task, line, client)
    judge = by_id[task.judge] if task.judge is not None else None
    if judge is not None:
        _require_judge(task, judge.id, foretold)
    plan = make_plan(
        task.prompts,
        foretold,
        [by_id[name] for name in task.endpoints],
        judge=judge if any(p.grader is None for p in task.prompts) else None,
        per_cell=task.per_cell,
        logged=logged,
        at_s=time.time(),
    )
    app = configuration.apps[task.app].entry
    if app.endpoint is not None and app.endpoint in by_id:
        plan.incumbent = app.endpoint  # calls by another mode were asked about
    if plan.cut_off and not (plan.asks or plan.done):
        raise VerbFailed(ALL_CUT_OFF.format(plan.cut_off), FAILED)
    if not (plan.asks or plan.done):
        why = [
            f"{name}: {reason}" for name, each in plan.excluded.items() for reason in sorted(each)
        ]
        text = f"no endpoint may have any of these prompts ({'; '.join(why)})"
        raise VerbFailed(text, BAD_INPUT)
    return plan


async def _foretold(
    task: ProfileTask, line: CommandLine, client: httpx.AsyncClient
) -> dict[str, Foretold]:
    """Return what dry runs say of every prompt.

    Raises:
        CommandGone: nobody waits for it any more.
        VerbFailed: one is not taken at all.
    """
    found: dict[str, Foretold] = {}
    wrong: list[tuple[int, str]] = []
    waiting = iter(task.prompts)

    async def ask_next() -> None:
        for prompt in waiting:
            if line.gone.is_set():
                raise CommandGone
            if (len(found) + len(wrong) + 1) % LOOKED_AT == 0:
                line.tell("looking", done=len(found) + len(wrong) + 1, total=len(task.prompts))
            told = await foretell(
                client,
                prompt.body,
                task=prompt.task,
                data_class=prompt.data_class,
                endpoints=task.endpoints,
            )
            if isinstance(told, str):
                wrong.append((prompt.line, told))
            else:
                found[prompt.digest] = told

    await asyncio.gather(*(ask_next() for _ in range(FORETOLD_AT_ONCE)))
    if wrong:
        shown = [f"line {line}: {said}" for line, said in sorted(wrong)[:20]]
        shown += [f"… and {len(wrong) - 20} more lines"] if len(wrong) > 20 else []
        raise VerbFailed("\n".join(shown), BAD_INPUT)
    return found


def _require_judge(task: ProfileTask, judge: str, foretold: dict[str, Foretold]) -> None:
    """Refuse a judge that may not read what it is to judge."""
    for prompt in task.prompts:
        why = foretold[prompt.digest].exclusions.get(judge)
        if prompt.grader is None and why is not None and not why.startswith("capability"):
            of = f"the judge {judge} may not have the prompt of line {prompt.line}"
            fix = "name another judge, or give these prompts expected answers"
            raise VerbFailed(f"{of} ({why}); {fix}", BAD_INPUT)


async def _run(
    task: ProfileTask,
    line: CommandLine,
    client: httpx.AsyncClient,
    plan: ProfilePlan,
    log: RunLog,
    explainer: Explainer,
    lost: LostCalls,
) -> None:
    runner = Runner(
        client,
        plan,
        log,
        max_usd=task.max_usd,
        workers=task.workers,
        on_progress=_teller(line),
        why=explainer.why,
        lost=lost.take,
    )
    watching = asyncio.create_task(_stop_when_gone(line, runner))
    try:
        await _grade_kept(task, plan, runner, log)
        await runner.run()
    finally:
        watching.cancel()
        at_s = time.time()
        sent, why_not = await send(client, log.logged.run, unsent(log.logged, at_s=at_s), at_s=at_s)
        if sent:
            log.write(LogLine("labelled", at_s, cells=tuple(sent)))
        log.drop_texts()
    line.tell(
        "done",
        labels=len(sent),
        labels_before=len(log.logged.labelled) - len(sent),
        why_not=why_not,
        **_told(runner, line, log),
    )


async def _grade_kept(task: ProfileTask, plan: ProfilePlan, runner: Runner, log: RunLog) -> None:
    """Grade answers that an earlier run was paid for and did not come to grade."""
    by_digest = {prompt.digest: prompt for prompt in task.prompts}
    by_id = {endpoint.id: endpoint for endpoint in plan.endpoints}
    for digest, name in list(log.logged.answered):
        prompt, endpoint = by_digest.get(digest), by_id.get(name)
        kept = log.logged.answered[digest, name].result
        if prompt is None or endpoint is None or kept is None:
            continue
        judge_usd = 0.0
        if plan.judge is not None and prompt.grader is None:
            judge_usd = judging_usd(plan.judge, prompt.body, at_s=time.time())
        if runner.is_stopping or log.logged.spent_usd + judge_usd > task.max_usd:
            return
        await runner.grade_kept(Ask(0, prompt, kept.task, endpoint, None, judge_usd))


async def _stop_when_gone(line: CommandLine, runner: Runner) -> None:
    await line.gone.wait()
    await runner.stop()


def _teller(line: CommandLine) -> Callable[[ProfileProgress], None]:
    told_at = 0.0

    def tell(progress: ProfileProgress) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= TELL_EVERY_S or progress.done == progress.total:
            told_at = time.monotonic()
            line.tell("progress", **msgspec.structs.asdict(progress))

    return tell


def _told(runner: Runner, line: CommandLine, log: RunLog) -> dict[str, Any]:
    judge, left, spent_usd = runner.judge, runner.left, log.logged.spent_usd
    answer_usd = log.logged.answer_usd()
    return {
        "no_answer": _without_answer(runner, log),
        "enough_usd": enough_usd(left, spent_usd, answer_usd, n_each=MIN_GRADED),
        "all_usd": enough_usd(left, spent_usd, answer_usd, n_each=len(left)),
        "stopped": {name: s.stopped for name, s in runner.states.items() if s.stopped},
        "turned_down": log.logged.turned_down(),
        "changed": log.logged.changed(),
        "said": {name: state.said for name, state in runner.states.items() if state.said},
        "perhaps_paid_usd": log.logged.perhaps_paid_usd,
        "dropped": dict(runner.dropped),
        "odd": dict(runner.odd),
        "out_of_money": runner.out_of_money,
        "asked_to_stop": line.gone.is_set(),
        "usage_unknown": runner.n_estimated,
        "judge_asked": judge.asked if judge is not None else 0,
        "judge_graded": judge.graded if judge is not None else 0,
        "judge_fault": judge.fault if judge is not None else "",
        "left": runner.progress.total - runner.progress.done,
    }


def _without_answer(runner: Runner, log: RunLog) -> dict[str, str]:
    """Return why no answer came of each endpoint of which none did, as far as that was tried."""
    answering = log.logged.answering
    return {n: state.why for n, state in runner.states.items() if state.why and n not in answering}


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a thread may still wait for stdin
