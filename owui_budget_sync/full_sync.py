"""One complete sync for `owui-budget plan` and `apply`: reads both sides in full, plans, and applies."""

import asyncio
from dataclasses import dataclass, replace

from owui_budget.policy_store import Fence
from owui_budget_sync import desired as desire
from owui_budget_sync.litellm.mirror import Mirrored
from owui_budget_sync.litellm.objects import ConnectionKey, MirrorState
from owui_budget_sync.planner import Plan, plan
from owui_budget_sync.policy_sync import Depth, Look
from owui_budget_sync.state import State
from owui_budget_sync.wiring import Parts


@dataclass(frozen=True)
class Full:
    """Everything that would change, and what it was derived from."""

    plan: Plan
    look: Look
    desired_mirror: MirrorState | None


async def prepare(made: Parts, *, prune: bool = False) -> Full:
    """Read Open WebUI, the policy store and LiteLLM, and plan; nothing is written.

    Raises:
        BudgetError: one of them could not be read.

    """
    policy = made.policy
    look = await policy.look(await policy.read(Depth.ALL))
    current, desired = State(look.current), State(look.desired)
    notes = look.plan.notes
    # Ties are a matter of the policy; LiteLLM's objects are derived on the way to them.
    derived = desire.Mirror(
        made.limits.rules, made.limits.mirror_members_max, {each: ConnectionKey(each) for each in made.hashes}
    )
    mirror = derived.derive(look.desired.groups, look.desired.members, (look.desired.users or {}).values())
    if made.mirror is not None:
        current = replace(current, mirror=await made.mirror.read(mirror))
        desired = replace(desired, mirror=mirror)
    planned = plan(current, desired, prune=prune, notes=(*notes, *derived.notes))
    return Full(planned, look, mirror if made.mirror is not None else None)


async def apply(made: Parts, full: Full, fence: Fence, *, accepted: str | None = None) -> Mirrored:
    """Write the policy store, then LiteLLM.

    Raises:
        UnsafePlanError: too much would disappear, and `accepted` is not the plan's digest; nothing was written.
        FenceLostError: another process took the lead; nothing was written.
        BudgetError: a store or LiteLLM failed; what was done stays done, and the next sync goes on from there.

    """
    full.look.check(made.settings.safety_threshold, accepted)
    await made.policy.write(full.look, fence)
    if made.mirror is None or full.desired_mirror is None:
        return Mirrored()
    return await made.mirror.apply(full.plan.mirror, full.desired_mirror, _always)


async def _always(_done: Mirrored) -> bool:
    await asyncio.sleep(0)
    return True
