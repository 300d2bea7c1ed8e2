"""What a prompt looks like suggests; it gives a task to declared sessions alone, and once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Provider, Sidecar, endpoint, learning, serving, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_books import records

from router.decision.prompt_tags import PromptTags
from router.dialects.chat import parse as chat
from router.dialects.completions import parse as completions
from router.dialects.embeddings import parse as embeddings
from router.dialects.messages import parse as messages
from router.dialects.request import Opening
from router.dialects.responses import parse as responses
from router.dialects.turns import MAX_OPENING
from telemetry.digests import digest8
from telemetry.session_notes import SessionNote
from telemetry.store import Address

ENDINGS = ("oak", "elm", "ash", "fir", "yew", "box", "bay", "gum", "fig", "nut", "hay", "rye")
REVIEW = [
    f"Please review this pull request diff for regressions, races and missing tests in {word}.py"
    for word in ENDINGS
]
LETTER = [
    f"Write a friendly birthday letter with warm wishes for my grandmother who loves her {word}"
    for word in ENDINGS
]
LONG = "very " * (MAX_OPENING // 5 + 1)
TOOL = {"type": "function", "function": {"name": "run", "parameters": {"type": "object"}}}
GENERAL_CATEGORY = digest8("task", "general")


def value(provider: Provider, **app: Any) -> dict[str, Any]:
    return {
        "providers": {
            "outside": {"base_url": provider.url("outside"), "auth": "none", "passthrough": True}
        },
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "tasks": {
            "code/review": {"exemplars": REVIEW},
            "letter": {"exemplars": LETTER},
            "use": {"match": {"tools": ["run"]}},
        },
        "roles": {"writer": {"active": True, "tasks": ["letter"]}},
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "learn", **app}},
    }


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is, a store that is there is heard."""
    monkeypatch.setattr("router.decision.sessions.LOOK_UP_S", 5.0)
    monkeypatch.setattr("router.decision.shared_draws.LOOK_UP_S", 5.0)


def opened(provider: Provider, root: Path, address: Address, **app: Any) -> Any:
    return serving(value(provider, **app), root, address)


@pytest.fixture
def suggesting(provider: Provider, state_dir: Path, address: Address) -> Iterator[Sidecar]:
    with opened(provider, state_dir, address) as found:
        found.until(lambda: found.app.keeper.store_up)
        yield found


@pytest.fixture
def routing(
    provider: Provider, state_dir: Path, address: Address, store: object
) -> Iterator[Sidecar]:
    with opened(provider, state_dir / "a", address, classify="route") as found:
        found.until(lambda: found.app.keeper.store_up)
        yield found


def call(sidecar: Sidecar, text: str, session: str | None = None, **more: Any) -> Any:
    said = {f"x-router-{name}": word for name, word in more.pop("said", {}).items()}
    if session is not None:
        said["x-router-session-id"] = session
    got = sidecar.chat(text=text, headers=said, **more)
    assert got.status_code == 200, got.text
    return got


def task(sidecar: Sidecar, text: str, session: str | None = None, **more: Any) -> tuple[str, str]:
    got = call(sidecar, text, session, **more)
    return got.headers["x-router-task"], got.headers["x-router-task-found-by"]


def dry(sidecar: Sidecar, text: str, session: str | None = None, **more: Any) -> dict[str, Any]:
    said = {"dry-run": "1", **more.pop("said", {})}
    found: dict[str, Any] = call(sidecar, text, session, said=said, **more).json()
    return found


# -- suggest --------------------------------------------------------------------------------------


def test_a_prompt_suggests_and_moves_nothing(suggesting: Sidecar) -> None:
    told = dry(suggesting, REVIEW[0], "s")

    assert (told["task"], told["found_by"]) == ("general", "general")
    assert told["looks_like"] == "code/review"
    assert dry(suggesting, "hello")["looks_like"] is None
    assert task(suggesting, REVIEW[0], "s") == ("general", "general")
    assert task(suggesting, LETTER[0], "s") == ("general", "session")


def test_nothing_is_suggested_where_something_says_the_task(suggesting: Sidecar) -> None:
    cases: tuple[tuple[dict[str, str], dict[str, Any]], ...] = (
        ({"task": "use"}, {}),
        ({"task": "unknown"}, {}),
        ({"role": "writer"}, {}),
        ({}, {"tools": [TOOL]}),
    )
    for said, more in cases:
        assert dry(suggesting, REVIEW[0], said=said, **more)["looks_like"] is None


def test_only_what_begins_a_conversation_is_looked_at(suggesting: Sidecar) -> None:
    turns = [
        {"role": "user", "content": REVIEW[0]},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": REVIEW[1]},
    ]

    assert dry(suggesting, "", messages=turns[:1])["looks_like"] == "code/review"
    assert dry(suggesting, "", messages=turns)["looks_like"] is None


def test_the_record_of_a_call_says_what_its_prompt_looks_like(
    suggesting: Sidecar, address: Address, state_dir: Path
) -> None:
    turns = [{"role": "user", "content": REVIEW[0]}, {"role": "assistant", "content": "ok"}]
    with learning(state_dir, address):
        call(suggesting, REVIEW[0])
        call(suggesting, "hello")
        call(suggesting, REVIEW[0], said={"task": "use"})
        call(suggesting, "", messages=[*turns, *turns[:1]])
        call(suggesting, REVIEW[0], tools=[TOOL])
        call(suggesting, LONG)
        until(lambda: len(records(address)) == 6)
        found = records(address)

    found = found[np.argsort(found["token"]["decided_at_ms"], kind="stable")]
    configuration = suggesting.app.keeper.current.configuration
    tags = configuration.derive(PromptTags).of(configuration.apps["default"])
    told = [tags.by_task["code/review"], tags.by_task["general"], tags.unread]
    assert sorted(found["tag"].tolist()) == sorted([*told, 0, 0, 0])
    by_category = dict(zip(found["tag"].tolist(), found["token"]["category"].tolist(), strict=True))
    assert {by_category[tag] for tag in told} == {GENERAL_CATEGORY}


@given(words=st.lists(st.sampled_from(" ".join(REVIEW + LETTER).split()), max_size=60))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_word_of_a_message_flips_task_or_endpoint_by_suggesting(
    suggesting: Sidecar, words: list[str]
) -> None:
    plain, told = dry(suggesting, "hello", "s"), dry(suggesting, " ".join(words) or "x", "s")

    assert told.pop("looks_like") in (None, "code/review", "letter")
    plain.pop("looks_like")
    assert told == plain


# -- route ----------------------------------------------------------------------------------------


def test_the_first_call_of_a_declared_session_gives_it_its_task(routing: Sidecar) -> None:
    assert task(routing, REVIEW[0], "s") == ("code/review", "classifier")
    assert task(routing, LETTER[0], "s") == ("code/review", "session")
    assert task(routing, "hello", "s") == ("code/review", "session")
    assert task(routing, REVIEW[0], "s", said={"task": "letter"}) == ("letter", "hint")
    assert task(routing, LETTER[0], "t") == ("letter", "classifier")


def test_where_it_says_nothing_the_session_stays_general(routing: Sidecar) -> None:
    assert task(routing, "hello", "s") == ("general", "general")
    assert task(routing, REVIEW[0], "s") == ("general", "session")


def test_without_a_declared_session_it_only_suggests(routing: Sidecar) -> None:
    assert task(routing, REVIEW[0]) == ("general", "general")
    assert dry(routing, REVIEW[0])["looks_like"] == "code/review"


def test_what_is_passed_on_is_not_looked_at(routing: Sidecar, provider: Provider) -> None:
    told = dry(routing, REVIEW[0], "s", model="unlisted")

    assert told["passthrough"] is True
    assert (told["task"], told["found_by"]) == ("general", "general")
    assert "looks_like" not in told
    assert call(routing, REVIEW[0], "s", model="unlisted").status_code == 200
    assert task(routing, LETTER[0], "s") == ("letter", "classifier")


def test_a_model_that_is_named_is_classified_and_serves_as_named(routing: Sidecar) -> None:
    got = call(routing, REVIEW[0], "s", model="b")

    assert got.headers["x-router-endpoint"] == "b"
    assert got.headers["x-router-task"] == "code/review"


def test_what_the_first_prompt_looks_like_loosens_nothing(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    changed = value(provider, classify="route")
    changed["endpoints"][1] |= {"max_data_class": "confidential"}
    changed["tasks"]["general"] = {"data_class": "confidential"}
    with serving(changed, state_dir, address) as sidecar:
        sidecar.until(lambda: sidecar.app.keeper.store_up)

        told = dry(sidecar, REVIEW[0], "s")

    assert (told["task"], told["endpoint"]) == ("code/review", "b")
    assert told["policy"]["data_class"]["value"] == "confidential"
    assert told["exclusions"].keys() == {"a"}


def test_whatever_else_says_the_task_goes_before(routing: Sidecar) -> None:
    assert task(routing, REVIEW[0], "a", said={"task": "letter"}) == ("letter", "hint")
    assert task(routing, REVIEW[0], "b", said={"role": "writer"}) == ("letter", "role")
    assert task(routing, REVIEW[0], "c", tools=[TOOL]) == ("use", "rule")
    assert task(routing, REVIEW[0], "d", said={"task": "unknown"}) == ("general", "general")


def test_a_dry_run_shows_it_and_leaves_nothing(routing: Sidecar) -> None:
    told = dry(routing, REVIEW[0], "s")

    assert (told["task"], told["found_by"]) == ("code/review", "classifier")
    assert told["looks_like"] is None
    assert task(routing, LETTER[0], "s") == ("letter", "classifier")


def test_complexity_goes_below_what_it_finds(routing: Sidecar) -> None:
    hard = {"complexity": "hard"}

    assert task(routing, LETTER[0], "s", said=hard) == ("letter/hard", "classifier")
    assert task(routing, REVIEW[0], "s") == ("letter", "session")


def test_the_explanation_says_what_found_it(routing: Sidecar) -> None:
    decision = call(routing, REVIEW[0], "s").headers["x-router-decision-id"]

    told = routing.http.get(f"/v1/router/decisions/{decision}").json()

    assert (told["task"], told["task_found_by"]) == ("code/review", "classifier")


@pytest.mark.parametrize(
    "said", [{"task": "use"}, {"task": "general"}, {"task": "nope"}, {"role": "writer"}, None]
)
def test_no_word_of_a_second_call_steers_whatever_said_the_task_of_the_first(
    routing: Sidecar, said: dict[str, str] | None
) -> None:
    call(routing, "hello", "s", model="auto" if said else "auto/use", said=said or {})

    assert task(routing, LETTER[0], "s") == ("general", "general")
    assert task(routing, REVIEW[0], "s") == ("general", "session")


def test_while_the_store_is_not_heard_no_word_steers_nor_later(
    routing: Sidecar, provider: Provider, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as busy:
        busy.setattr("router.decision.sessions.LOOK_UP_S", 0.0)
        assert task(routing, LETTER[0], "s") == ("general", "general")
    routing.until(lambda: routing.app.sessions.n_unwritten == 0)

    assert task(routing, REVIEW[0], "s") == ("general", "session")
    assert task(routing, REVIEW[0], "t") == ("code/review", "classifier")


REFUSED: list[tuple[int, dict[str, str], str]] = [
    (400, {"strategy": "nonesuch"}, "auto"),
    (400, {}, "auto:nonesuch"),
    (409, {"max-cost-usd": "0.000000001"}, "auto"),
    (409, {"max-cost-usd": "0.000000001", "task": "use", "data-class": "public"}, "auto"),
]


@pytest.mark.parametrize(("status", "said", "model"), REFUSED)
def test_a_call_that_was_refused_opens_no_session_at_any_router(
    routing: Sidecar,
    provider: Provider,
    state_dir: Path,
    address: Address,
    client: Any,
    status: int,
    said: dict[str, str],
    model: str,
) -> None:
    headers = {f"x-router-{name}": word for name, word in said.items()}
    for session in "st":
        asked = {"x-router-session-id": session, **headers}
        got = routing.chat(model, text=REVIEW[0], headers=asked, max_tokens=1000)
        assert got.status_code == status, got.text
        assert notes_in(client) == {""}, "the store had it taken back before the refusal left"

    assert task(routing, LETTER[0], "s") == ("letter", "classifier")
    assert task(routing, REVIEW[0], "s") == ("letter", "session")
    with opened(provider, state_dir / "b", address, classify="route") as other:
        other.until(lambda: other.app.keeper.store_up)
        assert task(other, LETTER[0], "t") == ("letter", "classifier")


def notes_in(client: Any) -> set[str]:
    """The tasks that sessions have."""
    notes = [SessionNote.unpack(client.get(key)) for key in client.scan_iter("*:said")]
    return {note.task for note in notes if note is not None}


def test_a_refused_call_takes_nothing_from_a_session_that_is_open(routing: Sidecar) -> None:
    assert task(routing, LETTER[0], "s") == ("letter", "classifier")
    headers = {"x-router-session-id": "s", "x-router-strategy": "nonesuch"}
    assert routing.chat(text=REVIEW[0], headers=headers).status_code == 400

    assert task(routing, REVIEW[0], "s") == ("letter", "session")


AGENTS = "x-claude-code-session-id"


def of_agent(sidecar: Sidecar, text: str, **more: Any) -> tuple[str, str]:
    headers = {AGENTS: "s", **more.pop("headers", {})}
    got = sidecar.chat(text=text, headers=headers, **more)
    assert got.status_code == 200, got.text
    return got.headers["x-router-task"], got.headers["x-router-task-found-by"]


OTHER = {"type": "function", "function": {"name": "other", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("kind", ["suggesting", "routing"])
def test_a_call_beside_a_coding_agents_conversation_leaves_the_task_to_those_with_tools(
    kind: str, request: pytest.FixtureRequest
) -> None:
    sidecar: Sidecar = request.getfixturevalue(kind)
    for text in ("quota", LETTER[0]):
        assert of_agent(sidecar, text) == ("general", "general")

    assert of_agent(sidecar, "hello", tools=[TOOL]) == ("use", "rule")
    assert of_agent(sidecar, LETTER[1]) == ("general", "general")
    assert of_agent(sidecar, LETTER[1], tools=[OTHER]) == ("use", "session")
    headers = {"x-router-session-id": "t"}
    assert of_agent(sidecar, "quota", headers=headers) == ("general", "general")
    assert of_agent(sidecar, "hello", tools=[TOOL], headers=headers) == ("general", "session")


def test_the_first_call_with_tools_gives_a_coding_agents_session_its_task(
    routing: Sidecar,
) -> None:
    said = {"x-router-data-class": "public"}
    assert of_agent(routing, REVIEW[0], headers=said) == ("general", "general")
    assert of_agent(routing, LETTER[0], tools=[OTHER]) == ("letter", "classifier")
    assert of_agent(routing, REVIEW[0], tools=[OTHER]) == ("letter", "session")


@pytest.mark.parametrize("app", [{"locked": True}, {"classify": "off"}, {"task": "use"}])
def test_an_app_may_be_one_that_nothing_is_classified_for(
    provider: Provider, state_dir: Path, address: Address, app: dict[str, Any]
) -> None:
    with opened(provider, state_dir, address, **{"classify": "route", **app}) as sidecar:
        sidecar.until(lambda: sidecar.app.keeper.store_up)

        assert task(sidecar, REVIEW[0], "s")[1] in ("general", "app")


@pytest.mark.parametrize("opening", [REVIEW[0], "hello"])
def test_another_router_and_a_later_one_keep_what_the_first_call_gave(
    routing: Sidecar,
    provider: Provider,
    state_dir: Path,
    address: Address,
    client: Any,
    opening: str,
) -> None:
    given = task(routing, opening, "s")[0]
    until(lambda: len(list(client.scan_iter("pm:draw:*:said"))) == 1)

    with opened(provider, state_dir / "b", address, classify="route") as second:
        users = [one.app.keeper.secrets.users for one in (routing, second)]
        second.until(lambda: second.app.keeper.store_up and all(u.is_known for u in users))

        assert task(second, LETTER[0], "s") == (given, "session")
    with opened(provider, state_dir / "a2", address, classify="route") as third:
        third.until(lambda: third.app.keeper.store_up)

        assert task(third, LETTER[1], "s") == (given, "session")
    (name,) = client.scan_iter("pm:draw:*:said")
    note = SessionNote.unpack(client.get(name))
    assert note is not None
    assert note.task == given


# -- what is read of a call -----------------------------------------------------------------------


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 5, **fields}).encode()


def user(*texts: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text} for text in texts]}


ANSWER = {"role": "assistant", "content": "ok"}


@pytest.mark.parametrize("parse", [chat, messages])
def test_what_users_say_before_any_answer_is_read(parse: Any) -> None:
    system = [{"role": "system", "content": "never"}] if parse is chat else []

    said = parse(body(messages=[*system, user("a", "b"), user("c")])).opening()
    assert said == Opening("a\nb\nc")
    said = parse(body(messages=[*system, {"role": "user", "content": "a"}])).opening()
    assert said == Opening("a")
    assert parse(body(messages=[user("a"), ANSWER, user("b")])).opening() is None
    assert parse(body(messages=[{"role": "user", "content": None}])).opening() == Opening()


def test_of_responses_items_are_read_and_of_what_goes_on_nothing() -> None:
    part = {"type": "input_text", "text": "a"}
    item = {"type": "message", "role": "user", "content": [part]}

    assert responses(body(input="a", instructions="never")).opening() == Opening("a")
    assert responses(body(input=[item, item])).opening() == Opening("a\na")
    assert responses(body(input=[item, {"type": "message", **ANSWER}, item])).opening() is None
    assert responses(body(input="a", previous_response_id="resp_1")).opening() is None
    assert responses(body(input=[])).opening() == Opening()


def test_of_completions_and_vectors_nothing_is_read() -> None:
    assert completions(body(prompt=REVIEW[0])).opening() is None
    assert embeddings(body(input=REVIEW[0])).opening() is None


def test_a_long_opening_is_not_looked_at_in_part() -> None:
    longest = "l" * (MAX_OPENING - 100)  # the rest is what is written around it

    assert chat(body(messages=[user(longest)])).opening() == Opening(longest)
    long = chat(body(messages=[user(longest), user("x" * 100)])).opening()
    assert long == Opening(is_long=True)
