"""Who may import whom."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("router", "bandit", "workers", "telemetry")
MAY_IMPORT = {
    "bandit": set(),
    "telemetry": set(),
    "router": {"bandit", "telemetry"},
    "workers": {"bandit", "telemetry"},
}
COMPOSITION_ROOTS = {
    *(ROOT / "router" / "commands").glob("*.py"),
    ROOT / "router" / "server.py",
    ROOT / "router" / "cli.py",
    ROOT / "workers" / "__main__.py",
}
BANDIT_STDLIB = {
    "__future__",
    "dataclasses",
    "enum",
    "math",
    "typing",
    "collections",
    "functools",
    "itertools",
}
BANDIT_LIBRARIES = {"numpy", "scipy"}
FILES = [(package, path) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imports(tree: ast.AST, *, at_top_only: bool) -> set[str]:
    nodes = ast.iter_child_nodes(tree) if at_top_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize(("package", "path"), FILES, ids=lambda v: str(v).split("/")[-1])
def test_packages_import_only_what_the_layers_allow(package: str, path: Path) -> None:
    tree = ast.parse(path.read_text())

    ours = imports(tree, at_top_only=path in COMPOSITION_ROOTS) & set(PACKAGES) - {package}

    assert ours <= MAY_IMPORT[package]


@pytest.mark.parametrize("path", [p for n, p in FILES if n == "bandit"], ids=lambda p: p.name)
def test_bandit_is_pure(path: Path) -> None:
    found = imports(ast.parse(path.read_text()), at_top_only=False) - {"bandit"}

    assert found <= BANDIT_STDLIB | BANDIT_LIBRARIES
    assert found & sys.stdlib_module_names <= BANDIT_STDLIB
    assert "np.random.seed" not in path.read_text()


def test_polars_is_imported_inside_functions_only() -> None:
    """It hangs in a process that forked after importing it, and costs every start."""
    for _, path in FILES:
        assert "polars" not in imports(ast.parse(path.read_text()), at_top_only=True), path
