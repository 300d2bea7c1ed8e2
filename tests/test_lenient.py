"""JSON that strict readers refuse and most clients take: it is read, and travels as it came."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Provider, Reply, Sidecar, endpoint, serving

from router.dialects import chat, opaque
from router.errors import RequestRejected
from telemetry.store import Address
from telemetry.wire.chat import parse_answer, parse_part
from telemetry.wire.lenient import softened
from telemetry.wire.messages import parse_messages_event
from telemetry.wire.responses import ResponsesEvent, parse_responses_event

HALF = "\\ud83d"
OTHER_HALF = "\\ude00"
BIG = 12345678901234567890123


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (f'"{HALF}"', "?"),
        (f'"{OTHER_HALF}"', "?"),
        (f'"{HALF}{OTHER_HALF}"', "\U0001f600"),
        (f'"{OTHER_HALF}{HALF}"', "??"),
        (f'"{HALF}{HALF}{OTHER_HALF}"', "?\U0001f600"),
        ("NaN", None),
        ("-Infinity", None),
        ("1e999", None),
        ('"a\\\\ud83d"', "a\\ud83d"),
    ],
)
def test_what_lenient_clients_read_is_read(said: str, read: Any) -> None:
    found = json.loads(softened(f'{{"x": [{said}]}}'.encode()))

    assert found == {"x": [read]}


@pytest.mark.parametrize(
    "data", [b"", b"{", b"{no}", b'"\\u12"', b"\xff", b"[" * 100_000, b"1" * 5000]
)
def test_what_no_client_reads_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        softened(data)


def test_answers_with_half_a_character_or_infinities_are_answers() -> None:
    part = f'{{"choices": [{{"delta": {{"content": "{HALF}"}}, "logprobs": -Infinity}}]}}'
    whole = f'{{"choices": [{{"message": {{"content": "{HALF}", "p": NaN}}}}]}}'

    assert parse_part(part.encode()) is not None
    assert parse_answer(whole.encode()) is not None
    assert parse_part(b'{"choices": nope}') is None


def test_a_request_with_half_a_character_travels_as_it_came(
    provider: Provider, sidecar: Sidecar
) -> None:
    said = f'"messages": [{{"role": "user", "content": "{HALF}"}}], "seed": {BIG}'
    body = f'{{"model": "a", {said}}}'
    rewritten = f'{{"model": "auto", {said}, "router": {{"task": "code"}}}}'
    for each in (body, rewritten):
        got = sidecar.http.post("/v1/chat/completions", content=each.encode())
        assert got.status_code == 200, got.text

    first, second = provider.calls
    assert first.body == body.encode()
    assert second.json["messages"] == first.json["messages"]
    assert (second.json["seed"], "router" in second.json) == (BIG, False)


@pytest.mark.parametrize("more", [f'"x": "{HALF}"', '"x": NaN'])
def test_hints_are_read_and_taken_out_of_what_only_lenient_readers_take(more: str) -> None:
    metadata = f'{{"router_ref": "r", "k": "{HALF}"}}'
    hints = f'"router": {{"data_class": "restricted"}}, "metadata": {metadata}'
    body = f'{{"model": "m", {hints}, {more}}}'

    taken = opaque.take_hints(body.encode())

    assert taken.declared.hints.data_class == "restricted"
    assert taken.declared.reference == "r"
    assert b"router" not in bytes(taken.body)  # type: ignore[arg-type]
    assert json.loads(bytes(taken.body))["metadata"] == {"k": "\ud83d"}  # type: ignore[arg-type]


CALL = '{"model": "m", "messages": [{"role": "user", "content": "hi"}], %s}'
READERS = (chat.parse, opaque.take_hints)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("said", "meant"),
    [('"r"', "r"), ("5", "5"), ("7.0", "7"), ("-3", "-3"), ("null", None), ("1e2", "100")],
)
@pytest.mark.parametrize("more", ["", ', "x": NaN', ', "x": 1e400'])
def test_a_reference_is_text_or_a_whole_number_wherever_it_stands(
    read: Any, said: str, meant: str | None, more: str
) -> None:
    tagged = read((CALL % f'"metadata": {{"router_ref": {said}}}{more}').encode())
    hinted = read((CALL % f'"router": {{"ref": {said}}}{more}').encode())

    assert tagged.declared.reference == meant
    assert hinted.declared.hints.ref == meant


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("true", "true; it must be text or a whole number"),
        ("[1]", "[1]; it must be text or a whole number"),
        ("{}", "{}; it must be text or a whole number"),
        ("1.5", "1.5, no whole number; store it as text, so that 4.1 and 4.10 stay apart"),
        ("1e17", "1e+17; above 2^53 a number has lost digits; store it as text"),
        ("NaN", "NaN; it must be text or a whole number"),
        ("-Infinity", "-Infinity; it must be text or a whole number"),
        ("1e400", "1e400; it must be text or a whole number"),
    ],
)
def test_a_reference_that_names_nobody_is_refused(read: Any, said: str, shown: str) -> None:
    for field, body in (
        ("metadata.router_ref", f'"metadata": {{"k": "v", "router_ref": {said}}}'),
        ("router.ref", f'"router": {{"task": "code", "ref": {said}}}'),
    ):
        with pytest.raises(RequestRejected) as caught:
            read((CALL % body).encode())

        assert (caught.value.code, caught.value.param) == ("invalid_request", field)
        assert str(caught.value) == f"{field} is {shown}"


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("said", "field", "shown"),
    [
        ('{"task": NaN}', "router.task", "NaN; it must be text"),
        ('{"task": 1e400}', "router.task", "1e400; it must be text"),
        ('{"explore": NaN}', "router.explore", "NaN; it must be true or false"),
        ("NaN", "router", "NaN; it must be an object"),
    ],
)
def test_a_hint_that_is_no_json_is_named_and_not_passed_over(
    read: Any, said: str, field: str, shown: str
) -> None:
    with pytest.raises(RequestRejected) as caught:
        read((CALL % f'"router": {said}').encode())

    assert (caught.value.param, str(caught.value)) == (field, f"{field} is {shown}")


@pytest.mark.parametrize(
    "metadata",
    [
        '{"n": 1e400, "big": 12345678901234567890123, "b": [true]}',
        '"text"',
        "[1]",
        "5",
        '{"ref": true}',
    ],
)
def test_other_metadata_passes_untouched(metadata: str) -> None:
    body = (CALL % f'"metadata": {metadata}').encode()

    assert chat.parse(body).without_hints() == body
    assert opaque.take_hints(body).body == body
    if metadata.startswith("{"):
        ours = body.replace(b'"metadata": {', b'"metadata": {"router_ref": 5, ')
        for left in (chat.parse(ours).without_hints(), opaque.take_hints(ours).body):
            assert metadata.replace(" ", "") in bytes(left).decode().replace(" ", "")  # type: ignore[arg-type]
            assert b"router_ref" not in bytes(left)  # type: ignore[arg-type]


def test_a_call_and_its_dry_run_read_one_reference(sidecar: Sidecar) -> None:
    """Feedback by the text of it finds the call."""
    sidecar.chat("a", metadata={"router_ref": 5})
    sidecar.chat("a", router={"ref": 7.0})
    for ref in (5, "5", 7, "7"):
        assert sidecar.feedback(ref=ref, score=1).json()["results"][0]["decisions"] == 1
    body = (CALL % '"router": {"task": NaN}').encode()
    for path in ("/v1/chat/completions", "/v1/router/decide"):
        got = sidecar.http.post(path, content=body)
        assert (got.status_code, got.json()["error"]["param"]) == (400, "router.task")


def test_a_hint_of_half_a_character_is_refused_and_not_sent_on() -> None:
    with pytest.raises(RequestRejected):
        opaque.take_hints(f'{{"router": {{"data_class": "{HALF}"}}}}'.encode())
    with pytest.raises(RequestRejected, match="not JSON"):
        chat.parse(b'{"model": "m", "messages": [{]}')


def test_a_stream_that_sends_halves_apart_is_whole(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    events = [
        f'data: {{"choices": [{{"index": 0, "delta": {{"content": "{half}"}}}}]}}\n\n'.encode()
        for half in (HALF, OTHER_HALF)
    ]
    end = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    end += b"data: [DONE]\n\n"
    provider.on("a", Reply(chunks=[*events, end]))
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        got = sidecar.chat("a", stream=True)

    assert got.content == b"".join([*events, end])


@pytest.mark.parametrize("kind", ["[]", "{}", "3", "null"])
def test_an_event_whose_type_is_no_text_is_of_a_kind_that_nobody_knows(kind: str) -> None:
    data = f'{{"type": {kind}, "delta": "a"}}'.encode()

    for event in (parse_responses_event(data), parse_messages_event(data)):
        assert event is not None
        assert [event.is_error, event.says_something] == [False, False]
    assert not ResponsesEvent(type=json.loads(kind)).is_end


@pytest.mark.parametrize("kind", ["{}", '[["image_url"]]', '{"image_url": 1}', "null", "1"])
def test_a_part_whose_type_is_no_text_is_for_the_provider_to_judge(
    sidecar: Sidecar, provider: Provider, kind: str
) -> None:
    parts = [{"type": json.loads(kind), "text": "image_url"}]

    got = sidecar.chat("a", messages=[{"role": "user", "content": parts}])

    assert got.status_code == 200, got.text
    assert json.loads(provider.calls[-1].body)["messages"][0]["content"] == parts


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
def test_an_error_that_names_half_a_character_is_told_in_json(sidecar: Sidecar, path: str) -> None:
    """The connection was cut instead, with a 500."""
    metadata = f'{{"router_data_clas{HALF}": 1}}'
    call = '"model": "a", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]'
    said = f'{{{call}, "input": "x", "metadata": {metadata}}}'.encode()

    got = sidecar.http.post(path, content=said)

    assert got.status_code == 400, got.text
    assert got.json()["error"]["param"] == f"metadata.router_data_clas{chr(0xD83D)}"
