"""Every command, program, configuration and JSON of README and docs runs as it is printed.

One first day is lived in a directory, as the README has it: two simulated providers, and a real
store, worker and sidecar. Then the commands of all pages are typed there. Only the directory and
the port are this run's own, and the ids that a sidecar gave.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import polars as pl
import pytest
import yaml
from documented import ROOT, Block, blocks, documented_provider, tickets

from router.config.compiled import compile_text
from router.endpoints.data_classes import USUAL_CLASSES
from router.profiling.prompts import read_prompts

pytestmark = pytest.mark.slow
BLOCKS = blocks()
SHELL = [block for block in BLOCKS if block.language in ("sh", "console")]
KNOWN = {"sh", "console", "python", "yaml", "json", "toml", "text"}
FOLDER, PORT = "/tmp/shop", "8787"
IN_FRONT = "pointsman up"
"""It goes on: it is typed in a terminal of its own."""
BY_HAND = "takes minutes; `scripts/README.md` lists it"
ELSEWHERE = {
    "scripts/demo": "tests/test_demo.py plays it",
    'scripts/setup && export PATH="$PWD/.venv/bin:$PATH"': "downloads; it is how tests begin",
    "mkdir -p /tmp/trial && cd /tmp/trial": "tests/test_demo.py has a directory of its own",
    "pointsman demo --stay": "tests/test_demo.py lets one stay, and calls it as printed",
    "OPENAI_BASE_URL=http://127.0.0.1:8787/v1 OPENAI_API_KEY=any python app.py": "the same",
    "pointsman check --app support": "tests/test_examples.py holds it",
    **dict.fromkeys(
        (
            "pointsman trial code --challenger gpt-6-luna",
            "pointsman trial code",
            "pointsman trial --app shop",
            "pointsman trial stop 4k2m",
        ),
        "they want a week of labelled traffic, which tests/test_trials.py has",
    ),
    "scripts/test": "these are its tests",
    "scripts/clients all": "downloads",
    "scripts/bench truth --quick": BY_HAND,
    **dict.fromkeys(
        (
            f"scripts/prove {name} --quick"
            for name in (
                "first_day", "pipeline", "old", "failover", "direct", "explain", "policy", "steady",
                "agent", "episodes", "savings", "pacing", "secrets", "verdict",
            )
        ),
        BY_HAND,
    ),
}  # fmt: skip
"""Commands that are not typed here, and why."""
TYPED_BY_NOBODY = {
    "docs/deploy.md": "root, an engine, a cluster or a registry; test_deploy.py reads the files",
    "docs/opentelemetry.md": "packages of an extra and a collector; test_spans.py has a receiver",
}
"""Pages whose commands change the machine, or want what is not here."""
HELD_ELSEWHERE = {"docs/notices.md": "tests/test_notices.py"}
"""Programs and JSON that a neighbour runs."""
ENDS_WITH = {
    "pointsman check --live": (2, "it asks, and there is no terminal"),
}
"""Exit codes other than 0, and why."""
CHANGING = ("pointsman report", "pointsman explain", "pointsman check")
"""What these print is other tests' to hold."""
BESIDE = {
    "docs/budgets.md": "apps: {support: {keys: [{env: KEY}], spend_tag: client}}",
    "docs/policy.md": "{roles: {coder: {tasks: [code]}}, tasks: {code: {}}}",
    "docs/provider-limits.md": "apps: {batch: {keys: [{env: KEY}]}}",
}
"""What else is in the file of which a page shows a part."""
ENDPOINTS = """
providers: {azure: {base_url: "https://a.example/v1"}, vertex: {base_url: "https://v.example/v1"}}
endpoints:
  - {id: gpt, model: gpt, provider: azure, region: eu, max_data_class: restricted,
     retention_days: 0, trains_on_data: false, jurisdiction: DE}
  - {id: flash, model: flash, provider: vertex, max_data_class: restricted}
"""


@dataclass(slots=True)
class LivedDay:
    """A directory in which commands are typed, and what came of them."""

    folder: Path
    environment: dict[str, str]
    port: str = PORT
    ids: dict[str, str] = field(default_factory=dict)  # printed -> given here
    said: dict[str, str] = field(default_factory=dict)
    up: subprocess.Popen[bytes] | None = None

    def here(self, printed: str) -> str:
        """A command as this run types it."""
        for was, now in {FOLDER: str(self.folder), PORT: self.port, **self.ids}.items():
            printed = printed.replace(was, now)
        return printed

    def type(self, command: str) -> tuple[int, str]:
        """Run a command as a shell would; a person waits for a minute at most."""
        done = subprocess.run(
            ["bash", "-c", self.here(command)],
            cwd=ROOT if " docs/" in command else self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.said[command] = done.stdout
        return done.returncode, done.stdout + done.stderr

    def start(self) -> None:
        """Run `pointsman up` until it has said where clients go."""
        log = self.folder / "up.log"
        with log.open("wb") as file:
            self.up = subprocess.Popen(
                ["bash", "-c", f"exec {IN_FRONT}"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stderr=file,
            )
        deadline = time.monotonic() + 60
        while "ANTHROPIC_BASE_URL=" not in log.read_text():
            assert self.up.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        self.said[IN_FRONT] = log.read_text()


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivedDay]:
    folder = tmp_path_factory.mktemp("shop")
    _files(folder)
    with documented_provider() as provider:
        base = f"http://127.0.0.1:{provider.port}"
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            "COLUMNS": "120",
            "OPENAI_API_KEY": "sk-one",
            "OPENAI_BASE_URL": f"{base}/openai/v1",
            "ANTHROPIC_API_KEY": "sk-two",
            "ANTHROPIC_BASE_URL": f"{base}/anthropic",
        }
        lived = LivedDay(folder, environment)
        yield lived
        if lived.up is not None:
            lived.up.terminate()
            assert lived.up.wait(60) == 0, (folder / "up.log").read_text()


def _files(folder: Path) -> None:
    """What the pages' commands read: a user's own files."""
    (folder / "app.py").write_text(program("README.md", 0))
    (folder / "tickets.jsonl").write_text(tickets())
    texts = {
        "code": "Why does this {} never end? Fix the bug in this function.",
        "law": "Which clause of this {} says who pays the damages?",
    }
    things = [f"{word} {i}" for word in ("loop", "query") for i in range(5)]
    lines = [
        {"task": task, "text": text.format(thing)}
        for task, text in texts.items()
        for thing in things
    ]
    (folder / "exemplars.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [
        {"prompt_id": f"p{i}", "category": "maths", "model": model, "quality": float(i % n > 0),
         "cost_usd": 0.001 * n, "run_date": "2024-08-11"}
        for i in range(12)
        for n, model in ((2, "small"), (5, "large"))
    ]  # fmt: skip
    pl.DataFrame(rows).write_parquet(folder / "outcomes.parquet")


def program(page: str, *numbers: int) -> str:
    """Programs of a page, one after the other."""
    found = [b.text for b in BLOCKS if b.page == page and b.language == "python"]
    return "\n".join(found[number] for number in numbers)


def typed(block: Block) -> Iterator[tuple[str, str]]:
    """Commands of a block without their comments, and what is printed below each."""
    for line, printed in block.commands:
        command = re.split(r"\s+#", line)[0].strip()
        if command not in ELSEWHERE:
            yield command, printed


COMMANDS = [
    pytest.param(command, printed, id=f"{block.name} {command[:50]}")
    for block in SHELL
    if block.page not in TYPED_BY_NOBODY
    for command, printed in typed(block)
]


@pytest.mark.parametrize(("command", "printed"), COMMANDS)
def test_a_command_ends_well_and_says_what_is_printed_below_it(
    command: str, printed: str, day: LivedDay
) -> None:
    if command == IN_FRONT:
        day.start()
        code, said = 0, day.said[IN_FRONT]
    else:
        code, said = day.type(command)

    assert code == ENDS_WITH.get(command, (0, ""))[0], said
    _learn(day, command)
    if not command.startswith(CHANGING):
        known = {_shape(day, line) for line in said.splitlines()}
        assert [line for line in printed.splitlines() if _shape(day, line) not in known] == []


def _shape(day: LivedDay, line: str) -> str:
    """A line without what differs from day to day: numbers, and where it was printed."""
    line = day.here(line).replace(str(day.folder), FOLDER)
    return re.sub(r"\s+", " ", re.sub(r"[-+−]?[\d.,]*\d", "#", line)).strip()


def _learn(day: LivedDay, command: str) -> None:
    """Take over what this run's own are: its port, and ids of decisions."""
    if command == "pointsman init --yes":
        server = yaml.safe_load((day.folder / "pointsman.yaml").read_text())["server"]
        day.port = str(server.get("port", PORT))
    elif command == IN_FRONT:
        headers = {"x-router-session-id": "fix-login"}
        message = {"role": "user", "content": "Hello"}
        body = {"model": "auto", "user": "ada", "messages": [message]}
        url = f"http://127.0.0.1:{day.port}/v1/chat/completions"
        got = httpx.post(url, json=body, headers=headers, trust_env=False, timeout=30)
        assert got.status_code == 200, got.text
        day.ids["3f2a9c1b04"] = got.headers["x-router-decision-id"]
        headers["x-router-session-id"] = "job-42"
        assert httpx.post(url, json=body, headers=headers, trust_env=False).status_code == 200


def test_the_feedback_of_an_app_is_taken(day: LivedDay) -> None:
    (day.folder / "judged.py").write_text(program("README.md", 0, 1))

    code, said = day.type(f"OPENAI_BASE_URL=http://127.0.0.1:{PORT}/v1 python judged.py")

    assert code == 0, said


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "json"], ids=lambda b: b.name)
def test_json_is_taken_where_it_is_to_be_sent(block: Block, day: LivedDay) -> None:
    base, local = f"http://127.0.0.1:{day.port}/v1", {"trust_env": False, "timeout": 30.0}
    match block.page:
        case "docs/feedback.md":
            got = httpx.post(f"{base}/feedback", content=block.text, **local)
            assert got.status_code == 202, got.text
        case "docs/ingest.md":
            content = block.text.replace('"large"', '"gpt-6-luna"').encode()  # a listed id
            headers = {"content-type": "application/cloudevents+json"}
            got = httpx.post(f"{base}/events", content=content, headers=headers, **local)
            assert got.status_code == 202, got.text
        case "docs/profile.md":
            (day.folder / "check_prime.py").write_text("")
            lines = block.text.encode().splitlines()
            known = {"tasks": ["maths"], "classes": USUAL_CLASSES}
            read = read_prompts(lines, beside=day.folder, **known)
            assert len(read.prompts) == len(lines)
        case page if page in HELD_ELSEWHERE:
            assert Path(page).name in (ROOT / HELD_ELSEWHERE[page]).read_text()
        case _:
            pytest.fail(f"{block.name}: say here where that JSON is sent")


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=lambda b: b.name)
def test_a_configuration_is_sound(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a file stands beside endpoints, and what else its page speaks of."""
    text = re.sub(r"sha256:…", lambda m: f"sha256:{m.start():064x}", block.text)
    for kind, name in [("", "KEY"), *re.findall(r"\b(url_|secret_)?env: (\w+)", text)]:
        monkeypatch.setenv(name, "https://" * (kind == "url_") + f"fake-of-{name}-of-sixteen")
    whole = yaml.safe_load(ENDPOINTS) | yaml.safe_load(BESIDE.get(block.page, "{}"))
    for section, value in yaml.safe_load(text).items():
        both = isinstance(value, dict) and isinstance(whole.get(section), dict)
        whole[section] = {**whole[section], **value} if both else value

    compile_text(yaml.safe_dump(whole, sort_keys=False), file=block.name)


# -- what is looked at without running it --------------------------------------------------------


def test_every_block_says_what_it_is() -> None:
    assert [block.name for block in BLOCKS if block.language not in KNOWN] == []


def test_every_program_is_run_here_or_by_a_neighbour() -> None:
    pages = {block.page for block in BLOCKS if block.language == "python"}

    assert pages - {"README.md", *HELD_ELSEWHERE} == set()


def test_what_is_run_elsewhere_is_still_in_the_documents() -> None:
    there = {re.split(r"\s+#", line)[0].strip() for b in SHELL for line, _ in b.commands}

    assert {*ELSEWHERE, *ENDS_WITH} - there == set()
