"""The proof of the pipeline: what was told is folded once, whatever dies. `scripts/prove
pipeline`.

The real `pointsman up` runs with a second worker beside it and simulated endpoints before it. A
client of its own (`client`) calls, gives feedback and keeps the books; `chaos` kills
and freezes processes, `up` itself and the second worker's supervisor among them, and injects
frames. In the end
everything may come to rest, and the sums are held against the books, call by call and label by
label (`ledger` says how); and what was spent, against what the endpoints bill (`bills`).

lost: an answer received in full, or feedback that got 2xx, without its effect. doubled: an effect
too many. unresolved: attempts whose connection was cut or that were refused; a call among them
may have taken effect or not, feedback was sent again until it was taken. It never says more than
it saw: where the audit is not there, `audit_equal` is null.

ledger_wrong: calls of which the ledger has something else than what their provider bills, though
their client had the whole answer, or more than that. cut_calls: the others of which the two
differ, which are the whole difference between billed and booked.

Does it see anything? `--sabotage lose` takes one event out of the stream before it is folded,
`--sabotage double` sends one again under a new name, both behind the parts' back; one run
takes both. It must end with `lost`, or `doubled`, and `ledger_wrong` above 0 and an exit code that
is not 0.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from router.config.compiled import load
from router.demo.stack import DidNotStart, stack
from scripts.proofs.ledger import Inconclusive, weight
from scripts.proofs.pipeline_play import called, chaos_of, drive
from scripts.proofs.pipeline_verdict import ProofResult, billed, result_of, settle
from scripts.proofs.pipeline_world import SETTLE_S, ProofSettings, configure, start
from scripts.proofs.sabotage import NothingToSabotage, Sabotage
from telemetry.store import open_store

QUICK_KILLS = 20
FULL_KILLS = 1000


def prove_pipeline(settings: ProofSettings) -> ProofResult:
    """Run the whole proof once; return what it showed.

    Raises:
        DidNotStart: a part never came up.
        Inconclusive: the sums cannot be read call by call.
    """
    began_weight = _wait_for_steady_weight(settings)
    with tempfile.TemporaryDirectory(prefix="pm-prove-") as temporary:
        directory = Path(temporary)
        with stack(directory) as processes:
            config, simulator = configure(directory, processes, settings)
            start(processes, config)
            configuration = load(config)
            with open_store(configuration.server.state_directory()) as address:
                chaos = chaos_of(configuration, address, processes, settings)
                books = drive(chaos, processes, directory, settings)
                calls = [called(entry) for entry in books["calls"]]
                # Steady by choice of the hour, unless the run took far longer than planned.
                if weight(int(time.time() * 1000)) != began_weight:
                    raise Inconclusive("the weight of new evidence changed; run it again")
                verdict = settle(configuration, address, calls, processes, settings)
                bills = billed(address, configuration, calls, simulator)
                return result_of(config, address, configuration, chaos, books, verdict, bills)


def _wait_for_steady_weight(settings: ProofSettings) -> int:
    """Return the weight that new evidence has for the whole run, once there is one.

    It changes every 21 hours; a run that would cross the change waits for it.
    """
    while True:
        now_ms = int(time.time() * 1000)
        first = weight(now_ms)
        if first == weight(now_ms + int(2000 * (settings.planned_s + SETTLE_S))):
            return first
        time.sleep(1)


def _end(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def main(argv: Sequence[str]) -> int:
    """Prove that the pipeline loses and doubles nothing; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/prove pipeline", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_KILLS} kills only")
    parser.add_argument("--kills", type=int, help=f"how many; else {FULL_KILLS}")
    parser.add_argument("--seed", type=int, default=0, help="of all that is left to chance")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--sabotage", type=Sabotage, action="append", default=[], help=argparse.SUPPRESS
    )
    options = parser.parse_args(argv)
    kills = options.kills if options.kills is not None else FULL_KILLS
    if options.quick and options.kills is None:
        kills = QUICK_KILLS
    if kills < 0 or options.seed < 0:
        parser.error("--kills and --seed are whole numbers from 0")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)  # everything that was started is stopped on the way out
    try:
        sabotages = tuple(options.sabotage)
        result = prove_pipeline(ProofSettings(kills, options.seed, sabotages=sabotages))
    except (DidNotStart, Inconclusive, NothingToSabotage) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print("\n" + "\n".join(result.notes), file=sys.stderr)
    if options.json:
        print(json.dumps(result.figures))
    else:
        plain = {n: v for n, v in result.figures.items() if not isinstance(v, list)}
        print(", ".join(f"{name} {value}" for name, value in plain.items()))
    return 0 if result.is_sound else 1
