"""What people hand over in tables: numbers, ids, names, columns and lines, as meant or refused."""

from __future__ import annotations

import io
import os
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.columns import BadColumns, check, meant, once, stripped
from telemetry.lines import BLANK, MAX_LINE_BYTES, CsvReader
from telemetry.names import NotText, id_in_cell, text_of
from telemetry.numbers import brief, is_number, number_of, unsendable
from telemetry.recorded import Recorded, Selection, load, wire_names
from telemetry.tables import BadTable, Unsound, require_sound
from telemetry.wire.lenient import read_as_written

NO_NUMBERS = ("nan", "NaN", "inf", "-Infinity", "1e400", "true", "1_000", "0x10", "١", "", "1,5")
NAN, INF = float("nan"), float("inf")

# -- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_text_that_resembles_a_number_is_none(text: str) -> None:
    assert number_of(text) is None


def test_a_number_is_finite_and_written_in_digits() -> None:
    read = [number_of(cell) for cell in (" 1.5 ", "-2", ".5", "1e3", 7, 2.5, Decimal("0.25"))]

    assert read == [1.5, -2.0, 0.5, 1000.0, 7.0, 2.5, 0.25]
    for cell in (NAN, INF, True, False, None, b"1", [1], 10**400, Decimal("NaN")):
        assert number_of(cell) is None
    assert [is_number(v) for v in (0, 0.5, True, NAN, INF, "1")] == [True, True, *[False] * 4]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"data": {"score": NAN}}, "data.score is NaN; it must be a finite number"),
        ({"data": {"n": [1, INF]}}, "data.n[1] is a number too large"),
        ({"data": {"ref": b"x"}}, "data.ref is b'x'; it must be text"),
        ({"revision": 2**70}, "revision is beyond a whole number of at most 64 bits"),
        ({"data": {"score": None, "passed": True, "ref": "r", "n": 2.5}}, ""),
    ],
)
def test_what_json_would_turn_into_null_is_named(value: object, said: str) -> None:
    assert unsendable(value).startswith(said)
    assert bool(unsendable(value)) is bool(said)


# -- ids and names ------------------------------------------------------------------------------


def test_ids_are_text_as_written_and_whole_floats_their_integers() -> None:
    assert [text_of(v) for v in ("01", "1.0", 1, 1.0, -3.0, Decimal("2.0"))] == [
        "01", "1.0", "1", "1", "-3", "2"
    ]  # fmt: skip
    assert [id_in_cell(v) for v in ("1.0", "007.00", "1", "1.5", "1e3", "v1.0")] == [
        "1", "007", "1", "1.5", "1e3", "v1.0"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"),
        (None, "null"),
        (INF, "a number too large"),
        (NAN, "NaN"),
        (read_as_written(b"-1e400"), "-1e400"),
        ([True, None, 1.0, "a"], "[true, null, 1.0, 'a']"),
        ({"a": False, "b": [10**5000]}, "{'a': false, 'b': [a number of very many digits]}"),
        ([[[[[1]], []]]], "[[[[[…]], []]]]"),
        ("None", "'None'"),
        (b"1", "b'1'"),
        (["x"] * 10_000, "['x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x'…"),
    ],
)
def test_a_wrong_value_is_repeated_in_the_words_of_json(value: object, shown: str) -> None:
    assert brief(value) == shown


@pytest.mark.parametrize("number", [1e17, float(2**60), 1e23, -1e17])
def test_a_float_above_2_to_the_53_is_refused_for_its_lost_digits(
    tmp_path: Path, number: float
) -> None:
    said = f"is {number!r}; above 2^53 a number has lost digits; store it as text"
    with pytest.raises(NotText, match=re.escape(said)):
        text_of(number)
    row = {"prompt_id": [number], "category": ["c"], "model": ["m"], "quality": [1]}
    pl.DataFrame({**row, "cost_usd": [1]}).write_parquet(tmp_path / "t.parquet")

    assert f"prompt_id {said}" in refused(tmp_path / "t.parquet")


@pytest.mark.parametrize("value", [4.1, NAN, INF, 1e16, True, b"1", ["1"], {}, None, 10**400])
def test_what_is_neither_text_nor_whole_is_no_id(value: object) -> None:
    with pytest.raises(NotText, match=r"^is .*(text|apart)"):
        text_of(value)


# -- columns ------------------------------------------------------------------------------------


def test_names_are_stripped_and_there_once() -> None:
    assert stripped(["endpoint", " task", "passed ", "", ""]) == [
        "endpoint", "task", "passed", "", "column 5"
    ]  # fmt: skip
    with pytest.raises(BadColumns, match="'task' is there twice"):
        stripped(["task", "passed", " task"])
    with pytest.raises(BadColumns, match="'score' is there twice"):
        once([("score", 1), ("ref", "r"), ("score", 0)])


@pytest.mark.parametrize(
    "name", ["passsed", "Passed", " PASSED", "pased", "passde", "oassed", "latency-s", "Latency S"]
)
def test_a_column_that_looks_like_a_known_one_is_asked_about(name: str) -> None:
    known = ("passed", "latency_s", "ref")
    wanted = "latency_s" if "atency" in name else "passed"

    assert meant(name, known) == wanted
    with pytest.raises(BadColumns, match=rf"did you mean '{wanted}'\?"):
        check([name], known)
    check([name, wanted], known)  # nothing is lost: the known one is there


def test_a_column_of_another_name_of_a_known_one_is_not_missed() -> None:
    assert [meant(n, ("ref", "model")) for n in ("rev", "prompt", "ref", "mood")] == [""] * 4
    check(["quality", "scores"], ("score", "quality"), same={"quality": "score"})


# -- lines of CSV -------------------------------------------------------------------------------


def read(content: bytes) -> list[Any]:
    return list(CsvReader(io.BytesIO(content)))


BAD_LINES = {
    b'a,"co"de,true,x': "text after a closing quote",
    b'a,"code,true,x': "a quote is opened and not closed",
    b"a,\xff,true,x": "not UTF-8 (byte 3 of the line)",
    b"a,code": "not 4 fields as in the header, but 2",
    b"a,code,true,x,y": "not 4 fields as in the header, but 5",
    b"a,co\rde,true,x": "a carriage return inside the line",
    b"a," + b"x" * MAX_LINE_BYTES: "a line of over 65536 bytes",
}


@pytest.mark.parametrize("line", BAD_LINES, ids=range(len(BAD_LINES)))
@pytest.mark.parametrize("place", [0, 500, 999])
def test_a_bad_line_takes_no_other_along(line: bytes, place: int) -> None:
    good = [b"b,chat,false,%d" % i for i in range(999)]
    lines = [b"endpoint,task,passed,ref", *good[:place], line, *good[place:]]

    rows = read(b"\n".join(lines) + b"\n")

    (bad,) = [row for row in rows if row.reason]
    assert bad.number == place + 2
    assert BAD_LINES[line] in bad.reason
    assert [row.cells[3] for row in rows if not row.reason] == [str(i) for i in range(999)]


def test_a_quoted_cell_may_span_lines_and_its_row_has_the_number_of_the_first() -> None:
    rows = read(b'\xef\xbb\xbfa,b\r\n"1\r\n2",3\r\n\r\n4,"5 ""6"""\r\n')

    assert [(row.number, row.cells) for row in rows] == [(2, ["1\r\n2", "3"]), (5, ["4", '5 "6"'])]


def test_cells_are_stripped_where_the_header_is_padded_and_as_written_elsewhere() -> None:
    (padded,) = read(b'endpoint, task, passed\na, "co,de",  true \n')
    (plain,) = read(b"endpoint,task,passed\na, code,true\n")

    assert padded.cells == ["a", "co,de", "true"]
    assert plain.cells == ["a", " code", "true"]


@given(st.lists(st.text(st.characters(exclude_characters='"\r\n', codec="utf-8")), max_size=30))
def test_taken_and_rejected_are_all_rows(lines: list[str]) -> None:
    rows = read("\n".join(["a,b", *lines]).encode())

    filled = [n for n, line in enumerate(lines, 2) if line.strip(BLANK)]
    assert [r.number for r in rows] == filled
    for row in rows:
        assert (len(row.cells) == 2) is not bool(row.reason)


@given(st.lists(st.sampled_from([b'"', b'""', b",", b"\n", b"\r", b"a", b"\xff", b"\0", b" "])))
def test_of_any_bytes_every_line_is_part_of_one_row(pieces: list[bytes]) -> None:
    content = b"a,b\n" + b"".join(pieces)
    lines = content.split(b"\n")

    told: list[int] = []
    for row in read(content):
        assert (len(row.cells) == 2) is not bool(row.reason)
        told += range(row.number, row.number + 1 + sum(cell.count("\n") for cell in row.cells))

    assert told == sorted(set(told))
    missed = [lines[n - 1] for n in range(2, len(lines) + 1) if n not in told]
    assert b"".join(missed).strip() == b""


@given(st.binary(max_size=400))
def test_no_bytes_do_more_than_refuse_a_table(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    for start in (b"", HEADER.encode() + b"\n"):
        path.write_bytes(start + content)
        with pytest.raises(BadTable):
            load(path, Selection())


# -- recorded tables ----------------------------------------------------------------------------

HEADER = "prompt_id,category,model,quality,cost_usd"


def table(path: Path, *lines: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def refused(path: Path) -> str:
    with pytest.raises(BadTable) as caught:
        load(path, Selection())
    return str(caught.value)


def loaded(path: Path) -> Recorded:
    return load(path, Selection())


def test_names_that_look_like_numbers_stay_apart_in_csv_as_in_parquet(tmp_path: Path) -> None:
    rows = [f"{p},{p},{m},{q},0.1" for p in ("01", "1") for m, q in (("4.1", 1), ("4.10", 0))]
    csv = loaded(table(tmp_path / "t.csv", *rows))
    cells = [dict(zip(HEADER.split(","), row.split(","), strict=True)) for row in rows]
    numbers = [{**c, "quality": float(c["quality"]), "cost_usd": 0.1} for c in cells]
    pl.DataFrame(numbers).write_parquet(tmp_path / "t.parquet")

    for found in (csv, loaded(tmp_path / "t.parquet")):
        assert found.prompts == ["01", "1"]
        assert found.categories == ["01", "1"]
        assert found.endpoints == ["4.1", "4.10"]
        assert found.quality.tolist() == [[1, 0], [1, 0]]


def test_whole_numbers_name_as_text_and_ids_do_not_change_their_type(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    common = {"category": [1.0, 2.0], "model": [7, 7], "quality": [1, 0], "cost_usd": [1, 1]}
    pl.DataFrame({"prompt_id": [1.0, 2.0], **common}).write_parquet(path)
    floats = table(tmp_path / "t.csv", "1.0,1,7,1,1", "2.0,2,7,0,1")

    for found in (loaded(path), loaded(floats)):
        assert (found.prompts, found.categories, found.endpoints) == (["1", "2"], ["1", "2"], ["7"])


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("model", [4.1, 4.1], "model is 4.1, no whole number; store it as text"),
        ("prompt_id", [b"1", b"2"], "prompt_id is b'1'; it must be text"),
        ("prompt_id", [["1"], ["2"]], "prompt_id is ['1']; it must be text"),
        ("category", [True, False], "category is true; it must be text"),
        ("quality", [True, False], "quality True of a on 1; it must be a number from 0 to 1"),
        ("quality", [NAN, 1.0], "quality nan of a on 1; it must be a number from 0 to 1"),
        ("cost_usd", [INF, 1.0], "cost_usd inf of a on 1; it must be a number"),
        ("latency_s", [-INF, 1.0], "latency_s -inf of a on 1"),
    ],
)
def test_a_cell_of_the_wrong_type_is_named(
    tmp_path: Path, column: str, values: list[Any], said: str
) -> None:
    path = tmp_path / "t.parquet"
    whole = {"prompt_id": ["1", "2"], "category": ["c", "c"], "model": ["a", "a"]}
    frame = {**whole, "quality": [1.0, 0.0], "cost_usd": [0.1, 0.2], column: values}
    pl.DataFrame(frame).write_parquet(path)

    assert said in refused(path)


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_a_quality_that_is_no_number_is_refused(tmp_path: Path, text: str) -> None:
    path = table(tmp_path / "t.csv", "p,code,a,1,0.1", f'p,code,b,"{text}",0.1')

    assert f"quality {text or None} of b on p; it must be a number from 0 to 1" in refused(path)


def test_a_line_that_cannot_be_read_refuses_the_table_by_number(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "p,code,a,1,0.1", 'p,"co"de,b,1,0.1', "q,code,b,1,0.1")

    assert "line 3: text after a closing quote" in refused(path)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (HEADER + ",latency-s", "column 'latency-s': did you mean 'latency_s'?"),
        (HEADER.replace("model", "modle") + ",x", "column 'modle': did you mean 'model'?"),
        (HEADER + ",model", "column 'model' is there twice"),
    ],
)
def test_columns_of_a_table_are_asked_about(tmp_path: Path, header: str, said: str) -> None:
    assert said in refused(table(tmp_path / "t.csv", "p,code,a,1,0.1,2", header=header))


def test_a_padded_header_loses_nothing(tmp_path: Path) -> None:
    header = HEADER.replace(",", ", ") + ", latency_s"

    found = loaded(table(tmp_path / "t.csv", "p, code, a, 0.5, 0.1, 2.5", header=header))

    assert found.measured == {"latency_s"}
    assert (found.categories, found.endpoints) == (["code"], ["a"])
    assert (found.quality[0, 0], found.latency_s[0, 0]) == (0.5, 2.5)


def test_a_name_that_cannot_travel_is_the_same_one_in_every_table() -> None:
    """By its place it would be taken for another one of another table."""
    few, many = (
        wire_names(["数学", "code"], "category"),
        wire_names(["code", "化学", "数学"], "category"),
    )

    assert few[0] == many[2]
    assert len({*few, *many}) == 3


# -- files that are damaged ----------------------------------------------------------------------


def test_a_file_that_was_sound_is_looked_at_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pl.DataFrame({"n": range(1000)}).write_parquet(file)
    require_sound(file)
    whole = file.read_bytes()

    file.write_bytes(bytes(len(whole) - 8) + whole[-8:])

    with pytest.raises(Unsound):
        require_sound(file)
    with pytest.raises(Unsound):
        require_sound(file)  # nor is it remembered as anything


def test_a_file_that_was_sound_is_not_read_for_that_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "t.parquet"
    pl.DataFrame({"n": range(10)}).write_parquet(file)
    require_sound(file)
    monkeypatch.setattr(sys, "executable", "/bin/false")

    require_sound(file)
    os.utime(file, ns=(1, 1))

    with pytest.raises(Unsound):
        require_sound(file)
