"""A profile as one page of HTML that needs nothing else: no scripts, no fonts, no network."""

from __future__ import annotations

from html import escape

from bandit.intervals import Interval
from bandit.profile_cells import Cell
from bandit.profiled import AdviceKind
from router.profiling.figures import ProfileTable
from router.profiling.sentence import judged_by, sentence_of
from router.profiling.table import cost, failures_of, median, notes, percent, seconds, spent

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE = """
:root{color-scheme:light dark;--ink:#1c2024;--soft:#5b6470;--line:#d9dee4;--paper:#fff;
--band:#f4f6f8;--bar:#9db8d9;--dot:#1f5fa8;--pick:#e7f0fa}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#9aa4b0;--line:#333b45;
--paper:#14181d;--band:#1c2229;--bar:#3f5f86;--dot:#8fc0ff;--pick:#1b2a3c}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:70rem;padding:1.5rem 1rem 3rem;background:var(--paper);
color:var(--ink);font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.35rem;margin:0 0 .75rem}
h2{font-size:1.05rem;margin:2rem 0 .4rem;overflow-wrap:anywhere}
h2 small,.soft{color:var(--soft);font-weight:400;font-size:.85rem}
.say{margin:0;padding:.9rem 1.1rem;border-left:4px solid var(--dot);background:var(--band);
font-size:1.1rem;overflow-wrap:anywhere}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{font-weight:500;color:var(--soft);font-size:.8rem}
th,td{text-align:left;padding:.3rem .9rem .3rem 0;border-bottom:1px solid var(--line);
white-space:nowrap}
td:first-child,th:first-child{padding-left:.5rem;white-space:normal;overflow-wrap:anywhere;
min-width:9rem}
th:first-child{width:24%}th:nth-child(2){width:13%}th:nth-child(3){width:18%}
th:nth-child(4){width:17%}th:nth-child(5){width:13%}th:nth-child(6){width:8%}
th:nth-child(7){width:6%}
tr.pick td{background:var(--pick)}
svg{display:block;width:160px;height:16px}
svg .axis{stroke:var(--line)}svg .bar{stroke:var(--bar);stroke-width:6}svg .dot{fill:var(--dot)}
@media(max-width:44rem){table,tbody,tr,td{display:block}thead{display:none}
tr{padding:.5rem .25rem;border-bottom:1px solid var(--line)}
td,td:first-child{border:0;padding:.05rem .25rem;white-space:normal}
td:first-child{font-weight:600}td[data-is]:before{content:attr(data-is) " ";color:var(--soft)}
td:empty{display:none}}
@media print{:root{color-scheme:light}body{max-width:none;padding:0}tr,.say{break-inside:avoid}
h2{break-after:avoid}.wide{overflow:visible}}
"""
HEADS = ("endpoint", "quality", "", "1,000 calls", "median", "95 % under", "best", "")


def html_of(table: ProfileTable) -> str:
    """Return the whole page; every name in it is escaped."""
    sections = [
        _section(task, table.n_prompts[t], table.ranked(t), _chosen(table, t))
        for t, task in enumerate(table.tasks)
    ]
    if len(table.tasks) > 1:
        n = sum(table.n_prompts)
        sections.insert(0, _section("all tasks", n, table.ranked_overall(), _chosen(table, None)))
    judged = f"Judged by {judged_by(table)}."
    how = " ".join(
        ["Intervals hold the truth 9 times of 10.", *(f"{one}." for one in failures_of(table))]
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>Profile</title><style>{STYLE}</style></head><body><h1>Profile</h1>"
        f'<p class="say">{escape(sentence_of(table))}</p>'
        f'<p class="soft">{escape(f"{judged} {spent(table)} {how}")}</p>'
        f"{''.join(sections) or '<p>Nothing was asked.</p>'}</body></html>\n"
    )


def _chosen(table: ProfileTable, task: int | None) -> str | None:
    """Return the endpoint that the advice gives to a task, or to all."""
    advice = table.found.advice
    if advice.kind not in (AdviceKind.PIN, AdviceKind.ROUTE) or advice.pin is None:
        return None
    routed = advice.kind is AdviceKind.ROUTE
    if task is None:
        return None if routed else table.endpoints[advice.pin]
    arm = advice.map[task] if routed else advice.pin
    return table.endpoints[arm] if arm >= 0 else None


def _section(title: str, n: int, ranked: list[tuple[str, Cell]], chosen: str | None) -> str:
    heads = "".join(f"<th>{head}</th>" for head in HEADS)
    rows = "".join(_row(name, cell, name == chosen) for name, cell in ranked)
    prompts = f"{n} prompt{'' if n == 1 else 's'}"
    return (
        f'<h2>{escape(title)} <small>{prompts}</small></h2><div class="wide"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(name: str, cell: Cell, is_chosen: bool) -> str:
    best = "" if cell.p_best is None else f"{100 * cell.p_best:.0f} %"
    drawn = "" if cell.quality is None else _drawn(cell.quality, cell.quality_interval)
    named = (
        ("quality", percent(cell)),
        ("", None),
        ("1,000 calls", cost(cell)),
        ("median", median(cell)),
        ("95 % under", seconds(cell.slow_s)),
        ("best", best),
        ("", notes(cell)),
    )
    cells = [f"<td>{drawn}</td>" if text is None else _td(head, text) for head, text in named]
    mark = ' class="pick"' if is_chosen else ""
    return f"<tr{mark}><td>{escape(name)}</td>{''.join(cells)}</tr>"


def _td(head: str, text: str) -> str:
    label = f' data-is="{escape(head)}"' if head and text else ""
    return f"<td{label}>{escape(text)}</td>"


def _drawn(mean: float, interval: Interval) -> str:
    """Return an interval in [0, 1] as a drawing, which its text beside it says as well."""
    low, middle, high = (4 + 152 * x for x in (interval[0], mean, interval[1]))
    return (
        '<svg viewBox="0 0 160 16" aria-hidden="true">'
        '<line class="axis" x1="4" x2="156" y1="8" y2="8"/>'
        f'<line class="bar" x1="{low:.1f}" x2="{high:.1f}" y1="8" y2="8"/>'
        f'<circle class="dot" cx="{middle:.1f}" cy="8" r="4"/></svg>'
    )
