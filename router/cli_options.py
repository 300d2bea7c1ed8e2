"""Options that several verbs take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", help="The configuration; else $POINTSMAN_CONFIG, ./pointsman.yaml."),
]
LongestPause = Annotated[
    float, typer.Option(min=0, help="Seconds at most until a part that died starts again.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Url = Annotated[str | None, typer.Option(help="The sidecar; else as configured.")]
Key = Annotated[str, typer.Option(envvar="POINTSMAN_KEY", help="The app's key.")]
AdminKey = Annotated[
    str, typer.Option(envvar="POINTSMAN_ADMIN_KEY", help="The admin key; else as configured.")
]
Where = Annotated[list[str] | None, typer.Option(help="Only rows with column=value; repeatable.")]
Incumbent = Annotated[str | None, typer.Option(help="Who has the traffic now; else learning mode.")]
