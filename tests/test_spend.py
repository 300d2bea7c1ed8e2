"""`pointsman spend` and `GET /v1/router/ledger`: what they say of a store's ledger, and to whom."""

from __future__ import annotations

import csv
import io
import json
import socket
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
import yaml
from conftest import SHARDS, Provider, Sidecar, endpoint, pointsman, serving
from rich.cells import cell_len
from test_ledger_reading import CALLS, PRICES, TAGS, USERS, write_block, write_loose

from router.decision.units import user_hash
from router.endpoints.catalog import Catalog
from router.errors import RequestRejected
from router.report.ledger import LedgerAnswer, LedgerRow
from router.report.ledger_table import harmless, table_lines, usd
from router.report.ledger_wish import read_wish, wish_in
from router.report.price_truth import KIND
from telemetry import keys
from telemetry.digests import digest8
from telemetry.ledger_questions import ASKABLE
from telemetry.ledger_rows import (
    DAY_MS,
    HOUR_MS,
    KEYS,
    N_LEDGER_COLUMNS,
    LedgerColumn,
    LedgerRows,
    LedgerTable,
)
from telemetry.store import Address, connect
from workers.folding.learner import Learner

C = LedgerColumn
NOW_S = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
SECRET = b"s" * 32
HOUR = int(time.time() * 1000) // HOUR_MS - 1
DAY = HOUR // 24
WEB, LAB = digest8("app", "web"), digest8("app", "lab")
CODE = digest8("task", "code")
TAG = digest8("tag of", "client=acme")
KEYS_OF = {"web": "key-of-web-0123456789", "lab": "key-of-lab-0123456789"}
ADMIN = "key-of-admin-0123456789"


def value_of(provider: Provider) -> dict[str, Any]:
    """Two apps with keys, two endpoints: one with prices, one without."""
    free = endpoint(provider, "free")
    del free["prices"]
    return {
        "endpoints": [endpoint(provider, "paid"), free],
        "tasks": {"code": None},
        "users": {"ada": {}},
        "apps": {name: {"keys": [{"env": f"KEY_OF_{name}".upper()}]} for name in KEYS_OF},
        "server": {"admin_key": {"env": "KEY_OF_ADMIN"}},
    }


@pytest.fixture
def config(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> Path:
    for name, key in {**KEYS_OF, "admin": ADMIN}.items():
        monkeypatch.setenv(f"KEY_OF_{name.upper()}", key)
    monkeypatch.setenv("REDIS_URL", address.url)
    value = {**value_of(provider), "store": {"shards": SHARDS}}
    value["server"] = {**value["server"], "state_dir": str(state_dir)}
    path = state_dir / "pointsman.yaml"
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return path


def digests(provider: Provider) -> dict[str, int]:
    return {e.id: e.digest for e in catalog_of(provider).endpoints}


def catalog_of(provider: Provider) -> Catalog:
    from router.config.compiled import compile_text

    text = yaml.safe_dump({k: v for k, v in value_of(provider).items() if k == "endpoints"})
    return compile_text(text, file="test.yaml", secrets=False).catalog


def row(table: LedgerTable, span: int, names: dict[str, int], **sums: int) -> LedgerRows:
    found = np.zeros(1, dtype=KEYS[table])
    for name, digest in names.items():
        found[name] = digest
    values = np.zeros((1, N_LEDGER_COLUMNS), dtype=np.int64)
    for name, n in {"calls": 1, "attempts": 1, **sums}.items():
        values[0, C[name.upper()]] = n
    return LedgerRows(np.array([span]), found, values)


def fill(address: Address, provider: Provider, *, n_reported: int = 0) -> None:
    """Yesterday's calls of both apps, in either layout; user ada, one without a name, and a tag."""
    ids = digests(provider)
    paid = {"app": WEB, "task": CODE, "endpoint": ids["paid"], "strategy": digest8("strategy", "x")}
    ada = int.from_bytes(user_hash(SECRET, "web", "ada"), "little")
    with closing(connect(address)) as client:
        client.set(keys.SECRET, SECRET)
        client.hset(keys.META, "shards", SHARDS)
        client.hset(keys.TAG_NAMES, f"{TAG:016x}", "client=acme")
        client.hset(keys.NAMES, f"{digest8('strategy', 'x'):016x}", "x")
        client.hset(keys.meta(0), "ledger", b"%d-0" % (HOUR * HOUR_MS))
        booked = {"calls": 4, "attempts": 5, "cost": 3_000_000_007, "cost_estimated": 1_000_000_000}
        tokens = {"tokens_in": 100, "tokens_cached": 25, "tokens_out": 50, "estimated": 1}
        write_loose(client, 0, CALLS, row(CALLS, HOUR, paid, **booked, **tokens))
        billed = {"n_reported": n_reported, "reported": 1_100_000_000}
        billed["reported_by_price"] = 1_000_000_000
        prices = catalog_of(provider).by_id["paid"].prices
        assert prices is not None
        entry = {"endpoint": ids["paid"], "price": prices.tariffs[0].mark}
        write_loose(client, 0, PRICES, row(PRICES, DAY, entry, **billed))
        free = {"app": LAB, "endpoint": ids["free"]}
        write_block(client, 1, CALLS, row(CALLS, HOUR, free, calls=2, attempts=2, unpriced=2))
        for name, cost in ((ada, 2_000_000_000), (0xABCD, 1_000_000_000)):
            write_loose(client, 0, USERS, row(USERS, DAY, {"app": WEB, "name": name}, cost=cost))
        write_loose(client, 0, TAGS, row(TAGS, DAY, {"app": WEB, "name": TAG}, cost=5))


# -- the verb -----------------------------------------------------------------------------------


def test_a_table_says_what_was_spent_and_what_is_not_known(
    config: Path, provider: Provider, address: Address
) -> None:
    fill(address, provider)

    done = pointsman("spend", "--by", "app,endpoint", "--config", config)

    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    table = [line.split() for line in lines if line.startswith(("web", "lab", "all"))]
    assert table == [
        ["web", "paid", "4", "3.0000", "0", "750.00", "33%", "25%"],
        ["lab", "free", "2", "unknown", "2", "-", "-", "-"],
        ["all", "6", "3.0000+", "2", "500.00+", "33%", "25%"],
    ]
    assert "the ledger runs since" in done.stdout
    assert "unpriced: 2 of 7 attempts" in done.stdout


def test_csv_has_nine_decimals_and_no_formula(
    config: Path, provider: Provider, address: Address
) -> None:
    fill(address, provider)
    with closing(connect(address)) as client:
        client.hset(keys.TAG_NAMES, f"{TAG:016x}", "=HYPERLINK(1)")

    done = pointsman("spend", "--by", "task,day", "--csv", "--config", config)
    tags = pointsman("spend", "--by", "tag", "--csv", "--app", "web", "--config", config)

    day = datetime.fromtimestamp(HOUR * 3600, UTC).date().isoformat()
    found = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(r["task"], r["day"], r["cost_usd"], r["unpriced"]) for r in found] == [
        ("code", day, "3.000000007", "0"),
        ("", day, "", "2"),
    ]
    assert found[0]["estimated_usd"] == "1.000000000"
    named = [r["tag"] for r in csv.DictReader(io.StringIO(tags.stdout))]
    assert named == ["(unnamed)", "'=HYPERLINK(1)"]


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@x", " =1", "\t=1", "\r1"])
def test_a_cell_that_begins_like_a_formula_is_text(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"
    assert harmless("client=acme") == "client=acme"


def test_users_go_by_their_names_or_a_hash_and_one_is_found_by_name(
    config: Path, provider: Provider, address: Address
) -> None:
    fill(address, provider)

    whole = json.loads(pointsman("spend", "--by", "user", "--json", "--config", config).stdout)
    hers = pointsman("spend", "--user", "ada", "--json", "--config", config)
    tagged = pointsman("spend", "--tag", "client=acme", "--json", "--config", config)

    found = [(r["user"], r.get("rest"), r["cost_nano_usd"]) for r in whole["rows"]]
    hash_of_it = (0xABCD).to_bytes(8, "little").hex()
    assert found == [
        ("ada", None, 2_000_000_000),
        (hash_of_it, None, 1_000_000_000),
        (None, "unnamed", 7),
    ]
    assert whole["total"]["cost_nano_usd"] == 3_000_000_007
    assert json.loads(hers.stdout)["total"]["cost_nano_usd"] == 2_000_000_000
    assert json.loads(tagged.stdout)["rows"][0]["app"] == "web"


@pytest.mark.parametrize("as_json", [False, True])
def test_without_a_ledger_it_says_how_to_begin(config: Path, tmp_path: Path, as_json: bool) -> None:
    how = ["--json"] if as_json else []
    for file, said in ((config, "nothing is in the ledger"), (tmp_path / "x.yaml", "no config")):
        done = pointsman("spend", "--config", file, *how)

        assert done.exit_code == 1
        if as_json:
            found = json.loads(done.stdout)
            assert found["rows"] == []
            assert said in found["missing"][0]
        else:
            assert said in done.output
            assert "pointsman" in done.output


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--by", "colour"], "--by: 'colour': known: app, role"),
        (["--since", "soon"], "--since: 'soon': write a day"),
        (["--month", "2026-13"], "--month: '2026-13'"),
        (["--zone", "../etc"], "--zone: '../etc'"),
        (["--app", "wep"], "--app: 'wep': no such app; known: web, lab"),
        (["--user", "ada", "--by", "task"], "--by: 'task' is not kept by user"),
        (["--csv", "--json"], "--csv and --json"),
        (["--tag", "a=b"], "--tag: 'a=b'"),
        (["--user", "eve"], "--user: 'eve': no such user spent anything"),
        (
            ["--since", "2026-11-30", "--until", "2026-11-01"],
            "the period is empty: its begin, 2026-11-30T00:00:00+00:00, is not before its end",
        ),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_what_cannot_be_meant_ends_in_2(
    config: Path, provider: Provider, address: Address, given: list[str], said: str
) -> None:
    fill(address, provider)

    done = pointsman("spend", *given, "--config", config)

    assert done.exit_code == 2, done.output
    assert said in done.output
    assert done.stdout == ""


def test_a_user_who_spent_nothing_of_late_is_no_stranger(
    config: Path, provider: Provider, address: Address
) -> None:
    """Whoever is configured is known, and whoever ever had a row."""
    fill(address, provider)
    of_old = ["--month", "2020-01", "--config", config]
    hash_of_it = (0xABCD).to_bytes(8, "little").hex()

    for name in ("ada", hash_of_it):
        done = pointsman("spend", "--user", name, *of_old)
        assert (done.exit_code, "nothing was spent" in done.stdout) == (0, True)
    assert pointsman("spend", "--user", "f" * 16, *of_old).exit_code == 2


def test_alarms_of_one_app_are_on_endpoints_that_it_called(
    config: Path, provider: Provider, state_dir: Path, address: Address
) -> None:
    fill(address, provider, n_reported=200)

    def alarms(*of: str) -> list[str]:
        done = pointsman("spend", "--json", *of, "--config", config)
        return [one["endpoint"] for one in json.loads(done.stdout)["alarms"]]

    assert (alarms("--app", "web"), alarms("--app", "lab"), alarms()) == (["paid"], [], ["paid"])
    with serving(value_of(provider), state_dir, address) as sidecar:
        headers = {"authorization": f"Bearer {ADMIN}"}
        got = sidecar.http.get("/v1/router/ledger", params={"app": "lab"}, headers=headers)
        assert got.json()["alarms"] == []


def test_a_broken_configuration_is_told_as_an_object_as_well(config: Path) -> None:
    config.write_text("endpoints: nothing\n")

    done = pointsman("spend", "--json", "--config", config)

    assert done.exit_code == 2
    found = json.loads(done.stdout)
    assert found["rows"] == []
    assert "endpoints" in found["missing"][0]


def test_a_store_that_is_frozen_is_told_of_within_ten_seconds(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        done = pointsman("spend", "--config", config)

    assert time.monotonic() - began < 10
    assert done.exit_code == 1
    assert done.output.count("no store:") == 1


def test_the_help_names_all_that_one_may_ask_by() -> None:
    said = pointsman("spend", "--help").stdout
    assert all(name.value in said for name in ASKABLE)


def test_a_long_table_has_forty_lines_and_the_rest_is_one() -> None:
    wish = read_wish({"by": "app,task,role,user"}, now_s=NOW_S)
    found = []
    for n in range(300):
        sums = np.zeros(N_LEDGER_COLUMNS, dtype=np.int64)
        sums[C.COST], sums[C.CALLS], sums[C.UNPRICED] = n * 10**15, n * 10**6, 1
        sums[C.ESTIMATED] = sums[C.TOKENS_IN] = sums[C.COST_BY_KNOWN_PRICES] = n
        found.append(LedgerRow((f"app {n} " * 9, "漢" * 70, "ä\x1b[1m" * 9, None), "others", sums))

    lines = table_lines(LedgerAnswer(wish, found, first_ms=0, alarms=[{"text": "x " * 99}] * 9))

    assert len(lines) == 40
    assert max(map(cell_len, lines)) <= 80
    shown = sum(line.startswith("app 2") for line in lines)
    (others,) = (line for line in lines if line.startswith("others"))
    assert f"others ({300 - shown} rows)" in others
    assert "\x1b" not in "".join(lines)


def test_nano_dollars_are_written_out() -> None:
    assert usd(1) == "0.000000001"
    assert usd(2**62) == "4611686018.427387904"


# -- over HTTP ----------------------------------------------------------------------------------


def test_an_app_sees_its_own_rows_and_the_admin_all(
    config: Path, provider: Provider, state_dir: Path, address: Address
) -> None:
    fill(address, provider, n_reported=200)
    with serving(value_of(provider), state_dir, address) as sidecar:

        def ask(key: str, **params: str) -> Any:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            return sidecar.http.get("/v1/router/ledger", params=params, headers=headers)

        everything = ask(ADMIN, by="app").json()
        own = ask(KEYS_OF["lab"], by="app").json()
        others = ask(KEYS_OF["lab"], app="web")
        nobody = ask("")
        bad = ask(ADMIN, by="app", colour="red")
        limited = ask(ADMIN, by="app", limit="1").json()

    assert [r["app"] for r in everything["rows"]] == ["web", "lab"]
    assert everything["rows"][1]["cost_usd"] is None
    assert everything["total"]["cost_is_whole"] is False
    assert len(everything["alarms"]) == 1
    assert [r["app"] for r in own["rows"]] == ["lab"]
    assert own["alarms"] == []
    assert (others.status_code, nobody.status_code, bad.status_code) == (400, 401, 400)
    assert "'web'" in others.json()["error"]["message"]
    assert "'colour'" in bad.json()["error"]["message"]
    assert limited["rest"]["n_rows"] == 1
    assert limited["total"] == everything["total"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (b"by=app,app", "by"),
        (b"by=app,role,task,model,endpoint", "by"),
        (b"by=hour,day", "by"),
        (b"since=2026-11-02&until=2026-11-01", "since"),
        (b"since=1776-07-04", "since"),
        (b"until=9999-12-31", "until"),
        (b"month=2026-11&since=2026-11-01", "since"),
        (b"zone=Middle/Earth", "zone"),
        (b"app=", "app"),
        (b"app=a&app=b", "app"),
        (b"user=" + b"x" * 301, "user"),
        (b"limit=0", "limit"),
        (b"limit=1e3", "limit"),
        (b"x" * 3001, None),
        (b"app=%0a", "app"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_field(query: bytes, field: str | None) -> None:
    with pytest.raises(RequestRejected) as refused:
        wish_in(query, now_s=NOW_S)
    assert refused.value.param == field
    assert refused.value.status == 400


def test_a_period_is_read_in_its_zone() -> None:
    berlin = wish_in(b"month=2026-11&zone=Europe/Berlin", now_s=NOW_S)
    at = wish_in(b"since=2026-11-30T10:00+01:00&until=2026-12-01", now_s=NOW_S)
    usual = wish_in(b"", now_s=NOW_S)

    assert berlin.since_ms == datetime(2026, 10, 31, 23, tzinfo=UTC).timestamp() * 1000
    assert berlin.until_ms == datetime(2026, 11, 30, 23, tzinfo=UTC).timestamp() * 1000
    assert at.since_ms == datetime(2026, 11, 30, 9, tzinfo=UTC).timestamp() * 1000
    assert usual.until_ms - usual.since_ms == 30 * DAY_MS
    assert usual.until_ms == datetime(2026, 12, 1, tzinfo=UTC).timestamp() * 1000


def test_a_call_is_in_the_ledger_by_its_names_to_the_nano_dollar(
    sidecar: Sidecar, learner: Learner
) -> None:
    """Ten tokens in at one USD a million, five out at two."""
    got = sidecar.chat(headers={"x-router-user": "ada", "x-router-task": "code"})

    def rows(by: str) -> list[dict[str, Any]]:
        found = sidecar.http.get("/v1/router/ledger", params={"by": by}).json()["rows"]
        assert isinstance(found, list)
        return found

    sidecar.until(lambda: bool(rows("app")))
    (one,) = rows("task,strategy,endpoint,model")
    (hers,) = rows("app,user,day")
    by = got.headers["x-router-endpoint"]
    assert [one[name] for name in ("task", "strategy", "endpoint", "model")] == [
        *("code", "learn", by, by)
    ]
    assert (one["cost_nano_usd"], one["calls"], one["tokens_in"]) == (20_000, 1, 10)
    assert (hers["app"], len(hers["user"]), hers["cost_nano_usd"]) == ("default", 16, 20_000)


# -- what providers say -------------------------------------------------------------------------


def test_a_price_that_its_provider_does_not_bill_is_told_with_its_line(
    config: Path, provider: Provider, address: Address
) -> None:
    fill(address, provider, n_reported=100)
    line = next(
        n for n, text in enumerate(config.read_text().splitlines(), 1) if text == "  prices:"
    )

    spent = pointsman("spend", "--json", "--config", config)
    reported = pointsman("report", "--config", config)
    (alarm,) = json.loads(spent.stdout)["alarms"]

    assert (alarm["endpoint"], alarm["attempts"]) == ("paid", 100)
    assert (alarm["reported_usd"], alarm["by_price_usd"]) == (1.1, 1.0)
    assert f"(line {line})" in alarm["entry"]
    assert "10.0% more" in alarm["text"]
    assert "paid: its provider reports 10.0% more" in " ".join(reported.stdout.split())


@pytest.mark.parametrize("n_reported", [0, 99])
def test_fewer_than_a_hundred_say_nothing_of_a_price(
    config: Path, provider: Provider, address: Address, n_reported: int
) -> None:
    fill(address, provider, n_reported=n_reported)

    spent = pointsman("spend", "--json", "--config", config)

    assert json.loads(spent.stdout)["alarms"] == []


def test_a_price_in_doubt_is_in_the_log_once_for_all_routers(
    config: Path, provider: Provider, state_dir: Path, address: Address
) -> None:
    fill(address, provider, n_reported=100)
    with structlog.testing.capture_logs() as logged:
        for name in ("one", "other"):
            with serving(value_of(provider), state_dir / name, address) as sidecar:
                sidecar.app.ledger.look()
                sidecar.app.ledger.look()

    told = [one for one in logged if one["event"] == "a provider bills another price"]
    assert [one["endpoint"] for one in told] == ["paid"]
    with closing(connect(address)) as client:
        ((_, entry),) = client.xrange(keys.ALARMS)
    assert json.loads(entry[b"alarm"])["kind"] == KIND
