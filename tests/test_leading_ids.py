"""The id of a long answer, out of its first bytes alone."""

from __future__ import annotations

import json

import pytest

from telemetry.wire.reading import LEADING_BYTES, leading_id

LONG = b'{"id": "resp_1", "object": "response", "output": [{"id": "msg_1", "text": "'


@pytest.mark.parametrize(
    ("head", "id_"),
    [
        (LONG, "resp_1"),
        (LONG + b"\xf0\x9f", "resp_1"),  # half a character
        (b"\xef\xbb\xbf \r\n\t" + LONG, "resp_1"),
        (b'{"object":"response","nested":{"id":"no"},"list":[1,{"id":"no"}],"id":"r"', "r"),
        (b'{"id" : "r" }', "r"),
        (b'{"i\\u0064":"r","x":', "r"),
        (b'{"id":"resp_', None),  # cut inside it
        (b'{"output":[{"id":"msg_1"}', None),
        (b'{"output":{"id":"msg_1"', None),
        (b'{"id":7,"x":"y"}', None),
        (b'{"id":"","x":"y"}', None),
        (b'{"id"', None),
        (b"{", None),
        (b'["id","r"]', None),
        (b"", None),
        (b"   ", None),
        (b"\x00\xff", None),
        (b"[" * 5000, None),
        (b'{"a":' * 5000, None),
    ],
)
def test_the_id_at_the_top_is_found_where_it_stands_whole(head: bytes, id_: str | None) -> None:
    assert leading_id(head) == id_


def test_no_cut_of_a_head_yields_another_id() -> None:
    whole = json.dumps({"model": "m", "usage": {"id": "u"}, "id": "resp_1", "x": "y"}).encode()
    found = {leading_id(whole[:at]) for at in range(len(whole) + 1)}

    assert found == {None, "resp_1"}


def test_it_is_not_looked_for_beyond_the_head() -> None:
    assert leading_id(b'{"x":"%b","id":"r"}' % (b"x" * LEADING_BYTES)) is None
