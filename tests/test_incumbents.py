"""An app's incumbent is one that its standing constraints permit, in every mode, and while off."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import Provider, Sidecar, endpoint, serving

from bandit import cells
from bandit.families import N_COLUMNS, Family, U
from router.beliefs.beliefs import believe
from router.beliefs.choices import rows_of, weigh
from router.beliefs.keeper import NOTHING
from router.beliefs.kept import ReviewKey
from router.beliefs.review_keys import seeds
from router.beliefs.reviews import review
from router.config.compiled import Configuration, compile_text
from router.errors import ConfigError
from router.policy.standing import PolicyTable
from telemetry.store import Address

RESTRICTED: dict[str, Any] = {"app": {"data_class": "restricted"}}
RESTRICTED["allowed"] = {"max_data_class": "restricted"}
EUROPEAN: dict[str, Any] = {"app": {"regions": ["eu", "ch"]}, "allowed": {"region": "ch"}}


def value(provider: Provider, kind: dict[str, Any], mode: str, /, **more: Any) -> dict[str, Any]:
    """Three endpoints, of which the app's constraints forbid the first."""
    return {
        "endpoints": [
            endpoint(provider, "first", region="us", model="m"),
            endpoint(provider, "second", **kind["allowed"], model="m", params={"seed": 1}),
            endpoint(provider, "third", **kind["allowed"]),
        ],
        "apps": {"default": {"mode": mode, **kind["app"], **more}},
    }


def compiled(entries: dict[str, Any]) -> Configuration:
    return compile_text(yaml.safe_dump(entries), file="t.yaml")


def problems(entries: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        compiled(entries)
    return {p.field: f"{p.value}: {p.hint}" for p in caught.value.problems}


def switch_off(sidecar: Sidecar) -> None:
    (sidecar.state_dir / "off").touch()
    sidecar.until(lambda: sidecar.app.keeper.off)


@pytest.mark.parametrize("kind", [RESTRICTED, EUROPEAN])
@pytest.mark.parametrize("mode", ["observe", "route", "off"])
@pytest.mark.parametrize("strategy", ["performance", "quality", "cheapest"])
def test_auto_goes_to_the_first_endpoint_that_the_app_may_use(
    kind: dict[str, Any],
    mode: str,
    strategy: str,
    provider: Provider,
    state_dir: Path,
    address: Address,
) -> None:
    entries = value(provider, kind, "route" if mode == "off" else mode, strategy=strategy)
    with serving(entries, state_dir, address) as sidecar:
        if mode == "off":
            switch_off(sidecar)
        replies = [sidecar.chat(headers={"x-router-session-id": str(i)}) for i in range(10)]
        dry = sidecar.http.post(
            "/v1/router/decide",
            json={"model": "auto", "messages": [{"role": "user", "content": "hi"}]},
        )
        report = sidecar.http.get("/v1/router/posteriors").json()

    assert {r.status_code for r in replies} == {200}
    served = {r.headers["x-router-endpoint"] for r in replies}
    assert served <= (
        {"second", "third"} if mode == "route" else {"second"}
    )  # an order tries others
    assert dry.json()["incumbent"] == "second"
    assert dry.json()["current"] in (None, "second")
    assert "first" not in dry.json()["challengers"]
    assert report["incumbent"] == "second"


@pytest.mark.parametrize("mode", ["observe", "route", "off"])
@pytest.mark.parametrize("map_models", [False, True])
def test_a_named_model_goes_to_its_first_permitted_host(
    mode: str, map_models: bool, provider: Provider, state_dir: Path, address: Address
) -> None:
    entries = value(provider, RESTRICTED, "route" if mode == "off" else mode, map_models=map_models)
    with serving(entries, state_dir, address) as sidecar:
        if mode == "off":
            switch_off(sidecar)
        named, forbidden = sidecar.chat("m"), sidecar.chat("first")

    assert named.headers["x-router-endpoint"] == "second"
    assert forbidden.status_code == 409
    assert "first" in forbidden.text


@pytest.mark.parametrize("mode", ["observe", "off"])
@pytest.mark.parametrize("model", ["auto", "m"])
def test_a_hint_that_forbids_the_incumbent_sends_that_call_to_the_first_eligible(
    mode: str, model: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    entries = value(provider, RESTRICTED, "observe", data_class="internal")
    with serving(entries, state_dir, address) as sidecar:
        if mode == "off":
            switch_off(sidecar)
        plain = sidecar.chat(model)
        tight = sidecar.chat(model, headers={"x-router-data-class": "restricted"})

    assert plain.headers["x-router-endpoint"] == "first"
    assert tight.headers["x-router-endpoint"] == "second"


def test_a_hint_that_leaves_no_host_of_a_named_model_goes_to_no_other_model(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    entries = value(provider, RESTRICTED, "observe", data_class="internal")
    entries["endpoints"][1]["max_data_class"] = "internal"
    with serving(entries, state_dir, address) as sidecar:
        refused = sidecar.chat("m", headers={"x-router-data-class": "restricted"})

    assert refused.status_code == 409
    assert "second" in refused.text
    assert "third" not in refused.text


def test_choices_begin_at_the_permitted_incumbent_of_each_app(provider: Provider) -> None:
    entries = value(provider, RESTRICTED, "route")
    entries["apps"]["default"]["keys"] = [{"env": "HOME"}]
    entries["apps"]["open"] = {"mode": "route", "keys": [{"env": "PATH"}]}

    assert {key.app: key.incumbent for key in seeds(compiled(entries))} == {
        "default": "second",
        "open": "first",
    }


def priced(provider: Provider, *listed: tuple[str, str, str, float]) -> Configuration:
    """Endpoints as `(id, model, region, USD)` for an app in the EU that wants the cheapest."""
    entries = {
        "endpoints": [
            endpoint(provider, id_, model=model, region=region)
            | {"prices": {"input_usd_per_mtok": usd, "output_usd_per_mtok": usd}}
            for id_, model, region, usd in listed
        ],
        "apps": {"default": {"mode": "route", "strategy": "cheapest", "regions": ["eu"]}},
    }
    return compiled(entries)


def test_releases_and_reports_name_nobody_whom_the_app_may_not_use(provider: Provider) -> None:
    of = priced(
        provider,
        ("first", "m", "us", 1.0),
        ("second", "m", "eu", 3.0),
        ("cheap", "n", "us", 0.1),
        ("mid-us", "o", "us", 0.2),
        ("mid", "o", "eu", 0.2),
    )
    (key,) = seeds(of)
    calls = np.zeros((20, N_COLUMNS))
    calls[:, U.CALLS] = 1
    answered = cells.terms(
        Family.USAGE,
        category=np.full(20, of.task_digests[0], dtype=np.uint64),
        endpoint=np.full(20, of.catalog.by_id["second"].digest, dtype=np.uint64),
        at_ms=np.full(20, int(time.time() * 1000)),
        columns=calls,
    )
    found = believe(of, cells.merge([answered]), version=0, review_keys=[key])
    after, released = review(key, None, found.posterior, of, now_ms=1) or (None, [])
    assert after is not None
    stands = weigh(key, after, found.posterior, NOTHING, of, now_ms=0)
    rows = rows_of(stands, of)

    assert key.incumbent == "second"
    assert {(r.before, r.after) for r in released} == {("second", "mid")}
    assert {(r["incumbent"], r["current"]) for r in rows} == {("second", "mid")}
    assert {name for r in rows for name in r["challengers"]} <= {"second"}
    moved = priced(provider, ("first", "m", "eu", 1.0), ("mid", "o", "us", 2.0))
    again, gone = review(
        ReviewKey("default", "cheapest", "", "first"),
        replace(after, review_key=ReviewKey("default", "cheapest", "", "first")),
        believe(moved, NOTHING, version=0).posterior,
        moved,
        now_ms=2,
    ) or (None, [])
    assert again is not None
    assert {(r.before, r.after, r.reason) for r in gone} == {("mid", "first", "removed")}


@pytest.mark.parametrize("kind", [RESTRICTED, EUROPEAN])
def test_an_app_that_no_endpoint_may_serve_is_refused_with_each_reason(
    kind: dict[str, Any], provider: Provider
) -> None:
    entries = value(provider, kind, "observe")
    del entries["endpoints"][1:]
    entries["endpoints"].append(endpoint(provider, "other"))

    found = problems(entries)["apps.default"]

    assert "no endpoint may serve this app" in found
    assert "first: " in found
    assert "other: " in found
    assert ("restricted" if kind is RESTRICTED else "ch, eu") in found


def test_the_app_that_is_not_written_counts_too(provider: Provider) -> None:
    only = endpoint(provider, "a", max_data_class="public")

    assert "data_class of the app internal" in problems({"endpoints": [only]})["apps.default"]


@pytest.mark.parametrize(
    ("app", "field"),
    [
        ({"incumbent": "first"}, "incumbent"),
        ({"mode": "pinned", "endpoint": "first"}, "endpoint"),
        ({"strategy": "named"}, "strategy"),
    ],
)
def test_a_named_endpoint_that_the_app_may_not_use_is_refused(
    app: dict[str, Any], field: str, provider: Provider
) -> None:
    entries = value(provider, EUROPEAN, "route")
    entries["apps"]["default"] |= app
    entries["strategies"] = {"named": {"objective": "quality", "incumbent": "first"}}

    assert "region is us" in problems(entries)[f"apps.default.{field}"]


def test_what_a_provider_says_of_its_endpoints_counts(provider: Provider) -> None:
    entries = value(provider, EUROPEAN, "observe")
    entries["providers"] = {"p": {"region": "eu"}}
    entries["endpoints"] = [endpoint(provider, "a"), {**endpoint(provider, "b"), "provider": "p"}]

    found = compiled(entries)

    assert [e.id for e in found.derive(PolicyTable).usual(found.apps["default"]).permitted] == ["b"]
