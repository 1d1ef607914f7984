"""LiteLLM's own spend pages: show each call under the deciding group's team.

Written just before LiteLLM's spend writer reads it. Doing so at admission would also steer routing to team-scoped
deployments; by now the call is over. A key that belongs to a team keeps it.
"""

from typing import Any

from owui_budget.domain.policy import Policy
from owui_budget_hooks.identify import TEAM_PREFIX
from owui_budget_hooks.inflight import InFlight


def attribute(kwargs: dict[str, Any], call: InFlight, policy: Policy) -> None:
    """Put the group's team into the call's metadata, under each name LiteLLM may read it by."""
    group_id = call.call.deciding_group_id
    if group_id is None:
        return
    group = policy.groups.get(group_id)
    params = kwargs.get("litellm_params")
    if not isinstance(params, dict):
        return
    for name in ("metadata", "litellm_metadata"):
        bucket = params.get(name)
        if isinstance(bucket, dict) and "user_api_key_hash" in bucket and not bucket.get("user_api_key_team_id"):
            bucket["user_api_key_team_id"] = f"{TEAM_PREFIX}{group_id}"
            bucket["user_api_key_team_alias"] = group.name if group else None
