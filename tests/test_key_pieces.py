"""What a provider says is shown clean, and without any piece of the key that it is called with."""

from __future__ import annotations

import base64

import pytest

from router.endpoints.key_pieces import cleaned, holds_piece, without_key

SECRET = "sk-live-SECRETKEY-4f9a77b2c1"
HEADER = (b"authorization", b"Bearer " + SECRET.encode())
HALF = SECRET[:14]


@pytest.mark.parametrize(
    "said",
    [
        SECRET,
        "sk-live-SE\x1b[0mCRETKEY-4f9a77b2c1",
        "sk-live-SE\u200bCRETKEY-4f9a77b2c1",
        "sk-live-SE\nCRETKEY\r\n-4f9a\t77b2c1",
        "sk-live-SE\x9b31mCRETKEY-\x1bc4f9a77b2c1",
        "\u200b".join(SECRET),
        " ".join(SECRET),
        "sk-live-SECRET|KEY-4f9a77b2c1",
        "".join(chr(ord(c) + 0xFEE0) for c in SECRET),
        SECRET.upper(),
        HALF,
        SECRET[-12:],
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(b"x:" + SECRET.encode()).decode(),
        base64.b64encode(HEADER[1]).decode(),
        SECRET.encode().hex(),
    ],
)
def test_no_piece_of_a_key_is_shown_however_it_is_parted(said: str) -> None:
    shown = without_key(f"bad key: {said}, see us", HEADER)

    assert shown.startswith("bad key: ")
    assert shown.endswith(", see us")
    assert "(key)" in shown
    assert len(shown) < 24 + 12, shown
    assert holds_piece(said, HEADER)


@pytest.mark.parametrize("said", ["sk-live-SEC", "it takes no temperature", "a\x1b[1mb\n"])
def test_what_holds_no_piece_is_as_it_was(said: str) -> None:
    assert without_key(said, HEADER) == said
    assert without_key(said, None) == said


def test_a_short_key_is_masked_whole_and_a_password_as_well_as_its_header() -> None:
    assert without_key("no: pw-1!", (b"api-key", b"pw-1")) == "no: (key)!"
    basic = b"Basic " + base64.b64encode(b"me:correct-horse-battery")
    assert without_key("no correct-horse-battery", (b"authorization", basic)) == "no (key)"
    assert without_key("no " + basic.decode()[6:], (b"authorization", basic)) == "no (key)"


def test_words_are_on_one_line_without_what_a_terminal_obeys() -> None:
    assert cleaned("a\x1b[31mb\u202e\n c\x00\u200bd\u00a0e") == "ab cd e"
