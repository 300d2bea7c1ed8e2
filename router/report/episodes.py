"""What episodes came to, and which way calls came by their endpoint: as rows, table and lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from router.config.compiled import Configuration
from router.report.terminal_text import clean
from router.report.views import names_of

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("n", "success", "90 %", "$/success", "$ each", "total $", "s p50", "s p90")
"""`n` is completed episodes of all; what follows is of the completed ones. Costs are of all
attempts, times from the first decision to the last answer."""
MOST_MAPS = 5
"""On a terminal."""
MOST_UNPRICED = 0.05
"""Of attempts; what failed at once mostly has no cost, and there is no need to say so."""
DAY_MS = 86_400_000
NO_ARCHIVE = "archive.keep_days is 0: figures of episodes are made of the archive"
NOT_YET = "no figures yet: `pointsman work` makes them within minutes of the first calls"
HOW = "POST /v1/router/episodes/ID/outcome, or `pointsman feedback --session ID`"
WAYS = {
    "drew": "drew",
    "drew_anew": "drew anew",
    "followed": "followed",
    "failover": "failover",
    "stand_in": "stand-in",
    "gain_ending": "ended for gain",
    "dominated_ending": "ended as dominated",
    "undrawn": "nothing to choose",
}
"""By name of the figure the word for it, in the order in which they are told."""
ALWAYS_TOLD = ("drew", "followed")
NO_ROLE = "no role"


def episode_section(
    found: dict[str, Any] | None, configuration: Configuration, names: Mapping[str, str]
) -> dict[str, Any]:
    """Return what the last look found, by app, with names in place of digests.

    Where there is nothing `apps` is empty, and `reason` says why.

    Args:
        found: as the job left it.
        names: by 16 hex digits what they stand for, where the configuration does not say.
    """
    reason = NO_ARCHIVE if configuration.archive.keep_days == 0 else None if found else NOT_YET
    if found is None or reason is not None:
        return {"at_ms": None, "since_ms": None, "truncated": False, "reason": reason, "apps": []}
    known = dict(names) | {f"{d:016x}": name for d, name in names_of(configuration).items()}
    locked = {f"{app.digest:016x}": app.entry.locked for app in configuration.apps.values()}
    apps = [
        {
            "app": known.get(digest, digest),
            "locked": locked.get(digest, False),
            **figures,
            "maps": [_named(row, known) for row in figures["maps"]],
        }
        for digest, figures in found["apps"].items()
    ]
    missing = [digest for digest, is_locked in locked.items() if is_locked]
    apps += [_silent(known[digest]) for digest in missing if digest not in found["apps"]]
    apps.sort(key=lambda row: row["app"])
    told = {name: found[name] for name in ("at_ms", "since_ms", "truncated")}
    return {**told, "reason": None, "apps": apps}


def _named(row: dict[str, Any], known: Mapping[str, str]) -> dict[str, Any]:
    roles = {
        NO_ROLE if not int(role, 16) else known.get(role, role): endpoint
        and known.get(endpoint, endpoint)
        for role, endpoint in row["roles"].items()
    }
    return {**row, "roles": roles}


def _silent(app: str) -> dict[str, Any]:
    """Return the row of a locked app of which nothing is on record."""
    return {"app": app, "locked": True, "episodes": 0, "completed": 0, "maps": [], "ways": {}}


def episode_table(section: Mapping[str, Any]) -> Table | None:
    """Return a row for each app with completed episodes; None without any."""
    from rich.table import Table  # only here: a router hands out the rows, and prints none
    from rich.text import Text

    apps = [row for row in section.get("apps", ()) if row["completed"]]
    if not apps:
        return None
    days = max(round((section["at_ms"] - section["since_ms"]) / DAY_MS), 1)
    table = Table(
        title=f"by episode, of {days} day{'s' if days > 1 else ''}",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("app", overflow="fold", min_width=10)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in apps:
        whole, success = row["of_completed"], row["success"]
        costs = row["cost_per_success_usd"], whole["cost_usd_mean"], whole["cost_usd"]
        table.add_row(
            Text(clean(row["app"])),
            f"{row['completed']}/{row['episodes']}",
            _share(success["mean"]),
            _between(success),
            *("–" if cost is None else f"{cost:.3g}" for cost in costs),
            *(f"{whole[name]:.3g}" for name in ("wall_s_median", "wall_s_p90")),
        )
    return table


def map_lines(row: Mapping[str, Any]) -> list[str]:
    """Return a line for each of an app's best maps, the best first."""
    maps = [one for one in row["maps"] if one["completed"]]
    lines = [
        f"  {_share(one['success']['mean'])} ({_between(one['success'])}) in {one['completed']:,}, "
        f"{one['cost_usd_mean']:.3g} USD each: {_roles(one['roles'])}"
        for one in sorted(maps, key=_by_success)[:MOST_MAPS]
    ]
    more = f"; {len(maps) - MOST_MAPS} more in --json" if len(maps) > MOST_MAPS else ""
    return [f"{row['app']}, by who answered, best first{more}:", *lines] if lines else []


def _between(success: Mapping[str, float]) -> str:
    return f"{_share(success['low'])}–{_share(success['high'])}"


def _share(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")


def _by_success(one: Mapping[str, Any]) -> tuple[float, int]:
    """Order maps by what their success is at least: of a few episodes all may have gone well."""
    return -one["success"]["low"], -one["episodes"]


def _roles(roles: Mapping[str, str | None]) -> str:
    return ", ".join(f"{role} {roles[role] or 'several'}" for role in sorted(roles))


def episode_lines(section: Mapping[str, Any]) -> list[str]:
    """Return the lines below the table: maps, what is missing, and which way calls came by."""
    lines: list[str] = []
    for row in section.get("apps", ()):
        if row["completed"] or row["locked"]:
            lines += [*map_lines(row), *_gaps(row)]
        if sum(row["ways"].values()):
            lines.append(ways_line(row["app"], row["ways"]))
    if lines and section["truncated"]:
        lines.append("of episodes and ways only the newest records were read")
    return lines


def _gaps(row: Mapping[str, Any]) -> Iterable[str]:
    n = row["episodes"]
    if not n:
        yield f"{row['app']}: no episode yet: its calls have to name theirs (x-router-episode-id)"
    elif not row["completed"]:
        yield f"{row['app']}: {n:,} episode{'s' if n > 1 else ''}, no outcome yet; send one: {HOW}"
    elif row["unpriced_attempts"] > MOST_UNPRICED * row["attempts"]:
        of = f"{row['unpriced_attempts']:,} of {row['attempts']:,}"
        yield f"{row['app']}: costs leave out {of} attempts of episodes, which have no price"


def ways_line(app: str, ways: Mapping[str, int]) -> str:
    """Return the line that says how an app's calls came by their endpoint."""
    told = [
        f"{word} {ways[name]:,}"
        for name, word in WAYS.items()
        if ways.get(name) or name in ALWAYS_TOLD
    ]
    n = sum(ways.values())
    return f"{app}: {n:,} call{'s' if n != 1 else ''}: {', '.join(told)}"
