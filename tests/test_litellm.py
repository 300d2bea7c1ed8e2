"""Configurations of LiteLLM's as drafts of ours: what is taken over, and what is named."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import yaml

from router.beliefs.served import is_other_model
from router.config.entries import File
from router.config.file import parse
from router.endpoints.compiling import compile_catalog
from router.endpoints.entries import Dialect
from router.errors import ConfigError
from router.setup.draft import Draft
from router.setup.litellm import read_litellm
from router.setup.litellm_identity import says_no_model
from router.setup.litellm_names import MOST_ENDPOINTS
from router.setup.litellm_providers import CallSite

KEY = "sk-ant-REDACTED"


def read(text: str) -> Draft:
    return read_litellm(text, file="litellm.yaml", app="default")


def one(params: str, info: str = "{}", *, name: str = "m", rest: str = "") -> Draft:
    """Read a file of two deployments, of which the first is looked at."""
    return read(
        f"model_list:\n  - model_name: {name}\n    litellm_params: {params}\n"
        f"    model_info: {info}\n"
        "  - {model_name: other, litellm_params: {model: groq/llama-3.1-8b-instant}}\n" + rest
    )


def checked(draft: Draft) -> File:
    """Return a draft as it is read back from a file; every reference in it is sound."""
    document = {
        "providers": dict(draft.providers),
        "endpoints": [dict(entry) for entry in draft.endpoints],
        "apps": {draft.app: dict(draft.app_entry)},
    }
    return parse(yaml.safe_dump(document, sort_keys=False), file="pointsman.yaml", secrets=False)


def left(draft: Draft) -> dict[str, str]:
    return {each.place: each.why for each in draft.left_out}


def whole(draft: Draft) -> str:
    return json.dumps([draft.providers, draft.endpoints, draft.app_entry]) + repr(draft.left_out)


def problems(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert all(p.hint for p in caught.value.problems)
    return [(p.line, p.field, p.value) for p in caught.value.problems]


BALANCED = """
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: azure/eu-deployment
      api_base: https://eu.openai.azure.com/
      api_version: "2024-10-21"
      api_key: os.environ/AZURE_EU
      rpm: 6
      order: 2
    model_info:
      base_model: azure/gpt-4o
      input_cost_per_token: 0.0000025
      output_cost_per_token: 1e-5
      max_input_tokens: 128000
      supports_function_calling: true
      supports_vision: false
  - model_name: gpt-4o
    litellm_params: {model: gpt-4o, api_key: os.environ/OPENAI_API_KEY, order: 1, tpm: 9}
  - model_name: claude
    litellm_params: {model: anthropic/claude-sonnet-4-5, timeout: 30, stream_timeout: 4}
  - model_name: own
    litellm_params: {model: openai/qwen3, api_base: "http://10.0.0.5:8000/v1", api_key: none}
"""


def test_deployments_of_one_name_become_hosts_of_one_model() -> None:
    draft = read(BALANCED)

    assert [(e["id"], e["model"], e["provider"]) for e in draft.endpoints] == [
        ("gpt-4o@openai", "gpt-4o", "openai"),  # `order` says so
        ("gpt-4o@azure", "gpt-4o", "azure"),
        ("claude@anthropic", "claude", "anthropic"),
        ("own@10.0.0.5-8000", "own", "10.0.0.5-8000"),
    ]
    entries = checked(draft)
    groups = [entry.group_key for entry in entries.endpoints]
    assert groups[0] == groups[1]
    assert entries.apps["default"].mode == "observe"
    assert any(note.startswith("several hosts: gpt-4o;") for note in draft.notes)


def test_azure_keeps_deployment_version_price_and_profile() -> None:
    azure = read(BALANCED).endpoints[1]

    assert azure == {
        "id": "gpt-4o@azure",
        "model": "gpt-4o",
        "provider": "azure",
        "auth": {
            "env": "AZURE_EU",
            "azure": {"deployment": "eu-deployment", "api_version": "2024-10-21"},
        },
        "prices": {"input_usd_per_mtok": 2.5, "output_usd_per_mtok": 10},
        "context_tokens": 128000,
        "capabilities": {"tools": True, "images": False},
    }


def test_a_client_that_names_the_old_name_reaches_the_endpoint_behind_it() -> None:
    entries = checked(read(BALANCED))

    catalog = compile_catalog({}, entries.providers, entries.endpoints, secrets=False)

    served = {name: [e.upstream_model for e in hosts] for name, hosts in catalog.by_model.items()}
    assert {name: served[name] for name in ("gpt-4o", "claude", "own")} == {
        "gpt-4o": ["gpt-4o", "gpt-4o"],
        "claude": ["claude-sonnet-4-5"],
        "own": ["qwen3"],
    }
    assert all(
        e.takes(d)
        for e in catalog.endpoints
        for d in (Dialect.CHAT, Dialect.MESSAGES, Dialect.RESPONSES)
    )
    azure = str(catalog.by_id["gpt-4o@azure"].targets)
    assert "/openai/deployments/eu-deployment/chat/completions?api-version=2024-10-21" in azure


def test_a_name_means_its_own_model_before_what_a_provider_calls_so() -> None:
    draft = read(
        "model_list:\n"
        "  - {model_name: wild, litellm_params: {model: openai/a, temperature: 1.5}}\n"
        "  - {model_name: a, litellm_params: {model: openai/b}}\n"
        "  - {model_name: b, litellm_params: {model: openai/c}}\n"
        "  - {model_name: x, litellm_params: {model: openai/y}}\n"
        "  - {model_name: y, litellm_params: {model: openai/x}}\n"
    )

    entries = checked(draft)
    catalog = compile_catalog({}, entries.providers, entries.endpoints, secrets=False)
    first = {name: catalog.by_model[name][0].model for name in ("wild", "a", "b", "y")}
    assert first == {name: name for name in first}
    assert draft.app_entry["incumbent"] == "wild@openai"
    assert "come to y" in left(draft)["model_list[3].model_name"]
    assert not {"wild", "a", "b", "x", "y"} & set(catalog.by_id)


def test_rates_and_weights_are_named_with_their_places() -> None:
    named = left(read(BALANCED))

    assert set(named) == {"model_list[0].litellm_params.rpm", "model_list[1].litellm_params.tpm"}
    assert all("requests_per_minute" in why for why in named.values())


@pytest.mark.parametrize(
    ("params", "base_url", "auth", "upstream"),
    [
        ("{model: gpt-4o}", "https://api.openai.com/v1", {"env": "OPENAI_API_KEY"}, "gpt-4o"),
        (
            "{model: claude-sonnet-4-5}",
            "https://api.anthropic.com/v1",
            {"env": "ANTHROPIC_API_KEY", "header": "x-api-key"},
            "claude-sonnet-4-5",
        ),
        (
            "{model: anthropic/x, api_base: 'https://relay.example'}",
            "https://relay.example/v1",
            "none",
            "x",
        ),
        (
            "{model: gemini/gemini-2.5-pro, api_key: os.environ/G}",
            "https://generativelanguage.googleapis.com/v1beta/openai",
            {"env": "G"},
            "gemini-2.5-pro",
        ),
        (
            "{model: openrouter/google/gemini-2.5-pro}",
            "https://openrouter.ai/api/v1",
            {"env": "OPENROUTER_API_KEY"},
            "google/gemini-2.5-pro",
        ),
        (
            "{model: together_ai/meta-llama/Llama-3-70b}",
            "https://api.together.xyz/v1",
            {"env": "TOGETHERAI_API_KEY"},
            "meta-llama/Llama-3-70b",
        ),
        ("{model: 'ollama/llama3:8b'}", "http://localhost:11434/v1", "none", "llama3:8b"),
        (
            "{model: ollama_chat/phi, api_base: 'http://box:11434/'}",
            "http://box:11434/v1",
            "none",
            "phi",
        ),
        (
            "{model: hosted_vllm/a/b, api_base: 'http://box:8000/v1'}",
            "http://box:8000/v1",
            "none",
            "a/b",
        ),
        (
            "{model: a/b, custom_llm_provider: openai, base_url: 'http://box/v1', "
            "api_key: os.environ/K}",
            "http://box/v1",
            {"env": "K"},
            "a/b",
        ),
    ],
)
def test_a_prefix_says_address_key_and_model(
    params: str, base_url: str, auth: object, upstream: str
) -> None:
    draft = one(params)

    entries = checked(draft)
    endpoint = draft.endpoints[0]
    assert draft.providers[endpoint["provider"]]["base_url"] == base_url
    assert draft.providers[endpoint["provider"]].get("auth") == auth
    assert entries.endpoints[0].upstream_model == upstream


@pytest.mark.parametrize(
    ("params", "place", "word"),
    [
        ("{model: bedrock/anthropic.claude-v2, aws_region_name: us-east-1}", "model", "SigV4"),
        ("{model: vertex_ai/gemini-pro, vertex_project: p}", "model", "gcloud"),
        ("{model: sagemaker/x}", "model", "SigV4"),
        ("{model: wonder/x}", "model", "wonder is not known"),
        ("{model: llama-3}", "model", "its provider is not known"),
        ("{api_key: os.environ/K}", "model", "missing"),
        ("{model: openai/x, api_base: os.environ/BASE}", "api_base", "BASE is read from the env"),
        ("{model: os.environ/MODEL}", "model", "MODEL is read from the environment"),
        ("{model: openai/x, api_base: not a url}", "api_base", "whole URL"),
        ("{model: openai/x, api_base: 'http://u:pw@h/v1'}", "api_base", "user and a password"),
        ("{model: hosted_vllm/x}", "api_base", "missing"),
        ("{model: azure/d, api_base: 'https://a.example'}", "api_version", "missing"),
        ("{model: azure/d, api_version: '2024-10-21'}", "api_base", "missing"),
        (
            "{model: azure/d, api_base: 'https://a.example', azure_ad_token: x}",
            "azure_ad_token",
            "az, account, get-access-token",
        ),
        ("{model: gemini/x, api_base: 'https://g.example'}", "api_base", "not known"),
        ("{model: openai/x, api_key: os.environ/no name}", "api_key", "no name of a variable"),
        ("{model: openai/x, litellm_credential_name: c}", "litellm_credential_name", "has none"),
        ("{model: openai/*}", "model_name", "patterns"),
    ],
)
def test_what_cannot_be_called_from_here_is_left_out_and_named(
    params: str, place: str, word: str
) -> None:
    draft = one(params)

    assert [entry["id"] for entry in draft.endpoints] == ["other@groq"]
    where = "model_list[0]." + ("" if place == "model_name" else "litellm_params.") + place
    assert list(left(draft)) == [where]
    assert word in left(draft)[where]
    assert left(draft)[where].endswith("; the whole entry is left out")
    checked(draft)


def test_a_key_that_stands_in_the_file_is_never_copied() -> None:
    draft = one(
        f"{{model: openai/x, api_key: {KEY}}}", rest=f"general_settings: {{master_key: {KEY}}}"
    )

    assert KEY not in whole(draft) + repr(draft.notes)
    assert draft.providers["openai"]["auth"] == {"env": "OPENAI_KEY_1"}
    assert "OPENAI_KEY_1" in left(draft)["model_list[0].litellm_params.api_key"]
    assert "keys" not in draft.app_entry
    assert "general_settings.master_key" in left(draft)


def test_a_key_without_an_address_of_its_own_goes_nowhere_else() -> None:
    draft = one("{model: openai/x, api_base: 'https://relay.example/v1'}")

    assert draft.providers["relay.example"]["auth"] == "none"
    assert "OPENAI_API_KEY" in left(draft)["model_list[0].litellm_params.api_key"]


def test_a_credential_stands_for_what_it_holds() -> None:
    draft = one(
        "{model: azure/d, litellm_credential_name: eu}",
        rest="credential_list:\n"
        "  - credential_name: eu\n"
        "    credential_values: {api_key: os.environ/AZ, api_base: os.environ/BASE, "
        "api_version: '2024-10-21'}\n"
        "    credential_info: {}\n"
        "environment_variables: {BASE: 'https://eu.example'}\n",
    )

    assert draft.providers["azure"]["base_url"] == "https://eu.example"
    assert draft.endpoints[0]["auth"]["env"] == "AZ"
    assert list(left(draft)) == ["environment_variables.BASE"]
    checked(draft)


def test_settings_go_out_as_params_of_the_dialect_that_has_them() -> None:
    chat = one(
        "{model: openai/x, temperature: 0.2, reasoning_effort: low, foo: 1, seed: os.environ/S}"
    )
    messages = one("{model: anthropic/x, reasoning_effort: low, max_tokens: 20}")

    assert chat.endpoints[0]["params"] == {"reasoning_effort": "low", "temperature": 0.2}
    assert set(left(chat)) == {
        "model_list[0].litellm_params.seed",
        "model_list[0].litellm_params.foo",
    }
    assert any("before what a client says" in note for note in chat.notes)
    assert messages.endpoints[0]["params"] == {"max_tokens": 20}
    assert "thinking" in left(messages)["model_list[0].litellm_params.reasoning_effort"]


def test_prices_are_converted_without_a_rounding_error() -> None:
    info = (
        "{input_cost_per_token: 0.00000125, output_cost_per_token: 1e-5, "
        "cache_read_input_token_cost: 1.25e-7, input_cost_per_token_above_200k_tokens: 0.0000025}"
    )
    half = one("{model: openai/x, input_cost_per_token: 0.001}")

    prices = one("{model: openai/x}", info).endpoints[0]["prices"]

    usual = {
        "input_usd_per_mtok": 1.25,
        "output_usd_per_mtok": 10,
        "cached_input_usd_per_mtok": 0.125,
    }
    long = {"above_tokens": 200_000, **usual, "input_usd_per_mtok": 2.5}
    assert prices == {**usual, "long_prompts": [long]}
    assert "prices" not in half.endpoints[0]
    assert "both" in left(half)["model_list[0].model_info.input_cost_per_token"]


def test_models_for_vectors_take_no_other_calls() -> None:
    by_name, by_mode = (
        one("{model: text-embedding-3-small}"),
        one("{model: openai/x}", "{mode: embedding}"),
    )
    image = one("{model: openai/dall-e-3}", "{mode: image_generation}")

    assert by_name.endpoints[0]["dialects"] == by_mode.endpoints[0]["dialects"] == ["embeddings"]
    assert list(left(image)) == ["model_list[0].model_info.mode"]
    checked(by_mode)


def test_an_alias_reaches_the_hosts_of_its_model() -> None:
    draft = read(
        BALANCED + "router_settings: {model_group_alias: {gpt-4: gpt-4o, ghost: nobody, "
        "own: claude, hid: {model: claude, hidden: true}}}"
    )

    hosts = [e for e in checked(draft).endpoints if e.model == "gpt-4"]
    assert [(e.provider, e.upstream_model) for e in hosts] == [
        ("openai", "gpt-4o"),
        ("azure", "gpt-4o"),
    ]
    assert {place.rpartition("alias.")[2] for place in left(draft) if "alias" in place} == {
        "ghost",
        "own",
        "hid.hidden",
    }


def test_other_models_under_one_name_are_kept_apart() -> None:
    draft = read(
        "model_list:\n"
        "  - {model_name: best, litellm_params: {model: openai/gpt-4o}}\n"
        "  - {model_name: best, litellm_params: {model: anthropic/claude-sonnet-4-5}}\n"
        "  - {model_name: best, litellm_params: {model: openrouter/openai/gpt-4o}}\n"
    )

    assert [e.get("equivalent") for e in draft.endpoints] == [None, False, None]
    assert any("claude-sonnet-4-5" in note for note in draft.notes)


AZURE = "api_base: 'https://eu.openai.azure.com', api_version: '2024-10-21', api_key: os.environ/A"


@pytest.mark.parametrize(
    "params",
    [
        f"{{model: azure/my-a, {AZURE}}}",
        f"{{model: azure/gpt-4o, {AZURE}}}",
        "{model: openai/my-a, api_base: 'https://x.openai.azure.com/openai/v1'}",
        "{model: openai/1234567, api_base: 'https://own.example/v1', api_key: os.environ/A}",
        "{model: openai/any-name, api_key: os.environ/A, api_base: "
        "'https://r-aiplatform.googleapis.com/v1/projects/p/locations/r/endpoints/42'}",
        "{model: 'openai/arn:aws:bedrock:r:1:application-inference-profile/ab12cd34ef56', "
        "api_base: 'https://bedrock-runtime.r.amazonaws.com/openai/v1', api_key: os.environ/A}",
        "{model: hosted_vllm/default, api_base: 'https://own.example/v1'}",
        "{model: litellm_proxy/gpt-4o, api_base: 'https://own.example', api_key: os.environ/A}",
        "{model: openrouter/openrouter/auto}",
        "{model: fireworks, custom_llm_provider: openai, api_base: 'https://own.example/v1'}",
    ],
)
def test_a_host_whose_name_says_no_model_is_pooled_with_nobody(params: str) -> None:
    """But for the last, whose name may be one."""
    draft = read(
        "model_list:\n"
        f"  - {{model_name: gpt-4o, litellm_params: {params}}}\n"
        "  - {model_name: gpt-4o, litellm_params: {model: openai/gpt-4o}}\n"
        "  - {model_name: gpt-4o, litellm_params: {model: openrouter/openai/gpt-4o}}\n"
    )

    entries = checked(draft)
    unsure, *sure = entries.endpoints
    if "fireworks" in params:
        assert [e.equivalent for e in entries.endpoints] == [None, False, False]
        return
    assert unsure.group_key != sure[0].group_key == sure[1].group_key
    (note,) = (n for n in draft.notes if n.startswith("model_list[0].litellm_params.model"))
    assert unsure.id in note
    assert ("upstream_model: MODEL" if "azure/" in params else "served_as: [MODEL]") in note
    catalog = compile_catalog({}, entries.providers, entries.endpoints, secrets=False)
    assert not is_other_model(catalog.by_id[unsure.id], "gpt-4.1-mini-2025-04-14")


def test_who_says_the_base_model_of_such_a_name_has_one_group() -> None:
    draft = read(
        "model_list:\n"
        "  - {model_name: gpt-4o, litellm_params: {model: openai/gpt-4o}}\n"
        f"  - {{model_name: gpt-4o, litellm_params: {{model: azure/my-a, {AZURE}}}, "
        "model_info: {base_model: azure/gpt-4o}}\n"
        "  - {model_name: gpt-4o, litellm_params: {model: openai/prod, api_base: "
        "'https://own.example/v1'}, model_info: {base_model: gpt-4o}}\n"
    )

    entries = checked(draft)
    assert len({e.group_key for e in entries.endpoints}) == 1
    assert [e.upstream_model for e in entries.endpoints] == [None, None, "prod"]
    catalog = compile_catalog({}, entries.providers, entries.endpoints, secrets=False)
    assert not any(is_other_model(e, "gpt-4o-2024-08-06") for e in catalog.endpoints)
    assert all(is_other_model(e, "gpt-4.1-mini") for e in catalog.endpoints)


@pytest.mark.parametrize(
    ("name", "is_model"),
    [
        ("gpt-4o", True),
        ("Qwen2_5_Coder_32B_Instruct", True),
        ("arn:aws:bedrock:r::foundation-model/anthropic.claude-3-5-sonnet-20241022-v2:0", True),
        ("arn:aws:bedrock:r:1:inference-profile/us.anthropic.claude-3-5-haiku-20241022-v1:0", True),
        ("arn:aws:bedrock:r:1:provisioned-model/ab12cd34ef56", False),
        ("accounts/acme/models/llama-v3p1-8b", True),
        ("accounts/acme/deployments/llama", False),
        ("6ba7b810-9dad-11d1-80b4-00c04fd430c8", False),
        ("ep-20250101-abcde", False),
        ("decade", True),
        ("tgi", False),
    ],
)
def test_an_id_is_told_from_a_models_name(name: str, is_model: bool) -> None:
    site = CallSite("openai", "https://own.example/v1", None, None, name, ("chat",))

    assert says_no_model(site) is not is_model


HIDDEN_KEY = "Zx9hush4tokenABC7"


@pytest.mark.parametrize(
    "deployment",
    [
        "{model_name: m, litellm_params: {model: openai/x, stop: KEY}}",
        "{model_name: m, litellm_params: {model: openai/x, logit_bias: {KEY: 1}}}",
        "{model_name: m, litellm_params: {model: openai/KEY}}",
        "{model_name: KEY, litellm_params: {model: openai/x}}",
        "{model_name: m, litellm_params: {model: openai/x}, model_info: {id: KEY}}",
        "{model_name: m, litellm_params: {model: openai/x, api_base: 'https://h.example/KEY/v1'}}",
        "{model_name: m, litellm_params: {model: azure/x, api_base: https://h, api_version: KEY}}",
        "{model_name: os.environ/A_TOKEN, litellm_params: {model: openai/x}}",
    ],
)
@pytest.mark.parametrize("key", [HIDDEN_KEY, KEY])
def test_a_key_is_copied_from_no_field(deployment: str, key: str) -> None:
    draft = read(
        f"model_list:\n  - {deployment.replace('KEY', key)}\n"
        f"  - {{model_name: own, litellm_params: {{model: openai/y, api_key: {key}}}}}\n"
        f"environment_variables: {{A_TOKEN: {key}}}\n"
        f"router_settings: {{{key}: 1, model_group_alias: {{{key}: own}}}}\n"
    )

    assert key not in whole(draft) + repr(draft.notes)
    assert any(place.startswith("model_list[0]") for place in left(draft))
    checked(draft)


def test_a_servers_dummy_key_is_no_key_wherever_else_it_stands() -> None:
    draft = one("{model: openai/x, api_base: 'http://lm-studio:1234/v1', api_key: lm-studio}")

    assert draft.endpoints[0]["model"] == "m"


@pytest.mark.parametrize(
    ("params", "info", "place"),
    [
        ("{model: openai/auto}", "{}", "litellm_params.model"),
        ('{model: "openai/a\\nb"}', "{}", "litellm_params.model"),
        (f"{{model: openai/{'y' * 300}}}", "{}", "litellm_params.model"),
        (f"{{model: 'azure/a?b', {AZURE}}}", "{}", "litellm_params.model"),
        (f"{{model: 'azure/..', {AZURE}}}", "{}", "litellm_params.model"),
        ("{model: 3}", "{}", "litellm_params.model"),
        ("{model: openai/x}", "{id: os.environ/X}", "model_info.id"),
        (f"{{model: azure/x, {AZURE}}}", f"{{base_model: {'y' * 300}}}", ""),
        ("{model: openai/x, temperature: .nan}", "{}", "litellm_params.temperature"),
        ("{model: openai/x, stop: [1e999]}", "{}", "litellm_params.stop"),
        ("{model: openai/x, temperature: '0.5'}", "{}", "litellm_params.temperature"),
        ("{model: openai/x, rpm: '60', tpm: '1e5'}", "{}", "litellm_params.rpm"),
    ],
)
def test_what_no_file_of_ours_takes_is_named_and_the_rest_is_sound(
    params: str, info: str, place: str
) -> None:
    draft = one(params, info)

    assert f"model_list[0].{place}".rstrip(".") in left(draft)
    checked(draft)


def test_a_provider_that_serves_nothing_is_not_written() -> None:
    draft = read(
        BALANCED + '  - {model_name: "*", litellm_params: {model: openai/*}}\n'
        '  - {model_name: "*", litellm_params: {model: openai/*, api_key: os.environ/NEVER}}\n'
    )

    assert "NEVER" not in json.dumps(draft.providers)


def test_an_address_off_this_machine_without_encryption_is_told() -> None:
    draft = read(BALANCED)

    assert any("unencrypted to 10.0.0.5 (http)" in note for note in draft.notes)
    local = one("{model: openai/x, api_base: 'http://127.0.0.1:1/v1', api_key: os.environ/A}")
    assert not any("unencrypted" in note for note in local.notes)


def test_many_aliases_of_many_hosts_end() -> None:
    hosts = "  - {model_name: m, litellm_params: {model: openai/x}}\n" * 200
    aliases = ", ".join(f"a{i}: m" for i in range(200))

    draft = read(f"model_list:\n{hosts}router_settings: {{model_group_alias: {{{aliases}}}}}\n")

    assert len(draft.endpoints) == MOST_ENDPOINTS
    assert "would come of it" in left(draft)["router_settings.model_group_alias.a199"]


def test_fallbacks_become_what_the_app_says_and_what_differs_is_named() -> None:
    draft = read(
        BALANCED + "litellm_settings:\n"
        "  fallbacks: [{gpt-4o: [claude]}, {gone: [own]}, {claude: [gone]}]\n"
        "  context_window_fallbacks: [{gpt-4o: [claude]}]\n"
        "  request_timeout: 20\n  drop_params: true\n"
    )

    assert draft.app_entry == {"mode": "observe", "fallback": "any", "timeouts": {"answer_s": 20}}
    named = left(draft)
    assert "in no order" in named["litellm_settings.fallbacks[0].gpt-4o"]
    assert {
        "litellm_settings.fallbacks[1].gone",
        "litellm_settings.fallbacks[2].claude[0]",
        "litellm_settings.context_window_fallbacks",
        "litellm_settings.drop_params",
        "model_list[2].litellm_params.timeout",  # 30 s, and the app's is tighter
    } <= set(named)
    assert any("failed calls of claude, own go elsewhere, too" in note for note in draft.notes)


def test_without_fallbacks_a_call_stays_with_its_model() -> None:
    assert read(BALANCED).app_entry == {"mode": "observe"}


def test_a_master_key_that_is_a_variable_stays_the_clients_key() -> None:
    draft = read(
        BALANCED + "general_settings: {master_key: os.environ/MASTER, database_url: os.environ/DB}"
    )

    assert draft.app_entry["keys"] == [{"env": "MASTER"}]
    assert "pointsman key" in left(draft)["general_settings.database_url"]


def test_unlisted_models_go_where_a_star_sends_them() -> None:
    draft = read(
        BALANCED + '  - {model_name: "*", litellm_params: {model: openai/*}}\n'
        '  - {model_name: "*", litellm_params: {model: groq/*}}\n'
    )

    assert draft.providers["openai"]["passthrough"] == {"dialects": ["chat", "responses"]}
    assert "model_list[5].model_name" in left(draft)
    checked(draft)


def test_sections_and_settings_that_are_not_known_are_named() -> None:
    draft = read(
        BALANCED
        + "include: [more.yaml]\nrouter_settings: {routing_strategy: x, zap: 1}\nzip: {a: 1}\n"
        "general_settings: [1]\n"
    )

    assert {
        "include",
        "router_settings.routing_strategy",
        "router_settings.zap",
        "zip",
        "general_settings",
    } <= set(left(draft))


@pytest.mark.parametrize("name", ["größe", "two words", "llama3:8b", "auto", "role:x", "none"])
def test_a_name_that_cannot_stand_here_is_named(name: str) -> None:
    draft = one("{model: openai/x}", name=json.dumps(name))

    assert list(left(draft)) == ["model_list[0].model_name"]
    assert "rename" in left(draft)["model_list[0].model_name"]


def test_names_that_would_be_taken_for_others_get_numbers() -> None:
    draft = read(
        "model_list:\n"
        "  - {model_name: openai, litellm_params: {model: openai/x}, model_info: {id: b}}\n"
        "  - {model_name: b, litellm_params: {model: openai/y}}\n"
        "  - {model_name: b, litellm_params: {model: openai/y}, model_info: {id: mine}}\n"
        "  - {model_name: b, litellm_params: {model: openai/y}}\n"
    )

    assert list(draft.providers) == ["openai-2"]
    assert [e["id"] for e in draft.endpoints] == [
        "openai@openai-2",
        "b@openai-2",
        "mine",
        "b@openai-2-2",
    ]
    checked(draft)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [(1, "file", "empty")]),
        ("# nothing\n", [(1, "file", "empty")]),
        ("- a\n", [(1, "file", "a list")]),
        ("litellm_settings: {}\n", [(1, "model_list", "missing")]),
        ("a: 1\nmodel_list: null\n", [(2, "model_list", "empty")]),
        ("a: 1\nmodel_list: []\n", [(2, "model_list", "empty")]),
        ("a: 1\nmodel_list: {}\n", [(2, "model_list", "not a list")]),
        ("a: 1\na: 2\nmodel_list: [1]\n", [(2, "a", "a")]),
        ("model_list:\n  - 1\n", [(2, "model_list[0]", "left out")]),
        (
            "model_list:\n  - model_name: x\n    litellm_params:\n      model: bedrock/x\n",
            [(4, "model_list[0].litellm_params.model", "left out")],
        ),
    ],
)
def test_a_file_of_which_nothing_can_be_taken_is_refused(
    text: str, expected: list[tuple[int, str, str]]
) -> None:
    found = problems(text)

    assert [(field, value) for _, field, value in found] == [(f, v) for _, f, v in expected]
    assert [line for line, _, _ in found] == [line for line, _, _ in expected]


@pytest.mark.parametrize(
    "text",
    [
        "model_list:\n  - model_name: *\n",
        "model_list: [\n",
        "\tmodel_list: 1\n",
        "? [a]\n: 1\n",
        "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(
            f"{y}: &{y} [{', '.join([f'*{x}'] * 10)}]\n"
            for x, y in zip("abcdefg", "bcdefgh", strict=True)
        ),
        "model_list: &m [*m]\n",
        "model_list: " + "[" * 500,
        "#" * (5 << 20),
    ],
)
def test_what_is_no_sound_yaml_is_refused_with_what_to_do(text: str) -> None:
    assert problems(text)


def _spoilt(rng: random.Random, value: Any) -> Any:
    """Return a value with something in it exchanged, left out or added."""
    odd = [None, 1, -1.5, True, "", "x", "os.environ/X", [], {}, [KEY], {"a": KEY}, 1e300, KEY]
    if isinstance(value, dict) and value:
        name = rng.choice(list(value))
        changed = dict(value)
        if rng.random() < 0.15:
            del changed[name]
        elif rng.random() < 0.15:
            changed[rng.choice(["model", "zap", "api_key", "mode", "order", "a b"])] = rng.choice(
                odd
            )
        else:
            changed[name] = _spoilt(rng, value[name])
        return changed
    if isinstance(value, list) and value:
        at = rng.randrange(len(value))
        return [*value[:at], _spoilt(rng, value[at]), *value[at + 1 :]]
    return rng.choice(odd)


def _read_or_refusal(text: str) -> tuple[str, Draft | None]:
    """Return all that a user is shown of a file, and the draft if there is one."""
    try:
        draft = read(text)
    except ConfigError as error:
        return str(error), None
    return whole(draft) + repr(draft.notes), draft


def test_whatever_a_file_says_is_a_sound_draft_or_a_refusal_and_shows_no_key() -> None:
    rng = random.Random(20)
    source = yaml.safe_load(
        BALANCED + "router_settings: {model_group_alias: {gpt-4: gpt-4o}, timeout: 30}\n"
        "litellm_settings: {fallbacks: [{gpt-4o: [claude]}], default_fallbacks: [own]}\n"
        "general_settings: {master_key: os.environ/MASTER}\n"
        "credential_list: [{credential_name: c, credential_values: {api_key: os.environ/C}}]\n"
        "environment_variables: {BASE: 'https://x.example'}\n"
    )
    n_drafts = 0
    for _ in range(60):
        spoilt = source
        for _ in range(rng.randint(1, 4)):
            spoilt = _spoilt(rng, spoilt)
        shown, draft = _read_or_refusal(yaml.safe_dump(spoilt))
        assert KEY not in shown
        if draft is not None:
            n_drafts += 1
            checked(draft)
    assert n_drafts > 30
