"""The file of prompts is checked whole before anything is sent; graders grade as they say."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from router.profiling.check_command import passes, refusal_of
from router.profiling.graders import fits, is_expected
from router.profiling.judge import score_of
from router.profiling.plan import Ask, enough_usd
from router.profiling.prompts import BadPrompts, ProfilePrompt, lines_of, read_prompts

GOOD = b'{"prompt": "What is 1?", "expected": "1"}'


def read(*lines: bytes, beside: Path = Path("/")) -> list[ProfilePrompt]:
    return read_prompts(
        lines, tasks=("code", "general"), classes=("public", "confidential"), beside=beside
    ).prompts


def problem(line: bytes | dict[str, Any]) -> str:
    text = line if isinstance(line, bytes) else json.dumps(line).encode()
    with pytest.raises(BadPrompts) as bad:
        read(text)
    return str(bad.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "line 1: is no JSON"),
        (b"\xff", "is not UTF-8 (byte 0)"),
        (b"[1]", "is [1]; write an object"),
        (b'{"prompt": NaN}', "prompt: holds NaN; write a number that JSON has"),
        (b'{"prompt": "a", "expected": 1e999}', "line 1, expected: holds a number too large"),
        (b'{"prompt": "a", "expected": null}', "line 1, expected: is null; say what grades"),
        (b'{"prompt": "a", "tools": [{"x": -Infinity}]}', "line 1, tools: holds"),
        (b'{"prompt": "a", "expected": "\\ud800"}', "line 1, expected: is '\\ud800'"),
        (b'{"prompt": "a", "expected": {"a": 1}}', "is {'a': 1}; write a text or a number"),
        (b'{"prompt": "a", "expected": [["a"]]}', "expected: is ['a']; write a text"),
        (b'{"prompt": "a"\n', "(expecting ',' delimiter at column 15)"),
        (b'{"prompt": "a", "prompt": "b"}', "is there twice"),
        ({"promt": "a"}, "did you mean prompt?"),
        ({"prompt": 7}, "line 1, prompt: is 7; write a text"),
        ({"task": "code"}, "one of the two is needed"),
        ({"prompt": "a", "messages": []}, "both are there"),
        ({"messages": []}, "is []; write a list of messages"),
        ({"messages": ["hi"]}, "messages[0]: is 'hi'"),
        ({"prompt": "a", "task": "cod"}, "is unknown"),
        ({"prompt": "a", "data_class": "secret"}, "the configuration has public, confidential"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens: is 0; write a whole number"),
        ({"prompt": "a", "tools": {}}, "tools: is {}; write a list"),
        ({"prompt": "a", "expected": []}, "list 1 to 100"),
        ({"input": "a", "expected": "1"}, "line 1, input: unknown field; write messages"),
        ({"prompt": "a", "model": "m"}, "each endpoint is asked for its own"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0].role: is 'robot'; write"),
        ({"messages": [{"role": "user"}]}, "messages[0].content: is null; write a text"),
        ({"messages": [{"role": "user", "content": 5}]}, "content: is 5; write a text, or a list"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            'content[0]: is of another dialect (image); Chat Completions has {"type": "image_url"',
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
            'has tool_calls of the assistant and messages of role "tool"',
        ),
        ({"prompt": "a", "tools": [{"name": "f", "input_schema": {}}]}, "tools[0]: is {'name'"),
        ({"prompt": "a", "tools": [{"type": "function", "name": "f"}]}, "tools[0]: is {'type'"),
        ({"prompt": "a", "expected": True}, "is true"),
        ({"prompt": "a", "expected": "1", "schema": {}}, "stands beside expected"),
        ({"prompt": "a", "schema": {"type": "wrong"}}, "is no JSON schema"),
        ({"prompt": "a", "check": ["no-such-program-here"]}, "no program that can be run"),
        ({"prompt": "a", "check": "'"}, "No closing quotation"),
    ],
)
def test_a_bad_line_is_told_with_its_field_and_its_fix(
    line: bytes | dict[str, Any], said: str
) -> None:
    assert said in problem(line)


def test_bad_lines_are_told_by_number_twenty_at_most() -> None:
    lines = [GOOD] * 499 + [b"{"] + [b'{"prompt": 1}'] * 25

    with pytest.raises(BadPrompts) as bad:
        read(*lines)

    assert [each.line for each in bad.value.problems] == list(range(500, 520))
    assert "and 6 more lines" in str(bad.value)


def test_a_file_may_have_a_mark_of_order_blank_lines_and_windows_ends() -> None:
    found = read(b"\xef\xbb\xbf" + GOOD + b"\r\n", b"\r\n", b"  \n", GOOD)

    assert [prompt.line for prompt in found] == [1]  # the second says the same
    assert found[0].body == {"messages": [{"role": "user", "content": "What is 1?"}]}


def test_nothing_but_blank_lines_is_no_file_of_prompts() -> None:
    with pytest.raises(BadPrompts, match="there is no prompt"):
        read(b"\n", b"")


def test_a_line_that_never_ends_is_not_read_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    file.write_bytes(GOOD + b"\n" + b"x" * (5 << 20))

    with pytest.raises(BadPrompts, match="line 2: is longer than 4 MiB"), file.open("rb") as opened:
        read(*lines_of(opened))


def test_a_prompt_is_known_by_what_is_sent_and_graded_and_not_by_its_line() -> None:
    one, other = read(b'{"prompt": "a", "expected": "1"}', b'{"prompt": "a", "expected": "2"}')
    (same,) = read(b"\n", b'{"expected": "1", "id": "x", "prompt": "a"}')

    assert one.digest == same.digest != other.digest


def test_a_check_names_files_beside_the_prompts_by_their_whole_path(tmp_path: Path) -> None:
    (tmp_path / "check.py").write_text("")

    (found,) = read(b'{"prompt": "a", "check": "python3 check.py --all"}', beside=tmp_path)

    assert found.grader is not None
    assert found.grader.command == ("python3", str(tmp_path / "check.py"), "--all")


@pytest.mark.parametrize(
    ("accepted", "answer", "is_right"),
    [
        ("Paris", " paris.\n", True),
        ("Paris", "The capital is nice.\n\nAnswer: **Paris**", True),
        ("Paris", "Paris or London", False),
        ("4", "2 + 2 makes 4.", True),
        ("4", "There are 4 of 5", False),
        ("1000", "It is 1,000.0", True),
        (".5", "0.50", True),
        ("5", ".5", False),
        ("\\frac{1}{2}", "so \\boxed{\\frac{1}{2}} it is", True),
        ("yes", "no", False),
        ("yes", "", False),
        ("12", "x" * 100_000 + " 1" * 50_000 + "2", True),
    ],
)
def test_an_answer_is_right_where_it_is_or_ends_in_an_accepted_one(
    accepted: str, answer: str, is_right: bool
) -> None:
    assert is_expected((accepted, "never said"), answer) is is_right


def test_a_schema_takes_json_that_fits_and_nothing_around_it() -> None:
    schema = json.dumps({"type": "object", "required": ["a"]})

    assert fits(schema, '{"a": 1}')
    assert not fits(schema, '{"b": 1}')
    assert not fits(schema, 'Here: {"a": 1}')
    assert not fits(schema, "[" * 100_000)


def test_a_check_reads_prompt_and_answer_and_passes_by_its_exit_code(tmp_path: Path) -> None:
    script = tmp_path / "check.py"
    script.write_text(
        "import json, os, sys\n"
        "told = json.load(sys.stdin)\n"
        "alone = set(os.environ) <= {'PATH', 'LC_CTYPE'} and not os.listdir('.')\n"
        "sys.exit(0 if told['answer'] == 'right' and alone else 1)\n"
    )
    command = (sys.executable, str(script))

    assert asyncio.run(passes(command, b'{"answer": "right"}'))
    assert not asyncio.run(passes(command, b'{"answer": "wrong"}'))


def test_prompts_as_chat_has_them_are_taken_as_they_are() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "4"},
    ]
    tools = [{"type": "function", "function": {"name": "f"}}, {"type": "web_search"}]

    (found,) = read(json.dumps({"messages": messages, "tools": tools, "expected": 4}).encode())

    assert found.body == {"messages": messages, "tools": tools}


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 0", ""),
        ("exit 3", "exit code 3"),
        ("kill -9 $$", "ended by signal 9"),
        ("exec <&-; exit 0", ""),
        ("head -c 100000000 /dev/zero", ""),
        ("trap '' TERM INT HUP; while :; do sleep 0.05; done", "took over 0.3 s"),
        ("env | grep -q KEY", "exit code 1"),
    ],
)
def test_a_check_is_told_by_its_end_whatever_it_does(
    monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    told = b"x" * 1_000_000  # more than a pipe holds

    assert (
        asyncio.run(
            refusal_of(("sh", "-c", script), told, timeout_s=0.3 if "trap" in script else 5)
        )
        == why
    )


def test_a_check_may_not_read_the_keys_of_the_process_that_runs_it() -> None:
    if os.name != "posix" or not Path("/proc/self/environ").exists() or os.geteuid() == 0:
        pytest.skip("root reads it all the same")
    script = (
        "import subprocess; from router.profiling.check_command import hide_environment;"
        "hide_environment(); print(subprocess.call(['sh', '-c', 'cat /proc/$PPID/environ']))"
    )

    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert (said.stdout, "Permission denied" in said.stderr) == ("1\n", True)


def test_a_check_that_takes_too_long_fails_and_its_children_end_with_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    command = ("sh", "-c", f"(sleep 0.4; touch {mark}) & sleep 30")

    began = time.monotonic()
    assert not asyncio.run(passes(command, b"{}", timeout_s=0.2))

    assert time.monotonic() - began < 5
    time.sleep(0.5)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ('{"score": 0.5}', 0.5),
        ('Sure: {"score": 1}', 1.0),
        ('{"score": 2}', None),
        ('{"score": true}', None),
        ("0.5", 0.5),
        ("7", None),
        ('{"score": "0.8"}', 0.8),
        ('{"score": "high"}', None),
        ("{" * 10_000, None),
        ('{"score": NaN}', None),
    ],
)
def test_a_judges_word_is_one_number_from_0_to_1(said: str, score: float | None) -> None:
    assert score_of(said) == score


def test_a_limit_that_is_enough_goes_by_what_answers_did_cost() -> None:
    left: Any = [
        Ask(turn, None, "t", SimpleNamespace(id=name), 0.01)  # type: ignore[arg-type]
        for turn in range(1, 4)
        for name in ("seen", "unseen")
    ]

    assert enough_usd(left, 1.0, {}, n_each=2) == pytest.approx(1.1)  # 1.04, rounded up
    assert enough_usd(left, 1.0, {"seen": 0.5}, n_each=2) == pytest.approx(3.0)
    assert enough_usd(left, 1.0, {"seen": 0.001}, n_each=2) == pytest.approx(1.1)
