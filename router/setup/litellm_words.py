"""Why fields of LiteLLM's are not taken over, and what there is here instead."""

from __future__ import annotations

from collections.abc import Mapping

RATES = "write limits: {requests_per_minute: …, tokens_per_minute: …} at endpoint or provider"
WEIGHTS = "hosts of one model are not weighted here; the first listed keeps the calls in observe"
REPEATS = "how often a call is repeated is not set here: a budget of the whole process bounds it"
BUDGETS = "there are no budgets here; max_cost_usd bounds the cost of one call"
CALLERS = "LiteLLM keeps these in its database; give each caller a key: pointsman key"
HEADERS = "no header of one's own is sent; forward_headers names those of clients that travel on"
LOGGING = "what is measured is on /metrics and in pointsman report; events.md says more"
CACHING = "answers are not cached here"
BREAKERS = "an endpoint that fails rests by itself; how long is not set here"
STORE = "the sidecar has a store of its own; another one is named by store: {url_env: NAME}"
GUARDS = "content is not looked at here"

OF_DEPLOYMENTS: Mapping[str, str] = {
    "rpm": RATES,
    "tpm": RATES,
    "weight": WEIGHTS,
    "max_retries": REPEATS,
    "num_retries": REPEATS,
    "cooldown_time": BREAKERS,
    "max_budget": BUDGETS,
    "budget_duration": BUDGETS,
    "extra_headers": HEADERS,
    "headers": HEADERS,
    "organization": f"it is a header; {HEADERS}",
    "extra_body": "write what belongs to it into the endpoint's params",
    "drop_params": "no setting is dropped silently here; translate: {drop: […]} names what may be",
    "additional_drop_params": "no setting is dropped silently here",
    "tags": "calls are not chosen by tags here; apps, roles and tasks have rules of their own",
    "mock_response": "nothing is made up here",
    "thinking": "it is no setting of the dialect that goes out; reasoning_effort is",
    "reasoning_effort": "it is no setting of the dialect that goes out; thinking is",
    "input_cost_per_second": "a machine is paid by the hour here: prices: {usd_per_hour: …}",
    "output_cost_per_second": "a machine is paid by the hour here: prices: {usd_per_hour: …}",
    "region_name": "region belongs to the provider: it is where rules let data go; write it there",
    "guardrails": GUARDS,
    "cache_control_injection_points": "prompts are sent as they come",
}
OF_MODEL_INFO: Mapping[str, str] = {
    "base_model": "an answer's other names are listed by served_as; prices go by upstream_model",
    "max_tokens": "it may mean input or output; write context_tokens or output_tokens",
    "access_groups": "who may call what is said by the app's endpoints: {allow: […]}",
    "team_id": CALLERS,
    "tier": "tiers are not known here",
    "supported_environments": "write a file for each environment",
    "input_cost_per_second": OF_DEPLOYMENTS["input_cost_per_second"],
    "output_cost_per_second": OF_DEPLOYMENTS["output_cost_per_second"],
    "version": "a note, which is not needed",
    "description": "a note, which is not needed",
}
OF_SETTINGS: Mapping[str, str] = {
    "context_window_fallbacks": (
        "who declares context_tokens is passed over by what does not fit; who is next is not listed"
    ),
    "content_policy_fallbacks": "an answer that refuses is an answer here; nobody else is asked",
    "num_retries": REPEATS,
    "max_retries": REPEATS,
    "retry_policy": REPEATS,
    "model_group_retry_policy": REPEATS,
    "retry_after": REPEATS,
    "max_fallbacks": REPEATS,
    "allowed_fails": BREAKERS,
    "allowed_fails_policy": BREAKERS,
    "cooldown_time": BREAKERS,
    "disable_cooldowns": BREAKERS,
    "routing_strategy": "who serves is chosen by strategies (strategies.md), in mode route",
    "routing_strategy_args": "who serves is chosen by strategies (strategies.md), in mode route",
    "enable_pre_call_checks": "what does not fit context_tokens is passed over without being told",
    "enable_tag_filtering": OF_DEPLOYMENTS["tags"],
    "tag_filtering_match_any": OF_DEPLOYMENTS["tags"],
    "provider_budget_config": BUDGETS,
    "default_max_internal_user_budget": BUDGETS,
    "max_budget": BUDGETS,
    "budget_duration": BUDGETS,
    "redis_host": STORE,
    "redis_port": STORE,
    "redis_password": STORE,
    "redis_url": STORE,
    "cache": CACHING,
    "cache_params": CACHING,
    "cache_responses": CACHING,
    "caching_groups": CACHING,
    "callbacks": LOGGING,
    "success_callback": LOGGING,
    "failure_callback": LOGGING,
    "service_callbacks": LOGGING,
    "callback_settings": LOGGING,
    "alerting": LOGGING,
    "set_verbose": LOGGING,
    "json_logs": LOGGING,
    "turn_off_message_logging": "no content is logged here",
    "redact_user_api_key_info": "no key is logged here",
    "drop_params": OF_DEPLOYMENTS["drop_params"],
    "database_url": CALLERS,
    "store_model_in_db": "models stand in the file alone",
    "custom_auth": CALLERS,
    "enable_jwt_auth": CALLERS,
    "max_parallel_requests": "it is said of endpoints: limits: {max_in_flight: …}",
    "global_max_parallel_requests": "it is said of the sidecar: server: {max_in_flight: …}",
    "guardrails": GUARDS,
}
INCLUDE = "only this file was read; import each of the others by itself, or paste it in first"
VARIABLES = "our file sets no variables: export it; its value was not copied"
SECTIONS: Mapping[str, str] = {
    "include": INCLUDE,
    "guardrails": GUARDS,
    "callback_settings": LOGGING,
    "mcp_servers": "tools are the clients' own",
    "finetune_settings": "calls of /v1/fine_tuning go to a provider with passthrough",
    "files_settings": "calls of /v1/files go to a provider with passthrough",
}
