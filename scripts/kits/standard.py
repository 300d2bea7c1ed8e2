"""langchain's own test suite for chat models: what passes directly passes through the sidecar."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.kits.agent_provider import HOSTS, agent_provider
from scripts.kits.clients import PROGRAMS
from scripts.kits.installed import Package, bare_environment, install
from scripts.kits.run import configuration
from scripts.proofs.sidecar import sidecar

LANGCHAIN = Package(
    "pypi", ("langchain-openai==1.7.4", "langchain-tests==1.1.9", "pytest-asyncio==1.5.0")
)
SUITE_S = 300.0
ASYNC = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_test_loop_scope=session")
"""One loop for all: langchain keeps its clients from one test to the next."""
OUTCOME = re.compile(r"^(PASSED|FAILED|ERROR|SKIPPED|XFAIL) \S*::(\w+(?:\[\w+\])?)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class StandardRun:
    """Outcome of each test, on both ways."""

    version: str
    direct: dict[str, str]
    through: dict[str, str]

    def figures(self) -> dict[str, Any]:
        """Return the figures, as JSON has them."""
        passed = [t for t, how in self.direct.items() if how == "PASSED"]
        found = [
            f"{test}: {how} directly, {self.through.get(test, 'not run')} through the sidecar"
            for test, how in self.direct.items()
            if self.through.get(test) != how
        ]
        return {
            "client": "langchain-standard",
            "version": self.version,
            "tests": len(self.direct),
            "passed_directly": len(passed),
            "passed_through": sum(how == "PASSED" for how in self.through.values()),
            "faults": found if passed else [*found, "nothing passed directly"],
        }


def run_standard(*, translated: bool) -> StandardRun:
    """Run the suite against one host directly, then through a sidecar over two.

    Args:
        translated: both speak Messages only.
    Raises:
        CannotInstall: the suite is not to be had.
        DidNotStart: the sidecar never came up.
    """
    installed = install(LANGCHAIN)
    with tempfile.TemporaryDirectory(prefix="pm-clients-") as name, agent_provider() as provider:
        directory = Path(name)
        provider.begin(name, falls=False)
        direct = _suite(installed, directory, f"{provider.url(HOSTS[0])}/v1")
        manner = {"from": ["chat"]} if translated else None
        value = configuration("chat", provider, manner)
        with sidecar(directory, value) as running:
            through = _suite(installed, directory, running.url)
    return StandardRun(LANGCHAIN.version, direct, through)


def _suite(installed: Path, directory: Path, url: str) -> dict[str, str]:
    """Return the outcome of each test against an address."""
    program = directory / "test_standard.py"
    program.write_text((PROGRAMS / "langchain_standard.py").read_text())
    pytest = [str(installed / "bin/python"), "-m", "pytest", "-q", "--tb=no", "-rA", *ASYNC]
    where = ["-p", "no:cacheprovider", "--rootdir", str(directory), str(program)]
    done = subprocess.run(  # noqa: S603 - a pinned program, no shell
        [*pytest, *where],
        cwd=directory,
        env=bare_environment(directory, more={"STANDARD_URL": url}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SUITE_S,
        check=False,
    )
    return {test: how for how, test in OUTCOME.findall(done.stdout)}
