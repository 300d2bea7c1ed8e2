"""The demo: the real stack, simulated endpoints that replay recorded outcomes, a real client.

Strategy `quality`: without an incumbent in learning mode, where every call counts from the first;
with one under the guarded law, reviewed every few seconds instead of every week.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.optimize import nnls

from bandit.cells import Q, U
from bandit.report import Row
from router import report, views
from router.configuration import Configuration, load
from router.simulator import save
from router.stack import Stack, stack
from telemetry.recorded import BadTable, Recorded, Selection, synthetic
from telemetry.recorded import load as load_table
from telemetry.store import Address, open_store

FOLLOW_UP_SHARE = 0.25
"""One session in four has a second call."""
STREAMED_SHARE = 0.25
SETTLE_S = 60.0
"""How long the last events may take to be folded before they count as lost."""
SHARDS = 4
REVIEW_EVERY_S = 2.0
"""A week of the demo's traffic."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to run."""

    outcomes: Path | None
    selection: Selection
    requests: int
    seed: int
    concurrency: int
    time_scale: float
    feedback_delay_s: float
    incumbent: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """Prompts of one conversation, and the places of its calls among all calls."""

    id: str
    prompts: tuple[int, ...]
    first_call: int
    streamed: bool


@dataclass(slots=True)
class Ledger:
    """What the client saw: the endpoint that served each call, and the feedback it sent."""

    served: NDArray[np.intp]  # (requests,) endpoint index, -1 where the call failed
    prompts: NDArray[np.intp]  # (requests,)
    failures: list[str] = field(default_factory=list)
    feedback: int = 0
    feedback_failures: int = 0


@dataclass(slots=True)
class Result:
    """The figures of a run."""

    table: Recorded
    figures: dict[str, Any]
    rows: list[Row]
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """Return the figures as one object."""
        return self.figures

    @property
    def is_sound(self) -> bool:
        """Whether every call was answered, and nothing was lost or doubled."""
        wrong = ("lost", "doubled", "failed_calls", "failed_feedback")
        return not any(self.figures[name] for name in wrong)


def run_demo(settings: Settings) -> Result:
    """Run the whole loop once; return what it showed.

    Raises:
        BadTable: the table of outcomes cannot be used.
    """
    table = synthetic()
    if settings.outcomes is not None:
        table = load_table(settings.outcomes, settings.selection)
    if settings.incumbent is not None and settings.incumbent not in table.endpoints:
        known = ", ".join(table.endpoints[:12])
        raise BadTable(f"--incumbent {settings.incumbent}: not among the endpoints, {known}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)  # everything that was started is stopped on the way out
    mode = "learning mode: strategy quality, no incumbent"
    if settings.incumbent is not None:
        mode = f"strategy quality, incumbent {settings.incumbent}"
    _say(f"{mode}, {_describe(table)}")
    with tempfile.TemporaryDirectory(prefix="pointsman-") as temporary:
        directory = Path(temporary)
        save(table, directory / "table.npz")
        state_dir = directory / "state"
        # The store is opened here, so that it outlives router and worker until it was read.
        with open_store(state_dir, url=None) as address, stack(directory) as processes:
            simulator = processes.simulator(directory / "table.npz", time_scale=settings.time_scale)
            config = directory / "pointsman.yaml"
            config.write_text(configuration_text(table, simulator, state_dir, settings.incumbent))
            processes.worker(state_dir, shards=SHARDS)
            router = processes.router(config)
            ports = (router, simulator)
            ledger, answers = asyncio.run(_drive(settings, table, ports, processes))
            configuration = load(config)
            counts = _settle(configuration, address, table.categories, answers, ledger)
            beliefs, _, _ = report.read_beliefs(configuration, address)
        rows = views.report_rows(beliefs, "quality")
    return _result(table, ledger, answers, counts, rows, settings.incumbent)


def configuration_text(
    table: Recorded, port: int, state_dir: Path, incumbent: str | None = None
) -> str:
    """Return the configuration of the demo's sidecar."""
    prices = [list_prices(table, e) for e in range(len(table.endpoints))]
    value = {
        "server": {"port": 0, "state_dir": str(state_dir)},
        "store": {"shards": SHARDS},
        "endpoints": [
            {
                "id": name,
                "model": name,
                "base_url": f"http://127.0.0.1:{port}/e/{i}/v1",
                "prices": {"input_usd_per_mtok": usd_in, "output_usd_per_mtok": usd_out},
            }
            for i, (name, (usd_in, usd_out)) in enumerate(zip(table.endpoints, prices, strict=True))
        ],
        "tasks": {name: None for name in table.categories},
        "strategies": {
            "quality": {
                "objective": "quality",
                "incumbent": incumbent or "none",
                "release_every_s": REVIEW_EVERY_S,
            }
        },
        "apps": {"default": {"mode": "route", "strategy": "quality"}},
    }
    return yaml.safe_dump(value, sort_keys=False)


def list_prices(table: Recorded, endpoint: int) -> tuple[float, float]:
    """Return USD a million tokens in and out that explain the recorded costs best."""
    tokens = np.column_stack([table.tokens_in[:, endpoint], table.tokens_out[:, endpoint]])
    per_token, _ = nnls(tokens.astype(float), table.cost_usd[:, endpoint])
    return round(float(per_token[0]) * 1e6, 6), round(float(per_token[1]) * 1e6, 6)


def sessions(table: Recorded, *, requests: int, seed: int) -> Iterator[Session]:
    """Yield conversations until all calls are given out; a follow-up stays in its category."""
    rng = np.random.default_rng(seed)
    by_category = [np.flatnonzero(table.category == c) for c in range(len(table.categories))]
    call = number = 0
    while call < requests:
        prompts = [int(rng.integers(len(table.prompts)))]
        if rng.random() < FOLLOW_UP_SHARE and call + 1 < requests:
            prompts.append(int(rng.choice(by_category[table.category[prompts[0]]])))
        streamed = bool(rng.random() < STREAMED_SHARE)
        yield Session(f"demo-{seed}-{number}", tuple(prompts), call, streamed)
        call += len(prompts)
        number += 1


async def _drive(
    settings: Settings, table: Recorded, ports: tuple[int, int], processes: Stack
) -> tuple[Ledger, NDArray[np.int64]]:
    """Run all sessions; return the client's ledger and the simulated endpoints'."""
    router, simulator = ports
    ledger = Ledger(
        np.full(settings.requests, -1, dtype=np.intp), np.zeros(settings.requests, dtype=np.intp)
    )
    waiting = iter(sessions(table, requests=settings.requests, seed=settings.seed))
    base = f"http://127.0.0.1:{router}/v1"
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        judge = asyncio.TaskGroup()
        client = _Client(http, base, table, ledger, settings.feedback_delay_s, judge)
        progress = asyncio.create_task(_progress(ledger, settings.requests))
        nurse = asyncio.create_task(_revive(processes))
        async with judge:
            workers = [
                asyncio.create_task(_work(client, waiting)) for _ in range(settings.concurrency)
            ]
            await asyncio.gather(*workers)
        progress.cancel()
        nurse.cancel()
        async with http.get(f"http://127.0.0.1:{simulator}/ledger") as answer:
            answers = np.array((await answer.json())["answers"])
    _say(f"\r{settings.requests} calls, {ledger.feedback} labels sent" + " " * 20)
    return ledger, answers


async def _work(client: _Client, waiting: Iterator[Session]) -> None:
    for session in waiting:
        await client.converse(session)


@dataclass(slots=True)
class _Client:
    """A client as an app would write it: calls, waits, judges."""

    http: aiohttp.ClientSession
    base: str
    table: Recorded
    ledger: Ledger
    feedback_delay_s: float
    judge: asyncio.TaskGroup

    async def converse(self, session: Session) -> None:
        messages: list[dict[str, str]] = []
        for turn, prompt in enumerate(session.prompts):
            messages.append({"role": "user", "content": f"replay recorded prompt {prompt}"})
            self.ledger.prompts[session.first_call + turn] = prompt
            answer_id, model, text = await self._call(session, prompt, messages)
            if answer_id is None:
                return
            endpoint = self.table.endpoints.index(model)
            self.ledger.served[session.first_call + turn] = endpoint
            self.judge.create_task(self._judge(answer_id, prompt, endpoint))
            messages.append({"role": "assistant", "content": text})

    async def _call(
        self, session: Session, prompt: int, messages: list[dict[str, str]]
    ) -> tuple[str | None, str, str]:
        """Make one call; return the answer's id, model and text."""
        headers = {
            "x-router-session-id": session.id,
            "x-router-task": self.table.categories[self.table.category[prompt]],
        }
        body = {"model": "auto", "messages": messages, "stream": session.streamed}
        url = f"{self.base}/chat/completions"
        async with self.http.post(url, json=body, headers=headers) as reply:
            raw = await reply.read()
            if reply.status != 200:
                self.ledger.failures.append(raw[:200].decode(errors="replace"))
                return None, "", ""
            if not session.streamed:
                answer = json.loads(raw)
                return answer["id"], answer["model"], answer["choices"][0]["message"]["content"]
        chunks = [json.loads(e[6:]) for e in raw.split(b"\n\n") if e and e != b"data: [DONE]"]
        text = "".join(c["delta"].get("content", "") for k in chunks for c in k["choices"])
        return chunks[0]["id"], chunks[0]["model"], text

    async def _judge(self, answer_id: str, prompt: int, endpoint: int) -> None:
        await asyncio.sleep(self.feedback_delay_s)
        score = float(self.table.quality[prompt, endpoint])
        body = {"response_id": answer_id, "score": score}
        async with self.http.post(f"{self.base}/feedback", json=body) as reply:
            await reply.read()
            if reply.status == 202:
                self.ledger.feedback += 1
            else:
                self.ledger.feedback_failures += 1


async def _progress(ledger: Ledger, requests: int) -> None:
    began = time.monotonic()
    while True:
        n = int((ledger.served >= 0).sum())
        rate = n / max(time.monotonic() - began, 1e-9)
        _say(f"\r{n}/{requests} calls, {ledger.feedback} labels, {rate:.0f} a second ", end="")
        await asyncio.sleep(0.5 if sys.stderr.isatty() else 5)


async def _revive(processes: Stack) -> None:
    """Start the worker again should somebody kill it: that is part of what a demo may show."""
    while True:
        if processes.revive("worker"):
            _say("\nthe worker died and was started again")
        await asyncio.sleep(0.5)


@dataclass(slots=True)
class Counts:
    """What was folded, by cell."""

    outcomes: NDArray[np.int64]  # (n_categories, n_endpoints)
    labels: NDArray[np.int64]


def _settle(
    configuration: Configuration,
    address: Address,
    categories: list[str],
    answers: NDArray[np.int64],
    ledger: Ledger,
) -> Counts:
    """Wait until everything is folded; return what was."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        beliefs, _, _ = report.read_beliefs(configuration, address)
        index = [configuration.task_index[name] for name in categories]
        counts = Counts(
            np.rint(beliefs.evidence.usage[index][..., U.CALLS]).astype(np.int64),
            np.rint(beliefs.evidence.quality[index][..., Q.LABELS]).astype(np.int64),
        )
        done = counts.outcomes.sum() >= answers.sum() and counts.labels.sum() >= ledger.feedback
        if done or time.monotonic() > deadline:
            return counts
        time.sleep(0.1)


def _result(
    table: Recorded,
    ledger: Ledger,
    answers: NDArray[np.int64],
    counts: Counts,
    rows: list[Row],
    incumbent: str | None,
) -> Result:
    sent = _labels_sent(table, ledger)
    quarter = slice(3 * len(ledger.served) // 4, None)
    prompts, served = ledger.prompts[quarter], ledger.served[quarter]
    answered = served >= 0
    prompts, served = prompts[answered], served[answered]
    would = table.quality[prompts]  # (n, n_endpoints)
    category = table.category[prompts]
    best = np.zeros(len(prompts))
    for c in np.unique(category):
        best[category == c] = would[category == c].mean(axis=0).max()
    figures = {
        "requests": len(ledger.served),
        "attempts": int(answers.sum()),
        "outcomes_folded": int(counts.outcomes.sum()),
        "feedback_sent": ledger.feedback,
        "feedback_folded": int(counts.labels.sum()),
        "lost": _above(answers, counts.outcomes) + _above(sent, counts.labels),
        "doubled": _above(counts.outcomes, answers) + _above(counts.labels, sent),
        "quality_last_quarter": _mean(would[np.arange(len(prompts)), served]),
        "quality_random": _mean(would),
        "quality_best_single": float(would.mean(axis=0).max()) if len(would) else None,
        "quality_best_per_category": _mean(best),
        "endpoints": table.endpoints,
        "categories": [_category(table, c, counts, rows) for c in range(len(table.categories))],
        "failed_calls": len(ledger.failures),
        "failed_feedback": ledger.feedback_failures,
        "synthetic": table.synthetic,
        "learning_mode": incumbent is None,
        "incumbent": incumbent,
        **_against_incumbent(table, ledger, incumbent),
    }
    return Result(table, figures, rows, _sentence(table, figures))


def _against_incumbent(
    table: Recorded, ledger: Ledger, incumbent: str | None
) -> dict[str, float | None]:
    """Return what the incumbent would have earned on the same calls, and how many it kept."""
    if incumbent is None:
        return {"quality": None, "quality_incumbent": None, "incumbent_kept": None}
    answered = ledger.served >= 0
    prompts, served = ledger.prompts[answered], ledger.served[answered]
    place = table.endpoints.index(incumbent)
    return {
        "quality": _mean(table.quality[prompts, served]),
        "quality_incumbent": _mean(table.quality[prompts, place]),
        "incumbent_kept": _mean((served == place).astype(float)),
    }


def _labels_sent(table: Recorded, ledger: Ledger) -> NDArray[np.int64]:
    """Return how many labels the client sent, by cell; every answered call has one."""
    sent = np.zeros((len(table.categories), len(table.endpoints)), dtype=np.int64)
    answered = ledger.served >= 0
    category = table.category[ledger.prompts[answered]]
    np.add.at(sent, (category, ledger.served[answered]), 1)
    return sent


def _above(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    return int(np.maximum(a - b, 0).sum())


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if values.size else None


def _category(table: Recorded, c: int, counts: Counts, rows: list[Row]) -> dict[str, Any]:
    name = table.categories[c]
    own = [row for row in rows if row.category == name]
    chosen = max(own, key=lambda row: row.share or 0.0, default=None)
    truth = table.quality[table.category == c].mean(axis=0)
    return {
        "category": name,
        "calls": int(counts.outcomes[c].sum()),
        "most_used": chosen.endpoint if chosen else None,
        "share": chosen.share if chosen else None,
        "p_best": {row.endpoint: row.p_best for row in own},
        "recorded_best": table.endpoints[int(truth.argmax())],
        "recorded_quality": dict(zip(table.endpoints, truth.round(4).tolist(), strict=True)),
    }


def _sentence(table: Recorded, figures: dict[str, Any]) -> str:
    served, single = figures["quality_last_quarter"], figures["quality_best_single"]
    if served is None or single is None:
        return "No call was answered, so nothing was learned."
    if figures["incumbent"] is not None and figures["quality"] is not None:
        ahead = (figures["quality"] - figures["quality_incumbent"]) * 100
        return (
            f"Guarded by {figures['incumbent']}: over all {figures['requests']} calls quality "
            f"{figures['quality']:.3f}, {ahead:+.1f} points against the incumbent alone; it kept "
            f"{figures['incumbent_kept']:.0%} of the calls. The last quarter was served with "
            f"{served:.3f}; the best single endpoint in hindsight has {single:.3f}."
        )
    n = sum(c["most_used"] == c["recorded_best"] for c in figures["categories"])
    gain = (served - single) * 100
    verdict = f"{gain:+.1f} points against the best single endpoint in hindsight ({single:.3f})"
    return (
        f"Learned from {figures['requests']} calls: the last quarter was served with quality "
        f"{served:.3f}, {verdict}; random gives {figures['quality_random']:.3f}, the best "
        f"endpoint of each category {figures['quality_best_per_category']:.3f}; the most used "
        f"endpoint is the recorded best in {n} of {len(table.categories)} categories."
    )


def print_result(result: Result) -> None:
    """Print the report and what was learned."""
    console = report.console()
    report.print_report(report.Report(rows=result.rows), console)
    figures = result.figures
    console.print(
        f"calls {figures['requests']}, attempts {figures['attempts']}, "
        f"outcomes folded {figures['outcomes_folded']}, labels folded "
        f"{figures['feedback_folded']} of {figures['feedback_sent']}, "
        f"lost {figures['lost']}, doubled {figures['doubled']}"
    )
    if result.table.synthetic:
        console.print("The outcomes are synthetic: an invented table that ships with the program.")
    console.print(result.sentence, style="bold")


def _describe(table: Recorded) -> str:
    what = (
        f"{table.name}: {len(table.endpoints)} endpoints × {len(table.prompts)} prompts, "
        f"{len(table.categories)} categories"
    )
    if table.synthetic:
        return what + " (synthetic)"
    gone = ", ".join(f"{n} {k.replace('_', ' ')}" for k, n in table.dropped.items() if n)
    return what + (f"; dropped: {gone}" if gone else "")


def _end(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def _say(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)
