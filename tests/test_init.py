"""A first configuration: what is found, asked, written and refused."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from conftest import pointsman
from typer.testing import Result as Said

from router.commands import init as init_verb
from router.config.compiled import compile_entries
from router.config.exclusions import Exclusion
from router.config.file import parse
from router.config.rules import why_forbidden
from router.endpoints.default_prices import default_prices
from router.setup import landing
from router.setup.asking import ask_choices, usual_choices
from router.setup.choices import (
    BadAnswer,
    offers_of,
    read_app,
    read_incumbent,
    read_offers,
    read_place,
)
from router.setup.draft import MOST_LINES, Draft, LeftOut, draft_yaml
from router.setup.drafting import draft_of
from router.setup.found import FoundProvider, find_providers, keep_within, server_url
from router.setup.kept import kept_keys
from router.setup.known import BY_HAND, KNOWN, SERVERS, variables

ROOT = Path(__file__).parent.parent
NOW = datetime(2026, 11, 30, tzinfo=UTC).timestamp()
BOTH = {"OPENAI_API_KEY": "sk-secret-one", "ANTHROPIC_API_KEY": "sk-secret-two"}
ALL = {name: f"sk-{name}" for name in variables() if name.endswith("_KEY")}
HOSTS = {"GROQ_API_KEY": "a", "CEREBRAS_API_KEY": "b"}


@pytest.fixture(autouse=True)
def _at_home(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory, and no key but those that a test gives."""
    for name in [
        *variables(),
        *BY_HAND,
        *(known.address[0] for known in KNOWN if known.address[0]),
    ]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(state_dir)


def init(*words: object, **environment: str) -> Said:
    return pointsman("init", *words, environment=environment)


def found(
    environment: dict[str, str], *, models: Sequence[str] | None = None
) -> list[FoundProvider]:
    return find_providers(environment, lambda _: models).providers


def drafted(environment: dict[str, str]) -> Draft:
    providers = found(environment)
    return draft_of(usual_choices(providers), offers_of(providers), NOW)


def answering(*answers: str) -> tuple[Callable[[str], str], list[str]]:
    """What gives these answers one after the other, and the questions as they were asked."""
    left, asked = list(answers), []

    def ask(question: str) -> str:
        asked.append(question)
        return left.pop(0)

    return ask, asked


# -- what is known -------------------------------------------------------------------------------


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_every_model_that_is_known_has_a_published_price(known: object) -> None:
    for model in known.models:  # type: ignore[attr-defined]
        assert default_prices(known.base_url, model.called) is not None, model  # type: ignore[attr-defined]


def test_names_and_variables_mean_one_provider_each() -> None:
    assert len({known.name for known in KNOWN}) == len(KNOWN)
    assert len(variables()) == len(set(variables()))


# -- what is found -------------------------------------------------------------------------------


def test_a_key_that_is_empty_or_no_header_may_carry_is_told_and_left_out() -> None:
    said = find_providers({"OPENAI_API_KEY": " ", "XAI_API_KEY": "ké"}, lambda _: None)

    assert said.providers == []
    assert "OPENAI_API_KEY is set but empty" in said.notes[0]
    assert "XAI_API_KEY holds characters" in said.notes[1]
    assert "ké" not in "".join(said.notes)


def test_a_key_that_says_too_little_is_told_with_what_to_write() -> None:
    said = find_providers({"AZURE_OPENAI_API_KEY": "hush"}, lambda _: None)

    assert said.providers == []
    assert "by hand, auth: {env: AZURE_OPENAI_API_KEY, azure:" in said.notes[0]
    assert "hush" not in said.notes[0]


def test_an_sdks_own_variable_says_where_its_provider_is() -> None:
    environment = BOTH | {
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1/",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:9/a",
    }

    assert [one.base_url for one in found(environment)] == [
        "http://127.0.0.1:9/v1",
        "http://127.0.0.1:9/a/v1",
    ]


def test_the_sidecars_own_address_is_not_taken_for_a_provider() -> None:
    """Whoever pasted the line that `up` prints, and runs init again, makes no circle."""
    environment = BOTH | {"OPENAI_BASE_URL": "http://localhost:8787/v1"}

    said = find_providers(environment, lambda _: None, {8787})

    assert said.providers[0].base_url == "https://api.openai.com/v1"
    assert "own address" in said.own_notes["openai"][0]


def test_what_is_told_of_a_provider_is_told_where_it_is_chosen_alone() -> None:
    said = find_providers(
        BOTH | {"OPENAI_BASE_URL": "https://gw.example/v1", "XAI_API_KEY": ""}, lambda _: None
    )

    assert said.notes == ["XAI_API_KEY is set but empty: xai is left out"]
    assert "gw.example" in said.notes_of(["openai"])[0]
    assert said.notes_of(["anthropic"]) == []


def test_an_empty_key_beside_one_that_is_set_is_no_fault() -> None:
    said = find_providers({"GEMINI_API_KEY": "", "GOOGLE_API_KEY": "k"}, lambda _: None)

    assert (said.providers[0].variable, said.notes) == ("GOOGLE_API_KEY", [])


def test_a_model_that_a_local_server_sends_to_its_makers_cloud_does_not_stay_here() -> None:
    said = find_providers(
        {"OLLAMA_HOST": "127.0.0.1"}, lambda _: ["gpt-oss:120b-cloud", "x:cloud", "qwen3:4b"]
    )

    assert [m.name for m in said.providers[0].known.models] == ["qwen3-4b"]
    assert "cloud" in said.notes[0]


def test_an_address_of_another_known_provider_is_that_provider() -> None:
    environment = {"OPENAI_API_KEY": "x", "OPENAI_BASE_URL": "https://api.groq.com/openai/v1"}

    (one,) = found(environment)

    assert (one.known.name, one.variable) == ("groq", "OPENAI_API_KEY")


@pytest.mark.parametrize("url", ["nonsense", "http://me:hush@host/v1", "http://host:99999/v1"])
def test_an_address_that_cannot_be_written_leaves_its_provider_out(url: str) -> None:
    said = find_providers({"OPENAI_API_KEY": "x", "OPENAI_BASE_URL": url}, lambda _: None)

    assert said.providers == []
    assert "hush" not in said.notes[0]


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("127.0.0.1:9999", "http://127.0.0.1:9999/v1"),
        ("https://gpu.example", "https://gpu.example:443/v1"),
        ("[::1]", "http://[::1]:11434/v1"),
    ],
)
def test_a_server_of_ones_own_is_where_its_variable_says(said: str, url: str) -> None:
    assert server_url(SERVERS[0], said) == url


def test_a_server_of_ones_own_is_asked_for_its_models_and_else_left_out() -> None:
    (one,) = found({"OLLAMA_HOST": "127.0.0.1"}, models=["qwen3:8b", "llama3:latest", "third"])

    assert one.is_local
    assert [(m.name, m.called) for m in one.known.models] == [
        ("qwen3-8b", "qwen3:8b"),
        ("llama3", "llama3:latest"),
    ]
    assert found({"OLLAMA_HOST": "127.0.0.1"}) == []


# -- answers -------------------------------------------------------------------------------------


def test_models_are_chosen_by_numbers_ranges_and_names() -> None:
    offers = offers_of(found(BOTH))

    chosen = read_offers("1, 3-4 openai:gpt-4o", offers)

    assert [one.model.name for one in chosen] == [
        "gpt-6.1-sol",
        "claude-opus-5-5",
        "claude-haiku-5-5",
        "gpt-4o",
    ]


@pytest.mark.parametrize(
    "answer", ["0", "5", "2-1", "x", "mistral:y", "openai:auto", "openai:", ""]
)
def test_a_choice_that_names_nothing_is_refused_with_the_reason(answer: str) -> None:
    with pytest.raises(BadAnswer):
        read_offers(answer, offers_of(found(BOTH)))


def test_a_model_at_two_hosts_is_no_incumbent_by_its_name_alone() -> None:
    offers = offers_of(found(HOSTS))

    with pytest.raises(BadAnswer, match="several"):
        read_incumbent("gpt-oss-120b", offers)
    assert read_incumbent("cerebras:gpt-oss-120b", offers).provider.known.name == "cerebras"


def test_who_is_not_known_to_be_in_a_place_stays_out_of_it() -> None:
    providers = found(BOTH | {"MISTRAL_API_KEY": "x"})

    assert [one.known.name for one in keep_within(providers, "eu")[0]] == ["mistral"]
    assert keep_within(providers, "law:US")[1] == ["mistral"]
    with pytest.raises(BadAnswer, match="what is not known stays out"):
        read_place("us", providers)


def test_a_provider_at_another_address_is_in_no_known_place() -> None:
    providers = found(BOTH | {"OPENAI_BASE_URL": "http://10.0.0.1/v1"})

    assert [one.known.name for one in keep_within(providers, "law:US")[0]] == ["anthropic"]


@pytest.mark.parametrize("answer", ["no", "e u", "law:", "1"])
def test_a_place_that_is_none_is_refused(answer: str) -> None:
    with pytest.raises(BadAnswer):
        read_place(answer, found(BOTH))


@pytest.mark.parametrize("answer", ["my app", "", "none", "ä"])
def test_an_apps_name_that_is_none_is_refused(answer: str) -> None:
    with pytest.raises(BadAnswer):
        read_app(answer)


def test_four_questions_at_most_and_a_bad_answer_is_asked_again() -> None:
    ask, asked = answering("moon", "eu", "9", "1 2", "3", "2", "shop")
    said: list[str] = []

    choices = ask_choices(
        found(BOTH | {"MISTRAL_API_KEY": "x"}), ask=ask, say=said.append, at_s=NOW
    )

    assert len(set(asked)) == 4
    assert len(asked) == 7
    assert choices.place == "eu"
    assert choices.incumbent.model.name == "mistral-small-latest"
    assert choices.app == "shop"
    assert any("known to be in moon" in line for line in said)


def test_enter_four_times_is_what_yes_takes() -> None:
    ask, _ = answering("", "", "", "")
    providers = found(BOTH)

    choices = ask_choices(providers, ask=ask, say=lambda _: None, at_s=NOW)

    usual = usual_choices(providers)
    assert (choices.offers, choices.incumbent, choices.app) == (
        usual.offers,
        usual.incumbent,
        usual.app,
    )


# -- the draft -----------------------------------------------------------------------------------


@pytest.mark.parametrize("starter_tasks", [False, True])
@pytest.mark.parametrize("environment", [BOTH, ALL, HOSTS, *({name: "x"} for name in ALL)])
def test_whatever_is_found_the_file_is_short_sound_and_read_as_it_was_meant(
    environment: dict[str, str], starter_tasks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, key in environment.items():
        monkeypatch.setenv(name, key)
    draft = drafted(environment)

    text = draft_yaml(draft, server={"state_dir": "/x"}, starter_tasks=starter_tasks)

    assert len(text.splitlines()) <= MOST_LINES
    value = yaml.safe_load(text)
    assert value.pop("starter_tasks", False) is starter_tasks
    assert value["providers"] == draft.providers
    assert value["endpoints"] == list(draft.endpoints)
    parse(text.replace("starter_tasks: true\n", ""), file="x")


def test_every_client_may_use_auto_in_its_own_dialect() -> None:
    for provider in drafted(ALL).providers.values():
        spoken = {*provider["dialects"], *provider["translate"]["from"]}

        assert spoken == {"chat", "messages", "responses"}


def test_what_nobody_lists_is_taken_by_one_provider_and_messages_by_anthropic() -> None:
    both = drafted(BOTH).providers
    alone = drafted({"ANTHROPIC_API_KEY": "x"}).providers

    assert both["openai"]["passthrough"] is True
    assert both["anthropic"]["passthrough"] == {"dialects": ["messages"]}
    assert alone["anthropic"]["passthrough"] is True


def test_two_hosts_of_the_incumbents_model_are_used_by_same_model() -> None:
    hosts, apart = drafted(HOSTS), drafted(HOSTS | BOTH)

    assert hosts.app_entry["strategy"] == "same-model"
    assert "strategy" not in apart.app_entry
    assert "groq and cerebras" in "".join(apart.notes)
    assert {one["id"] for one in hosts.endpoints} >= {"gpt-oss-120b@groq", "gpt-oss-120b@cerebras"}


def test_at_another_address_the_published_prices_are_written() -> None:
    plain, moved = drafted(BOTH), drafted(BOTH | {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})

    assert "prices" not in plain.endpoints[0]
    prices = {name: float(usd) for name, usd in moved.endpoints[0]["prices"].items()}
    assert prices["input_usd_per_mtok"] == 2
    assert prices["output_usd_per_mtok"] == 10
    assert "jurisdiction" not in moved.providers["openai"]


def test_at_another_address_every_dialect_of_the_maker_passes_as_it_would_directly() -> None:
    plain, moved = drafted(BOTH), drafted(BOTH | {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})

    for draft in (plain, moved):
        assert draft.providers["openai"]["dialects"] == ["chat", "responses"]
        assert draft.providers["openai"]["translate"] == {"from": ["messages"]}


@pytest.mark.parametrize("file", [(), ("--from", "litellm", "config.yaml")])
def test_in_a_directory_that_was_removed_one_line_says_so(
    state_dir: Path, file: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = state_dir / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    said = pointsman("init", "--yes", *file, environment=BOTH)

    assert said.exit_code == 1
    assert said.stderr.splitlines() == [init_verb.GONE]
    whole = pointsman("init", "--yes", "--config", state_dir / "a.yaml", environment=BOTH)
    assert whole.exit_code == 0, whole.stderr


def test_data_that_may_not_leave_goes_to_nobody_else_whoever_is_added_later() -> None:
    ask, _ = answering("law:us", "", "", "")
    providers = found(BOTH | {"MISTRAL_API_KEY": "x"})
    choices = ask_choices(providers, ask=ask, say=lambda _: None, at_s=NOW)

    draft = draft_of(choices, offers_of(providers), NOW)

    assert draft.organisation == {"jurisdictions": ["US"]}
    assert list(draft.providers) == ["openai", "anthropic"]


def test_a_server_on_this_machine_is_where_the_machine_is() -> None:
    ask, _ = answering("eu", "", "", "")
    providers = found({"OLLAMA_HOST": "127.0.0.1"}, models=["a", "b"])
    choices = ask_choices(providers, ask=ask, say=lambda _: None, at_s=NOW)

    draft = draft_of(choices, offers_of(providers), NOW)

    assert draft.providers["ollama"]["region"] == "eu"
    assert draft.providers["ollama"]["zone"] == "local"
    assert draft.providers["ollama"]["auth"] == "none"
    parse(draft_yaml(draft), file="x")


@pytest.mark.parametrize(
    "text", ["no", "1e3", "007", "a: b", "x #y", "'", '"', "ü", "- a", "~", "", "a:", "{a}", "0x1f"]
)
def test_a_text_is_read_as_a_text_whatever_it_looks_like(text: str) -> None:
    draft = Draft({"p": {"base_url": text}}, ({"id": text},), "default", {"task": [text]})

    value = yaml.safe_load(draft_yaml(draft))

    assert value["providers"]["p"]["base_url"] == text
    assert value["endpoints"] == [{"id": text}]
    assert value["apps"]["default"]["task"] == [text]


def test_what_the_first_day_s_page_shows_is_what_it_writes() -> None:
    readme = (ROOT / "README.md").read_text()
    page = (ROOT / "docs" / "first-day.md").read_text()
    shown = page.partition("this is all it wrote:\n```yaml\n")[2].partition("```")[0]
    state = {"state_dir": "/tmp/shop/.pointsman"}

    text = draft_yaml(drafted(BOTH), server=state, starter_tasks="starter_tasks" in shown)

    assert shown == text
    assert f"pointsman.yaml: {len(shown.splitlines())} lines" in readme


def test_the_page_of_the_first_day_has_every_variable_and_model() -> None:
    page = (ROOT / "docs" / "first-day.md").read_text()
    addresses = [known.address[0] for known in KNOWN if known.address[0]]
    models = [model.name for known in KNOWN for model in known.models]

    assert [name for name in [*variables(), *addresses, *models] if f"`{name}`" not in page] == []


# -- the verb ------------------------------------------------------------------------------------


def test_yes_writes_a_file_that_check_takes_and_says_what_next() -> None:
    done = init("--yes", **BOTH)

    assert done.exit_code == 0
    assert "pointsman up" in done.stdout
    assert pointsman("check", environment=BOTH).exit_code == 0
    text = Path("pointsman.yaml").read_text()
    assert len(text.splitlines()) <= MOST_LINES
    assert not [key for key in BOTH.values() if key in text + done.output]


def test_state_lies_beside_the_file_from_wherever_it_is_used(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (state_dir / "at").mkdir()

    init("--yes", "--config", "at/pointsman.yaml", **BOTH)
    init("--yes", "--config", "at/other.yaml", **BOTH)

    states = [
        Path(yaml.safe_load((state_dir / "at" / name).read_text())["server"]["state_dir"])
        for name in ("pointsman.yaml", "other.yaml")
    ]
    assert states == [state_dir / "at/.pointsman", state_dir / "at/.pointsman-other"]
    assert (states[0] / ".gitignore").read_text() == "*\n"
    assert states[0].stat().st_mode & 0o777 == 0o700


def test_where_the_usual_port_is_taken_the_next_is_written_and_kept() -> None:
    with closing(socket.socket()) as taken:
        with suppress(OSError):  # somebody else has it
            taken.bind(("127.0.0.1", 8787))
            taken.listen()
        first = init("--yes", **BOTH)
    port = yaml.safe_load(Path("pointsman.yaml").read_text())["server"]["port"]

    again = init("--yes", **BOTH)

    assert port in range(8788, 8807)
    assert f"http://127.0.0.1:{port}/v1" in first.stdout
    assert "already" in again.stdout


def test_a_file_that_is_there_is_shown_and_kept() -> None:
    Path("pointsman.yaml").write_text("endpoints: []\n")

    done = init("--yes", **BOTH)

    assert done.exit_code == 1
    assert "-endpoints: []" in done.stderr
    assert "name another by --config" in done.stderr
    assert Path("pointsman.yaml").read_text() == "endpoints: []\n"


def test_the_same_again_changes_nothing_and_is_no_failure() -> None:
    init("--yes", **BOTH)
    before = Path("pointsman.yaml").stat()

    done = init("--yes", **BOTH)

    assert done.exit_code == 0
    assert "already" in done.stdout
    assert Path("pointsman.yaml").stat().st_mtime_ns == before.st_mtime_ns


def test_without_any_key_it_says_what_it_looked_for() -> None:
    done = init("--yes")

    assert done.exit_code == 1
    assert [name for name in variables() if name not in done.stderr] == []
    assert "scripts/demo" in done.stderr
    assert os.listdir() == []


def test_without_a_terminal_the_defaults_are_taken_and_that_is_said() -> None:
    done = init(**BOTH)

    assert done.exit_code == 0
    assert "defaults are taken" in done.stderr


def test_json_is_one_object_and_names_no_value_of_a_key() -> None:
    done = init("--json", **BOTH)

    said = json.loads(done.stdout)
    assert said["ok"] is True
    assert said["incumbent"] == said["endpoints"][0] == "gpt-6.1-sol"
    assert said["lines"] <= MOST_LINES
    assert said["next"][0] == "pointsman up"
    assert "sk-secret" not in done.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--config", "."), "is a directory"),
        (("--config", "no/p.yaml"), "there is no directory"),
        (("--config", "link.yaml"), "is a link to nowhere"),
        (("--config", "binary.yaml"), "holds no text"),
        (("--config", "x" * 300), "cannot be read"),
        (("--config", "binary.yaml/p.yaml"), "there is no directory"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_told(words: tuple[str, ...], says: str) -> None:
    Path("link.yaml").symlink_to("nowhere")
    Path("binary.yaml").write_bytes(b"\xff\xfe\x00")

    done = init("--yes", *words, **BOTH)

    assert done.exit_code == 1
    assert says in done.stderr


def test_a_directory_that_takes_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(landing.CannotLand, match="cannot be written"):
        landing.write_file(Path("/proc/self/fd/pointsman.yaml"), "x", instead=False)


def test_a_file_that_came_to_be_meanwhile_is_kept() -> None:
    Path("p.yaml").write_text("theirs")

    with pytest.raises(landing.CannotLand, match="meanwhile"):
        landing.write_file(Path("p.yaml"), "ours", instead=False)
    assert Path("p.yaml").read_text() == "theirs"
    assert os.listdir() == ["p.yaml"]


def test_what_is_replaced_keeps_its_mode_and_a_link_its_target() -> None:
    Path("real.yaml").write_text("before")
    Path("real.yaml").chmod(0o640)
    Path("link.yaml").symlink_to("real.yaml")

    landing.write_file(Path("link.yaml"), "after", instead=True)

    assert Path("link.yaml").is_symlink()
    assert Path("real.yaml").read_text() == "after"
    assert Path("real.yaml").stat().st_mode & 0o777 == 0o640


def test_a_directory_whose_name_no_file_may_hold_keeps_its_state_elsewhere() -> None:
    Path("<mine>").mkdir()

    done = init("--yes", "--config", "<mine>/pointsman.yaml", **BOTH)

    assert done.exit_code == 0
    assert "usual place" in done.stdout
    assert pointsman("check", "--config", "<mine>/pointsman.yaml", environment=BOTH).exit_code == 0


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A reader that knows one file, in the place of the real one; what it was given."""
    given: dict[str, str] = {}

    def read_litellm(text: str, *, file: str, app: str) -> Draft:
        given.update(text=text, file=file, app=app)
        if "model_list" not in text:
            raise ValueError(f"{file}: there is no model_list")
        return Draft(
            {"azure": {"base_url": "https://x.openai.azure.com", "auth": {"env": "AZURE_KEY"}}},
            (
                {"id": "gpt-4o", "model": "gpt-4o", "provider": "azure"},
                {"id": "b", "model": "b", "provider": "azure", "auth": {"env": "OTHER_KEY"}},
            ),
            app,
            left_out=(LeftOut("router_settings.routing_strategy", "choose a strategy"),),
            notes=("fallbacks became the order",),
        )

    module = ModuleType("router.setup.litellm")
    module.read_litellm = read_litellm  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "router.setup.litellm", module)
    return given


def test_what_litellms_file_says_is_written_and_what_was_dropped_is_told(
    litellm: dict[str, str],
) -> None:
    Path("config.yaml").write_text("model_list: []\n")

    done = init("--yes", "--from", "litellm", "config.yaml")

    assert done.exit_code == 0
    assert litellm == {"text": "model_list: []\n", "file": "config.yaml", "app": "default"}
    assert "left out: router_settings.routing_strategy: choose a strategy" in done.stdout
    assert "note: fallbacks became the order" in done.stdout
    assert "gpt-4o (has the calls), b; key from AZURE_KEY, key from OTHER_KEY" in done.stdout
    assert "variable AZURE_KEY is not set" in done.stdout
    assert (
        yaml.safe_load(Path("pointsman.yaml").read_text())["apps"]["default"]["mode"] == "observe"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--from", "litellm"), "name the file"),
        (("--from", "other", "config.yaml"), "--from litellm FILE"),
        (("config.yaml",), "--from litellm FILE"),
        (("--from", "litellm", "missing.yaml"), "cannot be read"),
        (("--from", "litellm", "binary.yaml"), "holds no text"),
        (("--from", "litellm", "config.yaml"), "no model_list"),
        (("--from", "litellm", "pointsman.yaml"), "is what would be written"),
    ],
)
def test_what_cannot_be_imported_is_told(
    litellm: dict[str, str], words: tuple[str, ...], says: str
) -> None:
    Path("config.yaml").write_text("a: 1\n")
    Path("binary.yaml").write_bytes(b"\xff\xfe\x00")

    done = init("--yes", *words)

    assert done.exit_code == 2
    assert says in done.stderr
    assert not Path("pointsman.yaml").exists()


class Terminal(io.StringIO):
    """What is typed at a terminal, or shown there."""

    def isatty(self) -> bool:
        return True


def at_terminal(monkeypatch: pytest.MonkeyPatch, *lines: str) -> tuple[int, str]:
    """Run `pointsman init` for somebody who types these lines: how it ends, and what it asked."""
    shown = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{line}\n" for line in lines)))
    monkeypatch.setattr(sys, "stderr", shown)
    for name, key in BOTH.items():
        monkeypatch.setenv(name, key)
    try:
        init_verb.init(None, yes=False, source="", file=None, as_json=False)
    except SystemExit as ended:
        return int(str(ended.code)), shown.getvalue()
    return 0, shown.getvalue()


def test_at_a_terminal_it_asks_and_a_file_goes_by_a_yes_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pointsman.yaml").write_text("endpoints: []\n")

    code, asked = at_terminal(monkeypatch, "", "1 3", "3", "2", "shop", "yes")

    assert code == 0, asked
    assert "-endpoints: []" in asked
    assert "3: is not among them" in asked
    value = yaml.safe_load(Path("pointsman.yaml").read_text())
    assert value["apps"]["shop"]["incumbent"] == "claude-opus-5-5"
    (digest,) = value["apps"]["shop"]["keys"]
    assert digest.startswith("sha256:")
    assert "key of app shop, shown once: pm-" in capsys.readouterr().out


def test_the_same_answers_again_keep_the_apps_key_and_write_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert at_terminal(monkeypatch, "", "", "", "shop")[0] == 0
    before, at_ns = Path("pointsman.yaml").read_text(), Path("pointsman.yaml").stat().st_mtime_ns
    capsys.readouterr()

    code, asked = at_terminal(monkeypatch, "", "", "", "shop")

    assert code == 0
    assert "Write this" not in asked
    told = capsys.readouterr().out
    assert "it says all this already" in told
    assert "shown once" not in told
    assert (Path("pointsman.yaml").read_text(), Path("pointsman.yaml").stat().st_mtime_ns) == (
        before,
        at_ns,
    )


@pytest.mark.parametrize(
    "keys",
    [
        "[{env: SHOP_KEY}]",
        "[{key: {file: /run/shop}, data_class: confidential}]",
        f"[sha256:{'a' * 64}, {{env: B}}]",
    ],
)
def test_an_apps_key_stays_as_the_file_names_it_whatever_else_changes(
    keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("pointsman.yaml").write_text(f"endpoints: []\napps:\n  shop: {{keys: {keys}}}\n")

    code, asked = at_terminal(monkeypatch, "", "", "", "shop", "yes")

    assert code == 0, asked
    value = yaml.safe_load(Path("pointsman.yaml").read_text())
    assert value["apps"]["shop"]["keys"] == yaml.safe_load(keys)


def test_a_key_loses_the_role_that_goes_with_its_section() -> None:
    before = "apps: {shop: {keys: [{key: {env: A}, role: judge}]}}\nroles: {judge: {}}\n"

    assert kept_keys(before, "shop") == [{"env": "A"}]
    assert kept_keys("apps: {shop: {keys: [literal]}}\n", "shop") == []
    assert kept_keys("apps: [", "shop") == []


def test_a_key_that_stands_in_a_file_is_not_shown_where_it_would_change() -> None:
    key = "sk-" + "hush1234" * 4
    Path("pointsman.yaml").write_text(f"apps: {{shop: {{keys: [{key}]}}}}\nendpoints: []\n")

    done = init("--yes", **BOTH)

    assert done.exit_code == 1
    assert "-endpoints: []" in done.stderr
    assert key not in done.stderr + done.stdout


def test_an_import_twice_changes_nothing() -> None:
    Path("config.yaml").write_text(
        "model_list:\n  - {model_name: m, litellm_params: {model: openai/x, api_key: literal-1}}\n"
        "general_settings: {master_key: os.environ/MASTER}\n"
    )

    first = init("--yes", "--from", "litellm", "config.yaml", **BOTH)
    before = Path("pointsman.yaml").read_text()
    again = init("--json", "--from", "litellm", "config.yaml", **BOTH)

    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "OPENAI_API_KEY=$MASTER python" in first.stdout
    assert json.loads(again.stdout)["written"] is False
    assert Path("pointsman.yaml").read_text() == before


def test_a_file_without_an_end_is_refused() -> None:
    done = init("--yes", "--from", "litellm", "/dev/zero")

    assert done.exit_code == 2
    assert "4 MiB at most" in done.stderr


def test_data_that_stays_goes_to_no_provider_of_elsewhere_that_is_added_by_hand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor to one whose region nobody says."""
    monkeypatch.setenv("MISTRAL_API_KEY", "k")
    monkeypatch.setenv("DEEPSEEK_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gw.example/v1")
    code, asked = at_terminal(monkeypatch, "no", "eu", "", "", "")
    assert code == 0, asked
    assert "left out: openai, anthropic, deepseek, not known to be in eu" in asked
    assert "gw.example" not in capsys.readouterr().out

    text = Path("pointsman.yaml").read_text()
    assert yaml.safe_load(text)["providers"].keys() == {"mistral"}
    text = text.replace(
        "endpoints:\n",
        "  far: {base_url: 'http://127.0.0.1:9/v1', region: cn}\n"
        "  unsaid: {base_url: 'http://127.0.0.1:9/v1', auth: none}\n"
        "endpoints:\n  - {id: far, model: a, provider: far}\n"
        "  - {id: unsaid, model: b, provider: unsaid}\n",
    )
    entries = parse(text, file="pointsman.yaml", secrets=False)
    configuration = compile_entries(entries, version=1, secrets=False)
    endpoints, rules = configuration.catalog.endpoints, configuration.organisation
    assert {e.id: why_forbidden(rules, e.place, NOW) for e in endpoints} == {
        "far": Exclusion.REGION,
        "unsaid": Exclusion.REGION,
        "mistral-medium-latest": None,
        "mistral-small-latest": None,
    }


@pytest.mark.parametrize("answers", [["", "", "", "", "no"], ["", "", "", "", ""], ["", "1"], []])
def test_without_a_yes_nothing_is_written(
    answers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever says no, nothing, or leaves on the way."""
    Path("pointsman.yaml").write_text("endpoints: []\n")

    code, _ = at_terminal(monkeypatch, *answers)

    assert code == 1
    assert os.listdir() == ["pointsman.yaml"]
    assert Path("pointsman.yaml").read_text() == "endpoints: []\n"
