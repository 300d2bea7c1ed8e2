"""Where a deployment of LiteLLM's is called, and with which key: the part before the first slash.

Only providers whose API is spoken here, at addresses that they publish; the rest is not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from router.config.entries import is_reserved
from router.endpoints.auth import NOT_SIGNED, OF_AZURE, OF_GOOGLE
from router.endpoints.base_url import check_base_url, part_user
from router.setup.litellm_reading import Fields, NotImportedError, is_variable, safe, variable_in


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """A provider by its prefix: its address, the variable of its key, what it speaks."""

    base_url: str | None = None  # None: each deployment has its own
    env: str | None = None  # None: it needs no key
    dialects: tuple[str, ...] = ("chat",)
    header: str | None = None
    ending: str = ""  # of the address, which LiteLLM adds by itself
    own_address: bool = True  # whether it may lie elsewhere


KINDS: Mapping[str, ProviderKind] = {
    "openai": ProviderKind("https://api.openai.com/v1", "OPENAI_API_KEY", ("chat", "responses")),
    "text-completion-openai": ProviderKind(
        "https://api.openai.com/v1", "OPENAI_API_KEY", ("completions",)
    ),
    "anthropic": ProviderKind(
        "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", ("messages",), "x-api-key", "/v1"
    ),
    "gemini": ProviderKind(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
        own_address=False,  # there LiteLLM speaks Google's own API
    ),
    "openrouter": ProviderKind("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "groq": ProviderKind("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "together_ai": ProviderKind("https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "mistral": ProviderKind("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": ProviderKind("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "xai": ProviderKind("https://api.x.ai/v1", "XAI_API_KEY"),
    "perplexity": ProviderKind("https://api.perplexity.ai", "PERPLEXITYAI_API_KEY"),
    "cerebras": ProviderKind("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "nvidia_nim": ProviderKind("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "sambanova": ProviderKind("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "deepinfra": ProviderKind("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "ollama": ProviderKind("http://localhost:11434/v1", ending="/v1"),
    "ollama_chat": ProviderKind("http://localhost:11434/v1", ending="/v1"),
    "hosted_vllm": ProviderKind(),
    "lm_studio": ProviderKind(),
    "openai_like": ProviderKind(),
    "custom_openai": ProviderKind(),
    "litellm_proxy": ProviderKind(),
    "xinference": ProviderKind(),
}
AZURE = "azure"
AWS = f"{NOT_SIGNED}; models that speak OpenAI's API there have a base_url that ends in /openai/v1"
GOOGLE = (
    f"LiteLLM signs in with a service account; here {OF_GOOGLE}, and base_url: https://REGION-"
    "aiplatform.googleapis.com/v1/projects/PROJECT/locations/REGION/endpoints/openapi"
)
ENTRA = f"LiteLLM signs in with Entra ID; here {OF_AZURE}"
UNSPOKEN: Mapping[str, str] = {
    "bedrock": AWS,
    "bedrock_converse": AWS,
    "sagemaker": AWS,
    "sagemaker_chat": AWS,
    "vertex_ai": GOOGLE,
    "vertex_ai_beta": GOOGLE,
}
"""Which sign requests in ways that are not known here."""
OF_ENTRA = ("azure_ad_token", "tenant_id", "client_id", "client_secret", "azure_username")
_DEPLOYMENT = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,64}")
_DATED = re.compile(r"\d{4}-\d{2}-\d{2}(?:-[a-z0-9]+)?")
MOST_MODEL = 256
"""Characters of what a provider calls a model."""
NO_KEYS = frozenset({"", "none", "None"})
BY_NAME: Mapping[str, str] = {
    "gpt-": "openai",
    "chatgpt-": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4-": "openai",
    "text-embedding-": "openai",
    "claude-": "anthropic",
}
"""How names of models begin that LiteLLM takes without a prefix."""


@dataclass(frozen=True, slots=True)
class CallSite:
    """Where a deployment is called."""

    kind: str
    base_url: str
    auth: Any  # of the provider, as our file has it; None: the endpoint has its own
    own_auth: dict[str, Any] | None  # of the endpoint: where Azure names the model in the path
    upstream_model: str
    dialects: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the provider is called, if that is free."""
        usual = KINDS[self.kind].base_url if self.kind in KINDS else None
        if self.kind == AZURE or self.base_url == usual:
            return self.kind
        parts = urlsplit(self.base_url)
        host = (parts.hostname or "").strip("[]").replace(":", "-")
        return f"{host}-{parts.port}" if parts.port else host


def kind_and_model(fields: Fields) -> tuple[str, str]:
    """Return which provider is called, and what it calls the model.

    Raises:
        NotImportedError: that is not said, or its API is not spoken here.
    """
    at = fields.at("model")
    model = fields.text("model")
    if not model:
        raise NotImportedError(at, "missing: it names provider and model")
    kind = fields.text("custom_llm_provider")
    if kind is not None:
        model = model.removeprefix(f"{kind}/")
    elif "/" in model:
        kind, _, model = model.partition("/")
    else:
        kind = next((of for begins, of in BY_NAME.items() if model.startswith(begins)), "")
    if kind in UNSPOKEN:
        raise NotImportedError(at, f"{kind}: {UNSPOKEN[kind]}")
    if kind not in KINDS and kind != AZURE:
        who = f"the provider {safe(kind)}" if kind else "its provider"
        why = f"{who} is not known here; if it speaks OpenAI's API, write openai/ and api_base"
        raise NotImportedError(at, why)
    if not model:
        raise NotImportedError(at, f"no model is named after {kind}/")
    if len(model) > MOST_MODEL or not model.isprintable():
        why = f"a model's name has {MOST_MODEL} printable characters at most"
        raise NotImportedError(at, why)
    if is_reserved(model):
        why = f"{safe(model)} means that the sidecar chooses, and reaches no provider; name a model"
        raise NotImportedError(at, why)
    return kind, model


def site_of(fields: Fields) -> CallSite:
    """Return where a deployment is called.

    Raises:
        NotImportedError: that is not said, or cannot be said here.
    """
    kind, model = kind_and_model(fields)
    if kind == AZURE:
        return _azure(fields, model)
    known = KINDS[kind]
    base_url = _address(fields, kind, known)
    is_usual = base_url == known.base_url
    if kind == "openai" and model.startswith("responses/"):
        why = "write the model without responses/, and model_info: {mode: responses}"
        raise NotImportedError(fields.at("model"), why)
    if kind == "openai" and not is_usual:
        known = ProviderKind(
            known.base_url, known.env
        )  # who is compatible speaks chat, for certain
    auth = _key(fields, kind, known, is_usual=is_usual or known.base_url is None)
    if isinstance(auth, dict) and known.header:
        auth = {**auth, "header": known.header}
    return CallSite(kind, base_url, auth, None, model, known.dialects)


def _azure(fields: Fields, deployment: str) -> CallSite:
    for name in OF_ENTRA:
        if name in fields:
            raise NotImportedError(fields.at(name), ENTRA)
    if "/" in deployment:
        why = "what stands before the deployment's name is known to LiteLLM alone; leave it out"
        raise NotImportedError(fields.at("model"), why)
    if not _DEPLOYMENT.fullmatch(deployment):
        why = "a deployment's name has up to 64 letters, digits and . _ -, and stands in the path"
        raise NotImportedError(fields.at("model"), why)
    base_url = _address(fields, AZURE, ProviderKind())
    if "/openai" in urlsplit(base_url).path:
        why = "write the resource's address alone, https://NAME.openai.azure.com"
        raise NotImportedError(fields.at("api_base"), why)
    at = fields.at("api_version")
    version = fields.text("api_version")
    if version is None:
        raise NotImportedError(at, "missing: write the version of Azure's API, such as 2024-10-21")
    if not _DATED.fullmatch(version):
        why = "the deployment's path takes a dated version, such as 2024-10-21"
        raise NotImportedError(at, why)
    auth = _key(fields, AZURE, ProviderKind(env="AZURE_API_KEY"), is_usual=True)
    if auth == "none":
        raise NotImportedError(fields.at("api_key"), ENTRA)
    auth = {**auth, "azure": {"deployment": deployment, "api_version": version}}
    return CallSite(AZURE, base_url, None, auth, deployment, ("chat",))


def _address(fields: Fields, kind: str, known: ProviderKind) -> str:
    """Return the address, from whichever of LiteLLM's two fields has it."""
    name = "base_url" if "base_url" in fields and "api_base" not in fields else "api_base"
    written = fields.text(name)
    at = fields.at(name)
    if written is None:
        if known.base_url is None:
            raise NotImportedError(at, f"missing: {kind} has no address that all share; write it")
        return known.base_url
    if not known.own_address and written.rstrip("/") != known.base_url:
        raise NotImportedError(at, f"what {kind}/ speaks at an address of your own is not known")
    try:
        check_base_url(written)
    except ValueError as error:
        raise NotImportedError(at, safe(str(error))) from None
    bare, signed_in = part_user(written)
    if signed_in is not None:
        why = "it holds a user and a password, which are not copied; write it without them"
        raise NotImportedError(at, why)
    return bare if bare.endswith(known.ending) else f"{bare}{known.ending}"


def _key(fields: Fields, kind: str, known: ProviderKind, *, is_usual: bool) -> Any:
    """Return where the key comes from, as our file has it; no key is ever copied."""
    at, value = fields.at("api_key"), fields.take("api_key")
    if value is None and not is_usual and known.env:
        why = f"missing: LiteLLM would send {known.env} there; no key is sent until auth says so"
        fields.reading.leave(at, why)
        return "none"
    if value is None:
        return {"env": known.env} if known.env else "none"
    variable = variable_in(value)
    if variable is not None:
        if not is_variable(variable):
            raise NotImportedError(at, "what follows os.environ/ is no name of a variable")
        return {"env": variable}
    key = str(value)
    if key in NO_KEYS:
        return "none"
    name = fields.reading.name_of_key(key, kind)
    fields.reading.leave(at, f"a key stands there, and was not copied: put it into {name}")
    return {"env": name}
