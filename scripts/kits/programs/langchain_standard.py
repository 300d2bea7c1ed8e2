"""langchain's own tests of chat models, for its OpenAI model at the address in `STANDARD_URL`."""

import os
from typing import Any

from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestThroughAnAddress(ChatModelIntegrationTests):
    """All of them; what they need of a model the scripted agent knows in part only."""

    @property
    def chat_model_class(self) -> type[ChatOpenAI]:
        """Chat Completions."""
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """Where it is, and nothing else."""
        return {
            "model": "auto",
            "base_url": os.environ["STANDARD_URL"],
            "api_key": "sk-none",
            "max_retries": 0,
            "stream_usage": True,  # by itself it asks for it at its maker's address only
        }
