"""Whether the name that a deployment is called by says which model it is; else nothing is guessed.

Azure's deployments are called as their owner likes, another proxy's models as its file likes; an
id, an ARN or `default` is no model's name either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from router.setup.litellm_providers import AZURE, KINDS, CallSite

AZURE_HOSTS = (".azure.com", ".azure-api.net", ".azure.us", ".azure.cn")
"""Where a deployment's name stands for the model, in whatever dialect."""
OTHER_PROXY = "litellm_proxy"
AUTO = frozenset({"auto", "openrouter/auto"})
"""What OpenRouter serves by whatever model it likes."""
PLACEHOLDERS = frozenset(
    [
        "any",
        "auto",
        "chat",
        "completion",
        "custom",
        "default",
        "deployment",
        "dev",
        "dummy",
        "endpoint",
        "latest",
        "llm",
        "local",
        "local-model",
        "main",
        "model",
        "prod",
        "production",
        "staging",
        "test",
        "tgi",
    ]
)
"""What servers of one's own are called where nobody says a model."""
_ID = re.compile(
    r"[\d_.:-]+|(?=[0-9a-f-]*\d)[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}|"
    r"(?=[0-9a-f]*\d)[0-9a-f]{12,}|ep-[\w-]+|arn:.*|(?:.*/)?(?:endpoints|deployments)/.*",
    re.IGNORECASE,
)
_SAYS_MODEL = re.compile(r"arn:[^/]*:(?:foundation-model|inference-profile)/[\w-]+\.[\w.:-]+")
"""Of ARNs: Amazon's own, which end with the model."""
MOST_SHOWN = 20


def says_no_model(site: CallSite) -> bool:
    """Return whether nobody can tell from a deployment's name which model it is."""
    name = site.upstream_model
    parts = urlsplit(site.base_url)
    if site.kind in (AZURE, OTHER_PROXY) or (parts.hostname or "").endswith(AZURE_HOSTS):
        return True
    if re.search(r"/endpoints/\d+(?:/|$)", parts.path):  # one of Vertex AI's, whatever is asked for
        return True
    if site.kind == "openrouter" and name.lower() in AUTO:
        return True
    is_usual = site.base_url == KINDS[site.kind].base_url
    if not is_usual and name.lower() in PLACEHOLDERS:
        return True
    return bool(_ID.fullmatch(name)) and not _SAYS_MODEL.fullmatch(name)


def unknown_note(kind: str, unknown: Sequence[tuple[str, str]]) -> str:
    """Return what to say of endpoints whose model nobody knows, and what to write where one does.

    Args:
        unknown: each one's place in LiteLLM's file, and its id.
    """
    shown = _listed(f"{place} ({id_})" for place, id_ in unknown)
    why = "which model answers there the name does not say"
    field = "served_as: [MODEL]"
    if kind == AZURE:
        why = "the name of a deployment on Azure does not say which model it is"
        field = "upstream_model: MODEL"
    price = ", and a price that is not written goes by that name" if kind == AZURE else ""
    return (
        f"{shown}: {why}; so opaque: true keeps each apart from other hosts, and no answer's model "
        f"is compared{price}. Where you know it, write {field} instead of opaque: true, or "
        "model_info: {base_model: MODEL} there, and import again"
    )


def _listed(texts: Iterable[str]) -> str:
    every = list(texts)
    return ", ".join(every[:MOST_SHOWN]) + (
        f" and {len(every) - MOST_SHOWN} more" if len(every) > MOST_SHOWN else ""
    )
