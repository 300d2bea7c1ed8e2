"""An agent of pydantic-ai: two turns with tools, streamed or whole.

Arguments: base URL without its version, dialect, session, `stream` or `whole`, the word's file.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider


def model(base_url: str, dialect: str) -> Any:
    """Return `auto` in a dialect."""
    if dialect == "messages":
        return AnthropicModel("auto", provider=AnthropicProvider(base_url=base_url, api_key="k"))
    kind = OpenAIChatModel if dialect == "chat" else OpenAIResponsesModel
    return kind("auto", provider=OpenAIProvider(base_url=f"{base_url}/v1", api_key="k"))


async def main() -> None:
    """Ask once, and print the answer."""
    base_url, dialect, session, how, notes = sys.argv[1:]
    settings: Any = {"extra_headers": {"x-router-session-id": session}}
    agent = Agent(model(base_url, dialect), model_settings=settings)

    @agent.tool_plain
    def list_folder(folder: str) -> list[str]:
        """List a folder."""
        return os.listdir(".")

    @agent.tool_plain
    def read_file(name: str) -> str:
        """Read a file."""
        return Path(notes).read_text()

    prompt = "Look into the folder, then read the notes."
    if how == "stream":
        async with agent.run_stream(prompt) as result:
            print(await result.get_output())
    else:
        print((await agent.run(prompt)).output)


asyncio.run(main())
