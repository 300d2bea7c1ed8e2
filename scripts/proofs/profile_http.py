"""The same proof through the real command: `pointsman profile` on endpoints that replay a table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.utility import Objective
from telemetry.recorded import Recorded

RIGHT, WRONG = "yes", "no"
RUN_S = 1800.0
USD_PER_MTOK = 1.0
"""What a table's cost becomes: so many output tokens that they cost as much."""


class _Replaying(ThreadingHTTPServer):
    """All endpoints of a table; a prompt's last word is its place."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, table: Recorded) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.table = table
        self.place = {name: k for k, name in enumerate(table.endpoints)}


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Replaying

    def do_POST(self) -> None:
        """Answer as the table has it."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        table, model = self.server.table, asked["model"]
        row, arm = int(asked["messages"][-1]["content"].split()[-1]), self.server.place[model]
        tokens = max(round(float(table.cost_usd[row, arm]) * 1e6 / USD_PER_MTOK), 1)
        message = {"role": "assistant", "content": RIGHT if table.quality[row, arm] else WRONG}
        body = json.dumps(
            {
                "id": f"chatcmpl-{row}-{arm}",
                "object": "chat.completion",
                "created": 0,
                "model": model,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {
                    "prompt_tokens": 1,
                    "completion_tokens": tokens,
                    "total_tokens": tokens + 1,
                },
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def replaying(table: Recorded) -> Iterator[str]:
    """Yield the address of endpoints that answer as a table has it."""
    server = _Replaying(table)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


def over_http(
    table: Recorded, n: int, per_cell: int, objective: Objective, first: int
) -> dict[str, Any]:
    """Return the figures of so many runs of the real command.

    Raises:
        subprocess.CalledProcessError: a run ended otherwise than well; says what it said.
    """
    from scripts.proofs.profile_truth import drawn, figures_of, judge_advice

    runs = []
    for seed in range(first, first + n):
        with replaying(table) as url, tempfile.TemporaryDirectory() as name:
            said = _profile(table, drawn(table, per_cell, seed), url, Path(name), per_cell)
        runs.append(judge_advice(said, table, objective))
    return {"table": f"{table.name} over HTTP", **figures_of(runs)}


def _profile(
    table: Recorded, rows: NDArray[np.intp], url: str, directory: Path, per_cell: int
) -> dict[str, Any]:
    """Return what `pointsman profile --json` prints of some prompts."""
    config = {
        "server": {"port": 0, "state_dir": str(directory / "state")},
        "strategies": {"best": {"objective": "quality"}},
        "tasks": {name: {} for name in table.categories},
        "endpoints": [
            {
                "id": name,
                "base_url": url,
                "model": name,
                "prices": {"input_usd_per_mtok": 0, "output_usd_per_mtok": USD_PER_MTOK},
            }
            for name in table.endpoints
        ],
    }
    (directory / "pointsman.yaml").write_text(json.dumps(config))  # which YAML reads as well
    prompts = (
        {
            "prompt": f"Is it so? Say yes or no. {i}",
            "task": table.categories[table.category[i]],
            "expected": RIGHT,
            "max_tokens": 16,
        }
        for i in rows.tolist()
    )
    file = directory / "prompts.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in prompts))
    command = [
        sys.executable, "-m", "router.cli", "profile", str(file),
        "--config", str(directory / "pointsman.yaml"), "--strategy", "best",
        "--per-cell", str(per_cell), "--max-usd", "100000", "--workers", "32", "--yes", "--json",
    ]  # fmt: skip
    done = subprocess.run(  # noqa: S603 - our own module
        command, capture_output=True, timeout=RUN_S, env={**os.environ}, cwd=directory
    )
    if done.returncode:
        print(done.stderr.decode(errors="replace")[-4000:], file=sys.stderr)
        done.check_returncode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found
