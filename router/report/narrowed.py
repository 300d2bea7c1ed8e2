"""What is believed, as programs read it, without what was not asked about. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.report.page_wish import PageWish

SECTIONS = ("rows", "categories", "choices", "leaves", "sampled", "damaged", "prompts", "unlisted")
"""Those whose rows say of which task they are."""


def narrowed(shown: Mapping[str, Any], wish: PageWish | None) -> dict[str, Any]:
    """Return sections with the rows of a wish: what all apps share is of each of them."""
    if wish is None or not wish.is_narrow:
        return dict(shown)
    kept = {
        name: [row for row in shown[name] if _is_meant(row, wish)]
        for name in SECTIONS
        if name in shown
    }
    return {**shown, **kept}


def _is_meant(row: Mapping[str, Any], wish: PageWish) -> bool:
    role, strategy = row.get("role", wish.role), row.get("strategy", wish.strategy)
    return wish.admits(
        app=row.get("app") or wish.app or "",
        task=row.get("task") or row.get("category") or "",
        role=role or "",
        strategy=strategy or "",
    )
