"""Providers that are known by the variable of their key: address, two models, and sure facts.

Models are ones whose published prices are known, the stronger first. A fact that is not sure is not
here: what a provider does not say, no rule of a policy may rest on.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

CHAT, RESPONSES, MESSAGES = "chat", "responses", "messages"


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model by its usual name, and as this provider calls it."""

    name: str
    upstream: str = ""  # "": the same
    output_tokens: int | None = None
    """Said where the provider's dialect must name a limit and other clients may leave it out."""

    @property
    def called(self) -> str:
        """What the provider is asked for."""
        return self.upstream or self.name


@dataclass(frozen=True, slots=True)
class KnownProvider:
    """What is known of a provider before anybody called it."""

    name: str
    keys: tuple[str, ...]  # variables that may hold its key, the usual one first
    base_url: str
    models: tuple[KnownModel, ...]
    address: tuple[str, str] = ("", "")
    """Variable that its SDK takes the address from, and what belongs to it in ours."""
    header: str = ""  # in which its key travels; "": Authorization
    dialects: tuple[str, ...] = (CHAT,)
    region: str = ""
    jurisdiction: str = ""

    @property
    def host(self) -> str:
        """Of its address."""
        return urlsplit(self.base_url).hostname or ""


_CLAUDE_WRITES = 64_000
"""What every model of Anthropic's since 2025 may write at least."""
_GPT_OSS = "gpt-oss-120b"

KNOWN: tuple[KnownProvider, ...] = (
    KnownProvider(
        "openai",
        ("OPENAI_API_KEY",),
        "https://api.openai.com/v1",
        (KnownModel("gpt-6.1-sol"), KnownModel("gpt-6-luna")),
        address=("OPENAI_BASE_URL", ""),
        dialects=(CHAT, RESPONSES),
        jurisdiction="US",
    ),
    KnownProvider(
        "anthropic",
        ("ANTHROPIC_API_KEY",),
        "https://api.anthropic.com/v1",
        (
            KnownModel("claude-opus-5-5", output_tokens=_CLAUDE_WRITES),
            KnownModel("claude-haiku-5-5", output_tokens=_CLAUDE_WRITES),
        ),
        address=("ANTHROPIC_BASE_URL", "/v1"),
        header="x-api-key",
        dialects=(MESSAGES,),
        jurisdiction="US",
    ),
    KnownProvider(
        "google",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "https://generativelanguage.googleapis.com/v1beta/openai",
        (KnownModel("gemini-4-argon"), KnownModel("gemini-3.8-flash")),
        jurisdiction="US",
    ),
    KnownProvider(
        "mistral",
        ("MISTRAL_API_KEY",),
        "https://api.mistral.ai/v1",
        (KnownModel("mistral-medium-latest"), KnownModel("mistral-small-latest")),
        region="eu",
        jurisdiction="EU",
    ),
    KnownProvider(
        "groq",
        ("GROQ_API_KEY",),
        "https://api.groq.com/openai/v1",
        (
            KnownModel(_GPT_OSS, "openai/gpt-oss-120b"),
            KnownModel("gpt-oss-20b", "openai/gpt-oss-20b"),
        ),
        address=("GROQ_BASE_URL", "/openai/v1"),
        jurisdiction="US",
    ),
    KnownProvider(
        "deepseek",
        ("DEEPSEEK_API_KEY",),
        "https://api.deepseek.com/v1",
        (KnownModel("deepseek-v4-pro"), KnownModel("deepseek-v4-flash")),
        region="cn",
        jurisdiction="CN",
    ),
    KnownProvider(
        "openrouter",  # it passes calls on to others: no fact of its own says where
        ("OPENROUTER_API_KEY",),
        "https://openrouter.ai/api/v1",
        (
            KnownModel("kimi-k3.1-pro", "moonshotai/kimi-k3.1-pro"),
            KnownModel(_GPT_OSS, "openai/gpt-oss-120b"),
        ),
    ),
    KnownProvider(
        "together",
        ("TOGETHER_API_KEY",),
        "https://api.together.xyz/v1",
        (
            KnownModel("kimi-k3.1-pro", "moonshotai/Kimi-K3.1-Pro"),
            KnownModel(_GPT_OSS, "openai/gpt-oss-120b"),
        ),
        address=("TOGETHER_BASE_URL", ""),
        jurisdiction="US",
    ),
    KnownProvider(
        "fireworks",
        ("FIREWORKS_API_KEY",),
        "https://api.fireworks.ai/inference/v1",
        (
            KnownModel("kimi-k3.1-pro", "accounts/fireworks/models/kimi-k3p1-pro"),
            KnownModel(_GPT_OSS, "accounts/fireworks/models/gpt-oss-120b"),
        ),
        jurisdiction="US",
    ),
    KnownProvider(
        "xai",
        ("XAI_API_KEY",),
        "https://api.x.ai/v1",
        (KnownModel("grok-4.7"), KnownModel("grok-4-1-fast-non-reasoning")),
        jurisdiction="US",
    ),
    KnownProvider(
        "cerebras",
        ("CEREBRAS_API_KEY",),
        "https://api.cerebras.ai/v1",
        (KnownModel("zai-glm-4.7"), KnownModel(_GPT_OSS)),
        address=("CEREBRAS_BASE_URL", "/v1"),
        jurisdiction="US",
    ),
)
"""In the order in which they are listed, and so the first one's first model is the incumbent."""


@dataclass(frozen=True, slots=True)
class KnownServer:
    """A server of one's own: no key, and whoever it serves asks it for its models."""

    name: str
    variable: str
    port: int | None  # where the variable names none; None: it is a whole base URL


SERVERS = (
    KnownServer("ollama", "OLLAMA_HOST", 11434),
    KnownServer("vllm", "HOSTED_VLLM_API_BASE", None),
)


BY_HAND = {
    "AZURE_OPENAI_API_KEY": "which deployments there are it does not say: write them by hand, "
    "auth: {env: AZURE_OPENAI_API_KEY, azure: {deployment: …, api_version: …}}",
    "AWS_BEARER_TOKEN_BEDROCK": "in which region its models are it does not say: write them by "
    "hand, with a base_url that ends in /openai/v1",
}
"""Keys that are known, and say too little to call anybody with; nothing is guessed."""


def variables() -> list[str]:
    """Return every variable that is looked for, keys first."""
    return [name for one in KNOWN for name in one.keys] + [one.variable for one in SERVERS]
