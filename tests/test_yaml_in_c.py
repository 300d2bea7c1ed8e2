"""What libyaml reads in a tenth of the time is what PyYAML reads: every value, line and refusal."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from router.config import nodes
from router.config.file import parse
from router.config.tree import parse_yaml
from router.errors import ConfigError

EXAMPLES = sorted((Path(__file__).parent.parent / "docs/examples").glob("*.yaml"))
PARTS = [
    *("endpoints", "id", "model", "- ", "-", ": ", ":", ", ", "{", "}", "[", "]", "'", '"', "#"),
    *(" #", "\n", "\n\n", "\n  ", "\n- ", "  ", "010", "0x1", "1e400", ".inf", "~", "null", "yes"),
    *("true", "4.10", "=", "@", "$", "^", ";", "(", ")", "http://h/v1", "name with words"),
    *(
        "x*",
        "20%",
        "how?",
        "a->b",
        "-*",
        "a: []\n",
        "'*'",
        "'&a",
        "# *x & |",
        "\n# `*` & <<: %\n",
        "é",
    ),
]


def read(text: str, *, slowly: bool) -> Any:
    """Return all values of a text with their places, or why it is refused."""
    with pytest.MonkeyPatch.context() as patch:
        if slowly:
            patch.setattr(nodes, "_InC", None)
        try:
            tree = parse_yaml(text, "f")
        except ConfigError as error:
            return str(error)
        return tree.root, tree.findings.spots, tree.findings.problems


def altered(rng: random.Random) -> str:
    """Return a part of an example with a few changes, or words in any order."""
    if rng.random() < 0.4:
        return "".join(rng.choices(PARTS, k=rng.randint(1, 14)))
    lines = rng.choice(EXAMPLES).read_text().splitlines()
    first = rng.randrange(len(lines))
    part = lines[first : first + rng.randint(1, 20)]
    indent = min((len(line) - len(line.lstrip()) for line in part if line.strip()), default=0)
    text = re.sub(r"[&*!|>%?\\]|[^ -~\n]", "x", "\n".join(line[indent:] for line in part))
    for _ in range(rng.randint(0, 3)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(PARTS) + text[at + rng.choice((0, 0, 1, 5)) :]
    return text


@pytest.mark.skipif(nodes._InC is None, reason="this PyYAML has no libyaml")
def test_whatever_is_plain_is_read_alike_by_both() -> None:
    rng, n_taken = random.Random(31), 0
    for _ in range(1500):
        text = altered(rng)

        said = read(text, slowly=False)

        assert said == read(text, slowly=True), text
        n_taken += not isinstance(said, str) and nodes.PLAIN.match(text) is not None
    assert n_taken > 200


@pytest.mark.skipif(nodes._InC is None, reason="this PyYAML has no libyaml")
@pytest.mark.parametrize(
    "text",
    [
        "a:\tb",
        "a: &x b",
        "a: [b?, c]",
        "a: *b",
        "a: !!int 1",
        "a: |\n  b",
        'a: "\\u00e9"',
        "---\na: 1",
        "a: 1\n...\n",
        "? a\n: b",
        "%YAML 1.2\n",
        "a: b\r\n",
    ],
)
def test_what_the_two_read_differently_is_left_to_one(text: str) -> None:
    assert nodes.PLAIN.match(text) is None


@pytest.mark.skipif(nodes._InC is None, reason="this PyYAML has no libyaml")
def test_a_plain_file_is_read_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    text = EXAMPLES[0].with_name("minimal.yaml").read_text()
    nodes._quick()
    monkeypatch.setattr(nodes, "Loader", None)

    assert parse(text, file="f") is not None
