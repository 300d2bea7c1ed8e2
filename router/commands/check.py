"""`pointsman check`: every problem of the configuration at once."""

from __future__ import annotations

from pathlib import Path

from router.commands.console import BAD_INPUT, print_json, say
from router.config.file import parse, read
from router.config.places import find_file
from router.errors import ConfigError


def check(config: Path | None, *, as_json: bool) -> None:
    """List every problem, or say how much there is of everything."""
    file = find_file(config)
    try:
        entries = parse(read(file), file=str(file))
    except ConfigError as error:
        if as_json:
            problems = [
                {"line": p.line, "field": p.field, "value": p.value, "hint": p.hint}
                for p in error.problems
            ]
            print_json({"ok": False, "file": str(file), "problems": problems})
        else:
            for problem in error.problems:
                say(problem.shown(str(file)))
        raise SystemExit(BAD_INPUT) from None
    counts = {
        "endpoints": len(entries.endpoints),
        "groups": len({endpoint.group_key for endpoint in entries.endpoints}),
        "tasks": len(entries.all_tasks),
        "strategies": len(entries.all_strategies),
        "apps": len(entries.all_apps),
    }
    if as_json:
        print_json({"ok": True, "file": str(file), "problems": [], **counts})
    else:
        print(f"{file}: ok, " + ", ".join(f"{n} {what}" for what, n in counts.items()))
