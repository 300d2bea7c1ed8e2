"""What is measured of the process as it stands, beside what was counted."""

from __future__ import annotations

from router.beliefs.keeper import Keeper
from router.decision.draws import Draws
from router.decision.stored_ids import StoredIds
from router.dispatch.intents import Intents
from router.dispatch.observer_line import ObserverLine
from router.explain.log import DecisionLog
from router.net.admission import Admission
from router.net.bodies import BodyBudget
from router.net.pool import Pool
from telemetry.memory import MemoryUse
from telemetry.writer import Writer

Gauges = dict[str, tuple[str, float]]
"""By name: what it means, and its value."""

FATES = (
    ("resolved", "Feedback by reference that went to its decisions."),
    ("ambiguous", "Feedback by reference that means several decisions."),
    ("too_many", "Feedback by reference that may mean more decisions than are kept under one."),
    ("unmatched", "Feedback by reference that means none."),
    ("late", "Decisions that came in after feedback that meant them was resolved."),
    ("unknown_old", "Feedback for old decisions that no archive holds."),
)
"""What became of feedback by reference, as `telemetry.reader.FATES` names it."""


def gauges(
    keeper: Keeper,
    writer: Writer,
    decisions: DecisionLog,
    draws: Draws,
    ids: StoredIds,
    observer: ObserverLine | None,
    pool: Pool | None,
    admission: Admission,
    budget: BodyBudget,
    intents: Intents,
) -> Gauges:
    """Return all gauges of a sidecar."""
    counters, known, fates = writer.counters, keeper.current.known, keeper.references
    told, missed, left_out, restarts = 0, 0, 0, 0
    if observer is not None:
        told, missed, left_out = observer.n_told, observer.n_dropped, observer.n_sampled_out
        restarts = observer.n_restarts
    return {
        "router_snapshot_age_seconds": ("Age of the posteriors.", keeper.age_s),
        "router_posterior_version": ("Their version.", keeper.current.version),
        "router_store_up": ("Whether the store answers.", float(keeper.store_up)),
        "router_jobs_stopped": (
            "Whether a worker says that it cannot run jobs.",
            float(keeper.jobs is not None),
        ),
        "router_off": ("Whether routing is switched off.", float(keeper.off)),
        "router_drift_alarms": (
            "Alarms that an endpoint changed.",
            float(sum(one.regimes.now for one in known)),
        ),
        "router_prompt_changes": (
            "Times that a new version of a prompt opened an epoch of a task.",
            float(sum(keeper.current.epochs.values())),
        ),
        "router_endpoints_suspect": (
            "Endpoints that fell and are not back.",
            float(sum(one.watch.suspect for one in known)),
        ),
        "router_hosts_split": (
            "Hosts that their labels split off from their group.",
            float(sum(e.is_split for e in keeper.current.configuration.catalog.endpoints)),
        ),
        "router_cells_damaged": (
            "Cells that hold what no sum of records can: they are at their prior.",
            float(sum(outlook.damaged.sum() for outlook in keeper.current.outlooks)),
        ),
        **_memory_gauges(keeper.memory.use),
        **{f"router_feedback_{name}": (meaning, fates.get(name, 0)) for name, meaning in FATES},
        "router_labels_not_counted": (
            "Labelled decisions beyond the few that count of a rater in a cell and day.",
            keeper.raters.not_counted,
        ),
        "router_labels_unnamed": (
            "Labelled decisions of apps with raters that name no user: they are one rater's.",
            keeper.raters.unnamed,
        ),
        "router_intents_recorded": ("Times that sensitive content left.", intents.n_recorded),
        "router_intents_refused": (
            "Times that it did not, because that could not be recorded.",
            intents.n_refused,
        ),
        "router_events_sent": ("Records sent to the stream.", counters.sent),
        "router_observations_told": ("Calls told to the observer.", told),
        "router_observations_dropped": ("Calls that it had no time for.", missed),
        "router_observations_sampled_out": (
            "Calls of conversations that `signals.sample` leaves out.",
            left_out,
        ),
        "router_observer_restarts": ("Times that it ended and was started again.", restarts),
        "router_decisions_kept": ("Decisions written down.", decisions.n_written),
        "router_decisions_dropped": ("Decisions not kept.", decisions.n_dropped),
        "router_decisions_waiting": ("Decisions that wait for the store.", decisions.n_waiting),
        "router_units_known": ("Sessions and slots known here.", draws.n_known),
        "router_draws_disagreed": (
            "Units for which the store knew another draw: another process was first, or it was "
            "no longer known here.",
            draws.shared.n_disagreed,
        ),
        "router_draws_unwritten": ("Draws that wait for the store.", draws.shared.n_unwritten),
        "router_stored_ids_known": (
            "Responses and conversations of which it is known here who made them.",
            ids.n_known,
        ),
        "router_stored_ids_unwritten": ("Those of them that wait for the store.", ids.n_unwritten),
        "router_upstream_connections": (
            "Connections to providers, idle ones included.",
            pool.n_open if pool else 0,
        ),
        "router_calls_under_way": ("Calls under way.", admission.n_under_way),
        "router_calls_waiting": ("Calls that wait for one to end.", admission.n_waiting),
        "router_calls_shed": ("Calls turned away because of too many.", admission.n_shed),
        "router_body_bytes_held": ("Bytes of requests that are held.", budget.held),
    }


def _memory_gauges(use: MemoryUse | None) -> dict[str, tuple[str, float]]:
    """Return what the store's memory is used for, where a worker has measured it."""
    if use is None:
        return {}
    kinds = {
        f"router_store_{kind}_bytes": (f"Of the store's memory: {kind}.", float(n))
        for kind, n in use.bytes_by_kind.items()
    }
    return {
        "router_store_used_bytes": ("The store's memory.", float(use.used_bytes)),
        "router_store_limit_bytes": ("How much it may use; 0: any.", float(use.limit_bytes)),
        **kinds,
        "router_store_young_hours": ("For how long decisions are young.", float(use.young_hours)),
        "router_store_keeps_draws": ("Whether it takes new draws.", float(use.keeps_draws)),
        "router_store_keeps_ids": ("Whether it takes new ids.", float(use.keeps_ids)),
    }
