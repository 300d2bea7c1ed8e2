"""`pointsman demo`: the whole stack against simulated endpoints."""

from __future__ import annotations

import math

from router.commands.console import BAD_INPUT, FAILED, fail, print_json
from router.demo.client import DemoSettings
from router.demo.figures import print_result
from router.demo.run import run_demo
from telemetry import logs
from telemetry.tables import BadTable


def demo(settings: DemoSettings, *, as_json: bool) -> None:
    """Run the demo and print what was learned."""
    logs.configure()
    selection = settings.selection
    if settings.outcomes is None and (selection.where or selection.endpoints):
        fail("--where and --endpoints select from a table: name it by --outcomes", BAD_INPUT)
    if not math.isfinite(settings.time_scale) or not math.isfinite(settings.feedback_delay_s):
        fail("--time-scale and --feedback-delay are numbers", BAD_INPUT)
    try:
        result = run_demo(settings)
    except BadTable as error:
        fail(str(error), BAD_INPUT)
    if as_json:
        print_json(result.as_json())
    else:
        print_result(result)
    if not result.is_sound:
        raise SystemExit(FAILED)
