"""Tables of recorded outcomes: what each of several endpoints made of the same prompts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetry.numbers import clipped
from telemetry.tables import BadTable, numbers_in, read

NAMES = ("prompt_id", "category", "model")
NEEDED = (*NAMES, "quality", "cost_usd")
MEASURED = ("latency_s", "tokens_in", "tokens_out")
"""Taken where they are there."""
MAX_CELLS = 50_000_000
"""Prompts × endpoints: 400 MB a column."""

MOST = {
    "quality": 1,
    "cost_usd": 1000,
    "latency_s": 86_400,
    "tokens_in": 1e9,
    "tokens_out": 1e9,
}
"""What lies beyond is in another unit: a percentage, milliseconds, USD a million tokens."""
UNIT = {
    "quality": " (divide percentages by 100)",
    "cost_usd": ", in USD a call (empty where unknown)",
    "latency_s": ", in seconds",
    "tokens_in": "",
    "tokens_out": "",
}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows are meant."""

    where: tuple[str, ...] = ()  # column=value
    endpoints: tuple[str, ...] = ()
    keep_unpriced: bool = False  # else rows without a cost are dropped


@dataclass(frozen=True, slots=True)
class Recorded:
    """A complete table: every endpoint answered every prompt."""

    name: str
    synthetic: bool
    prompts: list[str]
    categories: list[str]  # sorted names
    endpoints: list[str]  # sorted names
    category: NDArray[np.intp]  # (n_prompts,)
    quality: NDArray[np.float64]  # (n_prompts, n_endpoints), in [0, 1]
    cost_usd: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    tokens_in: NDArray[np.int64]
    tokens_out: NDArray[np.int64]
    dropped: dict[str, int]
    measured: frozenset[str] = frozenset()  # optional columns that the table has


def load(path: Path, selection: Selection) -> Recorded:
    """Return the selected part of a table, parquet or CSV.

    Rows without a cost go first, then endpoints left with none, then prompts that not all
    remaining endpoints answered; `dropped` counts them.

    Raises:
        BadTable: not readable, a column or value missing, values out of range, or doubled rows.
    """
    frame = _selected(path, selection)
    return _complete(frame, path.name, keep_unpriced=selection.keep_unpriced)


def _selected(path: Path, selection: Selection) -> Any:
    """Return the checked rows that are meant."""
    import polars as pl  # only here: nothing else pays for its start

    frame = read(path, needed=NEEDED, names=NAMES, known=(*NEEDED, *MEASURED))
    for condition in selection.where:
        column, _, value = condition.partition("=")
        if not value or column not in frame.columns:
            known = ", ".join(frame.columns)
            raise BadTable(f"--where {condition}: write column=value; columns: {known}")
        frame = frame.filter(pl.col(column).cast(pl.String) == value)
        if frame.is_empty():
            raise BadTable(f"--where {condition}: no row has this value")
    if frame.is_empty():
        raise BadTable(f"{path}: the table has no rows")
    frame = _checked(frame, path.name)
    if selection.endpoints:
        present = sorted(frame["model"].unique())
        unknown = [e for e in selection.endpoints if e not in present]
        if unknown:
            some = ", ".join(present[:12])
            raise BadTable(f"--endpoints {unknown[0]}: not in the rows selected; present: {some}")
        frame = frame.filter(pl.col("model").is_in(list(selection.endpoints)))
    return frame


def models(path: Path, selection: Selection) -> list[str]:
    """Return the names of the models with a price among the selected rows, as the table has them.

    Raises:
        BadTable: as `load` does.
    """
    import polars as pl

    frame = _selected(path, selection)
    return sorted(frame.filter(pl.col("cost_usd").is_not_null())["model"].unique())


def _checked(frame: Any, name: str) -> Any:
    """Return the table with numbers where they belong."""
    import polars as pl

    for column in NAMES:
        if frame[column].null_count():
            raise BadTable(f"{name}: a row has no {column}")
    for column in MOST:
        if column not in frame.columns:
            continue
        given, number = numbers_in(frame, column)
        bad = (number.is_null() & given) | (number < 0) | number.is_nan() | (number > MOST[column])
        if column == "quality":
            bad = bad | number.is_null()
        odd = frame.filter(bad)
        if not odd.is_empty():
            row = odd.row(0, named=True)
            raise BadTable(
                f"{name}: {column} {_shown(row[column])} of {_shown(row['model'])} "
                f"on {_shown(row['prompt_id'])}; "
                f"it must be a number from 0 to {MOST[column]:g}{UNIT[column]}"
            )
        frame = frame.with_columns(number.alias(column))
    torn = (
        frame.group_by("prompt_id")
        .agg(pl.col("category").n_unique())
        .filter(pl.col("category") > 1)
    )
    if not torn.is_empty():
        raise BadTable(f"{name}: prompt {_shown(torn['prompt_id'][0])} has several categories")
    return frame


def _shown(cell: object) -> str:
    """Return a cell as a message repeats it."""
    return clipped(str(cell))


def wire_names(names: list[str], kind: str) -> list[str]:
    """Return names that may stand in headers and configuration, one for each, in order.

    One that has none of its own goes by its digest: by its place it would be taken for another
    one of another table.
    """
    out: list[str] = []
    for name in names:
        plain = wire_name(name)
        if not plain or plain.split("/")[0] in ("auto", "none") or plain in out:
            digest = blake2b(name.encode(), digest_size=4).hexdigest()
            plain = f"{kind}-{digest}" + (f"-{plain}" if plain else "")
        out.append(plain)
    return out


def wire_name(name: str) -> str:
    """Return a name as it may stand in headers and configuration; a plain one stays as it is."""
    return re.sub(r"[^A-Za-z0-9._/@+-]+", "-", name).strip("-./_@+")[:100]


def _complete(frame: Any, name: str, *, keep_unpriced: bool) -> Recorded:
    import polars as pl

    quality = frame["quality"]
    doubled = frame.filter(frame.select("prompt_id", "model").is_duplicated())
    if not doubled.is_empty():
        row = doubled.row(0, named=True)
        raise BadTable(
            f"{name}: {_shown(row['model'])} has several rows for "
            f"prompt {_shown(row['prompt_id'])}; "
            "select one run with --where"
        )
    priced = frame if keep_unpriced else frame.filter(pl.col("cost_usd").is_not_null())
    gone = frame["model"].n_unique() - priced["model"].n_unique()
    n_endpoints = priced["model"].n_unique()
    if n_endpoints == 0:
        raise BadTable(f"{name}: no row has a cost")
    whole = priced.filter(pl.len().over("prompt_id") == n_endpoints).sort("prompt_id", "model")
    if whole.is_empty():
        raise BadTable(f"{name}: no prompt was answered by all {n_endpoints} endpoints")
    shape = (whole["prompt_id"].n_unique(), n_endpoints)
    if shape[0] * shape[1] > MAX_CELLS:
        raise BadTable(f"{name}: {shape[0]} prompts × {n_endpoints} endpoints are too many")
    # What has no price counts as the dearest answer to its prompt, never as a free one.
    dearest = pl.col("cost_usd").max().over("prompt_id").fill_null(0.0)
    whole = whole.with_columns(pl.col("cost_usd").fill_null(dearest))
    first = whole.group_by("prompt_id", maintain_order=True).first()
    categories = sorted(first["category"].unique())
    place = {c: i for i, c in enumerate(categories)}
    return Recorded(
        name=name,
        synthetic=False,
        prompts=list(first["prompt_id"]),
        categories=wire_names(categories, "category"),
        endpoints=wire_names(sorted(whole["model"].unique()), "model"),
        category=np.array([place[c] for c in first["category"]], dtype=np.intp),
        quality=_column(whole, "quality", 0.0).reshape(shape),
        cost_usd=_column(whole, "cost_usd", 0.0).reshape(shape),
        latency_s=_column(whole, "latency_s", 1.0).reshape(shape),
        tokens_in=_column(whole, "tokens_in", 100.0).astype(np.int64).reshape(shape),
        tokens_out=_column(whole, "tokens_out", 100.0).astype(np.int64).reshape(shape),
        dropped={
            "rows_without_cost": len(quality) - len(priced),
            "endpoints_without_rows": gone,
            "prompts_not_answered_by_all": priced["prompt_id"].n_unique() - shape[0],
        },
        measured=frozenset(
            c for c in MEASURED if c in whole.columns and whole[c].null_count() == 0
        ),
    )


def _column(frame: Any, name: str, default: float) -> NDArray[np.float64]:
    """Return a column; what was not measured is the default."""
    if name not in frame.columns:
        return np.full(len(frame), default)
    values = frame[name].cast(float).to_numpy().copy()
    values[~np.isfinite(values)] = default
    return np.asarray(values)


SYNTHETIC_CATEGORIES = ("code", "extract", "chat", "math")
SYNTHETIC = {
    # endpoint: (quality by category, USD a call, median seconds)
    "small-fast": ((0.45, 0.92, 0.70, 0.35), 0.0002, 0.4),
    "coder": ((0.95, 0.66, 0.50, 0.60), 0.0011, 1.1),
    "thinker": ((0.74, 0.70, 0.62, 0.93), 0.0060, 4.0),
    "allround": ((0.72, 0.76, 0.84, 0.68), 0.0025, 1.6),
}
"""Invented figures of four endpoints that are each best at something."""


def synthetic(*, n_prompts: int = 400) -> Recorded:
    """Return the built-in table: invented outcomes, the same every time."""
    rng = np.random.default_rng(7)
    endpoints = sorted(SYNTHETIC)
    category = np.arange(n_prompts) % len(SYNTHETIC_CATEGORIES)
    order = np.argsort(SYNTHETIC_CATEGORIES)
    rate = np.array([SYNTHETIC[e][0] for e in endpoints]).T[order]  # (n_categories, n_endpoints)
    shape = (n_prompts, len(endpoints))
    tokens_in = np.repeat(rng.integers(80, 900, size=(n_prompts, 1)), len(endpoints), axis=1)
    tokens_out = rng.integers(40, 500, size=shape)
    usd = np.array([SYNTHETIC[e][1] for e in endpoints])
    median_s = np.array([SYNTHETIC[e][2] for e in endpoints])
    return Recorded(
        name="built-in table",
        synthetic=True,
        prompts=[f"synthetic-{i}" for i in range(n_prompts)],
        categories=sorted(SYNTHETIC_CATEGORIES),
        endpoints=endpoints,
        category=category.astype(np.intp),
        quality=(rng.random(shape) < rate[category]).astype(float),
        cost_usd=usd * (tokens_in + 4 * tokens_out) / 1500,
        latency_s=median_s * np.exp(0.4 * rng.standard_normal(shape)),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        dropped={},
    )
