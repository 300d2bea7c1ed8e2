"""Who answers what is passed on: by the name that the answer has, in record and ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Provider, Reply, answer, chunks, endpoint, serving

from router.beliefs.names import Names
from router.beliefs.served import HIDDEN_KEY, REST
from router.config.compiled import compile_text
from router.dispatch import passed_models
from router.dispatch.passed_models import PassedModels
from router.endpoints.providers import Provider as To
from telemetry.digests import digest8
from telemetry.store import Address
from workers.folding.learner import Learner

OF_PROVIDER = "providers: {prov: {base_url: http://h/v1, passthrough: true}}"


@pytest.mark.parametrize("streamed", [False, True])
def test_the_model_that_an_answer_names_is_in_the_ledger_by_its_name(
    provider: Provider, state_dir: Path, address: Address, learner: Learner, streamed: bool
) -> None:
    whole = {**json.loads(answer()), "model": "gpt-9-2026-11"}
    pieces = [part.replace(b'"m"', b'"gpt-9-2026-11"') for part in chunks("hi", usage=True)]
    reply = Reply(chunks=pieces) if streamed else Reply(body=json.dumps(whole).encode())
    provider.on("p", reply)
    value: dict[str, Any] = {"endpoints": [endpoint(provider, "a")]}
    value["providers"] = {"prov": {"base_url": provider.url("p"), "passthrough": True}}
    with serving(value, state_dir, address) as sidecar:
        assert sidecar.chat("gpt-9", stream=streamed).status_code == 200

        def rows() -> list[dict[str, Any]]:
            found = sidecar.http.get("/v1/router/ledger", params={"by": "endpoint,model"})
            return list(found.json()["rows"])

        sidecar.until(lambda: any(row["model"] == "gpt-9-2026-11" for row in rows()))
        (one,) = rows()

    assert (one["endpoint"], one["calls"]) == ("prov/gpt-9", 1)


def passing_to() -> To:
    text = f"endpoints: [{{id: a, model: m, base_url: 'http://h/v1'}}]\n{OF_PROVIDER}\n"
    found = compile_text(text, file="t.yaml", secrets=False).catalog.passthrough("/v1/x")
    assert found is not None
    return found


def test_a_name_that_looks_like_a_key_is_kept_nowhere() -> None:
    names = Names()
    models = PassedModels(names)

    seen = models.seen(passing_to(), "sk-proj-abcdefghijklmnop")

    assert seen.model == digest8(HIDDEN_KEY)
    assert list(names.beside(None).values()) == [HIDDEN_KEY]
    assert models.seen(passing_to(), None).model == 0


def test_names_beyond_the_bound_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passed_models, "MAX_MODELS", 2)
    models, to = PassedModels(Names()), passing_to()

    seen = [models.seen(to, name).model for name in ("a", "b", "c", "a", "d")]

    assert seen == [digest8(name) for name in ("a", "b", REST, "a", REST)]
