"""The page as HTML: what it shows, in which order, and that whatever anybody wrote is text."""

from __future__ import annotations

import os
import re
import stat
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pages
import pytest

from bandit.report import Interval, RouterLine, Signal
from bandit.task_detail import latency_curve, quality_curve
from router.report.face import charts, figures, html, rows
from router.report.face.decision import CandidateRow, DecisionView
from router.report.face.keep import STDOUT, keep

OURS = {
    "html", "head", "meta", "title", "link", "style", "body", "main", "section", "p", "h1", "h2",
    "span", "code", "bdi", "a", "table", "thead", "tbody", "tr", "th", "td", "details", "summary",
    "svg", "path", "ul", "li", "time", "dl", "dt", "dd",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "rel", "href", "class", "id", "scope",
    "colspan", "data-is", "datetime", "viewbox", "preserveaspectratio", "aria-hidden", "focusable",
    "d",
}  # fmt: skip
BLOCKS = {"p", "h1", "h2", "td", "th", "li", "dt", "dd", "summary"}
LIVE = {"src", "defer", "role", "hidden"}


class Read(HTMLParser):
    """What a browser would make of a document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.text: list[str] = []
        self.style: str = ""
        self._in = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in = tag
        self.text.append(" " if tag in BLOCKS else "")
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "style":
            self.style += data
        else:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


def every_document() -> dict[str, str]:
    found = {}
    for name, page in pages.SAMPLES.items():
        details = pages.DETAILS[name]
        found[f"{name} file"] = html.page_html(page, details)
        found[f"{name} live"] = html.page_html(page, is_live=True)
        if details:
            found[f"{name} task live"] = html.task_html(page, details[:2])
    view = DecisionView([pages.HOSTILE] * 3, [CandidateRow(*[pages.HOSTILE] * 6)])
    return {**found, "hostile decision": html.decision_html(view)}


DOCUMENTS = every_document()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_has_our_own_elements_alone_whatever_anybody_wrote(name: str) -> None:
    found = Read(DOCUMENTS[name])

    assert found.tags <= OURS | ({"script"} if name.endswith("live") else set())
    assert found.attributes <= ATTRIBUTES | (LIVE if name.endswith("live") else set())
    assert all(
        link in ("data:,", "/", "/page.js") or re.match(r"/task/[\w.%-]+(\?|$)", link)
        for link in found.links
    )


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name.startswith("hostile")])
def test_markup_and_control_characters_are_shown_as_text(name: str) -> None:
    document = DOCUMENTS[name]
    words = Read(document).words

    assert "<script>alert(1)</script>" in words
    assert "{{ 7*7 }}{% raw %}" in words
    assert "?[31mred?[0m" in words
    assert "one two three four five six seven" in words
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]",
                         document)  # fmt: skip


def test_the_page_tells_in_the_order_in_which_people_ask() -> None:
    words = Read(html.page_html(pages.DEMO)).words

    places = [
        words.index(text)
        for text in (
            "gains 3.1\u00a0pp".replace("\u00a0", " "),
            "(trial: 2,088 sessions against 2,104)",
            "By 12,400 tool-call checks and 210 thumbs",
            "App batch: not shown yet",
            "Tasks",
            "+2.1 pp [+0.4, +3.8]",
            "What changed",
            "release shop: chat.support: openai/gpt-4.1",
            "to undo: pointsman release undo 3fa9c1d2",
            "to accept: pointsman release accept 91b7aa04",
            "Spend",
            "$10.10 for 8,321 calls; 17 of them without a price. Routing saved $5.93",
            "$7.87 of $10.00 a day, 79 %",
            "Health",
            "deepinfra: wrong key since 14:00",
            "2 routers, version 0.9.0, configuration 4be1c09a77d2: 10.0.0.4:4100-7f (this one)",
        )
    ]

    assert places == sorted(places)
    assert "To stop routing: pointsman off" in words


def test_a_page_says_that_routing_is_off_and_what_starts_it() -> None:
    words = Read(html.page_html(pages.BROKEN)).words

    assert "Routing is off: every call goes to your incumbent; to start: pointsman on" in words
    assert "pointsman off" not in words.replace("said by pointsman off", "")
    assert "1 router, version 0.8.3" in words  # routers that differ are told apart


def test_an_empty_page_says_so_rather_than_nothing() -> None:
    words = Read(html.page_html(replace(pages.EMPTY, sentences=(), routers=()))).words

    for said in ("Nothing to say yet.", "No task has had a call.", "Nothing needs attention.",
                 "$0.00 for 0 calls."):  # fmt: skip
        assert said in words


def test_what_stands_between_backticks_is_a_command_and_never_markup() -> None:
    page = replace(pages.EMPTY, notes=("`pointsman up` starts <b>", "`<i>` and one `left"))
    document = html.page_html(page)

    assert "<code>pointsman up</code> starts &lt;b&gt;" in document
    assert "`&lt;i&gt;` and one `left" in document


def test_what_is_not_known_is_left_out_and_never_a_zero() -> None:
    line = pages.DEMO.tasks[3]
    words = Read(html.page_html(replace(pages.DEMO, tasks=(line,)))).words

    assert "summarise openai/gpt-4.1 no signal your incumbent; nobody says what was good" in words


def test_tasks_open_in_the_file_and_on_pages_of_their_own_when_live() -> None:
    file, live = (Read(DOCUMENTS[f"demo {face}"]) for face in ("file", "live"))

    assert "inferred: no label of its own, no calls" in file.words
    assert "/task/chat.support?app=shop&strategy=best_value" in live.links
    assert "inferred" not in live.words
    assert "now, 1,539 labels, 4,215 calls, best: 81 %" in Read(DOCUMENTS["demo task live"]).words


def test_the_document_is_its_own_and_small() -> None:
    assert len(html.STYLE.encode()) <= 4096
    assert len(html.SCRIPT.encode()) <= 1024
    assert len(DOCUMENTS["demo file"].encode()) <= 100_000
    for name in ("big live", "big task live", "hostile file"):
        assert len(DOCUMENTS[name].encode()) <= 100_000, name


def test_the_policy_names_the_style_that_is_there_and_lets_nothing_else_in() -> None:
    found = Read(DOCUMENTS["demo file"])
    digest = b64encode(sha256(found.style.encode()).digest()).decode()

    assert f"style-src 'sha256-{digest}'" in html.FILE_POLICY
    assert "Content-Security-Policy" in DOCUMENTS["demo file"]
    assert html.FILE_POLICY in DOCUMENTS["demo file"]
    assert html.FILE_POLICY.startswith("default-src 'none'")
    assert "script-src" not in html.FILE_POLICY
    assert "unsafe" not in html.LIVE_POLICY
    assert "frame-ancestors 'none'; base-uri 'none'; form-action 'none'" in html.LIVE_POLICY


def test_routers_that_run_the_same_are_one_line_and_few_are_named() -> None:
    alike = [RouterLine(f"r{i}", "1", "aa", 0, i == 6) for i in range(7)]

    (row,) = rows.router_rows(alike)

    assert row.text == "7 routers, version 1, configuration aa"
    assert row.names == "r6 (this one), r0, r1, r2 and 3 more"


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        (0.0, "$0.00"),
        (0.000836, "$0.00084"),
        (0.0131, "$0.013"),
        (0.42, "$0.42"),
        (999.99, "$999.99"),
        (241_877.13, "$241,877"),
        (-3.5, "−$3.50"),
        (float("nan"), "—"),
    ],
)
def test_money_has_as_many_digits_as_tell_it_apart(usd: float, shown: str) -> None:
    assert figures.money(usd) == shown


def test_figures_are_said_as_people_write_them() -> None:
    assert figures.points(Interval(0.0312, -0.0004, 0.05)) == "+3.1 pp [0.0, +5.0]"
    assert figures.share(0.004) == "< 1 %"
    assert figures.share(0.0) == "0 %"
    assert figures.signals([Signal("thumbs", 1_200), Signal("tests", 3), Signal("edits", 2)]) == (
        "1,200 thumbs, 3 tests and 2 edits"
    )
    assert figures.moment(pages.NOW_MS, pages.NOW_MS) == "30 Nov 14:30"
    assert figures.moment(pages.NOW_MS - 400 * pages.DAY_MS, pages.NOW_MS) == "26 Oct 2024 14:30"
    assert figures.since(pages.NOW_MS - 60_000, pages.NOW_MS) == "14:29"
    assert figures.since(pages.NOW_MS - 26 * pages.HOUR_MS, pages.NOW_MS) == "29 Nov 12:30"
    assert figures.sentence("gains 3.1 pp [1.2, 5.0] here") == (
        "gains 3.1\u00a0pp\u00a0[1.2,\u00a05.0] here"
    )


def test_a_density_stands_where_its_axis_says_and_a_day_without_calls_is_a_gap() -> None:
    axis = charts.Axis(0.5, 1.0)

    drawn = charts.density(quality_curve(0.75, 0.05), axis, 0.75)

    assert f'd="M{charts.WIDTH // 2} 0V{charts.HEIGHT}"' in drawn
    assert charts.density(None, axis, None) == charts.shares(()) == charts.shares((None,)) == ""
    assert charts.shares((0.5, None, 1.0)).count("Z") == 2
    assert charts.Axis(0.1, 10.0, is_log=True).x_of(1.0) == charts.WIDTH // 2


def test_curves_hold_what_is_believed() -> None:
    quality, latency = quality_curve(0.97, 0.05), latency_curve(0.0, 0.5, 30.0)

    assert max(quality.at) == 1.0
    assert max(quality.height) <= 1.0
    middle = max(range(len(latency.at)), key=latency.height.__getitem__)
    assert latency.at[middle] == pytest.approx(1.0, rel=0.1)
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="must be above 0"):
            quality_curve(0.5, wrong)
        with pytest.raises(ValueError, match="must be above 0"):
            latency_curve(0.0, wrong, 3.0)


def test_a_kept_page_is_whole_and_its_owners_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.html"
    file.write_text("old")
    file.chmod(0o644)

    keep("<p>ü", file)
    keep("<p>ü", STDOUT)

    assert file.read_text("utf-8") == capsys.readouterr().out == "<p>ü"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(OSError, match="No such file"):
        keep("x", tmp_path / "nowhere" / "report.html")


def test_what_is_no_file_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    for to in (pipe, link):
        keep("<p>ü", to)
        assert os.read(reading, 64).decode() == "<p>ü"
    os.close(reading)

    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert link.is_symlink()
    keep("x", Path(os.devnull))
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


@pytest.mark.parametrize("to", ["", ".", "..", "/"])
def test_a_directory_is_no_place_for_a_page(to: str) -> None:
    with pytest.raises(IsADirectoryError):
        keep("x", Path(to))
