"""The one YAML file: where it is, read and checked as a whole.

Every problem is found at once, each with its line, field, value and what to do.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from router.config.checks import cross_check
from router.config.entries import File
from router.config.masking import masked_problem
from router.config.repairs import Followers
from router.config.standing import check_standing
from router.config.tree import parse_yaml
from router.config.validation import validate
from router.errors import ConfigError, Problem


def read(path: Path) -> str:
    """Return the text of a configuration file.

    Raises:
        ConfigError: there is no such file, or it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        problem = Problem(0, "file", "not text", "save it as UTF-8")
        raise ConfigError(str(path), [problem]) from None
    except OSError as error:
        hint = "`pointsman init` writes one; a file elsewhere is named by --config"
        problem = Problem(0, "file", str(error.strerror), hint)
        raise ConfigError(str(path), [problem]) from None


def parse(text: str, *, file: str, secrets: bool = True) -> File:
    """Return the entries in `text`, all of them sound.

    Args:
        file: the file's name, for problems.
        secrets: False does not ask for keys.

    Raises:
        ConfigError: with every problem found.
    """
    tree = parse_yaml(text, file)
    findings = tree.findings
    entries, repaired = validate(tree)
    if entries is not None:
        # Of an endpoint whose fields were left out nobody knows whom it may serve.
        followers = Followers(repaired)
        apps = () if repaired else check_standing(entries)
        for where, value, hint in chain(cross_check(entries), apps):
            is_key = where[-1] in ("env", "file", "command", "url_env", "secret_env")
            if not (is_key and not secrets) and where not in followers:
                findings.add(where, value, hint)
    if findings.problems or entries is None:
        shown_problems = [masked_problem(p) for p in findings.problems]
        raise ConfigError(file, sorted(shown_problems, key=lambda p: p.line))
    return entries
