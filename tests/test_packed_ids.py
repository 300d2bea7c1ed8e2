"""Ids of what lies at providers, packed in the store: found, told apart, and small."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from telemetry import keys, stored_ids
from telemetry.embedded import PrivateServer
from telemetry.store import SCHEMA, Address, prepare

NUMBERS = itertools.count()
OLD = json.loads((Path(__file__).parent / "data" / "store_of_schema_5.json").read_text())
DAY_S = stored_ids.SPAN_S


@pytest.fixture
def old_store(store: PrivateServer, address: Address, client: Any) -> int:
    """What the last version of schema 5 wrote, its days moved to now; return by how many days."""
    later = int(client.time()[0]) // DAY_S - OLD["made_on_day"]
    client.hset(keys.META, "schema", OLD["schema"])

    def moved(text: str, pattern: str) -> str:
        return re.sub(pattern, lambda found: str(int(found[0]) + later), text)

    for name, fields in OLD["hashes"].items():
        values = {bytes.fromhex(field): bytes.fromhex(value) for field, value in fields.items()}
        if b"spans" in values:
            values[b"spans"] = moved(values[b"spans"].decode(), r"\d+(?=:)").encode()
            values[b"span"] = str(int(values[b"span"]) + later).encode()
            values[b"since"] = str(int(values[b"since"]) + later * DAY_S).encode()
        client.hset(moved(name, r"(?<=}:)\d+"), mapping=values)
    return later


def look_up(client: Any, app: str, kind: str, id_: str) -> Any:
    return client.execute_command(*stored_ids.look_up(stored_ids.key_of(app, kind, id_)))


def noted(client: Any, app: str, kind: str, id_: str, maker: int, days: int = 30) -> Any:
    key = stored_ids.key_of(app, kind, id_)
    raw = maker.to_bytes(8, "little")
    return client.execute_command(*stored_ids.note(key, raw, ttl_ms=days * DAY_S * 1000))


@pytest.mark.usefixtures("old_store")
def test_what_schema_5_noted_is_found_beside_what_is_noted_now(client: Any) -> None:
    prepare(client, shards=4)
    assert client.hget(keys.META, "schema") == SCHEMA.encode()
    for again in (False, True):
        for app, kind, id_, maker, _ in OLD["told"]:
            assert look_up(client, app, kind, id_) == maker.to_bytes(8, "little")
            assert look_up(client, f"{app}-other", kind, id_) is None
            noted(client, app, kind, f"new {id_}", maker + 1)
            assert look_up(client, app, kind, f"new {id_}") == (maker + 1).to_bytes(8, "little")
            if not again:
                noted(client, app, kind, id_, 7)  # what was noted first holds


@pytest.mark.usefixtures("old_store")
def test_what_schema_5_wrote_down_of_its_days_goes_once_they_are_over(client: Any) -> None:
    for app, kind, id_, maker, _ in OLD["told"]:
        noted(client, app, kind, f"new {id_}", maker, days=61)
    groups = [keys.stored_ids(group) for group in range(stored_ids.GROUPS)]
    seen = [client.hkeys(group) for group in groups if client.hexists(group, "day")]

    assert seen
    assert not any(name in known for known in seen for name in (b"spans", b"span", b"parts"))


def test_each_of_many_ids_is_found_with_whoever_made_it(
    store: PrivateServer, address: Address, client: Any
) -> None:
    """Over generations and days, of 200 makers."""
    makers = {f"r{i}": 2**63 + i % 200 for i in range(30_000)}
    for day in (30, 31):
        pipeline = client.pipeline(transaction=False)
        for id_, maker in makers.items():
            key = stored_ids.key_of("app", "responses", f"{day} {id_}")
            raw = maker.to_bytes(8, "little")
            pipeline.execute_command(*stored_ids.note(key, raw, ttl_ms=day * DAY_S * 1000))
        assert pipeline.execute() == [maker.to_bytes(8, "little") for maker in makers.values()]
    for day in (30, 31):
        for id_, maker in list(makers.items())[::97]:
            found = look_up(client, "app", "responses", f"{day} {id_}")
            assert found == maker.to_bytes(8, "little")
            assert look_up(client, "app", "conversations", f"{day} {id_}") is None
    days = client.hget(keys.stored_ids(0), "days").split()
    assert len(days) > 2, "the first day began with too few parts"
    assert len({one.partition(b":")[0] for one in days}) == 2


def test_beyond_as_many_makers_as_a_day_has_numbers_an_id_is_not_kept(
    store: PrivateServer, address: Address, client: Any
) -> None:
    ids: list[str] = []
    while len(ids) < stored_ids.MOST_MAKERS + 5:  # of one group
        id_ = f"r{next(NUMBERS)}"
        if stored_ids.key_of("app", "responses", id_)[0] >> 4 == 3:
            ids.append(id_)
    for maker, id_ in enumerate(ids):
        assert noted(client, "app", "responses", id_, maker) == maker.to_bytes(8, "little")
    found = [look_up(client, "app", "responses", id_) for id_ in ids]

    assert found[: stored_ids.MOST_MAKERS] == [
        maker.to_bytes(8, "little") for maker in range(stored_ids.MOST_MAKERS)
    ]
    assert found[stored_ids.MOST_MAKERS :] == [None] * 5


def test_digests_that_hold_one_anothers_bytes_are_told_apart(
    store: PrivateServer, address: Address, client: Any
) -> None:
    """A mark is looked for where marks begin, whatever bytes stand around it."""
    digests = [bytes(5), b"\0\0\0\0\1", b"\1\0\0\0\0", b"\1" * 5, b"\0\1\0\1\0", b"\1\2\1\2\1"]
    made = [bytes(11) + digest for digest in digests]
    before = [client.execute_command(*stored_ids.look_up(key)) for key in made]
    for number, key in enumerate(made):
        raw = bytes(7) + bytes([number])
        client.execute_command(*stored_ids.note(key, raw, ttl_ms=30 * DAY_S * 1000))

    assert before == [None] * len(made)
    for number, key in enumerate(made):
        assert client.execute_command(*stored_ids.look_up(key)) == bytes(7) + bytes([number])
    absent = bytes(11) + b"\0\0\1\0\0"
    assert client.execute_command(*stored_ids.look_up(absent)) is None


def test_an_id_takes_seven_bytes_where_there_are_many(
    store: PrivateServer, address: Address, client: Any
) -> None:
    ids, before = 60_000, set[bytes]()
    for day in (30, 31):  # the first does not know how many there will be
        before = set(client.scan_iter("*"))
        pipeline = client.pipeline(transaction=False)
        for i in range(ids):
            key = stored_ids.key_of("app", "responses", f"{day} {i}")
            ttl_ms = day * DAY_S * 1000
            pipeline.execute_command(*stored_ids.note(key, (i % 20).to_bytes(8), ttl_ms=ttl_ms))
            if len(pipeline) == 1000:
                pipeline.execute()
    of_a_day = set(client.scan_iter("*")) - before

    assert sum(client.memory_usage(name) for name in of_a_day) / ids < 7.2
