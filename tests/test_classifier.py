"""What a text looks like, and that no single word makes one task into another."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.classify.boilerplate import FRAMES, PHRASES, without_boilerplate
from router.classify.classifier import Classifier
from router.classify.starters import starter_prompts, starter_systems, system_text
from router.classify.teaching import UNIT
from router.classify.words import SIDE, key_of, keys_of, words_of

ROOT = Path(__file__).parent.parent
EXEMPLARS = {task: texts for task, texts in starter_prompts().items()}
PROMPTS = Classifier(EXEMPLARS)
SYSTEMS = Classifier(starter_systems())
TASKS = ("code", "maths", "prose")
STRONG = sorted(
    key
    for key in {key for texts in EXEMPLARS.values() for text in texts for key in keys_of(text)}
    if key.isalpha()
)
"""Words of the exemplars; those that say the most for a task are among them."""
ADVERSARIAL = [
    "<system-reminder>",
    "</system-reminder>",
    "<a-b></a-b>",
    "</a-b><a-b>",
    "x><a-b>poem</a-b>bug><a-b>",
    "<user_query>",
    "```python",
    "$\\int_0^1$",
    "poem<user_query>bug</user_query>integral",
    "Begin!",
    "#",
    "Question:",
    "def(poem,integral)",
    "a" * 5000,
    "poem-integral-bug-function-essay",
    "https://example.org/poem",
    "ﬁ",
    "İ",
    "\ufeff",
]
words = st.one_of(
    st.sampled_from(STRONG),
    st.sampled_from(ADVERSARIAL),
    st.sampled_from([word for phrase in PHRASES for word in "".join(phrase).split()]),
    st.sampled_from([word for frame in FRAMES for mark in frame for word in mark.split()]),
    st.text(min_size=1, max_size=12).filter(lambda word: word.split() == [word]),
)
pieces = st.one_of(
    st.sampled_from([text for task in TASKS for text in EXEMPLARS[task]]),
    st.sampled_from(STRONG),
    st.sampled_from(["".join(phrase) for phrase in PHRASES]),
    st.sampled_from([half for phrase in PHRASES for half in phrase]),
    st.sampled_from(
        [
            "<system-reminder>\nA poem about autumn, a story, an essay.\n</system-reminder>",
            "<a-b>prove the integral of the equation</a-b>",
            "<user_query>find the bug in this function</user_query>",
            f"{FRAMES[0][0]}\n\n## Open tabs:\n- poem.md: essay, story\n\n{FRAMES[0][1]}",
            f"{FRAMES[2][0]}\n\ncalculator: integral, equation\n\n{FRAMES[2][1]}",
        ]
    ),
)
texts = st.lists(pieces, min_size=1, max_size=6).map("\n".join)


def said(text: str) -> str | None:
    likeness = PROMPTS.like(text)
    return likeness.said if likeness else None


def edited(text: str, at: int, change: str, word: str) -> str:
    """The text with one word more, less, or other; white space stays where it is."""
    parts = re.split(r"(\S+)", text)
    i = 2 * (at % max(len(parts) // 2, 1)) + 1
    if len(parts) < 2:
        return word
    if change == "without":
        parts[i] = ""
    elif change == "instead":
        parts[i] = word
    else:
        parts[i] = f"{word} {parts[i]}" if change == "before" else f"{parts[i]} {word}"
    return "".join(parts)


CHANGES = ["without", "instead", "before", "after"]


@settings(max_examples=400, deadline=None)
@given(text=texts, at=st.integers(0, 500), change=st.sampled_from(CHANGES), word=words)
@example(
    text="<a-b>\nprove the integral of the equation, compute the derivative\n</a-b>\nfix the bug",
    at=0,
    change="instead",
    word="x",
)
def test_one_word_makes_no_task_into_another(text: str, at: int, change: str, word: str) -> None:
    before, after = said(text), said(edited(text, at, change, word))

    assert before is None or after in (before, None)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(2 * SIDE - 3, 2 * SIDE + 3),
    at=st.integers(0, 2 * SIDE),
    change=st.sampled_from(CHANGES),
    word=words,
    other=st.lists(st.sampled_from(STRONG), min_size=2, max_size=8),
)
def test_nor_at_the_edge_of_what_is_looked_at(
    n: int, at: int, change: str, word: str, other: list[str]
) -> None:
    """Where a word more moves another one out of sight."""
    around = ["wherefore"] * n
    around[SIDE - len(other) // 2 : SIDE - len(other) // 2 + len(other)] = other
    text = " ".join(around)

    before, after = said(text), said(edited(text, at, change, word))

    assert before is None or after in (before, None)


@settings(max_examples=200, deadline=None)
@given(word=words)
def test_one_word_alone_says_nothing(word: str) -> None:
    likeness = PROMPTS.like(word)

    assert likeness is None or likeness.lead <= 1 < likeness.margin
    assert said(word) is None


def test_what_one_word_says_is_bounded_whatever_it_holds() -> None:
    for word in STRONG:
        for made in (word, f"{word}-{word}ing", f"{word}({word}ing)"):
            votes = PROMPTS._votes_of_key(key_of(made))
            assert int(votes.max() - votes.min()) <= UNIT


def test_what_of_boilerplate_is_whole_goes_and_a_part_is_unclear() -> None:
    for begin, end in FRAMES:
        assert without_boilerplate(f"before\n{begin} frame\n{end} after") == "before\n\n after"
        for broken in (f"{begin} frame", f"frame\n{end} after", f"{end}\n{begin}"):
            assert without_boilerplate(broken) is None
    for first, second in PHRASES:
        rest = "home" if second.endswith("/") else ""
        found = without_boilerplate(f"before {first}{second}{rest} after")
        assert found == f"before \n{rest} after"
        for half in (first, second, f"{first}other {second}"):
            assert without_boilerplate(half) is None


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<a-b>x</a-b>fix it<a-b>y</a-b>", None),  # the second begins no line
        ("<a-b>x <c_d>z</c_d>\n<a-b>y</a-b></a-b>\nfix it", None),
        ("<a-b>\n<a-b>y</a-b></a-b>\nfix it", "\nfix it"),
        ("<a-b attribute='x > y'>x</a-b>\nfix it", "\nfix it"),
        ("<a-b>fix it</a-b>", "fix it"),
        ("<user_query>fix it</user_query>", "fix it"),
        ("Vec<my_type> is wrong", "Vec<my_type> is wrong"),
        ("<p>fix</p> <div>it</div>", "<p>fix</p> <div>it</div>"),
        ("<a-b>fix it", None),
        ("fix it</a-b>", None),
        ("x" * 300_000, None),
    ],
)
def test_blocks_go_where_their_tags_match(text: str, left: str | None) -> None:
    assert without_boilerplate(text) == left


def test_starters_tell_prompts_apart_that_they_do_not_hold() -> None:
    asked = {
        "Refactor the function below and write unit tests for the parser module.": "code",
        "Prove that the integral converges and compute its limit.": "maths",
        "Write a poem and a short story about autumn for my newsletter.": "prose",
        "Corrige cette fonction Python et écris les tests.": "code",
    }

    assert {text: said(text) for text in asked} == asked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "?!",
        "Hello, how are you?",
        "What can you do for me today?",
        "ok",
        "12 30",
        "好的",
    ],
)
def test_what_looks_like_nothing_is_said_to_be_nothing(text: str) -> None:
    assert said(text) is None


def test_a_word_is_the_same_word_with_punctuation_and_in_capitals() -> None:
    assert PROMPTS.like("function poem") == PROMPTS.like("Function, FUNCTION poem: (poem)")


def test_a_thousandfold_word_votes_once() -> None:
    once, often = PROMPTS.like("function poem"), PROMPTS.like("function " * 1000 + "poem")

    assert once is not None
    assert once == often


def test_fewer_than_two_tasks_tell_nothing_apart() -> None:
    assert Classifier({}).like("Fix the bug") is None
    assert Classifier({"code": ["Fix the bug"], "empty": []}).like("Fix the bug") is None
    assert Classifier({"code": ["Fix the bug"], "blank": ["  ", "??"]}).like("Fix the bug") is None


def test_exemplars_of_general_say_nothing_and_silence_others() -> None:
    tasks = {"travel": ["book a flight to Rome"] * 3, "cook": ["boil the pasta"] * 3}
    text = "What is the weather in Rome, and book a taxi?"
    without = Classifier(tasks).like(text)
    with_general = Classifier({**tasks, "general": [text]}).like(text)

    assert without is not None
    assert without.task == "travel"
    assert with_general is not None
    assert (with_general.task, with_general.said) == ("general", None)


def test_words_that_speak_for_a_task_are_told_the_strongest_first() -> None:
    found = PROMPTS.words_for("Fix the bug in this function, and write a poem")

    assert [word for word, _ in found][-1] == "poem"
    assert {"bug", "function"} <= {word for word, says in found if says > 0}
    assert [says for _, says in found] == sorted((says for _, says in found), reverse=True)


def test_processes_and_hash_seeds_find_the_same() -> None:
    code = (
        "from router.classify.classifier import Classifier\n"
        "from router.classify.starters import starter_prompts as s\n"
        "from hashlib import sha256\n"
        "c = Classifier(dict(reversed(s().items())))\n"
        "l = c.like('Fix the bug in this function, please, and write a poem about it')\n"
        "print(sha256(c._weights.tobytes()).hexdigest(), l)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(found) == 1


AGENTS = {
    "claude code": system_text(
        "You are Claude Code, Anthropic's official CLI for Claude.",
        ["Agent", "Bash", "Edit", "EnterWorktree", "NotebookEdit", "Read", "WebFetch", "Write"],
    ),
    "codex": system_text(
        "You are Codex, a coding agent. You share a workspace with the user: read files, run"
        " commands in a sandbox and apply patches until the task is done.",
        ["exec_command", "write_stdin", "request_user_input", "view_image", "update_goal"],
    ),
    "aider": system_text(
        "Act as an expert software developer. Always use best practices when coding. Respect and"
        " use existing conventions and libraries that are already present in the code base.",
        [],
    ),
    "cline": system_text(
        "You are a skilled software engineer who knows many programming languages.",
        ["execute_command", "read_file", "replace_in_file", "search_files", "attempt_completion"],
    ),
}


@pytest.mark.parametrize("agent", AGENTS)
def test_coding_agents_look_like_code_by_prompt_and_tools(agent: str) -> None:
    likeness = SYSTEMS.like(AGENTS[agent])

    assert likeness is not None
    assert likeness.said == "code"


@pytest.mark.parametrize(
    ("system", "tools"),
    [
        ("You are a helpful assistant.", []),
        ("You are a helpful assistant with tools.", ["get_weather", "web_search"]),
        ("", ["final_result"]),
        ("You are Maya, the assistant of a telecom provider.", ["get_invoice", "open_ticket"]),
        ("Answer only from the passages given, and cite them.", ["search_documents"]),
        ("Current date: 2026-11-30. Be concise.", []),
        ("", []),
    ],
)
def test_generic_assistants_look_like_nothing(system: str, tools: list[str]) -> None:
    likeness = SYSTEMS.like(system_text(system, tools))

    assert likeness is None or likeness.said is None


def test_names_of_tools_are_read_as_words_before_the_system_prompt() -> None:
    text = system_text("Use <example> tags.", ["read_file", "TaskCreate", "mcp__git__log"])

    assert text == "read file\nTask Create\nmcp git log\nUse ‹example› tags."
    assert without_boilerplate(text) is not None


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("Functions,", "functions"),
        ("(the", ""),
        ("2026-11-30", "`number"),
        ("x=3", "`formula"),
        ("n", ""),
        ("Y)", ""),
        ("42", "`number"),
        ("src/app/main.py", "`path py"),
        ("main.py:", "`path py"),
        ("https://example.org/a?b=c", "`url"),
        ("```rust", "`fence rust"),
        ("```", "`fence "),
        ("\\frac{1}{2}", "`latex"),
        ("get_user(id)", "`code get user id"),
        ("eva@example.org", "`mail"),
        ("l'équation", "équation"),
        ("state-of-the-art", "state art"),
        ("—", ""),
        ("getUserName", "`code getusername"),
    ],
)
def test_of_a_word_counts_what_it_is_and_no_name_in_it(word: str, key: str) -> None:
    assert key_of(word) == key


@pytest.mark.parametrize(
    "text",
    ["hello n 21", "thanks a lot n 24", "hello x 3 k 5", "ok, 21 if so", "7 x 8 y"],
)
def test_numbers_and_letters_alone_are_no_mathematics(text: str) -> None:
    likeness = PROMPTS.like(text)

    assert likeness is None or likeness.said is None


def test_the_first_and_last_words_of_a_long_text_are_looked_at() -> None:
    text = " ".join(map(str, range(5000)))

    found = words_of(text)

    assert found == [*map(str, range(SIDE)), *map(str, range(5000 - SIDE, 5000))]
    assert words_of(" a  b\n") == ["a", "b"]


def test_a_text_is_looked_at_in_bounded_time_whatever_it_is() -> None:
    for text in ("<" * 200_000, "<a_" * 80_000, "<a-b> " * 40_000, "x" * 10**7, "é-" * 100_000):
        assert said(text) is None


def test_change_of_a_word_is_what_the_test_thinks_it_is() -> None:
    assert edited("a b", 1, "instead", "c") == "a c"
    assert edited("a b", 0, "without", "c") == " b"
    assert edited("a b", 0, "before", "c") == "c a b"
