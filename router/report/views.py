"""What people read: posteriors as rows, readiness."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

import numpy as np
from msgspec import to_builtins

from bandit.families import S
from bandit.matrix import ReportRow, rows
from router.beliefs.beliefs import Beliefs
from router.beliefs.choices import rows_of
from router.beliefs.damage import damaged_cells
from router.beliefs.keeper import Keeper
from router.beliefs.outlooks import tasks_of
from router.beliefs.prompts import prompt_rows
from router.beliefs.splits import compare_hosts
from router.beliefs.switch import Switch
from router.beliefs.teachers import teachers_of
from router.config.compiled import Configuration
from router.config.entries import GENERAL
from router.endpoints.catalog import Endpoint
from router.policy.route import incumbent_of
from router.policy.standing import PolicyTable
from router.report.hosts import host_rows, split_rows
from router.report.leaves import leaf_rows
from router.report.profiles import profile_rows
from router.report.roles import role_key, role_rows
from router.report.sampled import sampled_rows
from router.report.served import served_rows
from router.report.verified import verified_of
from telemetry.writer import Counters


def report_rows(
    beliefs: Beliefs,
    strategy: str,
    *,
    only: Collection[int] | None = None,
    with_best: bool = True,
) -> list[ReportRow]:
    """Return the report of all categories under a strategy's objective, outlook by outlook.

    Args:
        only: rows of these tasks; None: of all.
        with_best: P(best) is worked out, which takes most of the time.
    """
    configuration = beliefs.configuration
    hosts = compare_hosts(configuration.catalog, beliefs.given_labels)
    compared = _compared(configuration, strategy)
    return [
        row
        for outlook in beliefs.outlooks
        for row in rows(
            outlook.evidence,
            outlook.posterior,
            outlook.signals,
            hosts,
            categories=list(configuration.task_index),
            endpoints=[e.id for e in configuration.catalog.endpoints],
            objective=configuration.strategies[strategy].objective_at(outlook.posterior, compared),
            teachers=teachers_of(beliefs, outlook),
            app=outlook.app,
            borrowed=outlook.borrowed,
            profiled=outlook.profiled,
            profile_calls=beliefs.profile_calls,
            only=only,
            with_best=with_best,
        )
    ]


def posteriors(beliefs: Beliefs, strategy: str, *, with_rows: bool = True) -> dict[str, Any]:
    """Return everything that a report needs, as JSON.

    Args:
        with_rows: every endpoint of every task, which takes most of the time; else none.
    """
    shown = report_rows(beliefs, strategy) if with_rows else []
    labels = sum(outlook.posterior.labels.sum(axis=1) for outlook in beliefs.outlooks)
    names = list(beliefs.configuration.task_index)
    calls = beliefs.traffic.sum(axis=1)
    damaged = np.logical_or.reduce([o.damaged.any(axis=1) for o in beliefs.outlooks])
    incumbent = _incumbent(beliefs.configuration, strategy)
    verified = verified_of(beliefs.configuration.server)
    said = beliefs.signals.sum(axis=1).astype(int)
    calibration = beliefs.posterior.calibration
    compared = _compared(beliefs.configuration, strategy)
    objective = beliefs.configuration.strategies[strategy].objective_at(beliefs.posterior, compared)
    return {
        "version": beliefs.version,
        "strategy": strategy,
        "learning_mode": incumbent is None,
        "incumbent": incumbent.id if incumbent else None,
        "categories": [
            {
                "category": name,
                "calls": int(n),
                "signal": bool(m > 0),
                "signals": {s.name.lower(): int(said[c, s]) for s in S if said[c, s]},
                "pairs": int(calibration.pairs[c]),
                "derived_worth": round(float(calibration.worth[c]), 3),
                "value_usd": objective.at(c).value_usd,
            }
            for c, (name, n, m) in enumerate(zip(names, calls, labels, strict=True))
            if n > 0 or m > 0 or damaged[c]
        ],
        "roles": role_rows(beliefs.roles, beliefs.configuration, beliefs.names),
        "leaves": leaf_rows(beliefs),
        "sampled": sampled_rows(beliefs),
        "choices": choice_rows(beliefs),
        "alarms": alarm_rows(beliefs),
        "hosts": host_rows(beliefs),
        "splits": split_rows(beliefs),
        "damaged": damaged_rows(beliefs),
        "profiles": profile_rows(beliefs.configuration.catalog, verified),
        "apps": {name: app.entry.learn.value for name, app in beliefs.configuration.apps.items()},
        "rows": [asdict(row) for row in shown],
    }


def _incumbent(configuration: Configuration, strategy: str) -> Endpoint | None:
    """Return the incumbent of a strategy: of the first app that goes by it, else of the first."""
    apps = list(configuration.apps.values())
    table = configuration.derive(PolicyTable)
    wanted = configuration.strategies[strategy]
    app = next((app for app in apps if table.usual(app).strategy is wanted), apps[0])
    return incumbent_of(table.of(app, None, app.entry.task or GENERAL, wanted))


def _compared(configuration: Configuration, strategy: str) -> int:
    """Return the arm with whose cost a trade compares: the incumbent, else the first listed."""
    return (_incumbent(configuration, strategy) or configuration.catalog.endpoints[0]).index


def choice_rows(beliefs: Beliefs) -> list[dict[str, Any]]:
    """Return what every release key in use stands at."""
    return [
        row for found in beliefs.choices.values() for row in rows_of(found, beliefs.configuration)
    ]


def alarm_rows(beliefs: Beliefs) -> list[dict[str, Any]]:
    """Return the last alarm of every endpoint that raised one, the newest first.

    `suspect` says that it fell, and is probed for a recovery where the law is learning mode.
    """
    catalog = beliefs.configuration.catalog
    found = [
        {
            "endpoint": endpoint.id,
            **asdict(known.alarm),
            "regime": known.regimes.now,
            "suspect": known.watch.suspect,
        }
        for endpoint, known in zip(catalog.endpoints, beliefs.known, strict=True)
        if known.alarm is not None
    ]
    return sorted(found, key=lambda row: -row["at_ms"])


def damaged_rows(beliefs: Beliefs) -> list[dict[str, str]]:
    """Return the cells that hold what no sum of records can, and count as unknown.

    Where these are an app's own labels, it is named, too.
    """
    return [cell.row() for cell in damaged_cells(beliefs.outlooks, beliefs.configuration)]


def switch_row(switch: Switch) -> dict[str, Any]:
    """Return whether routing is switched off, since when as far as that is known, and its word."""
    word = switch.word
    said = {
        "word": None if word is None else "off" if word.off else "on",
        "since_ms": switch.since_ms,
        "said_at_ms": (word.at_ms or None) if word is not None else None,
        "said_in": list(switch.said_in),
    }
    return {"off": switch.off, "off_since_ms": switch.off_since_ms, "switch": said}


def keeper_rows(keeper: Keeper) -> dict[str, Any]:
    """Return what a report needs and only a running process has at hand, as JSON."""
    return {
        **switch_row(keeper.switch),
        "configuration": file_row(keeper),
        "references": keeper.references,
        "prompts": prompt_rows(keeper.prompts.known),
        "served": served_rows(keeper.current.configuration.catalog, keeper.served),
    }


def readiness(keeper: Keeper, sending: Counters, *, draining: bool) -> dict[str, Any]:
    """Return whether calls are served, and what is amiss; a dead store is no reason not to."""
    trouble, memory = keeper.trouble or sending.trouble, keeper.memory.use
    return {
        "ready": not draining,
        "draining": draining,
        "degraded": not (keeper.store_up and sending.store_up),
        "store": trouble.as_json() if trouble is not None else None,
        "memory": memory.as_json() if memory is not None else None,
        "jobs": to_builtins(keeper.jobs) if keeper.jobs is not None else None,
        **switch_row(keeper.switch),
        "snapshot_age_s": round(keeper.age_s, 3),
        "posterior_version": keeper.current.version,
        "configuration": file_row(keeper),
    }


def file_row(keeper: Keeper) -> dict[str, Any] | None:
    """Return which configuration is in force, and what was refused since; None without a file."""
    file = keeper.file
    return None if file is None else file.in_force.row()


def names_of(configuration: Configuration) -> dict[int, str]:
    """Return what each digest of this configuration stands for."""
    names = {e.digest: e.id for e in configuration.catalog.endpoints}
    names |= {app.digest: name for name, app in configuration.apps.items()}
    names |= {each.digest: each.name for each in configuration.strategies.values()}
    for name, role in configuration.roles.items():
        names |= {role.digest: name, role_key(name): name}
    return names | tasks_of(configuration)
