"""The wheel, its names, and the lock."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("router", "bandit", "workers", "telemetry")


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_are_the_ones_of_this_repository(name: str) -> None:
    module = importlib.import_module(name)

    assert Path(module.__file__ or "").is_relative_to(ROOT)


@pytest.mark.parametrize("name", PACKAGES)
def test_no_other_distribution_provides_our_import_names(name: str) -> None:
    owners = set(importlib.metadata.packages_distributions().get(name, []))

    assert owners <= {"pointsman"}


def test_the_lock_pins_by_hash_and_names_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()

    pins = re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==", lock, re.M)
    assert len(pins) > 40
    assert "://" not in lock
    assert "--index" not in lock
    for block in re.split(r"\n(?=[a-z0-9])", lock.strip()):
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_the_lock_holds_every_direct_dependency() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    wanted = importlib.metadata.requires("pointsman") or []

    for requirement in wanted:
        name = re.split(r"[\[<>=; ]", requirement)[0].lower()
        assert re.search(rf"^{re.escape(name)}==", lock, re.M), requirement


def test_forbidden_packages_are_absent() -> None:
    lock = (ROOT / "requirements.lock").read_text()

    assert not re.search(r"^(litellm|bandit)==", lock, re.M)


@pytest.mark.slow
def test_the_wheel_is_flat_and_holds_the_four_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)

    (wheel,) = tmp_path.glob("pointsman-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == set(PACKAGES)
    assert "router/classify/starters.json" in names
    entry_points = next(n for n in names if n.endswith("entry_points.txt"))
    assert "pointsman = router.cli:main" in zipfile.ZipFile(wheel).read(entry_points).decode()
