"""`scripts/clients NAME …`: real client programs, unchanged, through a real sidecar."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from router.demo.stack import DidNotStart
from router.errors import ConfigError
from scripts.kits import standard, third_party
from scripts.kits.clients import BY_NAME, ClientProgram
from scripts.kits.installed import CannotInstall, install
from scripts.kits.run import run_client

N_SESSIONS = 4


def main(argv: Sequence[str]) -> int:
    """Run the clients that are named, print their figures; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/clients", description=__doc__)
    runs = _runs(parser)
    options = parser.parse_args(argv)
    n_skipped, n_faulty = 0, 0
    for name in runs if "all" in options.names else options.names:
        try:
            found = runs[name](options)
        except CannotInstall as error:
            n_skipped += 1
            print(f"SKIPPED {name}: {error}", file=sys.stderr)
            continue
        except (ConfigError, DidNotStart, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        n_faulty += bool(found["faults"])
        print(json.dumps(found) if options.json else _told(found), flush=True)
    return 1 if n_faulty or (n_skipped and options.require) else 0


def _runs(
    parser: argparse.ArgumentParser,
) -> Mapping[str, Callable[[argparse.Namespace], dict[str, Any]]]:
    """Declare the options; return by name what can be run with them."""
    runs: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        name: partial(_run, client) for name, client in BY_NAME.items()
    }
    runs["third-party"] = lambda _: third_party.run_third_party().figures()
    runs["langchain-standard"] = lambda options: standard.run_standard(
        translated=options.translated
    ).figures()
    parser.add_argument("names", nargs="+", choices=[*runs, "all"], metavar="NAME",
                        help=f"all, or any of {', '.join(runs)}")  # fmt: skip
    parser.add_argument("--sessions", type=int, default=N_SESSIONS, help="of each, at least")
    parser.add_argument("--translated", action="store_true",
                        help="endpoints speak other dialects only; not third-party")  # fmt: skip
    parser.add_argument("--lenient", action="store_true",
                        help="endpoints that take each other's reasoning and items")  # fmt: skip
    parser.add_argument("--require", action="store_true", help="fail where one is skipped")
    parser.add_argument("--json", action="store_true", help="a line of JSON each")
    return runs


def _run(client: ClientProgram, options: argparse.Namespace) -> dict[str, Any]:
    how = {"translated": options.translated, "lenient": options.lenient}
    return run_client(client, install(client.package), n_sessions=options.sessions, **how).figures()


def _told(figures: Mapping[str, Any]) -> str:
    """Return the figures as lines."""
    lines = [f"{figures['client']} {figures['version']}"]
    for name, value in figures.items():
        if name in ("client", "version"):
            continue
        if isinstance(value, Mapping):
            value = ", ".join(f"{k} {n}" for k, n in sorted(value.items())) or "none"
        if isinstance(value, list):
            value = "".join(f"\n    {each}" for each in value) or "none"
        lines.append(f"  {name.replace('_', ' ')}: {value}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
