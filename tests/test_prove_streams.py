"""The proof of streams notices what it is there for."""

from __future__ import annotations

import pytest

from scripts.proofs.replies import DONE, LAST_FRAME, event, frame, piece, stream_head
from scripts.proofs.samples import DIALECTS, SAID, sample
from scripts.proofs.stream_client import view
from scripts.proofs.streams import cuts, is_kept

TOLD = event({"error": {"message": "cut"}})


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_whole_sample_is_whole(line_end: str, dialect: str) -> None:
    stream = sample(dialect, line_end=line_end, usage=True)
    whole = stream_head() + frame(stream) + LAST_FRAME

    seen = view(whole)

    assert (seen.text, seen.ended_well, seen.has_error, seen.unreadable) == (SAID, True, False, 0)
    assert not seen.passes_for(SAID)


@pytest.mark.parametrize(
    ("body", "last", "passes"),
    [
        (b"", LAST_FRAME, True),
        (event(piece("m", {"content": "some"})), LAST_FRAME, True),
        (event(piece("m", {"content": "some"})) + DONE, LAST_FRAME, True),
        (event(piece("m", {"content": "some"})), b"", False),
        (event(piece("m", {"content": "some"})) + TOLD, LAST_FRAME, False),
        (event({"type": "response.output_text.delta", "delta": "some"}), LAST_FRAME, True),
        (event({"type": "response.failed", "response": {}}), LAST_FRAME, False),
        (event({"type": "content_block_delta", "delta": {"text": "some"}}), LAST_FRAME, True),
        (event({"type": "error", "code": "stream_cut"}), LAST_FRAME, False),
    ],
)
def test_a_cut_passes_for_whole_unless_it_is_told_or_breaks(
    body: bytes, last: bytes, passes: bool
) -> None:
    assert view(stream_head() + frame(body) + last).passes_for(SAID) is passes


def test_half_an_event_is_seen() -> None:
    assert view(stream_head() + frame(b'data: {"cho\n\n') + LAST_FRAME).unreadable == 1


def test_there_are_ten_thousand_cuts() -> None:
    found = cuts(every=1)
    assert all(sum(cut[4] == dialect for cut in found) >= 5_000 for dialect in DIALECTS)
    assert len(found) >= 10_000


GOOD = {
    "cut": {"false_completions": 0, "unreadable": 0},
    "held": {"false_completions": 0, "unreadable": 0},
    "left": {
        "longest_s": 0.5,
        "still_under_way": 0,
        "slots": 0,
        "more_files": 1,
        "more_mb_second_half": 1,
    },
    "slow": {"broken": 0, "lag_p99_ms": 60.0},
}


@pytest.mark.parametrize(
    ("part", "figure", "value"),
    [
        ("cut", "false_completions", 1),
        ("cut", "unreadable", 1),
        ("held", "false_completions", 1),
        ("held", "unreadable", 1),
        ("left", "longest_s", 1.1),
        ("left", "slots", 1),
        ("left", "more_files", 11),
        ("left", "more_mb_second_half", 6),
        ("left", "still_under_way", 1),
        ("slow", "broken", 1),
        ("slow", "lag_p99_ms", 101.0),
    ],
)
def test_one_figure_out_of_bounds_fails_the_proof(part: str, figure: str, value: float) -> None:
    assert is_kept(GOOD)
    assert not is_kept({**GOOD, part: {**GOOD[part], figure: value}})
