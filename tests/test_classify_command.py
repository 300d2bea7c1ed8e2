"""`pointsman classify`: what it shows of exemplars, and what it says of bad ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import pointsman

from router.classify.evaluate import by_keywords, evaluate, keyword_rules, nearest, split
from router.classify.repeated import repeated
from router.classify.starters import starter_prompts, starter_systems
from router.commands.classify_file import read_exemplars
from scripts.proofs.classify import exemplars_of

CITIES = ("Rome", "Oslo", "Bern", "Kiel", "Nice", "Lund")
TRAVEL = [f"book a {means} to {city}" for means in ("flight", "train") for city in CITIES]
COOK = [f"boil {food} in {city}" for food in ("pasta", "rice") for city in CITIES]


def written(path: Path, exemplars: dict[str, list[str]]) -> Path:
    rows = [{"task": task, "text": text} for task, texts in exemplars.items() for text in texts]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "exemplars.jsonl", {"travel": TRAVEL, "cook": COOK})


def test_figures_and_confusion_of_a_file_are_shown(file: Path) -> None:
    said = pointsman("classify", file)

    assert said.exit_code == 0
    assert "24 exemplars of 2 tasks; each third was held out in turn" in said.stdout
    assert "100.0% are said to look like a task, of these 100.0% rightly" in said.stdout
    rows = [line.split() for line in said.stdout.splitlines()]
    assert ["cook", "12", "12", "0"] in rows
    assert ["travel", "12", "12", "0"] in rows


def test_the_same_figures_come_as_one_json_object(file: Path) -> None:
    said = pointsman("classify", file, "--json")

    told = json.loads(said.stdout)
    assert told.pop("keywords") < 1  # some words of cities are in both
    assert told == {
        "exemplars": {"cook": 12, "travel": 12},
        "coverage": 1.0,
        "accuracy_where_said": 1.0,
        "accuracy_of_all": 1.0,
        "likeliest": 1.0,
        "majority": 0.5,
        "confusion": {"cook": {"cook": 12}, "travel": {"travel": 12}},
        "too_few": {},
        "nearest_to_another": [],
        "shipped": {},
        "repeated": [],
    }


def test_a_text_is_told_with_lead_margin_and_words(file: Path) -> None:
    shown = pointsman("classify", file, "--text", "Book the train")
    nothing = pointsman("classify", file, "--text", "A haiku")
    unclear = pointsman("classify", file, "--text", "<a-b> Book the train")
    told = json.loads(pointsman("classify", file, "--text", "Book the train", "--json").stdout)

    assert shown.stdout.startswith("looks like travel: it leads by 2.00 words, and must lead by")
    assert "for it: book 1.00, train 1.00" in shown.stdout
    assert nothing.stdout == "looks like nothing: no word of it is known\n"
    assert "boilerplate is missing" in unclear.stdout
    assert told["said"] == "travel"
    assert told["words"] == {"book": 1.0, "train": 1.0}


def test_what_is_missing_of_a_task_is_said(tmp_path: Path) -> None:
    few = written(tmp_path / "few.jsonl", {"travel": TRAVEL, "cook": COOK[:4]})

    said = pointsman("classify", few)

    assert said.exit_code == 0
    assert "cook: 4 exemplars; write 6 more, ten are the least" in said.stdout


def test_exemplars_near_another_task_are_named(tmp_path: Path) -> None:
    odd = written(tmp_path / "odd.jsonl", {"travel": TRAVEL, "cook": [*COOK, "book a train, boil"]})

    assert "cook, looks like travel: book a train, boil" in pointsman("classify", odd).stdout


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON (expecting property name enclosed in double quotes at column 2)"),
        ("[]", "a line must be an object"),
        ('{"task": "code"}', "text: missing"),
        ('{"task": "code", "text": "  "}', "text: '  ': must be a text that is not empty"),
        ('{"task": 3, "text": "x"}', "task: 3: must be a text"),
        ('{"task": "a b", "text": "x"}', "task: 'a b': use 1 to 128 letters"),
        ('{"task": "a/b/c", "text": "x"}', "at most two levels, such as code/review; write a/b-c"),
        ('{"task": "a", "text": "\\ud800"}', "text: '\\ud800': holds half a character"),
        ('{"task": "\\udc00", "text": "x"}', "task: '\\udc00': use 1 to 128 letters"),
        ('{"task": "a", "text": "x", "\\ud800": 1}', "\\ud800: 1: unknown field"),
        ('{"task": "a", "text": "x", "label": 1}', "label: 1: unknown field"),
        ('{"task": "a", "task": "b", "text": "x"}', "there twice"),
        ('{"task": "a", "text": "' + "x" * 4001 + '"}', "4001 characters; 4000 is the most"),
        ('{"task": "a", "text": "' + "x" * 70_000 + '"}', "a line of over 65536 bytes"),
        ("[" * 20_000, "nested too deep"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_a_bad_line_is_told_with_its_number_field_value_and_fix(
    file: Path, line: str, problem: str
) -> None:
    with file.open("ab") as to:
        to.write(line.encode("utf-8", "surrogateescape") + b"\n")

    said = pointsman("classify", file)

    assert said.exit_code == 2
    assert said.stdout == ""
    assert said.stderr.startswith(f"{file}:26: ")
    assert problem in said.stderr


def test_of_many_bad_lines_ten_are_told(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text("no\n" * 25)

    said = pointsman("classify", bad).stderr.splitlines()

    assert len(said) == 11
    assert said[-1] == "and 15 more lines"


def test_a_file_that_is_not_there_or_teaches_nothing_is_refused(tmp_path: Path) -> None:
    empty = written(tmp_path / "one.jsonl", {"travel": TRAVEL})

    assert "cannot be read (No such file" in pointsman("classify", tmp_path / "no").stderr
    assert "cannot be read (Is a directory)" in pointsman("classify", tmp_path).stderr
    refused = pointsman("classify", empty)
    assert refused.exit_code == 2
    assert "no exemplars of two tasks" in refused.stderr


def test_without_a_file_the_configuration_is_read(tmp_path: Path) -> None:
    config = tmp_path / "pointsman.yaml"
    config.write_text("endpoints: [{id: a, model: m, base_url: 'http://a.test/v1'}]\n")

    said = pointsman("classify", "--config", config)

    assert said.exit_code == 2
    assert "list prompts under tasks.<name>.exemplars" in said.stderr


def test_without_a_file_it_says_whose_exemplars_were_measured(tmp_path: Path) -> None:
    config = tmp_path / "pointsman.yaml"
    own = "starter_tasks: true\nendpoints: [{id: a, model: m, base_url: 'http://a.test/v1'}]\n"
    config.write_text(own)

    alone = pointsman("classify", "--config", config)
    config.write_text(own + "tasks: {cook: {exemplars: [boil pasta, fry rice]}}\n")
    beside = pointsman("classify", "--config", config)
    told = json.loads(pointsman("classify", "--config", config, "--json").stdout)

    n = sum(map(len, starter_prompts().values()))
    assert alone.stdout.replace("\n", " ").startswith(
        f"{n} exemplars of 4 tasks, all shipped with Pointsman: this says nothing of prompts"
    )
    assert f"{n + 2} exemplars of 5 tasks, {n} of them shipped" in beside.stdout
    assert told["shipped"] == {task: len(texts) for task, texts in starter_prompts().items()}


def test_a_text_that_is_there_twice_is_told(tmp_path: Path) -> None:
    twice = written(
        tmp_path / "twice.jsonl",
        {"travel": [*TRAVEL, TRAVEL[0], f" {TRAVEL[1]} "], "cook": [*COOK, TRAVEL[0]]},
    )

    said = pointsman("classify", twice).stdout
    told = json.loads(pointsman("classify", twice, "--json").stdout)

    assert f"{TRAVEL[0]}: travel and cook have it; give it to one of them" in said
    assert f"{TRAVEL[1]}: travel has it 2 times; once is enough" in said
    assert told["repeated"] == [
        {"text": TRAVEL[0], "tasks": {"travel": 2, "cook": 1}},
        {"text": TRAVEL[1], "tasks": {"travel": 2}},
    ]
    assert repeated(starter_prompts()) == repeated(starter_systems()) == []


def test_exemplars_may_come_on_stdin_or_through_a_pipe(file: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = "import router.commands.classify_file as c; print(len(c.read_exemplars(c.Path(%r))))"
    piped = subprocess.run(
        [sys.executable, "-c", read % "-"], input=file.read_bytes(), capture_output=True, check=True
    )
    with ThreadPoolExecutor() as beside:
        beside.submit(pipe.write_bytes, file.read_bytes())
        found = read_exemplars(pipe)

    assert piped.stdout == b"2\n"
    assert found == {"travel": TRAVEL, "cook": COOK}


def test_what_has_no_end_or_no_beginning_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr("router.commands.classify_file.WRITER_S", 0.05)

    endless, silent = pointsman("classify", Path("/dev/zero")), pointsman("classify", pipe)

    assert (endless.exit_code, silent.exit_code) == (2, 2)
    assert endless.stderr == "/dev/zero: over 64 MiB; keep the most typical ones\n"
    assert silent.stderr.startswith(f"{pipe}: a pipe, and nothing came in 0.05 s")


def test_a_text_to_look_at_that_is_no_text_is_refused(file: Path) -> None:
    refused = pointsman("classify", file, "--text", "caf\udce9")

    assert refused.exit_code == 2
    assert refused.stderr.startswith("--text holds bytes that are no UTF-8")


def test_each_exemplar_is_held_out_once_and_never_taught_meanwhile() -> None:
    exemplars = {"a": [str(i) for i in range(10)] + ["3"], "b": ["x", "y"]}
    held_out: list[str] = []

    for third in range(3):
        taught, held = split(exemplars, third)
        for task, texts in held.items():
            assert not set(texts) & set(taught[task])
            assert sorted([*texts, *taught[task]]) == sorted(set(exemplars[task]))
            held_out += texts

    assert sorted(held_out) == sorted({*exemplars["a"], *exemplars["b"]})


def test_keyword_rules_are_the_words_that_are_most_a_tasks_own() -> None:
    rules = keyword_rules({"travel": TRAVEL, "cook": COOK})

    assert [task for task, _ in rules] == ["cook", "travel"]
    assert {"boil", "pasta", "rice"} <= rules[0][1]
    assert by_keywords(rules, "boil rice in a train") == "cook"
    assert by_keywords(rules, "nothing known") == ""


def test_general_is_right_where_nothing_is_said() -> None:
    found = evaluate({"general": TRAVEL, "cook": COOK})

    assert found.confusion["general"] == {"": 12}
    assert (found.n_right, found.n_wrong, found.n_said) == (24, 0, 12)


@pytest.mark.parametrize(("name", "least"), [("team", 0.85), ("desk", 0.85)])
def test_what_is_said_of_written_prompts_is_mostly_right(name: str, least: float) -> None:
    found = evaluate(exemplars_of(name))

    assert found.n == 240
    assert (found.n_said - found.n_wrong) / found.n_said >= least
    assert found.n_said / found.n >= 0.3
    assert found.likeliest > 1.5 * max(found.majority, found.keywords)


def test_exemplars_held_out_that_look_like_another_come_first() -> None:
    found = nearest(exemplars_of("team"), most=5)

    assert len(found) == 5
    assert [near.lead for near in found] == sorted(near.lead for near in found)
    assert found[0].lead < 0
    assert found[0].like != found[0].task
