"""What the verbs print of a stack, and of configurations and stores that cannot be used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from scripts.proofs.canaries import Canaries
from scripts.proofs.searched import Place
from scripts.proofs.secret_stack import ALONE, STORE_URL, SecretStack
from telemetry.processes import child_environment

VERB_S = 60.0


@dataclass(slots=True)
class Verbs:
    """Runs verbs beside a stack, one after the other."""

    _stack: SecretStack
    decisions: list[str] = field(default_factory=list)  # ids of some that were drawn

    def all(self, *, quick: bool) -> Iterator[Place]:
        """Yield what the verbs print."""
        admin, key = self._stack.secrets.admin_key, self._stack.secrets.app_keys[ALONE]
        yield self.report("report")
        yield self._verb("key list", "key", "list")
        yield self._verb("audit", "audit", "state", "--json")
        for i, decision in enumerate(self.decisions[: 1 if quick else 2]):
            form = ["--json"] if i == 0 else []
            yield self._verb(
                f"explain {i}", "explain", decision, *form, more={"POINTSMAN_ADMIN_KEY": admin}
            )
        ref = self._stack.secrets.canaries.plant("feedback verb: ref")
        yield self._verb(
            "feedback", "feedback", "--ref", ref, "--passed", "--json", more={"POINTSMAN_KEY": key}
        )
        for name, text in broken(
            self._stack.secrets.canaries, self._stack.config.read_text()
        ).items():
            path = self._stack.config.with_name(f"broken-{name}.yaml")
            path.write_text(text)
            yield self._verb(f"check, {name}", "check", "--json", config=path)
            if not quick:
                yield self._verb(f"check, {name}, for people", "check", config=path)
        for name, url in list(self._wrong_stores().items())[: 1 if quick else None]:
            yield self._verb(f"report, {name}", "report", "--json", more={STORE_URL: url})
            if not quick:
                yield self._verb(
                    f"audit, {name}", "audit", "state", "--json", more={STORE_URL: url}
                )

    def report(self, name: str) -> Place:
        """Return what `report --json` prints."""
        return self._verb(name, "report", "--json")

    def _wrong_stores(self) -> dict[str, str]:
        plant, port = self._stack.secrets.canaries.plant, self._stack.store.port
        urls = {
            "wrong password": "redis://:{}@127.0.0.1:" + str(port),
            "nobody there": "redis://me:{}@127.0.0.1:1",
            "odd scheme": "http://me:{}@127.0.0.1",
            "slash in the password": "redis://:/{}@127.0.0.1",
            "odd option": "redis+sentinel://:x@127.0.0.1/main?pass={}",
            "cut off": "redis://:{}",
        }
        return {name: url.format(plant(f"store address, {name}")) for name, url in urls.items()}

    def _verb(
        self,
        name: str,
        *words: str,
        config: Path | None = None,
        more: dict[str, str] | None = None,
    ) -> Place:
        """Return what one prints, on both of its lines."""
        command = [sys.executable, "-m", "router.cli", *words]
        command += ["--config", str(config or self._stack.config)]
        done = subprocess.run(  # noqa: S603 - our own modules
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERB_S,
            env=child_environment() | (more or {}),
        )
        return f"verb {name}", done.stdout + done.stderr


def broken(canaries: Canaries, text: str) -> dict[str, str]:
    """Return broken configurations by name: keys where none may stand, and what is no YAML."""

    def plant(where: str) -> str:
        return canaries.plant(f"configuration: {where}")

    value = yaml.safe_load(text)
    value["server"]["admin_key"] = plant("admin_key")
    value["store"]["url_env"] = f"redis://:{plant('url_env')}@localhost"
    first, second, third = list(value["providers"])[:3]
    value["providers"][first]["auth"] = plant("auth")
    value["providers"][second]["auth"] = {"env": plant("auth.env"), "key": plant("auth.key")}
    value["providers"][second]["api_key"] = plant("api_key")
    value["providers"][third]["base_url"] = f"https://me:{plant('base_url')}@host:port/v1"
    value["providers"]["with-query"] = {"base_url": f"https://host/v1?key={plant('query')}"}
    value["apps"][ALONE]["keys"] = [
        plant("keys"),
        {"env": plant("keys.env")},
        {plant("keys name"): 1},
    ]
    value["endpoints"][0]["params"] = {"headers": {"authorization": plant("params")}, "model": "x"}
    return {
        "keys": yaml.safe_dump(value, sort_keys=False),
        "no yaml": text + f'\nkey: "{plant("no YAML")}\n  - : {plant("no YAML, next line")}: x\n',
        "no mapping": plant("no mapping"),
        "odd tag": text + f"\nserver: !{plant('tag')} x\n*{plant('alias')}\n",
    }
