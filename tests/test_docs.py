"""What README and docs say is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import pointsman
from typer.core import TyperGroup
from typer.main import get_command

from router.cli import app
from router.config.compiled import load
from router.config.entries import File
from router.config.exclusions import EXCLUSIONS_VERSION
from router.config.policies import PreferencesEntry
from router.config.rules import Level, PolicyRules
from router.errors import STATUS
from router.policy.constraints import Exclusion
from telemetry.metrics import Exposition, Metrics

ROOT = Path(__file__).parent.parent
OURS = ("POINTSMAN_ADMIN_KEY", "POINTSMAN_SEAL", "POINTSMAN_SEAL_BEFORE")
DOCS = {p.name: p.read_text() for p in (ROOT / "docs").glob("*.md")}
README = (ROOT / "README.md").read_text()


def fields(model: type) -> set[str]:
    """Every field name of an entry and of the entries inside it."""
    found: set[str] = set()
    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        found.add(field.alias or name)
        for inner in _entries(field.annotation):
            found |= fields(inner)
    return found


def _entries(annotation: object) -> list[type]:
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        return [annotation]
    return [e for part in getattr(annotation, "__args__", ()) for e in _entries(part)]


@pytest.mark.parametrize("name", ["pointsman.yaml", "minimal.yaml"])
def test_the_examples_are_sound(name: str) -> None:
    load(ROOT / "docs" / "examples" / name)


def test_the_minimal_example_is_short() -> None:
    assert len((ROOT / "docs/examples/minimal.yaml").read_text().splitlines()) <= 25


def test_the_annotated_example_shows_every_field() -> None:
    text = (ROOT / "docs/examples/pointsman.yaml").read_text()

    missing = {f for f in fields(File) if not re.search(rf"\b{f}\b", text)}

    assert missing == set()


def test_the_annotated_example_is_sound_with_its_comments_taken_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app's optional lines, uncommented, are fields that exist."""
    text = (ROOT / "docs/examples/pointsman.yaml").read_text()
    for variable in ("AZURE_KEY", *OURS, "MY_APP_KEY", "REDIS_URL"):
        monkeypatch.setenv(variable, f"redis://{variable}")
    monkeypatch.setenv("NOTICES_URL", "https://example.com/notices")
    monkeypatch.setenv("NOTICES_SECRET", "a secret of the receiver's own")
    whole = re.sub(r"^( *)# ([a-z_-]+: |- id: |  )", r"\1\2", text, flags=re.M)
    whole = whole.replace("    auth: {file: /run/secrets/key}", "    auth: {env: AZURE_KEY}")
    (tmp_path / "pointsman.yaml").write_text(whole)

    load(tmp_path / "pointsman.yaml")


def test_every_error_code_and_reason_is_documented() -> None:
    assert [c for c in STATUS if f"`{c}`" not in DOCS["failures.md"]] == []
    assert [r for r in Exclusion if f"`{r}`" not in DOCS["failures.md"]] == []


def test_the_list_of_exclusions_is_closed_and_is_that_of_the_code() -> None:
    section = DOCS["exclusions.md"].partition('<a id="exclusions">')[2]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section, re.M)

    listed = [code for row in rows for code in re.findall(r"`(\w+)`", row)]
    assert listed == [code.value for code in Exclusion]
    assert f"A closed list, version {EXCLUSIONS_VERSION}:" in section


def test_every_rule_of_a_level_is_in_the_table_of_the_policy() -> None:
    """Each row's first cell names fields as they are written, its last as they are merged."""
    table = DOCS["policy.md"].partition("| in the merged policy |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1:5] for line in table.splitlines() if line.startswith("| `")]

    named = {name for row in rows for name in re.findall(r"`([\w.]+)`", row[0])}
    written = set(PreferencesEntry.model_fields) | {"stakes", "explore", "incumbent"}
    assert written <= {name.partition(".")[0] for name in named} | _firsts(rows)
    merged = " ".join(row[0] + row[3] for row in rows)
    assert [n for n in PolicyRules.__struct_fields__ if f"`{n}`" not in merged] == []


def _firsts(rows: list[list[str]]) -> set[str]:
    """What stands before a value: `stakes` of `stakes: high`."""
    return {name for row in rows for name in re.findall(r"`(\w+): \w+`", row[0])}


def test_every_level_is_documented_in_its_order() -> None:
    table = DOCS["policy.md"].partition("## Who says something")[2].partition("\n\nA **")[0]

    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == [level.value for level in Level]


def test_every_metric_is_documented() -> None:
    text = DOCS["metrics.md"]
    gauges = (ROOT / "router" / "report" / "gauges.py").read_text()
    names = {f.name for f in Exposition(Metrics(), dict).collect()}
    names |= set(re.findall(r'"(router_[a-z_]+)":', gauges))

    assert [n for n in names if n not in text] == []


def test_every_response_header_is_documented() -> None:
    source = "".join(p.read_text() for p in (ROOT / "router" / "dispatch").glob("*.py"))
    sent = set(re.findall(r'b"(x-router-[a-z-]+)"', source)) - {"x-router-"}

    assert [h for h in sent if h not in DOCS["hints.md"]] == []


def test_every_command_is_named_in_the_readme() -> None:
    names = {c.name or c.callback.__name__ for c in app.registered_commands}  # type: ignore[union-attr]

    assert [n for n in names if f"`{n}`" not in README and f"pointsman {n}" not in README] == []


def test_every_script_is_described() -> None:
    text = (ROOT / "scripts" / "README.md").read_text()

    there = [p for p in (ROOT / "scripts").iterdir() if p.suffix == "" and p.name[0] != "_"]
    scripts = [p for p in there if p.is_file()]
    assert [p.name for p in there if f"`{p.name}`" not in text] == []
    assert all(p.stat().st_mode & 0o111 for p in scripts)
    assert all(len(p.read_text().splitlines()) <= 35 for p in scripts)


def test_links_lead_somewhere() -> None:
    for name, text in {"../README.md": README, **DOCS}.items():
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if "://" not in target:
                assert ((ROOT / "docs" / name).parent / target).exists(), (name, target)


def anchors(text: str) -> set[str]:
    """Where links may lead to in a page: headings, as GitHub names them, and named places."""
    heads = [re.sub(r"[`*]|<[^>]*>", "", line) for line in re.findall(r"^#+ (.*)", text, re.M)]
    slugs = {re.sub(r"[^\w -]", "", head.strip().lower()).replace(" ", "-") for head in heads}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


def test_links_lead_to_places_that_there_are() -> None:
    pages = {"README.md": README, **{f"docs/{name}": text for name, text in DOCS.items()}}
    changes = {"CHANGELOG.md": (ROOT / "CHANGELOG.md").read_text()}
    missing = set()
    for name, text in {**pages, **changes}.items():
        for file, place in re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", text):
            page = (ROOT / name).parent.joinpath(file).resolve() if file else ROOT / name
            target = pages.get(str(page.relative_to(ROOT)))
            if target is not None and place not in anchors(target):
                missing.add((name, f"{file}#{place}"))

    assert missing == set()


def test_a_page_has_200_lines_at_most_and_the_readme_leads_to_it() -> None:
    assert {n: len(t.splitlines()) for n, t in DOCS.items() if len(t.splitlines()) > 200} == {}
    parts = {"reference-endpoints.md", "reference-apps.md"}  # the first page of it leads there
    assert [n for n in DOCS if f"](docs/{n}" not in README and n not in parts] == []


def spoken() -> list[str]:
    """Commands of ours within sentences and tables, in code marks."""
    texts = {"README.md": README, **DOCS}.values()
    return [c for text in texts for c in re.findall(r"`(pointsman [a-z][^`\n]*)`", text)]


def test_a_command_in_a_sentence_has_a_verb_and_options_that_there_are() -> None:
    """What stands in fences is run by `test_docs_run.py`."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    unknown = set()
    for command in spoken():
        verb, *words = command.removeprefix("pointsman ").replace("[", "").split()
        found = group.commands.get(verb.rstrip(","))
        if found is None:
            unknown.add(command)
            continue
        options = {name for p in found.params for name in p.opts} | {"--help", "--config"}
        options |= {
            name
            for sub in getattr(found, "commands", {}).values()
            for p in sub.params
            for name in p.opts
        }
        said = {re.split(r"[=\].,]", w)[0] for w in words if w.startswith("--")}
        unknown |= {command} if said - options else set()

    assert unknown == set()


PATH = re.compile(
    r"(?<![\w/.])(?:router|bandit|workers|telemetry|scripts|tests|docs)/[\w./-]*[\w/]"
)


def test_no_document_names_a_path_that_is_gone() -> None:
    here = {"../README.md": README, **DOCS, "../CHANGELOG.md": (ROOT / "CHANGELOG.md").read_text()}
    for example in (ROOT / "docs" / "examples").iterdir():
        here[example.name] = example.read_text()
    gone = {
        (name, path)
        for name, text in here.items()
        for path in PATH.findall(text)
        if not (ROOT / path).exists()
    }
    assert gone == set()


def test_a_file_that_a_document_names_by_its_name_is_there() -> None:
    names = {p.name for p in ROOT.rglob("*.py") if ".venv" not in p.parts} | {"app.py"}  # yours
    for name, text in {"README.md": README, **DOCS}.items():
        assert set(re.findall(r"`(\w+\.py)`", text)) <= names, name


@pytest.mark.parametrize("arguments", [["--help"], ["help", "all"]])
def test_help_shows_the_verbs(arguments: list[str]) -> None:
    shown = pointsman(*arguments).stdout

    for verb in ("up", "report", "feedback", "off", "on"):
        assert re.search(rf"\b{verb}\b", shown)
    assert ("replay" in shown) is (arguments != ["--help"])
