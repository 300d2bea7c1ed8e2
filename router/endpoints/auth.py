"""Where an endpoint's key comes from, and in which header it goes out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from router.endpoints.entry import Entry, HeaderName
from router.endpoints.key_command import run_key_command

REFRESH_S = 600.0
"""Tokens that clouds hand out live for an hour; some that are shared are older when they come."""
SIGNED = frozenset(
    [
        "sigv4",
        "aws",
        "aws_sigv4",
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "aws_profile",
        "aws_region",
        "aws_role_arn",
    ]
)
TOKENS_OF_GOOGLE = frozenset(
    ["google", "gcp", "adc", "vertex", "service_account", "google_credentials"]
)
TOKENS_OF_AZURE = frozenset(["azure_ad", "entra", "msal", "managed_identity", "tenant_id"])
NOT_SIGNED = (
    "requests are not signed here (SigV4); Bedrock takes an API key as a bearer token: "
    "auth: {env: AWS_BEARER_TOKEN_BEDROCK}"
)
BY_COMMAND = "have a command print the token: auth: {command: [%s], refresh_s: 600}"
OF_GOOGLE = BY_COMMAND % "gcloud, auth, print-access-token"
OF_AZURE = BY_COMMAND % (
    "az, account, get-access-token, --resource, https://cognitiveservices.azure.com, "
    "--query, accessToken, -o, tsv"
)


class AzureEntry(Entry):
    """How Azure names a model in the path."""

    deployment: str
    """The deployment's name."""
    api_version: str
    """The version of Azure's API, such as 2024-10-21."""


Word = Annotated[str, Field(min_length=1, max_length=4096)]


def _words(value: object) -> object:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(
            "write the program and its arguments as a list, which no shell reads: "
            "[gcloud, auth, print-access-token]"
        )
    return value


class AuthEntry(Entry):
    """Where a key comes from, and how it is sent."""

    foreign: ClassVar[frozenset[str]] = SIGNED | TOKENS_OF_GOOGLE | TOKENS_OF_AZURE
    env: str | None = None
    """Variable that holds the key."""
    file: Path | None = None
    """File that holds the key. A change is taken without a reload."""
    command: Annotated[tuple[Word, ...], BeforeValidator(_words), Field(max_length=64)] | None = (
        None
    )
    """Program and arguments, run without a shell; what it prints is the key."""
    refresh_s: Annotated[float, Field(ge=1, le=86_400)] | None = None
    """Every how many seconds the command is run. Choose less than the key lives. Unset, 600."""
    header: HeaderName | None = None
    """Header that carries the key. Unset, `Authorization: Bearer`."""
    azure: AzureEntry | None = None
    """How Azure names the model in the path."""

    @model_validator(mode="before")
    @classmethod
    def _is_known(cls, value: Any) -> Any:
        """Refuse ways of signing in that there are elsewhere, with what to use in their place."""
        if isinstance(value, dict):
            _refuse_others({str(name).lower() for name in value})
        return value

    @model_validator(mode="after")
    def _one_source(self) -> AuthEntry:
        if sum(source is not None for source in (self.env, self.file, self.command)) != 1:
            raise ValueError("name the key's source: exactly one of env, file and command")
        if self.refresh_s is not None and self.command is None:
            raise ValueError("refresh_s says how often a command is run, and there is none")
        return self

    @property
    def file_exists(self) -> bool:
        """Whether there is such a file."""
        return self.file is not None and os.path.exists(self.file)  # an overlong name is none

    @property
    def source(self) -> tuple[str, str]:
        """The field that names where the key comes from, and what it says."""
        if self.command is not None:
            return "command", self.command[0]
        return ("env", self.env) if self.env is not None else ("file", str(self.file))

    @property
    def every_s(self) -> float:
        """How often a command is run."""
        return self.refresh_s or REFRESH_S

    def require(self) -> None:
        """Look whether there is a key to be had, as far as that can be told without asking anybody.

        Raises:
            LookupError: there is none; names the fix.
        """
        if self.command is None:
            self.secret()
        elif shutil.which(self.command[0]) is None:
            raise LookupError(f"{self.command[0]} is no program that can be run here")

    def secret(self) -> str:
        """Return the key.

        Raises:
            LookupError: the variable is not set, the file cannot be read, or the command fails;
                names the fix.
        """
        if self.command is not None:
            return _sound(run_key_command(self.command), self.command[0])
        if self.env is not None:
            value = os.environ.get(self.env, "").strip()
            if not value:
                raise LookupError(f"environment variable {self.env} is not set; export it")
            return _sound(value, self.env)
        assert self.file is not None
        try:
            value = self.file.read_text().strip()
        except OSError as error:
            raise LookupError(f"{self.file} cannot be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise LookupError(f"{self.file} holds no text") from None
        if not value:
            raise LookupError(f"{self.file} is empty")
        return _sound(value, str(self.file))

    def header_of(self, secret: str) -> tuple[bytes, bytes]:
        """Return the header in which a key travels."""
        if self.azure:
            return b"api-key", secret.encode()
        if self.header:
            return self.header.lower().encode(), secret.encode()
        return b"authorization", b"Bearer " + secret.encode()


def _sound(secret: str, source: str) -> str:
    if not secret.isascii() or not secret.isprintable():
        raise LookupError(f"{source} holds characters that no header may carry")
    return secret


def _known_word(value: object) -> object:
    """Refuse the name of a way to sign in that there are elsewhere, with what to use."""
    _refuse_others({str(value).lower()})
    return value


def _refuse_others(names: set[str]) -> None:
    for known, fix in (
        (SIGNED, NOT_SIGNED),
        (TOKENS_OF_GOOGLE, OF_GOOGLE),
        (TOKENS_OF_AZURE, OF_AZURE),
    ):
        if names & known:
            raise ValueError(fix)


def _kind_of_auth(value: object) -> str:
    return "word" if isinstance(value, str) else "key"


Auth = Annotated[
    Annotated[AuthEntry, Tag("key")]
    | Annotated[Literal["client", "none"], BeforeValidator(_known_word), Tag("word")],
    Discriminator(_kind_of_auth),
]
