"""What callers say beside a request is taken as it is meant, or refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import Provider, endpoint, serving
from msgspec import structs
from test_requests import parsed

from router.dialects.misspelt import ANSWERED
from router.errors import RequestRejected
from router.policy.hints import Hints, read_hints
from telemetry.store import Address


def hints_of(headers: dict[str, str], **body: Any) -> Hints:
    named = {f"x-router-{name}".encode(): value.encode() for name, value in headers.items()}
    return read_hints(named, parsed(**body).declared)


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        ("data-clas", "x-router-data-class"),
        ("data_class", "x-router-data-class"),
        ("max-cost", "x-router-max-cost-usd"),
        ("session", "x-router-session-id"),
        ("tsk", "x-router-task"),
        ("decision-ids", "x-router-decision-id"),
    ],
)
def test_a_header_that_looks_like_one_of_ours_is_refused(header: str, meant: str) -> None:
    with pytest.raises(RequestRejected, match=f"did you mean {meant}\\?") as refused:
        hints_of({header: "restricted"})

    assert (refused.value.code, refused.value.status) == ("unknown_field", 400)
    assert refused.value.param == f"x-router-{header}"


def test_what_resembles_no_hint_or_came_from_us_is_ignored() -> None:
    others = dict.fromkeys(("team", "user-id", "id", "x"), "anything")
    answered = {name.replace("_", "-"): "sent back" for name in ANSWERED if name != "task"}

    found = hints_of({**others, **answered, "strategy": "quality", "key": ""})

    assert found == hints_of({"strategy": "quality"})


def test_headers_of_answers_are_those_that_the_docs_name() -> None:
    page = (Path(__file__).parent.parent / "docs" / "hints.md").read_text()
    section = page.partition("## Answer headers")[2].partition("\n## ")[0]
    listed = section.partition("`x-request-id`")[0]

    assert {name.replace("_", "-") for name in ANSWERED} == set(
        re.findall(r"`x-router-([a-z-]+)`", listed)
    )


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("router_reff", "router_ref"),
        ("router_data_class", "'data_class' of the body object `router`, or x-router-data-class"),
        ("router_data_clas", "'data_class' of the body object `router`, or x-router-data-class"),
        ("router_dry_run", "'dry_run' of the body object `router`, or x-router-dry-run"),
        ("router_profile", "'profile' of the body object `router`, or x-router-profile"),
    ],
)
def test_a_key_of_metadata_that_says_a_hint_is_refused(key: str, meant: str) -> None:
    with pytest.raises(RequestRejected, match=re.escape(f"did you mean {meant}?")) as refused:
        parsed(metadata={key: "restricted"})

    assert (refused.value.code, refused.value.param) == ("unknown_field", f"metadata.{key}")


def test_other_keys_of_metadata_are_nobodys_business() -> None:
    others = {"data_clas": "x", "router_blue": "x", "router_task": "code"}
    found = parsed(metadata={**others, "router_ref": "r1"})

    assert found.declared.reference == "r1"


@pytest.mark.parametrize(
    "header", ["data-class", "max-cost-usd", "max-latency-ms", "explore", "dry-run"]
)
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_hint_that_holds_a_call_is_refused(header: str, value: str) -> None:
    with pytest.raises(RequestRejected, match=f"x-router-{header} is empty") as refused:
        hints_of({header: value})

    assert refused.value.status == 400
    said = hints_of({"task": value, "user": value})
    assert structs.replace(said, is_usual=True) == hints_of({})


@pytest.mark.parametrize("text", ["1", "true", "YES", "On"])
def test_yes_is_said_in_any_case(text: str) -> None:
    assert hints_of({"dry-run": text}).dry_run
    assert hints_of({"explore": text}).explore


@pytest.mark.parametrize("text", ["0", "False", "NO", "off"])
def test_no_is_said_in_any_case(text: str) -> None:
    assert not hints_of({"dry-run": text}, router={"dry_run": True}).dry_run
    assert not hints_of({"explore": text}).explore


@pytest.mark.parametrize("header", ["explore", "dry-run"])
@pytest.mark.parametrize("text", ["2", "nope", "01", "y"])
def test_what_is_neither_yes_nor_no_is_refused(header: str, text: str) -> None:
    with pytest.raises(RequestRejected, match=r"write 1 .* or 0 ") as refused:
        hints_of({header: text})

    assert refused.value.param == header.replace("-", "_")


@pytest.mark.parametrize("header", ["max-cost-usd", "max-latency-ms"])
@pytest.mark.parametrize("text", ["1_0", "٣", " 5e400", "nan", "inf", "0x1", "0", "-1", "1,5"])
def test_what_only_resembles_a_number_is_no_limit(header: str, text: str) -> None:
    with pytest.raises(RequestRejected, match="write a positive number"):
        hints_of({header: text})


@pytest.mark.parametrize(("text", "limit"), [("0.05", 0.05), (" 5e-2 ", 0.05), ("+3", 3.0)])
def test_a_limit_is_taken_as_it_is_written(text: str, limit: float) -> None:
    assert hints_of({"max-cost-usd": text}).max_cost_usd == limit


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/moderations"])
def test_a_misspelt_hint_reaches_no_provider_by_any_door(
    provider: Provider, state_dir: Path, address: Address, path: str
) -> None:
    passed = {"p": {"base_url": provider.url("p"), "passthrough": True}}
    body = {"model": "a", "messages": [{"role": "user", "content": "x"}]}
    value = {"providers": passed, "endpoints": [endpoint(provider, "a")]}
    with serving(value, state_dir, address) as sidecar:
        refused = [
            sidecar.http.post(path, json=body, headers={"x-router-data-clas": "restricted"}),
            sidecar.http.post(path, json=body, headers={"x-router-data-class": ""}),
            sidecar.http.post(path, json={**body, "metadata": {"router_data_class": "x"}}),
        ]

    assert [one.status_code for one in refused] == [400, 400, 400]
    assert provider.calls == []
