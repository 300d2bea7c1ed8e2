"""Who may import whom: packages, rooms within them, and what a room's map says."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
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
    ROOT / "router" / "server.py",
    *(ROOT / "router" / "commands").glob("*.py"),
    ROOT / "workers" / "__main__.py",
    ROOT / "workers" / "observer" / "__main__.py",
    ROOT / "workers" / "spans" / "__main__.py",
}
"""They may import any package, inside functions."""
ROOMS = {
    "router": [
        "errors",
        "net",
        "endpoints",
        "dialects",
        "translation",
        "classify",
        "config",
        "policy",
        "beliefs",
        "budgets",
        "decision",
        "explain",
        "dispatch",
        "intake",
        "notices",
        "report",
        "routes",
        "server",
        "serving",
        "demo",
        "setup",
        "profiling",
        "commands",
        "cli_options",
        "cli_first_day",
        "cli_report",
        "cli_recorded",
        "cli_trials",
        "cli",
    ],
    "workers": ["folding", "archive", "jobs", "observer", "spans", "replay", "__main__"],
}
"""From the ground up: a file imports its own room and those before it."""
ALONE = {"observer", "replay"}
"""Rooms of workers that import no other."""
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
MAPS = [
    path
    for package in (*PACKAGES, "scripts")
    for path in sorted((ROOT / package).rglob("__init__.py"))
    if path.parent.name != "schemas"
]


def modules(tree: ast.AST, *, at_top_only: bool = False) -> set[str]:
    """The modules that a file imports, whole; of `from a import b` both `a` and `a.b`."""
    nodes = ast.iter_child_nodes(tree) if at_top_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imports(tree: ast.AST, *, at_top_only: bool) -> set[str]:
    return {name.split(".")[0] for name in modules(tree, at_top_only=at_top_only)}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


@pytest.mark.parametrize(("package", "path"), FILES, ids=lambda v: str(v).split("/")[-1])
def test_packages_import_only_what_the_layers_allow(package: str, path: Path) -> None:
    tree = ast.parse(path.read_text())

    ours = imports(tree, at_top_only=path in COMPOSITION_ROOTS) & set(PACKAGES) - {package}

    assert ours <= MAY_IMPORT[package]


@pytest.mark.parametrize(
    ("package", "path"),
    [(n, p) for n, p in FILES if n in ROOMS and p != ROOT / n / "__init__.py"],
    ids=lambda v: str(v).split("/")[-1],
)
def test_a_file_imports_its_own_room_and_those_before_it(package: str, path: Path) -> None:
    rooms, here = ROOMS[package], room_of(path)

    named = {name.split(".")[1] for name in modules(ast.parse(path.read_text())) if "." in name
             and name.split(".")[0] == package}  # fmt: skip

    allowed = {here} if here in ALONE else set(rooms[: rooms.index(here) + 1])
    assert named & set(rooms) <= allowed


def test_only_the_replay_imports_what_is_there_for_it() -> None:
    for _, path in FILES:
        if path.is_relative_to(ROOT / "workers" / "replay"):
            continue
        if path.is_relative_to(ROOT / "bandit" / "replay"):
            continue
        found = modules(ast.parse(path.read_text()))
        assert not any(name.startswith("bandit.replay") for name in found), path


def test_decisions_import_no_dialect_but_what_all_have_in_common() -> None:
    for path in (ROOT / "router" / "decision").glob("*.py"):
        found = modules(ast.parse(path.read_text()))
        dialects = {n for n in found if n.startswith("router.dialects.")}
        assert {n.split(".")[2] for n in dialects} <= {"request", "stored"}, path


def test_decisions_are_handed_the_time() -> None:
    """But for what talks to the store, which waits and tries again by its own clock."""
    own_clock = {"store_line.py", "shared_draws.py", "stored_ids.py", "sessions.py"}
    for path in (ROOT / "router" / "decision").glob("*.py"):
        if path.name not in own_clock:
            found = imports(ast.parse(path.read_text()), at_top_only=False)
            assert found.isdisjoint({"time", "datetime"}), path


def test_nothing_is_imported_by_a_string() -> None:
    for _, path in FILES:
        assert not re.search(r"import_module|__import__", path.read_text()), path


@pytest.mark.parametrize("path", MAPS, ids=lambda p: str(p.parent.relative_to(ROOT)))
def test_the_map_of_a_room_names_each_of_its_files_once(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    lines = [line for line in text.splitlines() if line.startswith("- ")]

    named = [name for line in lines for name in re.findall(r"`([\w]+)`", line.split(":")[0])]

    here = [p for p in path.parent.iterdir() if p.name not in ("__init__.py", "__pycache__")]
    files = {p.stem for p in here if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert Counter(named) == Counter(files)


@pytest.mark.parametrize("path", MAPS, ids=lambda p: str(p.parent.relative_to(ROOT)))
def test_the_map_of_a_room_is_in_reading_order(path: Path) -> None:
    """A file comes after those of its room that it imports."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    named = re.findall(r"^- (.*?):", text, re.M)
    order = [name for line in named for name in re.findall(r"`(\w+)`", line)]
    place = {name: i for i, name in enumerate(order)}
    room = ".".join(path.parent.relative_to(ROOT).parts)
    for file in path.parent.glob("*.py"):
        if file.name == "__init__.py":
            continue
        found = modules(ast.parse(file.read_text()), at_top_only=True)
        siblings = {n.removeprefix(room + ".").split(".")[0] for n in found if n.startswith(room)}
        later = {n for n in siblings & set(place) if place[n] > place[file.stem]}
        assert not later, file


def test_public_class_names_are_one_each_over_the_project() -> None:
    found: dict[str, list[str]] = {}
    for package in (*PACKAGES, "scripts"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found.setdefault(node.name, []).append(str(path.relative_to(ROOT)))

    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("path", [p for n, p in FILES if n == "bandit"], ids=lambda p: p.name)
def test_bandit_is_pure(path: Path) -> None:
    found = imports(ast.parse(path.read_text()), at_top_only=False) - {"bandit"}
    if path.name == "special.py":  # it loads a part of scipy, and nothing else of it
        found -= {"importlib", "sys", "types"}

    assert found <= BANDIT_STDLIB | BANDIT_LIBRARIES
    assert found & sys.stdlib_module_names <= BANDIT_STDLIB
    assert "np.random.seed" not in path.read_text()


def test_polars_is_imported_inside_functions_only() -> None:
    """It hangs in a process that forked after importing it, and costs every start."""
    for _, path in FILES:
        assert "polars" not in imports(ast.parse(path.read_text()), at_top_only=True), path


def test_no_file_of_the_router_is_longer_than_anybody_reads() -> None:
    for package, path in FILES:
        if package == "router":
            assert len(path.read_text().splitlines()) <= 400, path
