"""The terms of endpoints: as they are written, how long they hold, when nobody is to be asked."""

from __future__ import annotations

import json
import time
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Provider, endpoint, pointsman, serving
from structlog.testing import capture_logs

from router.config.compiled import compile_text
from router.config.reload import take
from router.decision.context import Moment
from router.endpoints.catalog import Catalog, Endpoint
from router.endpoints.maintenance import MaintenanceEntry, compile_windows
from router.endpoints.rates import begins
from router.endpoints.terms import agreement_warnings
from router.endpoints.upkeep import Upkeep
from router.errors import ConfigError
from router.report.catalog import catalog_lines, catalog_rows
from router.report.costs import availability_lines, availability_rows
from telemetry import decoding, events, keys
from telemetry.events import Flag, Result
from telemetry.store import Address, connect
from telemetry.tokens import Token
from workers.jobs.availability import count_answers

ENDS = date(2026, 12, 24)
AGREED_S, LAPSED_S = begins(ENDS), begins(ENDS + timedelta(days=1))
PRICES = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}


def catalog(*listed: dict[str, Any], **more: Any) -> Catalog:
    whole = [
        {"id": f"e{i}", "model": "m", "base_url": "http://h/v1"} | e for i, e in enumerate(listed)
    ]
    return compile_text(yaml.safe_dump({"endpoints": whole, **more}), file="t.yaml").catalog


def one(**more: Any) -> Endpoint:
    return catalog(more).endpoints[0]


def problems(**more: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        one(**more)
    return [f"{p.field}: {p.hint}" for p in caught.value.problems]


# -- what is said -------------------------------------------------------------------------------


def test_an_endpoints_own_word_goes_before_its_providers() -> None:
    provider = {
        "base_url": "http://h/v1",
        "region": "us",
        "jurisdiction": "US",
        "retention_days": 30,
        "trains_on_data": True,
        "zone": "vendor",
        "agreement": {"until": ENDS.isoformat()},
        "billing": "subscription",
    }
    own = {"provider": "p", "jurisdiction": "DE", "zero_retention": True, "trains_on_data": False}
    found = catalog({"provider": "p"}, own, providers={"p": provider})

    inherited, said = (e.terms.said(AGREED_S) for e in found.endpoints)

    assert inherited == {
        "region": "us",
        "jurisdiction": "US",
        "retention_days": 30,
        "zero_retention": False,
        "trains_on_data": True,
        "zone": "vendor",
        "agreed_until": ENDS.isoformat(),
        "billing": "subscription",
    }
    other = {"jurisdiction": "DE", "retention_days": 0, "zero_retention": True}
    assert said == {**inherited, **other, "trains_on_data": False}


@pytest.mark.parametrize(
    ("more", "kept", "none"),
    [
        ({}, None, None),
        ({"retention_days": 0}, 0, True),
        ({"retention_days": 7}, 7, False),
        ({"zero_retention": True}, 0, True),
        ({"zero_retention": False}, None, False),
        ({"zero_retention": True, "retention_days": 0}, 0, True),
    ],
)
def test_zero_retention_and_no_days_of_it_are_one(
    more: dict[str, Any], kept: int | None, none: bool | None
) -> None:
    terms = one(**more).terms

    assert (terms.retention_days, terms.zero_retention) == (kept, none)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"zero_retention": True, "retention_days": 30}, "zero_retention: retention_days says"),
        ({"zero_retention": False, "retention_days": 0}, "zero_retention: retention_days says"),
        ({"retention_days": "30d"}, "retention_days: write a plain number"),
        ({"zone": "my zone"}, "zone: use 1 to 128 letters"),
        ({"agreement": {"until": "2026-13-01"}}, "agreement.until: write a day of the calendar"),
        ({"agreement": {}}, "agreement.until: this field is required"),
        ({"billing": "monthly"}, "billing"),
        ({"maintenance": [{"from": "2:00", "to": "04:00"}]}, "from: write a time of day"),
        ({"maintenance": [{"from": "02:00", "to": "24:01"}]}, "to: write a time of day"),
        ({"maintenance": [{"from": "02:00", "to": "02:00"}]}, "to: from and to are one moment"),
        ({"maintenance": [{"from": "24:00", "to": "02:00"}]}, "to: from and to are one moment"),
        ({"maintenance": [{"from": "02:00", "to": "03:00", "days": ["monday"]}]}, "days[0]"),
        (
            {"maintenance": [{"from": "02:00", "to": "03:00", "timezone": "Mars/Base"}]},
            "timezone: no such time zone",
        ),
        (
            {"maintenance": [{"from": "02:00", "to": "03:00", "timezone": "../etc"}]},
            "timezone: no such time zone",
        ),
        (
            {
                "maintenance": [
                    {"from": "02:00", "to": "03:00", "days": ["mon"], "date": "2026-01-01"}
                ]
            },
            "date: days of the week are named as well",
        ),
    ],
)
def test_terms_that_are_none_are_told_once_with_their_place(
    more: dict[str, Any], says: str
) -> None:
    found = problems(**more)

    assert len(found) == 1, found
    assert says in found[0]


# -- agreements ---------------------------------------------------------------------------------


def test_after_its_agreement_a_zone_counts_as_undeclared() -> None:
    agreed = {"zone": "eu-bank", "agreement": {"until": ENDS.isoformat()}}
    terms = one(**agreed).terms

    assert terms.zone_at(LAPSED_S - 0.001) == "eu-bank", "the last day is one of it"
    assert terms.zone_at(LAPSED_S) is None
    assert one(zone="local").terms.zone_at(LAPSED_S) == "local"


@pytest.mark.parametrize(
    ("most", "afterwards"),
    [("public", "public"), ("internal", "internal"), ("restricted", "internal")],
)
def test_after_its_agreement_no_more_than_internal_data_goes_there(
    most: str, afterwards: str
) -> None:
    agreed = {"max_data_class": most, "agreement": {"until": ENDS.isoformat()}}
    found = catalog(agreed, apps={"default": {"data_class": "public"}}).endpoints[0]

    assert found.class_at(AGREED_S).name == most
    assert found.class_at(LAPSED_S).name == afterwards


@pytest.mark.parametrize(
    ("days_left", "says"),
    [
        (31, None),
        (30, "ends on 2026-12-24, in 30 days"),
        (1, "in 1 day:"),
        (0, "ends on 2026-12-24, today"),
        (-1, "ended on 2026-12-24"),
        (-400, "ended on 2026-12-24"),
    ],
)
def test_an_agreement_is_told_of_from_thirty_days_before_its_end(
    days_left: int, says: str | None
) -> None:
    at_s = AGREED_S - days_left * 86_400 + 3600

    lines = agreement_warnings([("a", ENDS), ("b", ENDS), ("c", None)], at_s)

    assert len(lines) == (says is not None)
    assert says is None or (says in lines[0] and "a, b" in lines[0])


def test_check_catalog_and_a_start_warn_of_an_agreement(tmp_path: Path) -> None:
    soon = (datetime.now(UTC).date() + timedelta(days=3)).isoformat()
    file = tmp_path / "c.yaml"
    value = {
        "server": {"state_dir": str(tmp_path)},
        "providers": {"p": {"base_url": "http://h/v1", "agreement": {"until": soon}}},
        "endpoints": [{"id": "a", "model": "m", "provider": "p"}],
    }
    file.write_text(yaml.safe_dump(value))

    checked = pointsman("check", "--config", file)
    as_json = json.loads(pointsman("check", "--json", "--config", file).stdout)
    listed = pointsman("catalog", "--config", file)
    with capture_logs() as logged:
        keeper = Upkeep(on_new_key=lambda: None, on_new_prices=lambda: None)
        keeper.follow(compile_text(file.read_text(), file="t").catalog)

    line = f"the agreement of a ends on {soon}, in 3 days"
    assert checked.exit_code == listed.exit_code == 0
    for told in (checked.stderr, as_json["warnings"][0], listed.stderr, logged[0]["event"]):
        assert line in told
    assert logged[0]["log_level"] == "warning"


def test_what_ended_by_date_refuses_calls_and_neither_a_file_nor_a_start(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = {
        "endpoints": [
            endpoint(
                provider,
                "vault",
                max_data_class="restricted",
                agreement={"until": "2020-01-01"},
            ),
            endpoint(provider, "open"),
        ],
    }
    secret = {"x-router-data-class": "confidential"}
    with serving(value, state_dir, address) as sidecar:
        refused = sidecar.chat("vault", headers=secret)
        served = sidecar.chat("vault")

    assert refused.status_code == 409
    assert "data_class" in refused.text
    assert served.status_code == 200
    assert len(provider.calls) == 1, "not one byte of the other"


def test_pass_through_asks_for_the_agreement_as_well(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    vendor = {
        "base_url": provider.url("v"),
        "passthrough": True,
        "max_data_class": "confidential",
        "agreement": {"until": "2020-01-01"},
    }
    other = {
        "base_url": provider.url("w"),
        "passthrough": {"paths": ["/v1/moderations"]},
        "max_data_class": "confidential",
        "agreement": {"until": "2099-01-01"},
    }
    value = {"providers": {"v": vendor, "w": other}, "endpoints": [endpoint(provider, "a")]}
    headers = {"x-router-data-class": "confidential"}
    with serving(value, state_dir, address) as sidecar:
        assert sidecar.chat("unlisted", headers=headers).status_code == 409
        assert provider.calls == []
        assert sidecar.chat("unlisted").status_code == 200
        asked = sidecar.http.post("/v1/moderations", json={"input": "x"}, headers=headers)
        assert asked.status_code == 200


def test_every_provider_that_takes_what_is_not_listed_is_told_of_by_its_agreement() -> None:
    until = {"agreement": {"until": "2026-07-10"}, "base_url": "http://v/v1"}
    claims = [True, {"paths": ["/v1/files"]}, {"dialects": ["messages"]}, False]
    providers = {f"p{i}": until | {"passthrough": claim} for i, claim in enumerate(claims)}

    told = [name for name, until in catalog({"id": "e"}, providers=providers).agreed if until]

    assert sorted(told) == ["p0", "p1", "p2"]


# -- maintenance --------------------------------------------------------------------------------


def holds(at: str, **window: Any) -> bool:
    """Whether a moment, given in UTC, lies in a window."""
    (found,) = compile_windows([MaintenanceEntry.model_validate(window)])
    return found.holds(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp())


BERLIN = {"timezone": "Europe/Berlin"}
NIGHT = {"days": ["sat"], "from": "22:00", "to": "04:00"}


@pytest.mark.parametrize(
    ("at", "window", "is_in"),
    [
        ("2026-12-05T02:00", {"from": "02:00", "to": "04:00"}, True),
        ("2026-12-05T03:59:59", {"from": "02:00", "to": "04:00"}, True),
        ("2026-12-05T04:00", {"from": "02:00", "to": "04:00"}, False),
        ("2026-12-05T21:59", NIGHT, False),  # a Saturday
        ("2026-12-05T22:00", NIGHT, True),
        ("2026-12-06T03:59", NIGHT, True),
        ("2026-12-06T22:00", NIGHT, False),
        ("2026-12-05T03:00", NIGHT, False),
        ("2026-12-05T21:00", NIGHT | BERLIN, True),  # 22:00 in winter
        ("2026-07-04T20:00", NIGHT | BERLIN, True),  # 22:00 in summer
        ("2026-07-04T19:59", NIGHT | BERLIN, False),
        ("2026-12-24T23:59", {"date": "2026-12-24", "from": "00:00", "to": "24:00"}, True),
        ("2026-12-25T00:00", {"date": "2026-12-24", "from": "00:00", "to": "24:00"}, False),
        ("2026-12-25T01:00", {"date": "2026-12-24", "from": "20:00", "to": "02:00"}, True),
        ("2027-12-24T12:00", {"date": "2026-12-24", "from": "00:00", "to": "24:00"}, False),
    ],
)
def test_a_window_holds_by_the_clock_of_its_time_zone(
    at: str, window: dict[str, Any], is_in: bool
) -> None:
    assert holds(at, **window) is is_in


def test_under_maintenance_another_endpoint_serves_and_alone_it_is_asked_all_the_same(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    at_s = datetime(2026, 12, 5, 3, tzinfo=UTC).timestamp()
    window = [{"from": "02:00", "to": "04:00"}]
    value = {
        "endpoints": [
            endpoint(provider, "shut", maintenance=window),
            endpoint(provider, "there"),
        ],
        "strategies": {"quality": {"objective": "quality", "incumbent": "shut"}},
        "apps": {"default": {"mode": "route", "strategy": "quality"}},
    }
    now = [at_s]

    def clock() -> Moment:
        return Moment(now[0], time.monotonic(), 0.0)

    with serving(value, state_dir, address, clock=clock) as sidecar:
        diverted = sidecar.chat("auto").headers["x-router-endpoint"]
        dry = sidecar.http.post(
            "/v1/router/decide",
            json={"model": "auto", "messages": [{"role": "user", "content": "x"}]},
        ).json()
        by_name = sidecar.chat("shut")
        now[0] = at_s + 3600
        after = sidecar.chat("auto").headers["x-router-endpoint"]

    assert (diverted, after) == ("there", "shut")
    assert dry["exclusions"] == {"shut": "maintenance"}
    assert (by_name.status_code, by_name.headers["x-router-endpoint"]) == (200, "shut")


# -- days ---------------------------------------------------------------------------------------


def test_when_other_prices_come_into_force_the_configuration_is_taken_anew() -> None:
    day = 86_400.0
    start = begins(date(2027, 1, 1))
    dated = [PRICES, {"from": "2027-01-02", **PRICES}]
    asked: list[float] = []
    now = [start + 10]
    keeper = Upkeep(
        on_new_key=lambda: None, on_new_prices=lambda: asked.append(now[0]), clock=lambda: now[0]
    )
    keeper.follow(catalog({"prices": dated}))

    for at_s in (start + 20, start + day - 1, start + day + 1, start + day + 2, start + 3 * day):
        now[0] = at_s
        keeper.look(0.0)

    assert asked == [start + day + 1]


def test_a_file_that_is_taken_anew_is_believed_at_the_prices_of_that_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dear = {"input_usd_per_mtok": 7, "output_usd_per_mtok": 2}
    listed = [{"id": "a", "model": "m", "base_url": "http://h/v1"}]
    listed[0]["prices"] = [PRICES, {"from": "2999-01-01", **dear}]  # type: ignore[assignment]
    text = yaml.safe_dump({"endpoints": listed})
    before = compile_text(text, file="t")
    monkeypatch.setattr(time, "time", lambda: begins(date(2999, 1, 1)))

    after = take(text, file="t", running=before).configuration

    assert before.catalog.arms.input_usd_per_mtok[0] == 1
    assert after.catalog.arms.input_usd_per_mtok[0] == 7
    assert before.catalog.endpoints[0].digest == after.catalog.endpoints[0].digest


# -- the catalog --------------------------------------------------------------------------------


def test_the_catalog_lists_every_value_with_its_source_and_what_is_missing() -> None:
    said = {
        "zone": "local",
        "jurisdiction": "DE",
        "retention_days": 0,
        "context_tokens": 8000,
        "max_data_class": "restricted",
        "prices": [PRICES, {"from": "2999-01-01", "usd_per_hour": 2}],
        "maintenance": [{"days": ["sun"], "from": "02:00", "to": "04:00"}],
    }
    rows = catalog_rows(catalog(said, {"base_url": "http://own/v1"}), AGREED_S)

    full, bare = rows
    assert full["missing"] == []
    assert full["zone"] == {"value": "local", "source": "declared"}
    assert full["max_data_class"] == {"value": "restricted", "source": "declared"}
    assert full["prices"]["source"] == "declared"
    assert full["prices"]["value"]["input_usd_per_mtok"] == 1
    assert full["prices"]["next"] == [{"from": "2999-01-01", "usd_per_hour": 2.0}]
    assert full["maintenance"]["value"][0]["days"] == ["sun"]
    assert bare["missing"] == [
        "prices",
        "context_tokens",
        "zone",
        "jurisdiction",
        "retention_days",
    ]
    assert bare["max_data_class"] == {"value": "internal", "source": "default"}
    assert bare["prices"] == {"value": None, "source": None, "next": []}


def test_the_catalog_reads_as_a_paragraph_an_endpoint() -> None:
    flex = {"flex": {**PRICES, "output_usd_per_mtok": 1}}
    more = {**PRICES, "cached_input_usd_per_mtok": 0.5, "tiers": flex}
    listed = catalog(
        {"prices": more, "zone": "local", "provider": "p"},
        {"billing": "subscription", "base_url": "http://own/v1", "upstream_model": "m2"},
        providers={"p": {}},
    )

    assert catalog_lines(catalog_rows(listed, AGREED_S)) == [
        "e0: m at p\n"
        "  speaks chat (default)\n"
        "  zone local; up to internal (default) data\n"
        "  1 in, 2 out, 0.5 cached USD a million tokens; flex: 1 in, 1 out USD a million tokens\n"
        "  not known: context_tokens, jurisdiction, retention_days",
        "e1: m as m2 at own\n"
        "  speaks chat (default)\n"
        "  up to internal (default) data\n"
        "  paid by subscription: a call costs nothing more while something is left of it\n"
        "  not known: prices, context_tokens, zone, jurisdiction, retention_days",
    ]


def test_what_has_lapsed_is_not_shown_as_declared() -> None:
    agreed = {"zone": "z", "max_data_class": "restricted", "agreement": {"until": "2026-12-24"}}
    before, after = (catalog_rows(catalog(agreed), at_s)[0] for at_s in (AGREED_S, LAPSED_S))

    assert before["max_data_class"] == {"value": "restricted", "source": "declared"}
    assert after["max_data_class"] == {"value": "internal", "source": "default"}
    assert (before["zone"]["value"], after["zone"]["value"]) == ("z", None)
    assert "zone" in after["missing"]


def test_a_report_tells_of_agreements_published_prices_and_availability(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    openai = {"id": "o", "model": "gpt-4o", "base_url": "https://api.openai.com/v1"}
    vault = endpoint(provider, "vault", agreement={"until": "2020-01-01"})
    file = state_dir / "pointsman.yaml"
    with serving({"endpoints": [openai, vault]}, state_dir, address, file=file) as sidecar:
        digest = f"{sidecar.digest('vault'):016x}"
        with closing(connect(address)) as client:
            counted = {"endpoint": digest, "asked": 4, "answered": 3, "share": 0.75}
            client.set(keys.AVAILABILITY, json.dumps({"at_ms": 1, "endpoints": [counted]}))
        rows = sidecar.http.get("/v1/router/endpoints").json()["endpoints"]
        url = {"REDIS_URL": address.url}
        said = pointsman("report", "--all", "--config", file, environment=url).stdout
        found = json.loads(pointsman("report", "--json", "--config", file, environment=url).stdout)

    assert "the agreement of vault ended on 2020-01-01" in said
    assert "costs at published prices, by default: o" in said
    assert "answered in 30 days: vault 75.000% of 4" in said
    assert found["availability"] == [{**counted, "endpoint": "vault"}]
    assert [row["prices"]["source"] for row in rows] == ["default", "declared"]
    assert rows[1]["terms"]["agreed_until"] == "2020-01-01"
    assert rows[1]["in_maintenance"] is False


# -- availability -------------------------------------------------------------------------------


def record(
    n: int, result: Result, *, endpoint: int = 7, at_ms: int = 1000, flags: int = 0
) -> bytes:
    nonce = n.to_bytes(16, "big")
    token = Token(1, 0, 0, nonce, at_ms, 1, endpoint, endpoint, 4, 5, 6, 7, 0.5, 0.5, 0.1)
    return events.outcome(token.pack(), result=result, attempt=1, status=200, flags=flags)


def test_availability_is_the_share_of_attempts_that_found_the_endpoint_there() -> None:
    there = [Result.OK] * 6 + [Result.CLIENT_ERROR]
    away = [Result.SERVER, Result.TIMEOUT, Result.CONNECT]
    neither = [Result.CLIENT_GONE, Result.OVERTAKEN, Result.RATE_LIMIT, Result.REFUSED]
    said = [record(n, result) for n, result in enumerate([*there, *away, *neither])]
    said += [record(90, Result.SERVER, at_ms=10), record(91, Result.CUT, flags=int(Flag.INGESTED))]
    said += [record(92, Result.RATE_LIMIT, endpoint=8)]
    records, _ = decoding.decode(b"".join(said))

    found = count_answers([records[:5], records[5:]], since_ms=1000)

    assert [one.as_json() for one in found] == [
        {"endpoint": f"{7:016x}", "asked": 10, "answered": 7, "share": 0.7}
    ]
    assert count_answers([records[:0]], since_ms=0) == []


def test_availability_is_shown_of_endpoints_that_are_listed_the_least_first() -> None:
    listed = catalog({}, {})
    counted = [
        {"endpoint": f"{e.digest:016x}", "asked": 1000, "answered": n, "share": n / 1000}
        for e, n in zip(listed.endpoints, (999, 950), strict=True)
    ]
    gone = {"endpoint": "0" * 16, "asked": 1, "answered": 0, "share": 0.0}

    rows = availability_rows({"endpoints": [*counted, gone]}, listed)

    assert availability_lines(rows) == [
        "answered in 30 days: e1 95.000% of 1,000; e0 99.900% of 1,000"
    ]
    assert availability_rows(None, listed) == []
    assert availability_lines([]) == []
