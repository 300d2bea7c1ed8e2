"""What a store holds secret, as a router knows it: of users, of draws, and what seals ids."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from telemetry import keys
from telemetry.kept_secrets import SecretsFile
from telemetry.keyring import Keyring, SeenKeys
from telemetry.secret import DrawsSecret, StoreSecret
from telemetry.store import Client


class SeenSecrets(NamedTuple):
    """What a store was seen to hold, in the order in which it is asked."""

    users: bytes | None
    draws: bytes | None
    seal: bytes | None
    seals: dict[bytes, bytes]


class StoreSecrets:
    """All secrets of a store, in one file of the state directory."""

    def __init__(self, state_dir: Path) -> None:
        """Know what the directory kept.

        Raises:
            OSError: the directory cannot be used.
        """
        file = SecretsFile(state_dir)
        kept = file.open()
        self.users = StoreSecret(file, kept)
        self.draws = DrawsSecret(file, kept)
        self.keyring = Keyring(file, kept)

    def agree(self, client: Client, seen: SeenSecrets) -> None:
        """Take over what the store holds, and give it what it lacks.

        What can be known without a write is known, whatever a write then meets.

        Raises:
            redis.RedisError: the store is away, or takes no writes.
        """
        self.keyring.learn(SeenKeys(seen.seal, seen.seals))
        self.users.agree(client, seen.users)
        self.draws.agree(client, seen.draws)
        self.keyring.agree(client, SeenKeys(seen.seal, seen.seals))


def ask(pipeline: Client) -> None:
    """Ask for what `SeenSecrets` holds."""
    pipeline.get(keys.SECRET)
    pipeline.get(keys.DRAWS_SECRET)
    pipeline.get(keys.SEAL)
    pipeline.hgetall(keys.SEALS)
