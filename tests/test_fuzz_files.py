"""Whatever stands in a file: each row taken whole or rejected, and never a traceback.

How to try more inputs is said in `test_fuzz_doors.py`.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from conftest import REPOSITORY, pointsman
from fuzzing import DOORS, ODD, SEED, Inside, each, inside, mutations, repeats, smallest, times

from router.commands import ingest
from router.commands.ingest_file import BadFile, open_rows
from telemetry.columns import BadColumns
from telemetry.lines import BadCsv, CsvReader
from telemetry.recorded import Selection, load
from telemetry.store import Address
from telemetry.tables import BadTable

NOW = datetime.now(UTC).isoformat()
DAMAGED = Path(__file__).parent / "data" / "damaged.parquet"
CSV = (
    b"endpoint,task,status,latency_s,tokens_in,tokens_out,cost_usd,score,ref,id,time\n"
    b"a,code,200,0.5,10,3,0.25,0.75,r1,1,NOW\n"
    b'"b","co""de",200,0.5,10,3,,1,7.0,1.0,NOW\n\n'
    b'a,"x\ny",500,,,,,,,3,\n'.replace(b"NOW", NOW.encode()),
    b"ref,passed\n1,true\n2,0\n3,no\n",
    b" model , category , quality\r\n a , x y , 0.5\r\n b , , 1\r\n",
)
LINES = (
    b'{"endpoint":"a","task":"code","score":0.5,"id":1,"time":"NOW","ref":"x"}\n'
    b'{"ref":7,"passed":true,"time":1.7e9}\n\n'
    b'{"endpoint":"b","latency_s":"0.5","tokens_in":10,"tokens_out":3.0}\n'.replace(
        b"NOW", NOW.encode()
    ),
    json.dumps(
        {
            "specversion": "1.0",
            "id": "1",
            "source": "/t",
            "type": "pointsman.feedback.v1",
            "time": NOW,
            "data": {"ref": "r", "score": 0.5},
        }
    ).encode(),
)
TABLE = pl.DataFrame(
    {
        "prompt_id": ["1", "1", "2", "2"],
        "category": ["x", "x", "y", "y"],
        "model": ["a", "b", "a", "b"],
        "quality": [0.5, 1.0, 0.0, 1.0],
        "cost_usd": [0.1, None, 0.2, 0.3],
        "latency_s": [1.0, 2.0, 3.0, 4.0],
        "tokens_in": [1, 2, 3, 4],
    }
)
RECORDED = TABLE.write_csv().encode()


@pytest.fixture
def door(state_dir: Path, address: Address, store: object) -> Iterator[Inside]:
    with inside(DOORS, state_dir, address) as found:
        yield found


def filled(data: bytes) -> list[bytes]:
    """The lines that are not blank, as an editor counts them."""
    return [line for line in data.split(b"\n") if line.strip()]


def require_short(said: str, given: bytes) -> None:
    """See that a message repeats only the beginning of what is wrong."""
    for line in filled(given):
        assert not (again := repeats(said, line.decode("utf-8", "replace"))), again


def sent_to(door: Inside) -> httpx.BaseTransport:
    """The way to a sidecar without sockets."""

    def handle(request: httpx.Request) -> httpx.Response:
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        headers = [(name, value) for name, value in headers if name != b"host"]
        got = door.ask("POST", request.url.raw_path, request.read(), headers)
        return httpx.Response(got.status, content=got.body)

    return httpx.MockTransport(handle)


def ingested(door: Inside, file: Path, data: bytes) -> ingest.IngestResult | None:
    """Ingest a file and see that what was taken and what was rejected is what there is."""
    file.write_bytes(data)
    before = door.n_written
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            found = ingest.run(
                file,
                form=None,
                source=None,
                url="http://127.0.0.1:1",
                headers={},
                dry_run=False,
                transport=sent_to(door),
            )
            ingest.show(found)
    except BadFile as error:
        require_short(str(error), data)
        assert door.n_written == before
        return None
    assert not found.failure
    assert door.n_written - before == found.n_accepted
    rejected = file.with_name(file.name + ".rejected.jsonl")
    if found.n_rejected:
        assert len(rejected.read_text().splitlines()) == found.n_rejected
    for _, reason in found.errors:
        require_short(reason, data)
    return found


def test_every_line_of_json_is_taken_or_rejected(door: Inside, tmp_path: Path) -> None:
    def check(data: bytes) -> None:
        found = ingested(door, tmp_path / "f.jsonl", data)
        assert found is not None
        assert found.n_rows == len(filled(data))

    each(mutations("jsonl", 1000, *LINES), check)


def test_every_row_of_csv_is_taken_or_rejected(door: Inside, tmp_path: Path) -> None:
    def check(data: bytes) -> None:
        found = ingested(door, tmp_path / "f.csv", data)
        if found is not None and b'"' not in data and b"\r" not in data:
            assert found.n_rows == len(filled(data)) - 1

    each(mutations("csv", 1000, *CSV), check)


def test_every_line_of_csv_is_part_of_exactly_one_row() -> None:
    def check(data: bytes) -> None:
        try:
            reader = CsvReader(io.BytesIO(data))
        except (BadCsv, BadColumns):
            return
        lines, rows = data.split(b"\n"), list(reader)
        header = next(at for at, line in enumerate(lines) if line.strip())
        if any(byte in lines[header] for byte in b' "\r\x0b\x0c'):
            return  # cells would be stripped, line breaks too; or the header has several lines
        starts = [row.number for row in rows] + [len(lines) + 1]
        assert not any(line.strip() for line in lines[header + 1 : starts[0] - 1])
        for row, after in zip(rows, starts[1:], strict=True):
            n_lines = 1 if row.reason else 1 + sum(cell.count("\n") for cell in row.cells)
            beyond = lines[row.number - 1 + n_lines : after - 1]
            assert lines[row.number - 1].strip()
            assert not any(line.strip() for line in beyond), row
            assert row.reason or len(row.cells) == len(reader.columns)

    check(b"e\n\x1c")  # once it passed for a blank line
    check(b"ref,passed\n1,true\n\x1c\n")
    each(mutations("rows", 4000, *CSV[:2]), check)


def test_a_recorded_table_is_read_whole_or_refused(tmp_path: Path) -> None:
    def check(data: bytes) -> None:
        file = tmp_path / "t.csv"
        file.write_bytes(data)
        try:
            found = load(file, Selection())
        except BadTable as error:
            require_short(str(error), data)
            return
        assert found.quality.shape == (len(found.prompts), len(found.endpoints))
        for column in (found.quality, found.cost_usd, found.latency_s):
            assert ((column >= 0) & (column < 1e6)).all()

    each(mutations("recorded", 600, RECORDED), check)


def test_parquet_that_was_overwritten_or_cut_is_refused_in_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(f"parquet {SEED}")
    file = tmp_path / "t.parquet"
    TABLE.write_parquet(file, compression="uncompressed")
    whole = file.read_bytes()
    for _ in range(times(6)):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 2, 4))):
            at = rng.randrange(len(data))
            data[at : at + rng.choice((0, 1, 1, 9))] = rng.randbytes(rng.choice((0, 1, 1, 4)))
        file.write_bytes(bytes(data))
        with contextlib.suppress(BadTable):
            load(file, Selection())
        with contextlib.suppress(BadFile):
            list(open_rows(file, form=None, source=None))

    assert capfd.readouterr() == ("", "")


def test_a_configuration_of_any_bytes_is_checked_without_a_traceback(tmp_path: Path) -> None:
    more = b"*a|&a |<<: *a|!!python/object:os.system |!!binary x|- |? |: |\t|010|.inf|~|${HOME}"
    odd = (
        *ODD,
        *more.split(b"|"),
        b"2026-13-45",
        b"|\n",
        b"%YAML 9.9\n",
        b"---\n",
        b"...\n",
    )
    whole = (REPOSITORY / "docs" / "examples" / "minimal.yaml").read_bytes()
    file = tmp_path / "pointsman.yaml"
    noise = random.Random(SEED)
    inputs = [*mutations("yaml", 150, whole, odd=odd)]
    inputs += [noise.randbytes(noise.randint(0, 60)) for _ in range(times(30))]
    for data in inputs:
        file.write_bytes(data)
        said = pointsman("check", "--config", file)
        assert said.exit_code in (0, 2), data
        assert "Traceback" not in said.output, data


# -- what was found so ---------------------------------------------------------------------------


def test_parquet_over_which_its_reader_breaks_down_takes_nobody_along(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Of this file a few bytes are wrong: its reader asks for exabytes, and ends the process."""
    with pytest.raises(BadFile, match=r"damaged\.parquet: cannot be read as parquet"):
        list(open_rows(DAMAGED, form=None, source=None))
    with pytest.raises(BadTable, match=r"damaged\.parquet: cannot be read as parquet"):
        load(DAMAGED, Selection())

    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("column", ["quality", "cost_usd", "latency_s", "model", "prompt_id"])
def test_a_table_is_refused_by_no_more_than_the_beginning_of_a_value(
    column: str, tmp_path: Path
) -> None:
    row: dict[str, Any] = dict.fromkeys(TABLE.columns, "1") | {"quality": "2", column: "9" * 300}
    file = tmp_path / "t.csv"
    pl.DataFrame([row]).write_csv(file)

    with pytest.raises(BadTable) as caught:
        load(file, Selection())

    require_short(str(caught.value), file.read_bytes())


def test_an_input_that_fails_is_made_smaller() -> None:
    assert smallest(b"a long text with one x in it", lambda data: b"x" in data) == b"x"
