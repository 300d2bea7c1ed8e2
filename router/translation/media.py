"""Pictures and documents: by what URL, and whether it holds them itself."""

from __future__ import annotations

import re

from msgspec import Struct

DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL | re.ASCII)
OTHER_NAMES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
"""What clients call a type that providers know by one name."""
SCHEMES = ("https://", "http://", "data:")
PDF = "application/pdf"


class DataUrl(Struct, frozen=True):
    """What a `data:` URL holds."""

    media_type: str
    base64: str

    @property
    def url(self) -> str:
        """The URL that holds it."""
        return f"data:{self.media_type};base64,{self.base64}"


def held(url: str) -> DataUrl | None:
    """Return what a `data:` URL holds in base64; None where it is another URL."""
    found = DATA.fullmatch(url)
    return None if found is None else DataUrl(media_type(found[1]), found[2])


def media_type(said: str) -> str:
    """Return a type as providers name it: in small letters, by its registered name."""
    small = said.lower()
    return OTHER_NAMES.get(small, small)


def is_url(text: str) -> bool:
    """Return whether a provider may fetch what this names, or finds it in there."""
    return text.startswith(SCHEMES)
