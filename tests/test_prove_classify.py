"""The proof of `classify` proves something: what is left out of the classifier is noticed."""

from __future__ import annotations

import pytest

from scripts.proofs.classify import LEAST_SAID, ClassifySettings, prove_classify, verdict
from scripts.proofs.classify_harness import WRAPS
from scripts.proofs.classify_sabotage import ClassifySabotage


def test_nothing_comes_to_look_like_another_task() -> None:
    figures = prove_classify(ClassifySettings(1, n_prompts=400))

    assert (figures["prompts"], figures["faults"]) == (400, 0)
    assert figures["said"] > 120
    for wrap in WRAPS:
        n_silent, n = figures["fell_silent"][wrap]
        assert n_silent <= 0.1 * n, wrap


@pytest.mark.parametrize("kind", ClassifySabotage)
def test_what_is_left_out_is_noticed(kind: ClassifySabotage) -> None:
    figures = prove_classify(ClassifySettings(1, n_prompts=200, sabotage=kind))

    assert figures["faults"] > 20


def test_too_few_that_look_like_a_task_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict({"faults": 0, "said": LEAST_SAID}) == 0
    assert verdict({"faults": 1, "said": 1000}) == 1
    assert verdict({"faults": 0, "said": LEAST_SAID - 1}) == 1
    assert "nothing is shown" in capsys.readouterr().err
