"""What a running sidecar tells its owner of itself, as programs read it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from router.beliefs.beliefs import Beliefs
from router.beliefs.keeper import Keeper
from router.budgets.allowances import Allowances
from router.decision.context import Moment
from router.endpoints.health import Health
from router.net.exchange import Exchange
from router.policy.callers import Keys
from router.policy.standing import usual_strategy
from router.report import exploring, views
from router.report.endpoints import endpoint_rows
from telemetry.metrics import Exposition


@dataclass(slots=True, kw_only=True)
class OwnersDesk:
    """Answers what is asked of the process at hand."""

    keeper: Keeper
    health: Health
    allowances: Allowances
    exposition: Exposition
    clock: Callable[[], Moment]

    def handlers(self) -> Mapping[str, Callable[[Exchange, Beliefs], Awaitable[None]]]:
        """Return who answers, by path."""
        return {
            "/v1/router/posteriors": self.posteriors,
            "/v1/router/endpoints": self.endpoints,
            "/metrics": self.metrics,
        }

    async def posteriors(self, exchange: Exchange, beliefs: Beliefs) -> None:
        """Tell what is believed; of the admin's alone.

        Raises:
            RequestRejected: the admin key is needed.
        """
        of, at_ms = beliefs.configuration, self.clock().store_ms
        of.derive(Keys).require_admin(exchange.headers)
        shown = views.posteriors(beliefs, usual_strategy(of)) | views.keeper_rows(self.keeper)
        rows = exploring.ceiling_rows(of, self.allowances, at_ms=at_ms)
        await exchange.respond_json(200, exploring.with_ceilings(shown, rows))

    async def endpoints(self, exchange: Exchange, beliefs: Beliefs) -> None:
        """Tell how the endpoints are doing; an app may know.

        Raises:
            RequestRejected: it is no key of ours.
        """
        of = beliefs.configuration
        of.derive(Keys).require_admin_or_app(exchange.headers)
        rows = endpoint_rows(of, self.health, self.keeper.served, self.clock())
        await exchange.respond_json(200, rows)

    async def metrics(self, exchange: Exchange, beliefs: Beliefs) -> None:
        """Tell what is measured.

        Raises:
            RequestRejected: the admin key is needed.
        """
        beliefs.configuration.derive(Keys).require_admin(exchange.headers)
        kind = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
        await exchange.respond(200, self.exposition.text(), [kind])
