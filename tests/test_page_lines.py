"""The page on a terminal: forty lines, eighty columns, no id broken, hostile text as text."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from pages import BIG, BIG_DETAIL, BROKEN, DEMO, DEMO_DETAIL, EMPTY, HOSTILE, SAMPLES, hostile
from rich.cells import cell_len

from bandit.report import Page
from router.report.detail_lines import detail_lines
from router.report.month_lines import month_lines
from router.report.page_lines import MOST_LINES, page_lines
from router.report.terminal_text import clean, cut, wrapped


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("width", [60, 80])
def test_the_page_has_forty_lines_that_fit(name: str, width: int) -> None:
    lines = page_lines(SAMPLES[name], width=width)

    assert len(lines) <= MOST_LINES
    assert max(map(cell_len, lines)) <= width


@pytest.mark.parametrize("name", SAMPLES)
def test_all_of_it_fits_as_well_and_leaves_nothing_out(name: str) -> None:
    page = SAMPLES[name]

    lines = page_lines(page, everything=True)

    assert max(map(cell_len, lines)) <= 80
    assert sum("undo: " in line or "accept: " in line for line in lines) >= sum(
        bool(one.undo) for one in page.changes
    )


def test_an_id_that_fits_is_whole() -> None:
    said = page_lines(DEMO)

    for name in ("deepinfra/llama-3.3-70b", "anthropic/claude-sonnet-4", "openai/gpt-4.1"):
        assert any(name in line for line in said)
    assert not any("…" in line.split()[1] for line in said if line.startswith("shop: summarise"))


def test_one_that_does_not_fit_loses_its_middle() -> None:
    lines = page_lines(BIG)

    rows = [line for line in lines if re.search(r"provider-\d\d/or….*-instruct-fp8 ", line)]
    assert len(rows) >= 4
    assert any(re.match(r"\d+ more tasks: \$[\d,]+, [\d,]+ calls \(--all\)", x) for x in lines)


@pytest.mark.parametrize("make", [page_lines, month_lines])
def test_hostile_text_is_text(make: object) -> None:
    page = hostile(replace(BIG, folded=None))
    lines = page_lines(page) if make is page_lines else month_lines(page)

    said = "\n".join(lines)
    assert "<script>alert(1)</script>" in said
    assert all(c.isprintable() or c == "\n" for c in said)
    assert max(map(cell_len, lines)) <= 80


def test_a_task_that_is_opened_fits_and_marks_what_is_inferred() -> None:
    lines = detail_lines(DEMO_DETAIL)

    (row,) = [line for line in lines if line.startswith("mistral/mistral")]
    assert "inferred" in row
    assert "(.08)" in row, "P(best) of who was never called is in brackets"
    assert max(map(cell_len, lines)) <= 80
    assert max(map(cell_len, detail_lines(BIG_DETAIL))) <= 80
    assert max(map(cell_len, detail_lines(hostile(DEMO_DETAIL)))) <= 80


def test_routing_that_is_off_is_said_on_top() -> None:
    assert any("ROUTING IS OFF" in line for line in page_lines(BROKEN)[:3])
    assert not any("ROUTING IS OFF" in line for line in page_lines(DEMO))


def test_an_empty_store_says_how_to_begin_on_top() -> None:
    assert any("point a client at" in line for line in page_lines(EMPTY)[:3])


def test_what_is_urgent_comes_with_its_time_and_what_to_do() -> None:
    lines = page_lines(DEMO)

    assert "! deepinfra: wrong key since 2025-11-30 14:00 UTC; set DEEPINFRA_API_KEY" in lines
    assert "- openai/gpt-4.1: 2 of 40 answers broke off" in lines


def test_a_figure_that_is_not_known_is_a_dash_not_zero() -> None:
    (row,) = [line for line in page_lines(BROKEN) if line.startswith("code.review")]

    assert row.split() == ["code.review", "openai/gpt-4.1", "–", "–", "–", "off"]


@pytest.mark.parametrize("page", [DEMO, BIG, BROKEN, EMPTY])
def test_a_month_says_nothing_of_how_it_is_worked_out(page: Page) -> None:
    said = "\n".join(month_lines(page)).lower()

    for word in ("posterior", " arm", "propensity", "regret"):
        assert word not in said
    assert "is it worth it?" in said


def test_a_line_is_never_broken_within_an_interval() -> None:
    lines = wrapped("quality " * 8 + "is at +0.1 [-0.3, 0.5] of it", width=76)

    assert any("[-0.3, 0.5]" in line for line in lines)


def test_text_is_cut_in_its_middle_by_cells() -> None:
    assert cut("provider/model", 20) == "provider/model"
    assert cut("provider/model", 9) == "prov…odel"
    assert cell_len(cut("模型模型模型模型", 9)) <= 9
    assert clean("a\x1b[31m\n\tb\u202e\x00") == "a?[31m b??"
    assert clean(HOSTILE).isprintable()
