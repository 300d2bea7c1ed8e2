"""A profile's table, sentence and page, whole and in part."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from bandit.utility import BALANCED, Objective, Order
from router.profiling.page import STYLE, html_of
from router.profiling.results import ProfileResult
from router.profiling.sentence import judged_by
from router.profiling.table import ProfileTable, lines_of, table_of

RATES = {
    "coder": {"code": 0.96, "chat": 0.4},
    "talker": {"code": 0.3, "chat": 0.96},
    "allround": {"code": 0.7, "chat": 0.7},
}


def results(n: int = 25) -> list[ProfileResult]:
    rng = np.random.default_rng(1)
    return [
        ProfileResult(
            prompt=f"{task}-{i}",
            task=task,
            endpoint=endpoint,
            quality=float(rng.random() < rate),
            cost_usd=0.001 * (1 + len(endpoint)),
            latency_s=1.0 + rng.random(),
            graded_by="expected",
        )
        for endpoint, rates in RATES.items()
        for task, rate in rates.items()
        for i in range(n)
    ]


def table(rows: list[ProfileResult], **said: object) -> ProfileTable:
    given = {"strategy": "best", "objective": Objective(), "incumbent": "allround", **said}
    return table_of(rows, **given)  # type: ignore[arg-type]


def changed(row: ProfileResult, **values: object) -> ProfileResult:
    return ProfileResult(**{**{f: getattr(row, f) for f in row.__struct_fields__}, **values})


def sentence(found: ProfileTable) -> str:
    return str(found.as_json()["sentence"])


def test_specialists_are_routed_and_compared_with_what_is_used_now() -> None:
    said = sentence(table(results(60)))

    assert re.match(r"Route these tasks: .*(code → coder|chat → talker)", said)
    assert re.search(r"expected gain \d+\.\d \[\d+\.\d, \d+\.\d\] points over pinning", said)
    assert "allround, which you use now, at a better quality" in said


def test_the_order_of_results_does_not_matter() -> None:
    rows = results()
    shuffled = [rows[i] for i in np.random.default_rng(2).permutation(len(rows))]

    first, second = table(rows).as_json(), table(shuffled).as_json()

    assert first["spent_usd"] == pytest.approx(second["spent_usd"])
    assert {**first, "spent_usd": 0} == {**second, "spent_usd": 0}


def test_json_has_all_cells_best_first() -> None:
    whole = json.loads(json.dumps(table(results(), weights={"code": 3, "chat": 1}).as_json()))

    assert [(t["task"], t["weight"]) for t in whole["tasks"]] == [("chat", 0.25), ("code", 0.75)]
    assert whole["weights_from"] == "prompts"
    for task in whole["tasks"]:
        assert all(a["quality"] >= b["quality"] for a, b in pairwise(task["endpoints"]))
        assert sum(one["p_best"] for one in task["endpoints"]) == pytest.approx(1)
    assert whole["graded_by"] == {"expected": 150}


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    rows = [changed(r, endpoint=r.endpoint + "-of-a-very-long-name" * 3) for r in results()]

    lines = lines_of(table(rows), width)

    assert max(map(len, lines)) <= width
    assert any(line.startswith("code · 25 prompts") for line in lines)


def test_of_many_endpoints_the_best_are_printed_and_who_is_used_now() -> None:
    rows = [changed(r, endpoint=f"{r.endpoint}-{i}") for r in results(8) for i in range(6)]
    found = table(rows, incumbent="allround-5")

    block = "\n".join(lines_of(found)).split("\n\n")[0]

    assert len(block.splitlines()) <= 13
    assert "allround-5" in block
    assert "more with --json or --html" in block


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "Nothing was graded"),
        ([changed(r, quality=None) for r in results()], "Nothing was graded"),
        ([r for r in results() if r.endpoint == "coder"], "Only one endpoint"),
        ([changed(r, ok=False, quality=None) for r in results()], "Cannot tell yet|Pin"),
        ([r for r in results() if r.task == "code"], "coder"),
        ([r for r in results() if int(r.prompt.split("-")[1]) < 2], "no task has 5 graded"),
        ([r for r in results() if (r.endpoint, r.task) != ("coder", "chat")], "Pin|Route|Cannot"),
        (
            [r for r in results() if (r.endpoint == "coder") == (r.task == "code")][:50],
            "Cannot tell yet|nothing to compare",
        ),
    ],
    ids=["nothing", "ungraded", "one endpoint", "all failed", "one task", "few", "hole", "apart"],
)
@pytest.mark.parametrize("order", Order)
def test_a_part_of_a_profile_is_told_as_one(
    rows: list[ProfileResult], says: str, order: Order
) -> None:
    found = table(rows, objective=Objective(order))

    assert re.search(says, sentence(found)) or order is not Order.UTILITY
    assert lines_of(found)
    assert html_of(found).endswith("</html>\n")
    json.dumps(found.as_json(), allow_nan=False)


def test_what_failed_counts_as_no_success_and_is_shown() -> None:
    rows = results()
    lost = {"ok": False, "quality": None, "cost_usd": 0.0}
    lost["why"] = "it turns the call down (status 400)"
    rows = [changed(r, **lost) if r.endpoint == "coder" else r for r in rows]

    found = table(rows)

    shown = "\n".join(lines_of(found))
    assert re.search(r"coder +0 % \[0–\d+\] +– +– .*25 failed", shown)
    assert "coder failed: 50 times it turns the call down (status 400)" in shown
    assert "coder failed: 50 times" in html_of(found)
    assert found.as_json()["failures"] == {"coder": {"it turns the call down (status 400)": 50}}
    coder = next(c for name, c in found.ranked_overall() if name == "coder")
    assert (coder.quality, coder.latency_s) == (0.0, None)


def test_a_cost_that_is_not_known_is_no_cost_of_nothing() -> None:
    rows = [changed(r, cost_usd=0.0) if r.endpoint == "allround" else r for r in results(60)]

    of_free, of_unknown = table(rows), table(rows, unpriced={"allround"})

    assert "allround, which you use now and which is free, at" in sentence(of_free)
    assert "allround, which you use now (cost not known), at" in sentence(of_unknown)
    assert "free" not in sentence(of_unknown)
    assert re.search(r"allround .*\] +\$0", "\n".join(lines_of(of_free)))
    assert re.search(r"allround .*\] +– ", "\n".join(lines_of(of_unknown)))
    of_advised = table(rows, unpriced={"coder"})
    assert "That (cost not known) compares with allround" in sentence(of_advised)
    assert of_advised.as_json()["advice"]["beside_incumbent"]["cost_ratio"] is None
    cheap = table(rows, unpriced={"allround"}, objective=Objective(Order.CHEAPEST))
    assert "the cost of allround is not known and counts as nothing" in judged_by(cheap)


@pytest.mark.parametrize(
    ("objective", "says"),
    [
        (Objective(Order.CHEAPEST), "cost per success"),
        (Objective(Order.FASTEST), "mean seconds"),
        (BALANCED, r"a success is worth \$0.05, a second of waiting \$0.0005"),
    ],
)
def test_it_is_said_what_endpoints_are_judged_by(objective: Objective, says: str) -> None:
    whole = table(results(), objective=objective).as_json()

    assert re.search(says, whole["judged_by"])
    assert whole["judged_by"].endswith("each task weighed alike")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)
        if tag not in ("meta", "line", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("meta", "line", "circle"):
            assert self.open.pop() == tag


def test_the_page_needs_nothing_else_and_escapes_every_name() -> None:
    rows = [changed(r, endpoint=f"<script>{r.endpoint}", task=f'"{r.task}&') for r in results()]

    text = html_of(table(rows, incumbent="<script>allround"))
    page = _Page()
    page.feed(text)

    assert not page.open
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert "default-src 'none'" in text
    assert "url(" not in text
    assert len(STYLE.encode()) <= 4096
    assert page.tags.count("svg") == 9
