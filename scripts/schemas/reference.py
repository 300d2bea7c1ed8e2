"""Pages of `docs/` that list every field of the configuration, from its JSON Schema."""

from __future__ import annotations

from dataclasses import dataclass

from router.config.budgets import BudgetEntry
from router.config.entries import (
    AppEntry,
    File,
    MatchEntry,
    SampleRateEntry,
    SignalsEntry,
    TaskEntry,
    UserEntry,
)
from router.config.exploring import ExploringEntry
from router.config.keys import HeldKeyEntry
from router.config.notices import NoticesEntry, WebhookEntry
from router.config.policies import (
    ConstraintsEntry,
    EndpointsEntry,
    OrganisationEntry,
    PreferencesEntry,
    RoleEntry,
)
from router.config.process import ArchiveEntry, AuditEntry, OtelEntry, ServerEntry, StoreEntry
from router.config.strategies import StrategyEntry
from router.config.wishes import (
    CostLimitEntry,
    LatencyLimitEntry,
    QualityLimitEntry,
    StrategyLimitsEntry,
)
from router.endpoints.auth import AuthEntry, AzureEntry
from router.endpoints.entries import (
    BesideEntry,
    EndpointEntry,
    Hosting,
    LimitsEntry,
    ModelEntry,
    PassthroughEntry,
    ProfileEntry,
    ProviderEntry,
    TimeoutsEntry,
    TranslateEntry,
)
from router.endpoints.entry import Entry
from router.endpoints.maintenance import MaintenanceEntry
from router.endpoints.prices import LongPromptEntry, MachineEntry, PricesEntry, TierEntry
from router.endpoints.rate_limits import RateLimitsEntry
from router.endpoints.terms import AgreementEntry
from scripts.schemas.configuration import configuration
from scripts.schemas.fields import FieldListing, FieldSection

RULES = FieldSection("reference.md", "Rules", PreferencesEntry, "")
HOSTING = FieldSection("reference-endpoints.md", "Providers", ProviderEntry, "providers.NAME")
PROFILE = FieldSection("reference-endpoints.md", "Models", ModelEntry, "models.NAME")


@dataclass(frozen=True, slots=True)
class ReferencePage:
    """A page: its file, title and opening, and the entries that it lists."""

    file: str
    title: str
    opening: str
    parts: tuple[FieldSection, ...]


def _page(
    file: str, title: str, opening: str, *parts: tuple[str, type[Entry], str]
) -> ReferencePage:
    return ReferencePage(file, title, opening, tuple(FieldSection(file, *part) for part in parts))


PAGES = (
    _page(
        "reference.md",
        "Every field: the file, server, store, rules",
        "Made from the code by `python -m scripts.schemas`, as is the JSON Schema "
        "[configuration.json](schemas/configuration.json). What is not written has the value under "
        "*unset*. The other two pages: [endpoints](reference-endpoints.md), "
        "[apps](reference-apps.md). [Configuration](configuration.md) says how the file is read.",
        ("The file", File, ""),
        ("Server", ServerEntry, "server"),
        ("Store", StoreEntry, "store"),
        ("Archive", ArchiveEntry, "archive"),
        ("Audit", AuditEntry, "audit"),
        ("Rules", PreferencesEntry, "organisation, tasks, roles, strategies, users and apps"),
        ("Lists of endpoints", EndpointsEntry, "endpoints of rules"),
        ("Organisation", OrganisationEntry, "organisation"),
        ("Exploring", ExploringEntry, "exploring"),
        ("Notices", NoticesEntry, "notices"),
        ("OpenTelemetry", OtelEntry, "otel"),
        ("Webhook", WebhookEntry, "notices.webhook"),
        ("Where a key is", AuthEntry, "auth"),
        ("Azure", AzureEntry, "auth.azure"),
    ),
    _page(
        "reference-endpoints.md",
        "Every field: models, providers, endpoints",
        "Made from the code. [Endpoints](endpoints.md) and [prices](prices.md) say what the fields "
        "do together.",
        ("Models", ModelEntry, "models.NAME"),
        ("Providers", ProviderEntry, "providers.NAME"),
        ("Endpoints", EndpointEntry, "endpoints"),
        ("Prices", PricesEntry, "prices"),
        ("Service tiers", TierEntry, "prices.tiers.NAME"),
        ("Long prompts", LongPromptEntry, "prices.long_prompts"),
        ("A machine of your own", MachineEntry, "prices"),
        ("Time limits", TimeoutsEntry, "timeouts"),
        ("Beside a slow one", BesideEntry, "timeouts.beside_s"),
        ("Limits of an endpoint", LimitsEntry, "endpoints.limits"),
        ("Limits a minute", RateLimitsEntry, "providers.NAME.limits"),
        ("Translation", TranslateEntry, "translate"),
        ("Pass-through", PassthroughEntry, "passthrough"),
        ("Agreements", AgreementEntry, "agreement"),
        ("Maintenance", MaintenanceEntry, "maintenance"),
    ),
    _page(
        "reference-apps.md",
        "Every field: tasks, roles, strategies, users, budgets, apps",
        "Made from the code. [Apps](apps.md), [tasks](tasks.md), [strategies](strategies.md) and "
        "[budgets](budgets.md) say what the fields do together.",
        ("Apps", AppEntry, "apps.NAME"),
        ("Labels read off calls", SignalsEntry, "apps.NAME.signals"),
        ("Above a rate of calls", SampleRateEntry, "apps.NAME.signals.sample"),
        ("Keys that say more", HeldKeyEntry, "keys"),
        ("Tasks", TaskEntry, "tasks.NAME"),
        ("What marks a task", MatchEntry, "tasks.NAME.match"),
        ("Roles", RoleEntry, "roles.NAME"),
        ("Strategies", StrategyEntry, "strategies.NAME"),
        ("Limits of strategies", StrategyLimitsEntry, "limits"),
        ("Latency", LatencyLimitEntry, "limits.latency"),
        ("Cost", CostLimitEntry, "limits.cost"),
        ("Quality", QualityLimitEntry, "limits.quality"),
        ("Users", UserEntry, "users.NAME"),
        ("Budgets", BudgetEntry, "budgets.NAME"),
    ),
)
SHARED: dict[type[Entry], FieldSection] = {
    ConstraintsEntry: RULES,
    PreferencesEntry: RULES,
    Hosting: HOSTING,
    ProfileEntry: PROFILE,
}
"""Entries whose fields are listed once, though others have them as well."""


def pages() -> dict[str, str]:
    """Return every page by its file's name.

    Raises:
        ValueError: an entry of the configuration is on no page, or a field has no sentence.
    """
    parts = {part.model: part for page in PAGES for part in page.parts}
    listing = FieldListing(File, configuration(), parts)
    return {page.file: _text(page, listing) for page in PAGES}


def _text(page: ReferencePage, listing: FieldListing) -> str:
    lines = [f"# {page.title}", page.opening, ""]
    for part in page.parts:
        lines += [*_section(part, listing), ""]
    return "\n".join(lines[:-1]) + "\n"


def _section(part: FieldSection, listing: FieldListing) -> list[str]:
    lines = [f"## {part.heading}"]
    if part.place:
        said = (part.model.__doc__ or "").strip().partition("\n")[0]
        lines.append(f"`{part.place}`. {said}")
    bases = [base for base in SHARED if issubclass(part.model, base)]
    elsewhere = [base for base in bases if SHARED[base].model is not part.model]
    for other in dict.fromkeys(SHARED[base] for base in elsewhere):
        link = other.link_from(part)
        missing = [name for name in other.model.model_fields if name not in part.model.model_fields]
        but = f", but {' and '.join(f'`{name}`' for name in missing)}" if missing else ""
        lines.append(f"All fields of [{other.heading.lower()}]({link}) as well{but}.")
    whole = listing.schema if part.model is File else listing.schema["$defs"][_named(part)]
    left_out = {name for base in elsewhere for name in base.model_fields}
    fields = [(f.alias or n) for n, f in part.model.model_fields.items() if n not in left_out]
    if fields:
        lines += ["", "| field | written | unset | meaning |", "|---|---|---|---|"]
    for name in fields:
        is_needed = name in whole.get("required", ())
        lines.append(listing.row(part, name, whole["properties"][name], is_needed=is_needed))
    return lines


def _named(part: FieldSection) -> str:
    """Return the schema's name of an entry; rules alone are no section of a file."""
    model = OrganisationEntry if part.model is PreferencesEntry else part.model
    return model.__name__
