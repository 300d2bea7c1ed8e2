"""A store that would not hold everything keeps events, rows and budgets, and says what goes."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import Server, servers
from hypothesis import given
from hypothesis import strategies as st
from test_workers_archive import outcome
from test_young import YoungLife, check, referee, told

from telemetry import keys, stored_ids
from telemetry.digests import digest16
from telemetry.embedded import PrivateServer
from telemetry.memory import MB, TO_SET, MemoryKind, MemoryUse, max_mb_of
from telemetry.trouble import trouble_of
from telemetry.young import HOUR_MS, SPAN_MS
from workers.archive.archive import SHORT_S, Archive
from workers.folding.budget import DOWN_TO, REST_MS, Measured, MemoryBudget, weigh
from workers.folding.measuring import shares
from workers.folding.memory import StoreMemory
from workers.folding.trimming import MOST_UNARCHIVED_BYTES, most_unarchived

NOW_MS = 1_900_000_000_000 // SPAN_MS * SPAN_MS


def measured(used_mb: float, full_mb: float, *young_mb: float, at_ms: int = NOW_MS) -> Measured:
    """What is young, the newest span last."""
    now = at_ms // SPAN_MS
    young = {now - i: int(n * MB) for i, n in enumerate(reversed(young_mb))}
    return Measured(at_ms, int(used_mb * MB), 0, int(full_mb * MB), young)


# -- what goes ----------------------------------------------------------------------------------


def test_without_a_limit_everything_is_as_configured() -> None:
    assert weigh(
        MemoryBudget(3, False), measured(900, 0, 1, 1), configured_hours=24
    ) == MemoryBudget(24, True, NOW_MS)


def test_what_fits_changes_nothing() -> None:
    before = MemoryBudget(24, True, 5)

    assert weigh(before, measured(199, 200, *[15.0] * 13), configured_hours=24) is before


def test_as_many_hours_stay_young_as_leave_a_tenth_of_the_memory() -> None:
    found = weigh(MemoryBudget(24), measured(210, 200, *[15.0] * 13), configured_hours=24)

    # Of thirteen spans two have to go: the eleven that are left begin 20 hours ago.
    assert found == MemoryBudget(20, True, NOW_MS)
    left = measured(210, 200, *[15.0] * 13).left_bytes(20)
    assert left <= DOWN_TO * 200 * MB < left + 15 * MB


def test_what_is_on_its_way_out_is_not_thrown_out_twice() -> None:
    before = MemoryBudget(20, True, 5)

    assert weigh(before, measured(210, 200, *[15.0] * 13), configured_hours=24) is before


def test_where_nothing_young_is_left_to_go_draws_stay_in_the_processes() -> None:
    found = weigh(MemoryBudget(24), measured(900, 200, *[15.0] * 13), configured_hours=24)

    assert found == MemoryBudget(2, True, NOW_MS), "what is young goes first"
    later = weigh(found, measured(725, 200, 15, at_ms=NOW_MS + 10_000), configured_hours=24)
    assert not later.keeps_draws
    again = weigh(later, measured(170, 200, 15), configured_hours=24)
    assert again.keeps_draws


def test_ids_of_responses_are_the_last_to_stay_in_the_processes() -> None:
    hour, day = 3_600_000, 24 * 3_600_000

    def later(before: MemoryBudget, used_mb: float, after_ms: int) -> MemoryBudget:
        at_ms = before.changed_at_ms + after_ms
        return weigh(before, measured(used_mb, 200, 0.0, at_ms=at_ms), configured_hours=24)

    without = later(MemoryBudget(1, True, NOW_MS), 205, hour)
    assert (without.keeps_draws, without.keeps_ids) == (False, True)
    assert later(without, 205, day - 1) is without, "draws end within a day"
    last = later(without, 205, day)
    assert not last.keeps_ids
    assert not later(last, 190, hour).keeps_ids
    back = later(last, 180, hour)
    assert (back.keeps_draws, back.keeps_ids) == (True, True)


def test_memory_that_others_take_costs_nothing_that_would_not_help() -> None:
    found = weigh(MemoryBudget(24), measured(230, 200, *[0.0] * 13), configured_hours=24)

    assert (found.young_hours, found.keeps_draws) == (24, False)


def test_records_that_wait_for_a_file_make_nothing_old() -> None:
    young = {NOW_MS // SPAN_MS - i: 10 * MB for i in range(13)}
    burst = Measured(NOW_MS, 300 * MB, 150 * MB, 200 * MB, young)

    assert weigh(MemoryBudget(24), burst, configured_hours=24) == MemoryBudget(24)


def test_a_clock_that_was_ahead_does_not_keep_hours_short() -> None:
    ahead = MemoryBudget(2, True, NOW_MS + 10 * REST_MS)

    assert weigh(ahead, measured(5, 200), configured_hours=24).young_hours == 24


def test_what_cannot_go_for_want_of_an_archive_costs_the_draws() -> None:
    found = weigh(MemoryBudget(2), measured(230, 200, *[15.0] * 13), configured_hours=24)

    assert (found.young_hours, found.keeps_draws) == (2, False)


def test_hours_come_back_where_they_would_fit_and_no_more_often_than_each_hour() -> None:
    fits = measured(100, 200, *[10.0] * 4)

    assert (
        weigh(MemoryBudget(6, True, NOW_MS - REST_MS), fits, configured_hours=24).young_hours == 18
    )
    assert (
        weigh(MemoryBudget(6, True, NOW_MS - REST_MS + 1), fits, configured_hours=24).young_hours
        == 6
    )
    idle = measured(5, 200)
    assert weigh(MemoryBudget(6), idle, configured_hours=24).young_hours == 24


@given(
    hours=st.integers(1, 48),
    used=st.integers(1, 500),
    young=st.lists(st.integers(0, 40), max_size=20),
)
def test_a_look_at_the_same_store_changes_nothing_after_the_second(
    hours: int, used: int, young: list[int]
) -> None:
    seen = measured(used, 200, *map(float, young))
    found = weigh(MemoryBudget(hours), seen, configured_hours=24)

    assert 1 <= found.young_hours <= 24
    second = weigh(found, seen, configured_hours=24)
    assert second.young_hours == found.young_hours
    assert weigh(second, seen, configured_hours=24) == second


def test_traffic_of_any_rate_settles_within_its_budget() -> None:
    """Whatever comes in an hour: the store stays within its limit, and hours do not swing."""
    for mb_an_hour in (2, 7, 30, 90):
        budget, spans, changes = MemoryBudget(24), dict[int, float](), 0
        for minute in range(0, 5 * 24 * 60, 10):
            at_ms = NOW_MS + minute * 60_000
            spans[at_ms // SPAN_MS] = spans.get(at_ms // SPAN_MS, 0.0) + mb_an_hour / 6
            kept_ms = at_ms - budget.young_hours * HOUR_MS
            spans = {span: n for span, n in spans.items() if (span + 1) * SPAN_MS > kept_ms}
            young = {span: int(n * MB) for span, n in spans.items()}
            used = sum(young.values()) + 30 * MB
            after = weigh(budget, Measured(at_ms, used, 0, 226 * MB, young), configured_hours=24)
            changes += after != budget
            budget = after
            assert used <= (226 + max(mb_an_hour / 6, 0) + 0.1) * MB or mb_an_hour >= 90
        assert changes <= 120, mb_an_hour  # of 5 days, one an hour


# -- what takes how much ------------------------------------------------------------------------


def test_what_ids_of_responses_take_is_told_from_draws(store: PrivateServer, client: Any) -> None:
    client.execute_command(*stored_ids.look_up(bytes(16)))  # the script itself
    client.execute_command(*stored_ids.note(bytes(16), bytes(8), ttl_ms=1000))
    before = int(client.info("memory")["used_memory"])
    pipeline = client.pipeline(transaction=False)
    for i in range(60_000):
        key = stored_ids.key_of("app", "responses", f"resp_{i}")
        command = stored_ids.note(key, (i % 9).to_bytes(8), ttl_ms=stored_ids.KEPT_S * 1000)
        pipeline.execute_command(*command)
        if len(pipeline) == 1000:
            pipeline.execute()
    grew = int(client.info("memory")["used_memory"]) - before
    found = shares(client, 1, now_ms=NOW_MS)

    assert found.by_kind[MemoryKind.RESPONSES] == pytest.approx(grew, rel=0.35)
    assert found.by_kind[MemoryKind.DRAWS] == 0


def test_shares_are_those_by_which_memory_grew(
    store: PrivateServer, client: Any, state_dir: Path
) -> None:
    life = YoungLife(client, state_dir / "archive", hours=24)
    grew: dict[MemoryKind, int] = {}
    at_ms = life.now_ms

    def growth(kind: MemoryKind, *records: bytes) -> None:
        before = int(client.info("memory")["used_memory"])
        for start in range(0, len(records), 200):
            life.tell(*records[start : start + 200])
        client.xtrim(keys.stream(0), maxlen=0, approximate=False)
        grew[kind] = int(client.info("memory")["used_memory"]) - before

    life.tell(outcome(1, at_ms=at_ms))
    nonces = [secrets.randbits(128) for _ in range(20_000)]
    ids = [digest16("app", "response", str(nonce)) for nonce in nonces]
    called = [outcome(n, at_ms=at_ms, response=d) for n, d in zip(nonces, ids, strict=True)]
    growth(MemoryKind.REFERENCES, *called)
    growth(MemoryKind.LABELS, *(told(n, 1.0, at_ms, heard_ms=life.now_ms) for n in nonces))
    before = int(client.info("memory")["used_memory"])
    for _ in range(20_000):
        client.set(keys.draw(secrets.token_hex(16)), bytes(33), px=60_000)
    grew[MemoryKind.DRAWS] = int(client.info("memory")["used_memory"]) - before
    found = shares(client, 1, now_ms=life.now_ms)

    tolerance = {MemoryKind.REFERENCES: 0.2, MemoryKind.LABELS: 0.2, MemoryKind.DRAWS: 0.35}
    for kind, far in tolerance.items():
        assert found.by_kind[kind] == pytest.approx(grew[kind], rel=far), kind
    young = found.by_kind[MemoryKind.REFERENCES] + found.by_kind[MemoryKind.LABELS]
    assert sum(found.young.values()) == pytest.approx(young, abs=10)
    assert set(found.young) == {at_ms // SPAN_MS}


# -- a store of its own size --------------------------------------------------------------------


def test_a_store_beyond_its_budget_makes_old_earlier_and_loses_no_label(
    store: PrivateServer, client: Any, state_dir: Path
) -> None:
    """Young hours fall, hashes go once the archive has them, and rows are those of all records."""
    life = YoungLife(client, state_dir / "archive", hours=24)
    memory = StoreMemory(1, 24, max_mb=4)  # two of them are the empty server's
    hours = set()
    for n in range(1, 36_001):
        if n % 3600 == 1:
            life.now_ms += SPAN_MS
            at_ms = life.now_ms
        name = digest16("a", "response", str(n))
        records = [outcome(n, at_ms=at_ms, response=name), told(n, 1.0, at_ms, heard_ms=at_ms)]
        life.now_ms += 10
        life.send(*records, entry_id=f"{life.now_ms}-1")
        if n % 500 == 0:
            life.fold()
            life.take()
            assert memory.measure(client, now_ms=life.now_ms) is not None
            life.shard.young_hours = memory.young_hours(client)
            hours.add(life.shard.young_hours)
            life.prune()
    after = memory.measure(client, now_ms=life.now_ms)

    assert after is not None
    assert min(hours) < 24  # they may be as many again once there is room
    assert not after.is_full
    assert min(life.shard.young.spans) > (life.now_ms - 24 * HOUR_MS) // SPAN_MS
    check(life.archive, referee(life))


def test_every_worker_goes_by_what_was_written_down(client: Any) -> None:
    use = MemoryUse(1, 2, 3, is_hard=False, young_hours=6, configured_hours=24)
    client.set(keys.MEMORY, use.pack())

    assert StoreMemory(4, 24, 256).young_hours(client) == 6
    assert StoreMemory(4, 5, 256).young_hours(client) == 5
    written = json.loads(use.pack())
    for odd in (
        "what another version wrote",
        "",
        "null",
        "[1]",
        "[" * 100_000,
        json.dumps(written | {"young_hours": "6"}),
        json.dumps(written | {"young_hours": -50}),
        json.dumps(written | {"limit_bytes": "256"}),
        json.dumps(written | {"changed_at_ms": None}),
    ):
        client.set(keys.MEMORY, odd)
        assert StoreMemory(4, 24, 256).young_hours(client) == 24
        assert most_unarchived(client, 4) == MOST_UNARCHIVED_BYTES


def test_the_archive_takes_sooner_what_would_fill_the_store(client: Any, tmp_path: Path) -> None:
    archive = Archive(client, tmp_path, 4)

    assert most_unarchived(client, 4) == MOST_UNARCHIVED_BYTES
    use = MemoryUse(1, 100 * MB, 256 * MB, is_hard=False)
    client.set(keys.MEMORY, use.pack())
    assert most_unarchived(client, 4) == 64 * MB
    assert archive.limits(3600).every_bytes == 4 * MB
    assert archive.limits(3600).every_s == 3600
    client.set(keys.MEMORY, MemoryUse(1, 257 * MB, 256 * MB, is_hard=False).pack())
    assert archive.limits(3600).every_s == SHORT_S
    assert archive.limits(5).every_s == 5


# -- what is said -------------------------------------------------------------------------------


def test_a_private_server_has_a_budget_and_any_other_what_its_own_limit_says() -> None:
    assert max_mb_of(None, is_private=True) == 256
    assert max_mb_of(None, is_private=False) == 0
    assert max_mb_of(64, is_private=True) == max_mb_of(64, is_private=False) == 64


def test_from_four_fifths_on_it_is_said_what_takes_it_and_what_to_set() -> None:
    kinds = {"references": 150 * MB, "draws": 40 * MB, "rest": 1000}
    use = MemoryUse(1, 206 * MB, 256 * MB, False, kinds, young_hours=24, configured_hours=24)
    warned = use.warnings()

    assert warned == {
        "memory": "80% used: 206 of 256 MB (references 150, draws 40); "
        "set store.max_mb higher, or store.young_hours below 24"
    }
    assert MemoryUse(1, 204 * MB, 256 * MB, False, kinds).warnings() == {}


def test_what_went_is_said() -> None:
    use = MemoryUse(1, 1, 256 * MB, False, young_hours=6, configured_hours=24, keeps_draws=False)

    assert list(use.warnings()) == ["young", "draws"]
    assert list(replace(use, keeps_ids=False).warnings()) == ["young", "draws", "ids"]
    assert "young for 6 h, not 24" in use.warnings()["young"]


def test_a_full_store_of_the_users_own_is_said_with_the_same_words(tmp_path: Path) -> None:
    with servers(tmp_path) as start:
        server: Server = start(maxmemory="20mb", maxmemory_policy="noeviction")
        client = server.client
        for n in range(17):
            client.set(f"other:{n}", bytes(MB))
        use = StoreMemory(4, 24, 0).measure(client, now_ms=NOW_MS)
        assert use is not None
        assert use.is_hard
        assert use.bytes_by_kind["rest"] > 16 * MB
        assert "raise maxmemory" in use.warnings()["memory"]
        assert "raise maxmemory" in TO_SET
        client.config_set("maxmemory", "1mb")
        with pytest.raises(redis.ResponseError) as refused:
            client.set("other", b"")

    assert trouble_of(refused.value).fix == TO_SET


def test_a_server_that_evicts_is_told_of(tmp_path: Path) -> None:
    with servers(tmp_path) as start:
        server = start(maxmemory="50mb", maxmemory_policy="allkeys-lru")
        use = StoreMemory(4, 24, 0).measure(server.client, now_ms=NOW_MS)

    assert use is not None
    assert "allkeys-lru" in use.warnings()["policy"]


def test_a_server_that_says_nothing_of_its_memory_changes_nothing(tmp_path: Path) -> None:
    with servers(tmp_path) as start:
        server = start()
        server.client.acl_setuser("default", enabled=True, commands=["-info", "-memory"])
        assert StoreMemory(4, 24, 256).measure(server.client, now_ms=NOW_MS) is None
        server.client.acl_setuser("default", enabled=True, commands=["+info"])
        use = StoreMemory(4, 24, 256).measure(server.client, now_ms=NOW_MS)

    assert use is not None
    assert use.bytes_by_kind == {}
    assert use.limit_bytes == 256 * MB
