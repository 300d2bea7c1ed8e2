"""Playing a simulated agent's episodes through a sidecar, under one way to route and to judge."""

from __future__ import annotations

import json
import time
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml
from msgspec import Struct
from numpy.typing import NDArray

from router.config.compiled import Configuration, compile_text
from router.decision.context import Moment
from scripts.proofs.episode_fold import FoldedWithin
from scripts.proofs.episode_sabotage import CreditSabotage, sabotaged
from scripts.proofs.episode_world import (
    ENDPOINTS,
    ROLES,
    TASKS,
    AgentEpisode,
    AgentWorld,
    RoleMap,
    episode_of,
)
from scripts.proofs.within import GivenAnswer, SentRequest, SidecarWithin
from telemetry.kept_secrets import KeptSecrets, SecretsFile

BEGAN_S = 1_900_000_000.0
EPISODES_A_DAY = 36
"""1,500 episodes then last six weeks: three half-lives of a label, and six reviews of choices."""
CALL_S = 30.0
"""From one call to the next; far below the half hour after which an idle session draws anew."""
LOOK_EVERY = 10
"""Episodes between two looks at the rows. Live there is one within a second of each: what is told
here learns rather too late."""
NEVER_S = 3600
"""No second start beside a slow one: this machine's load is no provider's."""
BODY = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "go on"}]}).encode()
ANSWER = {
    "id": "a",
    "object": "chat.completion",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}


class Words(StrEnum):
    """Which labels are given."""

    WHOLE = "whole"  # whether the episode succeeded, said once of it
    CALLS = "calls"  # of each call, whether its answer looks good


class Arm(Struct, frozen=True):
    """One way to route and to judge."""

    name: str
    locked: bool = True
    words: Words = Words.WHOLE
    guarded: bool = False  # the incumbents are who looks best in each part; else learning mode


class EpisodeSetting(Struct, frozen=True):
    """All that a run is played under."""

    world: AgentWorld
    arm: Arm
    n_episodes: int
    sabotage: CreditSabotage | None = None


class EpisodesPlayed(Struct):
    """What came of a run, by episode; all arrays are (n_episodes,)."""

    succeeded: NDArray[np.bool_]
    worth: NDArray[np.float64]  # the chance that it would
    maps: list[RoleMap | None]  # who played it; None where several hands played a part
    alarms: int = 0
    released: int = 0
    miscounted: int = 0  # labels that count where they should not, or do not where they should


class ServedCall(Struct, frozen=True):
    """One call that was answered."""

    role: str
    endpoint: str
    decision_id: str
    looks_good: bool


class SimulatedClock:
    """Both clocks of a moment, which only go on when they are told to."""

    def __init__(self) -> None:
        self._passed_s = 0.0
        self._began_s = time.monotonic()

    def __call__(self) -> Moment:
        """Return what time it is."""
        return Moment(BEGAN_S + self._passed_s, self._began_s + self._passed_s)

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self._passed_s += seconds


class AnswersAlways(httpx.AsyncBaseTransport):
    """Every endpoint; all of them answer alike, at once."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        return httpx.Response(200, json=ANSWER)


def configuration_of(setting: EpisodeSetting, state_dir: Path) -> Configuration:
    """Return that of an app with an agent of three roles; all endpoints cost the same."""
    arm, beside = setting.arm, {"first_token": NEVER_S, "answer": NEVER_S}
    endpoints = [
        {
            "id": name,
            "model": name,
            "base_url": f"http://{name}.test/v1",
            "timeouts": {"beside_s": beside},
        }
        for name in ENDPOINTS
    ]
    roles: dict[str, dict[str, Any]] = {role: {"tasks": list(TASKS[role])} for role in ROLES}
    if arm.guarded:
        for role, who in zip(ROLES, setting.world.praised, strict=True):
            roles[role]["incumbent"] = ENDPOINTS[who]
    learn = {"objective": "quality", **({} if arm.guarded else {"incumbent": "none"})}
    value = {
        "server": {"state_dir": str(state_dir)},
        "store": {"shards": 1},  # as one sequence of records is folded
        "endpoints": endpoints,
        "tasks": {task: None for tasks in TASKS.values() for task in tasks},
        "roles": roles,
        "strategies": {"whole": learn},
        "apps": {"default": {"mode": "route", "strategy": "whole", "locked": arm.locked}},
    }
    return compile_text(yaml.safe_dump(value), file="simulated.yaml")


class EpisodePlay:
    """One agent's life under one arm; its luck is the same under every other."""

    def __init__(self, setting: EpisodeSetting, seed: int, state_dir: Path) -> None:
        """Begin with no evidence; draws follow from the seed as well."""
        self.setting, self._seed, self._state_dir = setting, seed, state_dir
        self._due: Counter[tuple[str, str]] = Counter()  # labels that should count
        self._clock = SimulatedClock()
        secrets = np.random.default_rng([seed, len(ROLES)])
        kept = KeptSecrets(users=secrets.bytes(32), draws=secrets.bytes(32))
        SecretsFile(state_dir).change(lambda _: kept)

    async def run(self) -> EpisodesPlayed:
        """Return what came of all episodes."""
        setting, n = self.setting, self.setting.n_episodes
        configuration = configuration_of(setting, self._state_dir)
        out = EpisodesPlayed(np.zeros(n, dtype=bool), np.zeros(n), [])
        with (
            sabotaged(setting.sabotage),
            SidecarWithin(
                configuration, self._state_dir, AnswersAlways(), clock=self._clock
            ) as within,
        ):
            folded = FoldedWithin(within, configuration)
            for number in range(n):
                episode = episode_of(self._seed, number)
                served = await self._serve(within, number, episode)
                hands = hands_of(served)
                out.worth[number] = setting.world.success_of_hands(hands)
                out.succeeded[number] = episode.luck < out.worth[number]
                out.maps.append(map_of(hands))
                await self._judge(within, number, served, succeeded=bool(out.succeeded[number]))
                self._clock.pass_by(86_400 / EPISODES_A_DAY - CALL_S * len(served))
                if (number + 1) % LOOK_EVERY == 0 or number + 1 == n:
                    folded.look()
        out.alarms, out.released = folded.counts["alarms"], folded.released.total()
        counted = Counter({part: labels for part, (labels, _) in folded.labels().items()})
        out.miscounted = sum(abs(counted[p] - self._due[p]) for p in {*counted, *self._due})
        return out

    async def _serve(
        self, within: SidecarWithin, number: int, episode: AgentEpisode
    ) -> list[ServedCall]:
        """Return who served the calls of an episode."""
        out = []
        for call in episode.calls:
            role = ROLES[call.role]
            headers = {
                "x-router-episode-id": str(number),
                "x-router-role": role,
                "x-router-task": call.task,
            }
            answer = _sound(await within.send(SentRequest("/v1/chat/completions", headers, BODY)))
            endpoint = answer.headers["x-router-endpoint"]
            chance = self.setting.world.looks[call.role, ENDPOINTS.index(endpoint)]
            decision = answer.headers["x-router-decision-id"]
            out.append(ServedCall(role, endpoint, decision, bool(call.luck < chance)))
            self._clock.pass_by(CALL_S)
        return out

    async def _judge(
        self, within: SidecarWithin, number: int, served: list[ServedCall], *, succeeded: bool
    ) -> None:
        """Say what is thought of an episode, and note what should count of it."""
        if self.setting.arm.words is Words.CALLS:
            due, path = served, "/v1/feedback"
            said: Any = [{"decision_id": s.decision_id, "score": int(s.looks_good)} for s in served]
        else:
            due = list({(s.role, s.endpoint): s for s in served}.values())
            path, said = f"/v1/router/episodes/{number}/outcome", {"passed": succeeded}
        self._due.update((s.role, s.endpoint) for s in due)
        _sound(await within.send(SentRequest(path, {}, json.dumps(said).encode())))


def hands_of(served: list[ServedCall]) -> tuple[frozenset[int], ...]:
    """Return by role everybody who served a call of the part."""
    return tuple(
        frozenset(ENDPOINTS.index(s.endpoint) for s in served if s.role == role) for role in ROLES
    )


def map_of(hands: tuple[frozenset[int], ...]) -> RoleMap | None:
    """Return the map that was played; None where several hands played a part."""
    if any(len(hand) > 1 for hand in hands):
        return None
    return tuple(next(iter(hand)) for hand in hands)


def played_by(world: AgentWorld, maps: list[RoleMap], seed: int) -> EpisodesPlayed:
    """Return what comes of episodes whose maps are given, with the luck of the others."""
    worth = np.array([world.success_of(roles) for roles in maps])
    luck = np.array([episode_of(seed, number).luck for number in range(len(maps))])
    return EpisodesPlayed(luck < worth, worth, list(maps))


def _sound(answer: GivenAnswer) -> GivenAnswer:
    if answer.status not in (200, 202):
        raise RuntimeError(f"a call was answered with {answer.status}: {answer.body[:300]!r}")
    return answer
