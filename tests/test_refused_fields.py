"""Which field a refusal is about, by what providers say."""

from __future__ import annotations

import pytest

from router.profiling.refused_fields import FieldChange, change_for, changes_between, is_of_shape

BODY = {"messages": [], "max_tokens": 9, "temperature": 0.2, "stop": ["x"], "seed": 1}


@pytest.mark.parametrize(
    ("refusal", "param", "change"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            "max_tokens",
            FieldChange("max_tokens", "max_completion_tokens"),
        ),
        ("use max_completion_tokens", "", FieldChange("max_tokens", "max_completion_tokens")),
        (
            "Unsupported value: 'temperature' does not support 0.2 with this model.",
            "",
            FieldChange("temperature"),
        ),
        ("Extra inputs are not permitted", "seed", FieldChange("seed")),
        ("stop: not known", "", FieldChange("stop")),
        ("please stop asking", "", None),
        ("`top_p` is not known", "", None),
        ("the max_tokens asked for are above the context length", "", None),
        ("flagged by our content filter: 'temperature'", "", None),
        ("tools are not for this model", "tools", None),
    ],
)
def test_the_field_that_is_refused_changes_and_no_other(
    refusal: str, param: str, change: FieldChange | None
) -> None:
    assert change_for(BODY, refusal, param) == change


def test_a_limit_without_a_name_that_is_taken_goes_for_that_call_alone() -> None:
    renamed = FieldChange("max_tokens", "max_completion_tokens")
    body = renamed.applied({"max_tokens": 9})
    assert body == {"max_completion_tokens": 9}

    left_out = change_for(body, "max_completion_tokens?", tried=frozenset({"max_tokens"}))

    assert left_out == FieldChange("max_completion_tokens")
    assert [renamed.is_lasting, left_out.is_lasting] == [True, False]
    assert changes_between({"max_tokens": 9}, {}) == [FieldChange("max_tokens")]
    assert changes_between({"max_tokens": 9}, body) == [renamed]


@pytest.mark.parametrize(
    ("refusal", "code", "holds"),
    [
        ("no", "unsupported_parameter", True),
        ("response_format: json_schema is not for this model", "", True),
        ("This model does not support `tools`", "", True),
        ("The prompt was flagged", "content_policy_violation", False),
        ("maximum context length is 8192; reduce max_tokens", "context_length_exceeded", False),
        ("bad request", "", False),
    ],
)
def test_only_a_refusal_of_how_a_call_is_said_is_one_of_shape(
    refusal: str, code: str, holds: bool
) -> None:
    assert is_of_shape(refusal, code) is holds
