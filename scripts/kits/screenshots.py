"""`scripts/screenshots`: the page as a browser shows it, wide and narrow, light and dark.

Sample pages as files, samples that are served and change at each look, and the page of a real
sidecar after the demo's calls. Held: nothing overflows, nothing moves on a refresh, axe finds no
violation, nothing is asked of elsewhere, and of the demo at most 100 kB, within 200 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from bandit.report import Page
from router.demo.client import DemoSettings, drive
from router.demo.run import SHARDS, configuration_text, nano_per_token
from router.demo.simulator import save
from router.demo.stack import stack
from router.report.face.html import LIVE_POLICY, SCRIPT, page_html, task_html
from scripts.kits.installed import ROOT, CannotInstall, Package, bare_environment, install
from scripts.kits.installed import node_folder as node
from telemetry.recorded import Selection, synthetic
from telemetry.store import open_store

BROWSER = Package("npm", ("playwright-core@1.61.0", "axe-core@4.12.0"))
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = Path(__file__).parent / "programs" / "look.mjs"
WIDTHS = (1280, 390)
MOST_BYTES, MOST_MS, N_TIMED = 100_000, 200.0, 5
LOOK_S = 480.0
N_CALLS = 600
Look = dict[str, Any]


def main(argv: Sequence[str]) -> int:
    """Look at everything; return 1 where something is not as it is to be."""
    parser = argparse.ArgumentParser(prog="scripts/screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / ".clients" / "screenshots")
    parser.add_argument("--quick", action="store_true", help="samples alone, no sidecar")
    parser.add_argument("--require", action="store_true", help="fail where there is no browser")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each look")
    options = parser.parse_args(argv)
    try:
        folder, chromium = install(BROWSER), _chromium()
    except CannotInstall as error:
        print(f"SKIPPED screenshots: {error}", file=sys.stderr)
        return 1 if options.require else 0
    options.out.mkdir(parents=True, exist_ok=True)
    samples = runpy.run_path(str(ROOT / "tests" / "pages.py"))
    faults = []
    with serving_samples(samples) as url:
        looks = [*_of_files(samples, options.out), *_of_samples(samples, url)]
        faults += look_at(looks, folder, chromium, options.out, as_json=options.json)
    if not options.quick:
        with demo_sidecar() as (url, decision):
            faults += _timed(url)
            looks = [
                _look("sidecar", url, refreshed=True),
                _look("sidecar-task", f"{url}{_task_of(url)}", refreshed=True),
                _look("sidecar-decision", f"{url}/decision/{decision}"),
            ]
            faults += look_at(looks, folder, chromium, options.out, as_json=options.json)
    for fault in faults:
        print(f"FAULT {fault}", file=sys.stderr)
    print(f"pictures are in {options.out}; {len(faults)} faults", file=sys.stderr)
    return 1 if faults else 0


def look_at(
    looks: Sequence[Look], folder: Path, chromium: str, out: Path, *, as_json: bool
) -> list[str]:
    """Look at each, wide and narrow, light and dark; return what is not as it is to be."""
    every = []
    for look in looks:
        for width in WIDTHS:
            for tone in ("light", "dark"):
                name = f"{look['name']}-{width}-{tone}"
                file = str((out / f"{name}.png").resolve())
                every.append(
                    {**look, "name": name, "width": width, "dark": tone == "dark", "file": file}
                )
    with tempfile.TemporaryDirectory(prefix="pm-look-") as home:
        done = subprocess.run(  # noqa: S603 - a pinned program, no shell
            [str(node() / "node"), str(PROGRAM)],
            input=json.dumps({"chromium": chromium, "looks": every}),
            env=bare_environment(Path(home)),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=LOOK_S,
            check=False,
        )
    faults = []
    for line in done.stdout.splitlines():
        found = json.loads(line)
        faults += _faults(found)
        print(line if as_json else _told(found), flush=True)
    if done.returncode != 0:
        faults.append(f"the browser ended: {done.stderr.strip()[-400:]}")
    return faults


def _faults(found: Mapping[str, Any]) -> list[str]:
    name = found["name"]
    kinds = ("overflow", "violations", "foreign", "said")
    faults = [f"{name}: {kind}: {found[kind][:3]}" for kind in kinds if found[kind]]
    if found.get("shift"):
        faults.append(f"{name}: a refresh moves the page by {found['shift']:.4f}")
    if found["status"] not in (0, 200):  # 0: of a file
        faults.append(f"{name}: status {found['status']}")
    if name.startswith(("demo", "sidecar")) and found["bytes"] > MOST_BYTES:
        faults.append(f"{name}: {found['bytes']} bytes")
    return faults


def _told(found: Mapping[str, Any]) -> str:
    shift = f", shift {found['shift']:.4f}" if "shift" in found else ""
    return (
        f"{found['name']}: {found['bytes']:,} bytes, {len(found['violations'])} violations{shift}"
    )


def _look(name: str, url: str, **more: Any) -> Look:
    return {"name": name, "url": url, **more}


def _of_files(samples: Mapping[str, Any], out: Path) -> Iterator[Look]:
    for name, page in samples["SAMPLES"].items():
        file = (out / f"{name}.html").resolve()
        file.write_text(page_html(page, samples["DETAILS"][name]))
        yield _look(f"{name}-file", file.as_uri())
        if samples["DETAILS"][name]:
            yield _look(f"{name}-opened", file.as_uri(), opened=True)


def _of_samples(samples: Mapping[str, Any], url: str) -> Iterator[Look]:
    for name in samples["SAMPLES"]:
        yield _look(f"{name}-live", f"{url}/{name}", refreshed=True)
    yield _look("demo-task", f"{url}/task/demo", refreshed=True)


@contextmanager
def serving_samples(samples: Mapping[str, Any]) -> Iterator[str]:
    """Yield where samples are served; each time that one is asked for it has other figures."""
    numbers = count()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, text = "text/html; charset=utf-8", ""
            name = self.path.rpartition("/")[2]
            if name == "page.js":
                kind, text = "text/javascript; charset=utf-8", SCRIPT
            elif name in samples["SAMPLES"]:
                page = _later(samples["SAMPLES"][name], next(numbers))
                is_task = self.path.startswith("/task/")
                details = samples["DETAILS"][name][:1]
                text = task_html(page, details) if is_task else page_html(page, is_live=True)
            self.send_response(200 if text else 404)
            self.send_header("content-type", kind)
            self.send_header("content-security-policy", LIVE_POLICY)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _later(page: Page, n: int) -> Page:
    """Return a page some looks later: other figures, and the same rows."""
    tasks = tuple(replace(line, calls=line.calls + n) for line in page.tasks)
    at_ms, spent = page.at_ms + 60_000 * n, page.spent_usd + 0.01 * n
    return replace(page, at_ms=at_ms, spent_usd=spent, calls=page.calls + n, tasks=tasks)


@contextmanager
def demo_sidecar() -> Iterator[tuple[str, str]]:
    """Yield a sidecar's address after the demo's calls, and a decision of its own."""
    table, settings = synthetic(), DemoSettings(None, Selection(), N_CALLS, 1, 8, 0.0, 0.0)
    with tempfile.TemporaryDirectory(prefix="pm-shots-") as name:
        directory = Path(name)
        save(table, directory / "table.npz", nano_per_token(table))
        state_dir, config = directory / "state", directory / "pointsman.yaml"
        with open_store(state_dir, url=None), stack(directory) as processes:
            simulator = processes.simulator(directory / "table.npz", time_scale=0)
            config.write_text(configuration_text(table, simulator, state_dir))
            processes.worker(state_dir, shards=SHARDS)
            router = processes.router(config)
            asyncio.run(drive(settings, table, (router, simulator), processes))
            url = f"http://127.0.0.1:{router}"
            time.sleep(3)  # what was told is folded, and read again
            found = httpx.get(f"{url}/v1/router/decisions", trust_env=False).json()
            yield url, found["id"]


def _task_of(url: str) -> str:
    """Return the path of the first task that the page links to."""
    text = httpx.get(url, trust_env=False, timeout=30).text
    name = text.partition('href="/task/')[2].partition('"')[0]
    return f"/task/{name.replace('&amp;', '&')}"


def _timed(url: str) -> list[str]:
    """Return whether the sidecar takes too long for its page; each look is for one of its own."""
    took = []
    for n in range(N_TIMED):
        begun = time.perf_counter()
        httpx.get(f"{url}/?since={n + 2}d", trust_env=False, timeout=30).raise_for_status()
        took.append(1000 * (time.perf_counter() - begun))
    middle = sorted(took)[len(took) // 2]
    print(f"sidecar: page drawn in {middle:.0f} ms (median of {N_TIMED})")
    return [f"sidecar: {middle:.0f} ms for a page"] if middle > MOST_MS else []


def _chromium() -> str:
    """Return where a browser is.

    Raises:
        CannotInstall: there is none.
    """
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found is None:
        raise CannotInstall(f"none of {', '.join(CHROMIUMS)} is on the path")
    return found


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
