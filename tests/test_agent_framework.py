"""An agent framework, unchanged, over two endpoints: tools, streams, typed output, a fall."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from agents import DIALECTS, WORD, agent_at_work, booked_tokens, hosts, told_tokens
from conftest import Sidecar
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from scripts.kits.agent import NOTES
from telemetry.store import Address

PROMPT = "look, then read the notes"


class Forecast(BaseModel):
    city: str
    days: int


def model(dialect: str, client: Any) -> Any:
    """`auto`, which is a model like any other."""
    if dialect == "messages":
        return AnthropicModel("auto", provider=AnthropicProvider(anthropic_client=client))
    kind = OpenAIChatModel if dialect == "chat" else OpenAIResponsesModel
    return kind("auto", provider=OpenAIProvider(openai_client=client))


def framework(model: Any, folder: Path | None, session: str, **more: Any) -> Agent[Any, Any]:
    """An agent, with two tools where there is a folder for them."""
    settings: Any = {"extra_headers": {"x-router-session-id": session}}
    agent = Agent(model, model_settings=settings, **more)
    if folder is not None:

        @agent.tool_plain
        def look(where: str) -> list[str]:
            """List a folder."""
            return [each.name for each in folder.iterdir()]

        @agent.tool_plain
        def read(name: str) -> str:
            """Read a file."""
            return (folder / NOTES).read_text()

    return agent


def ask(
    sidecar: Sidecar,
    dialect: str,
    folder: Path | None = None,
    *,
    streamed: bool = False,
    session: str = "s",
    **more: Any,
) -> Any:
    """Do the task once; return what it came to."""

    async def asked() -> Any:
        kind = anthropic.AsyncAnthropic if dialect == "messages" else openai.AsyncOpenAI
        url = sidecar.url if dialect == "messages" else f"{sidecar.url}/v1"
        async with kind(base_url=url, api_key="k") as client:
            agent = framework(model(dialect, client), folder, session, **more)
            if not streamed:
                return (await agent.run(PROMPT)).output
            async with agent.run_stream(PROMPT) as result:
                return await result.get_output()

    return asyncio.run(asked())


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_task_of_two_tools_is_done_by_one_endpoint_and_booked_to_the_token(
    streamed: bool, dialect: str, state_dir: Path, address: Address
) -> None:
    with agent_at_work(state_dir, address) as (sidecar, provider):
        said = ask(sidecar, dialect, state_dir, streamed=streamed)

        (host,) = hosts(provider)
        assert said == f"{host} read {WORD} after 2 turns"
        assert [call.dialect for call in provider.calls] == [dialect] * 3
        sidecar.until(lambda: booked_tokens(sidecar, address) == told_tokens(provider))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_when_its_endpoint_falls_the_task_goes_on_at_the_other(
    dialect: str, state_dir: Path, address: Address
) -> None:
    with agent_at_work(state_dir, address, falls=True) as (sidecar, provider):
        said = ask(sidecar, dialect, state_dir, streamed=True)

        first, second = hosts(provider)
        assert first != second
        assert said == f"{second} read {WORD} after 2 turns"


def test_sessions_are_spread_over_both_endpoints(state_dir: Path, address: Address) -> None:
    with agent_at_work(state_dir, address) as (sidecar, provider):
        for number in range(20):  # all at one endpoint: once in half a million runs
            ask(sidecar, DIALECTS[number % 3], session=f"s-{number}")

        assert sorted(hosts(provider)) == ["one", "two"]


@pytest.mark.parametrize(
    ("wanted", "dialect"),
    [
        *((Forecast, dialect) for dialect in DIALECTS),  # by a tool
        (NativeOutput(Forecast), "chat"),
        (NativeOutput(Forecast), "responses"),  # in Messages it goes by the model's name
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_typed_output_comes_by_a_tool_or_by_its_schema(
    wanted: Any, dialect: str, state_dir: Path, address: Address
) -> None:
    with agent_at_work(state_dir, address) as (sidecar, _):
        found = ask(sidecar, dialect, output_type=wanted)

    assert found == Forecast(city=NOTES, days=3)
