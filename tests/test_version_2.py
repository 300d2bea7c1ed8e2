"""What version 2 wrote is read: journals, streams, archives, references, held feedback, ids.

`data/version_2.json` was written by the last version that wrote it. Its times are moved to now,
as labels of decisions that are over 30 days old count no more.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandit import cells
from bandit.families import Family, Q
from router.decision.seal import PREFIX, SEAL_BYTES, Seal
from telemetry import (
    decoding,
    digests,
    event_ids,
    events,
    frames,
    journal,
    keys,
    narrow,
    references,
    tokens,
)
from telemetry.frames import Frame
from telemetry.journal import Segment
from telemetry.store import SCHEMA, prepare
from telemetry.writer import Counters, Sender
from workers.archive.archive import Archive, ArchiveLimits
from workers.archive.audit import audit_state
from workers.archive.restore import restore
from workers.folding.held import References, take_up
from workers.folding.lease import Lease
from workers.folding.shard import Shard

KEPT = json.loads((Path(__file__).parent / "data" / "version_2.json").read_text())
NOW_MS = int(time.time() * 1000)
LATER_MS = NOW_MS - KEPT["made_at_ms"]
RECORDS = [bytes.fromhex(raw) for raw in KEPT["records"]]
EVENT = 192
"""Where in a record of version 2 the id of its event stands, the time first."""
APP = 41


def plain(value: Any) -> Any:
    if value.dtype.names:
        return {name: plain(value[name]) for name in value.dtype.names}
    return value.tobytes().hex() if value.dtype.kind == "V" else value.item()


def now(raw: bytes) -> bytes:
    """Return a record of version 2 as if it had been written now."""
    place = 8 + 20
    (at_ms,) = struct.unpack_from("<q", raw, place)
    moved = at_ms + LATER_MS if at_ms else 0
    body = raw[:place] + struct.pack("<q", moved) + raw[place + 8 : -8]
    if said_ms := int.from_bytes(body[EVENT : EVENT + 6], "big"):
        body = body[:EVENT] + (said_ms + LATER_MS).to_bytes(6, "big") + body[EVENT + 6 :]
    return body + struct.pack("<II", zlib.crc32(body), 0)


def token_now(raw: bytes) -> bytes:
    return now(raw)[8 : 8 + narrow.TOKEN_SIZE]


def test_every_field_of_a_record_means_what_it_meant() -> None:
    found, bad = decoding.decode(b"".join(RECORDS), narrow.RECORD_VERSION)

    assert not bad
    for record, told in zip(found, KEPT["told"], strict=True):
        is_outcome = told["kind"] == events.Kind.OUTCOME
        read = plain(record)
        assert read["version"] == events.RECORD_VERSION
        waits = told["kind"] == events.Kind.REFERENCE_FEEDBACK
        assert read["received_at_ms"] == (told["token"]["decided_at_ms"] if waits else 0)
        assert read["response" if is_outcome else "chain"] == told["response"]
        for name in set(told) - {"version", "token", "response", "checksum"}:
            assert read[name] == told[name], name
        for name in set(told["token"]) - ({"decided_at_ms"} if waits else set()):
            assert read["token"][name] == told["token"][name], name


def test_records_read_as_wider_ones_are_sound_records() -> None:
    found, _ = decoding.decode(b"".join(RECORDS), narrow.RECORD_VERSION)

    again, bad = decoding.decode(found.tobytes())

    assert not bad
    assert again.tobytes() == found.tobytes()


def test_a_changed_byte_of_version_2_is_found_and_kept_as_it_is() -> None:
    raw = bytearray(b"".join(RECORDS[:3]))
    raw[narrow.RECORD_SIZE + 30] ^= 1

    found, bad = decoding.decode(bytes(raw), narrow.RECORD_VERSION)

    assert len(found) == 2
    assert bad == [bytes(raw[narrow.RECORD_SIZE : 2 * narrow.RECORD_SIZE])]


def test_a_record_under_the_other_version_is_unsound() -> None:
    wide = decoding.decode(RECORDS[0], narrow.RECORD_VERSION)[0].tobytes()
    mixed = wide[:1] + bytes([narrow.RECORD_VERSION]) + wide[2:-8]
    sealed = mixed + struct.pack("<II", zlib.crc32(mixed), 0)

    assert len(decoding.decode(sealed)[0]) == 0


# -- on its way ---------------------------------------------------------------------------------


@pytest.fixture
def old_journal(tmp_path: Path) -> Path:
    """A journal of version 2 whose process is gone, with room that was never written."""
    directory = tmp_path / "journal" / KEPT["producer"]
    directory.mkdir(parents=True)
    written = bytes.fromhex(KEPT["segment"]) + b"".join(map(now, RECORDS))
    journal.segment_path(directory, 1).write_bytes(written + bytes(3 * narrow.RECORD_SIZE))
    return directory


def folded(client: Any, n_shards: int = 2) -> list[Shard]:
    out = []
    for number in range(n_shards):
        lease, shard = Lease(client, number), Shard(client, number)
        assert lease.take()
        shard.load()
        entries = client.xrange(keys.stream(number), min=f"({shard.mark.decode()}")
        if entries:
            shard.fold(entries, token=lease.token)
        lease.release()
        out.append(shard)
    return out


def rows(client: Any, shard: int = 0) -> cells.Terms:
    found = client.hgetall(keys.rows(shard))
    return cells.from_bytes(b"".join(found), b"".join(found.values()))


def n_labels(client: Any) -> int:
    return int(cells.of_family(rows(client), Family.QUALITY).values[:, Q.LABELS].sum())


def test_a_journal_that_was_half_sent_is_sent_on_and_folded_once(
    client: Any, old_journal: Path
) -> None:
    prepare(client, shards=2)
    sent = Frame(
        bytes.fromhex(KEPT["producer"]), 0, 0, now(RECORDS[0]) + now(RECORDS[2]), version=2
    )
    client.xadd(keys.stream(0), {"f": frames.pack(sent)})
    folded(client)

    counters = Counters()
    assert Sender(old_journal, client, counters).send_some() == len(RECORDS)
    first, second = folded(client)

    meta = client.hgetall(keys.meta(0))
    assert int(meta[b"n_outcomes"]) == 3
    assert int(meta[b"n_repeated"]) == 2
    assert int(meta[b"n_held"]) == 2
    assert b"n_dead" not in meta
    assert int(client.hget(keys.meta(1), "n_outcomes")) == 1
    assert first.windows[sent.producer].following == 7
    assert second.windows[sent.producer].following == 1
    assert n_labels(client) == 2  # the test of 1, the word that came with 3; 4 was derived


def test_the_frame_as_version_2_packed_it_is_read(client: Any) -> None:
    frame = frames.unpack(bytes.fromhex(KEPT["frame"]))

    assert (frame.version, frame.n_records, frame.producer.hex()) == (2, 2, KEPT["producer"])
    assert frames.unpack(frames.pack(frame)) == frame


def test_a_segment_of_version_2_tells_what_is_unsent(old_journal: Path) -> None:
    assert Segment.open(journal.segment_path(old_journal, 1)).n_unsent() == len(RECORDS)
    assert journal.n_records(journal.segment_path(old_journal, 1)) == len(RECORDS)


def test_an_archive_of_both_versions_is_audited_to_what_was_folded(
    client: Any, tmp_path: Path
) -> None:
    prepare(client, shards=1)
    old = Frame(b"o" * 16, 0, 0, b"".join(now(r) for i, r in enumerate(RECORDS) if i != 1), 2)
    client.xadd(keys.stream(0), {"f": frames.pack(old)})
    folded(client, 1)
    archive = Archive(client, tmp_path, 1)
    archive.take(now_ms=NOW_MS, limits=ArchiveLimits(every_bytes=0))
    new, _ = decoding.decode(now(RECORDS[0]), 2)
    new["token"]["nonce"] = np.void(b"n" * 16)
    body = new.tobytes()[:-8]
    wide = body + struct.pack("<II", zlib.crc32(body), 0)
    client.xadd(keys.stream(0), {"f": frames.pack(Frame(b"n" * 16, 0, 0, wide))})
    folded(client, 1)
    archive.take(now_ms=NOW_MS, limits=ArchiveLimits(every_bytes=0))

    result = audit_state(archive)

    assert result.equal, result.difference
    assert result.records == 8


def test_an_archive_of_schema_3_is_restored(client: Any, tmp_path: Path) -> None:
    prepare(client, shards=1)
    client.hset(keys.META, "schema", "3")
    old = Frame(b"o" * 16, 0, 0, b"".join(now(r) for i, r in enumerate(RECORDS) if i != 1), 2)
    client.xadd(keys.stream(0), {"f": frames.pack(old)})
    folded(client, 1)
    archive = Archive(client, tmp_path, 1)
    archive.take(now_ms=NOW_MS, limits=ArchiveLimits(every_bytes=0))
    before = client.hgetall(keys.rows(0))
    client.flushall()

    found = restore(archive)

    assert client.hgetall(keys.rows(0)) == before
    assert (found.labels, client.hget(keys.META, "schema").decode()) == (3, SCHEMA)
    digest = digests.digest16("shop", "ref", "r-1")
    assert len(references.look_up(client, [digest], n_shards=1, now_ms=NOW_MS)[0]) == 1


# -- what names decisions -----------------------------------------------------------------------


def test_references_of_both_versions_are_looked_up_as_one(client: Any) -> None:
    prepare(client, shards=1)
    digest = digests.digest16("shop", "ref", "r-1")
    name = keys.references_of_days(0, references.bucket(NOW_MS))
    before = token_now(RECORDS[0])
    client.hset(name, digest, before + token_now(RECORDS[2]))
    later = tokens.Token.unpack(narrow.widened_token(token_now(RECORDS[3]))).pack()
    client.hset(name, digest, references.append(client.hget(name, digest), later))

    (found,) = references.look_up(client, [digest], n_shards=1, now_ms=NOW_MS)

    assert [int.from_bytes(tokens.nonce_of(t), "big") for t in found] == [1, 3, 4]
    assert {len(t) for t in found} == {tokens.TOKEN_SIZE}
    assert tokens.Token.unpack(found[0]).spread == 0.375


def test_references_keep_the_latest_decisions_of_both_versions() -> None:
    before = token_now(RECORDS[0]) * 60
    later = tokens.Token.unpack(narrow.widened_token(token_now(RECORDS[3]))).pack() * 60

    kept = references.append(before, later)

    assert len(kept) == references.MAX_REFERENCES * tokens.TOKEN_SIZE
    assert kept.endswith(later)
    assert references.append(None, later) == later


def test_held_feedback_of_version_2_is_joined_to_its_decision(client: Any) -> None:
    prepare(client, shards=2)
    held = now(RECORDS[6])
    client.hset(keys.held(0), decoding.decode(held, 2)[0]["event"].tobytes(), held)
    digest = digests.digest16("shop", "ref", "r-1")
    name = keys.references_of_days(0, references.bucket(NOW_MS))
    client.hset(name, digest, token_now(RECORDS[0]))

    lease, shard = Lease(client, 0), Shard(client, 0)
    assert lease.take()
    shard.load()
    take_up(client, 0)
    for _ in range(2):  # what was in the streams when it was first looked at has to be folded
        References(n_shards=2).look(client, [(shard, lease.token)], NOW_MS + 1000)
    lease.release()
    folded(client)

    assert client.hlen(keys.held(0)) == 0
    assert n_labels(client) == 1


def seal_of(*keys: bytes) -> Seal:
    return Seal(lambda: keys)


def test_a_decision_id_of_version_2_still_takes_feedback() -> None:
    seal = seal_of(bytes.fromhex(KEPT["key"]))

    token, body = seal.open(KEPT["decision_ids"][0])

    told = KEPT["told"][0]["token"]
    assert (token.shard, token.nonce.hex(), token.app) == (0, told["nonce"], APP)
    assert (token.predicted_sd, token.spread, token.regime) == (0.125, 0.375, 3)
    assert token.user == 0
    assert len(body) == tokens.TOKEN_SIZE
    record, bad = decoding.decode(
        events.feedback(
            body,
            kind=events.FeedbackKind.TEST,
            value=1.0,
            revision=0,
            event=event_ids.new_event_id(NOW_MS),
        )
    )
    assert not bad
    assert record["token"]["token_version"][0] == 5
    assert seal_of(b"k" * 32, bytes.fromhex(KEPT["key"])).open(KEPT["decision_ids"][0])[0] == token


def test_a_decision_id_of_version_2_with_another_seal_is_refused() -> None:
    seal = seal_of(bytes.fromhex(KEPT["key"]))
    sealed = KEPT["decision_ids"][0]
    from base64 import urlsafe_b64decode, urlsafe_b64encode

    raw = urlsafe_b64decode(sealed[len(PREFIX) :] + "==")
    for place in range(0, len(raw), 7):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        with pytest.raises(Exception, match="no decision id"):
            seal.open(PREFIX + urlsafe_b64encode(changed).rstrip(b"=").decode())
    body = raw[:-SEAL_BYTES]
    forged = body + blake2b(body, key=b"x" * 32, digest_size=SEAL_BYTES).digest()
    with pytest.raises(Exception, match="no decision id"):
        seal.open(PREFIX + urlsafe_b64encode(forged).rstrip(b"=").decode())


def test_a_store_of_schema_3_is_taken_on(client: Any) -> None:
    client.hset(keys.META, mapping={"schema": "3", "shards": "2", "incarnation": "abc"})

    assert prepare(client, shards=2) == "abc"
    assert client.hget(keys.META, "schema").decode() == SCHEMA
