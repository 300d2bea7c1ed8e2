"""What a command was: a run of tests, a commit, a revert; and what it says of itself."""

from __future__ import annotations

import os
import shlex


def _table(rows: dict[str, str]) -> dict[str, list[str]]:
    """Return the words of each name; a row may be for several names."""
    return {name: words.split() for names, words in rows.items() for name in names.split()}


WRAPPERS = _table(
    {
        "time nohup command exec xvfb-run stdbuf npx bunx pnpx uvx env sudo nice timeout": "",
        "poetry pipenv pdm rye hatch uv coverage conda": "run",
        "npm pnpm yarn": "exec dlx x",
        "bundle": "exec",
    }
)
"""What is written before a command, and the words of which one has to follow, if any."""
RUNNERS = _table(
    {
        "pytest py.test unittest tox nox ctest rspec phpunit vitest jest mocha": "",
        "npm pnpm yarn bun deno": "test t",
        "make gmake just": "test tests check",
        "gradle gradlew mvn mvnw": "test check verify",
        "go dotnet swift mix": "test",
        "cargo": "test t nextest",
    }
)
"""Programs that run tests, and the words that tell them to, if any."""
OF_MANY_TARGETS = ("make", "gmake", "just", "gradle", "gradlew", "mvn", "mvnw")
RUN_NONE = _table(
    {
        "any": "--help -h --version --co --collect-only --fixtures --markers --setup-plan "
        "--dry-run --no-run --show-only -DskipTests list",
        "pytest": "-V",
        "make": "-n --just-print",
        "ctest": "-N",
        "tox nox": "-l",
        "go": "-c",
        "gradle gradlew": "-m",
    }
)
"""What makes one run none, beside `--list…` and `-list…`."""
VALUED = _table(
    {
        "any": "-C --prefix --dir --filter -F -w --workspace --cwd -x --exclude-task -f -j -c "
        "--git-dir --work-tree",
        "npx bunx pnpx npm pnpm yarn": "-p --package --filter -F -C",
        "uv uvx": "--with --from --extra --group --python -p --package --project",
        "conda": "-n --name -p --prefix",
        "env": "-u -C --unset --chdir",
        "sudo": "-u -g --user",
        "nice": "-n",
        "timeout": "-k -s --kill-after --signal",
    }
)
"""Options that take a word more."""
WITHOUT_TESTS = {"lint", "docs", "format", "fmt", "mypy", "typing", "ruff", "flake8", "build"}
"""Environments of tox and sessions of nox."""
COUNTED = {"passed", "failed", "error", "errors", "skipped", "xfailed", "xpassed", "deselected"}
COUNTED |= {"warning", "warnings", "rerun"}


def unwrapped(words: list[str]) -> list[str]:
    """Return a command without what is written before it: settings, `timeout 60`, `uv run`.

    Of its program the name is left, without a folder.
    """
    while words:
        name = os.path.basename(words[0])
        if words[0].partition("=")[1] and words[0].partition("=")[0].isidentifier():
            words = words[1:]
            continue
        if name.rstrip("0123456789.") in ("python", "pypy", "py"):
            return _module(words)
        needed, valued = WRAPPERS.get(name), VALUED.get(name, [])
        inner = _operands(words[1:], valued)
        if needed is None or not inner or (needed and inner[0] not in needed):
            is_short = name in ("yarn", "pnpm") and inner and RUNNERS.get(inner[0]) == []
            return inner if is_short else [name, *words[1:]]
        words = _operands(inner[1:], valued) if needed else inner
        words = words[1:] if name == "timeout" else words
    return words


def _module(words: list[str]) -> list[str]:
    """Return `pytest …` for `python -m pytest …`."""
    for i, word in enumerate(words[1:], 1):
        if word == "-m":
            return words[i + 1 :]
        if not word.startswith("-") and words[i - 1] not in ("-W", "-X"):
            break
    return ["python", *words[1:]]


def _operands(words: list[str], valued: list[str]) -> list[str]:
    """Return the words from the first on that is no option."""
    while words and words[0].startswith(("-", "+")):
        words = words[2 if words[0] in valued else 1 :]
    return words


def runs_tests(words: list[str]) -> bool:
    """Whether a command, unwrapped, runs tests."""
    for extra in os.environ.get("POINTSMAN_TEST_COMMANDS", "").split(","):
        named = unwrapped(shlex.split(extra))
        if named and words[: len(named)] == named:
            return True
    program, rest = words[0], words[1:]
    wanted = RUNNERS.get(program)
    never = {*RUN_NONE["any"], *RUN_NONE.get(program, [])}
    if wanted is None or any(w in never or w.startswith(("--list", "-list")) for w in rest):
        return False
    if not wanted:
        chosen = [rest[i + 1] for i, w in enumerate(rest[:-1]) if w in ("-e", "-s")]
        names = {name for text in chosen for name in text.split(",")}
        return not (program in ("tox", "nox") and names and names <= WITHOUT_TESTS)
    targets = []
    while rest := _operands(rest, VALUED["any"]):
        targets.append(rest[0])
        rest = rest[1:]
    if program in OF_MANY_TARGETS:
        return any(target.rsplit(":", 1)[-1] in wanted for target in targets)
    targets = targets[1:] if targets[:1] in (["run"], ["task"], ["run-script"]) else targets
    return any(target in wanted or target.startswith("test:") for target in targets[:1])


def git_act(words: list[str]) -> str:
    """Return `commit` or `revert` where a command, unwrapped, is one of git's, else nothing."""
    rest = _operands(words[1:], VALUED["any"])
    if words[0] != "git" or not rest:
        return ""
    verb, options, named = rest[0], set(rest[1:]), [w for w in rest[1:] if not w.startswith("-")]
    if options & {"--dry-run", "--abort", "--quit", "--skip", "-h", "--help"}:
        return ""
    if verb in ("commit", "revert"):
        return verb
    before = ("HEAD~", "HEAD^", "@~", "@^")
    if verb == "reset":
        is_back = "--hard" in options or any(word.startswith(before) for word in named[:1])
        is_back = is_back and "--soft" not in options  # that squashes, and keeps the work
        return "revert" if is_back else ""
    is_whole = verb in ("checkout", "restore") and named[-1:] in (["."], [":/"])
    is_index = options & {"--staged", "-S"} and not options & {"--worktree", "-W"}
    return "revert" if is_whole and not is_index else ""


def said_of_tests(output: str) -> bool | None:
    """Return what test runners say at their end; None where none of them says anything."""
    said = [_said_in(line.strip().strip("=").strip()) for line in output.splitlines()]
    return False if False in said else True if True in said else None


def _said_in(line: str) -> bool | None:
    if line.startswith(("test result: ok.", "test result: FAILED.")):  # cargo
        return line.startswith("test result: ok.")
    if line == "OK" or line.startswith(("OK (", "FAILED (")):  # unittest
        return line.startswith("OK")
    if line.startswith(("ok  \t", "FAIL\t", "--- FAIL: ")):  # go
        return line.startswith("ok")
    if line.startswith(("Tests: ", "Tests  ")):  # jest, vitest
        return False if "failed" in line else True if "passed" in line else None
    counts = [part.split() for part in line.split(" in ")[0].split(", ")]
    if " in " in line and all(len(c) == 2 and c[0].isdigit() and c[1] in COUNTED for c in counts):
        kinds = {kind for _, kind in counts}  # pytest
        return False if kinds & {"failed", "error", "errors"} else "passed" in kinds or None
    return None


def said_of_git(output: str, words: list[str]) -> bool:
    """Whether git says that it did what it was told to.

    It writes `[branch 1a2b3c4] …` of a commit, and `HEAD is now at …` of `reset --hard`.
    """
    lines = output.splitlines()
    if "reset" in words:
        return any(line.startswith("HEAD is now at ") for line in lines)
    made = [line for line in lines if _names_commit(line)]
    return any(('] Revert "' in line) is ("revert" in words) for line in made)


def _names_commit(line: str) -> bool:
    head = line[1:].split("] ")[0].split()
    is_one = line.startswith("[") and "] " in line and len(head) > 1 and len(head[-1]) >= 7
    return is_one and set(head[-1]) <= set("0123456789abcdef")
