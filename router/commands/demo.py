"""`pointsman demo`: the whole stack against simulated endpoints."""

from __future__ import annotations

import math
from pathlib import Path

from router.commands.console import BAD_INPUT, FAILED, fail, print_json
from router.demo.client import DemoSettings, say
from router.demo.figures import DemoResult, print_result
from router.demo.place import DemoPlace, PlaceTaken, place_in, wait_to_be_stopped
from router.demo.run import run_demo
from telemetry import logs
from telemetry.tables import BadTable


def demo(settings: DemoSettings, *, as_json: bool, stay: bool) -> None:
    """Run the demo and print what was learned; where it stays, serve on until Ctrl-C."""
    logs.configure()
    selection = settings.selection
    if settings.outcomes is None and (selection.where or selection.endpoints):
        fail("--where and --endpoints select from a table: name it by --outcomes", BAD_INPUT)
    if not math.isfinite(settings.time_scale) or not math.isfinite(settings.feedback_delay_s):
        fail("--time-scale and --feedback-delay are numbers", BAD_INPUT)

    def told(result: DemoResult, place: DemoPlace) -> None:
        if as_json:
            print_json(result.as_json())
        else:
            print_result(result)
        if stay:
            say(_greeting(place))
            wait_to_be_stopped()

    try:
        result = run_demo(settings, place=place_in(Path.cwd()) if stay else None, then=told)
    except (BadTable, PlaceTaken) as error:
        fail(str(error), BAD_INPUT)
    if not result.is_sound:
        raise SystemExit(FAILED)


def _greeting(place: DemoPlace) -> str:
    base_url = f"{place.url}/v1"
    return (
        f"pointsman: the demo goes on at {place.url}  (Ctrl-C ends it and removes its files)\n"
        f'    OPENAI_BASE_URL={base_url}     or OpenAI(base_url="{base_url}", api_key="any")'
    )
