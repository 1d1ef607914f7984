from collections.abc import Mapping

import pytest
from kit import CONNECTION, CONNECTION_KEY, PolicyStub, identifier, key, token, webui
from litellm.proxy._types import UserAPIKeyAuth

from owui_budget.domain.identity import Caller, Kind, Role, Subject
from owui_budget.errors import LedgerUnavailableError
from owui_budget.policy_store.values import PolicyUser
from owui_budget_hooks.answers import BudgetAnswer
from owui_budget_hooks.identify import hash_key
from owui_budget_hooks.routes import ROUTES, Route

CHAT, SPEECH = ROUTES["acompletion"], ROUTES["aspeech"]
EVE = PolicyUser("eve", "eve@example.org", "Eve", Role.USER, frozenset({"g-eve"}))
ANN = PolicyUser("ann", "ann@example.org", "Ann", Role.ADMIN, frozenset({"g-ann", "g-staff"}))


async def who(
    policy: PolicyStub,
    by: UserAPIKeyAuth,
    headers: Mapping[str, str] | None = None,
    route: Route | None = CHAT,
    **settings: object,
) -> Subject:
    found = await identifier(policy, **settings).identify(by, headers or {}, route)  # type: ignore[arg-type]
    return found.subject


@pytest.fixture
def policy() -> PolicyStub:
    stub = PolicyStub()
    stub.users = {"ann": ANN, "eve": EVE}
    return stub


async def test_an_open_webui_user_by_signed_token(policy: PolicyStub) -> None:
    found = await identifier(policy).identify(CONNECTION, webui("ann", "g1,g2", chat_id="c1", message_id="m1"), CHAT)

    assert found.subject == Subject(Caller.OPENWEBUI, "ann", Role.USER, frozenset({"g1", "g2"}))
    assert found.connection is not None
    assert found.connection.kind is Kind.CHAT


async def test_an_open_webui_user_by_plain_headers_where_no_secret_is_configured(policy: PolicyStub) -> None:
    headers = {"x-openwebui-user-id": " ann ", "x-openwebui-user-role": "Admin", "x-openwebui-group-ids": ""}

    assert await who(policy, CONNECTION, headers, secret=None) == Subject(Caller.OPENWEBUI, "ann", Role.ADMIN)


async def test_a_user_key_counts_for_its_own_user(policy: PolicyStub) -> None:
    assert await who(policy, key(user_id="ann")) == Subject(
        Caller.USER_KEY, "ann", Role.ADMIN, frozenset({"g-ann", "g-staff"})
    )


async def test_a_team_key_counts_for_its_group(policy: PolicyStub) -> None:
    found = await who(policy, key(team_id="owui-g1", user_id="nobody"))

    assert (found.caller, found.user_id, found.group_ids) == (Caller.TEAM_KEY, None, frozenset({"g1"}))


@pytest.mark.parametrize("fields", [{}, {"team_id": "their-team"}, {"user_id": "nobody"}, {"team_id": "x-owui-g1"}])
async def test_any_other_key_is_a_service(policy: PolicyStub, fields: dict[str, str]) -> None:
    found = await who(policy, key("sk-service", **fields))

    assert found == Subject(Caller.SERVICE, service_id=f"key-{hash_key('sk-service')[:12]}")


async def test_a_services_name_does_not_reveal_its_key(policy: PolicyStub) -> None:
    found = await who(policy, key("sk-service", key_alias="user:ann"))

    assert found.service_id is not None
    assert "sk-service" not in found.service_id
    assert "ann" not in found.service_id


FOREIGN = {
    "a good token": webui("ann", "g1"),
    "plain headers": {"x-openwebui-user-id": "ann", "x-openwebui-user-role": "admin", "x-openwebui-group-ids": "g1"},
    "litellm's customer headers": {"x-litellm-end-user-id": "ann", "x-litellm-customer-id": "ann"},
    "a task": {"x-openwebui-task": "title_generation"},
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("fields", [{}, {"user_id": "eve"}, {"team_id": "owui-g9"}, {"end_user_id": "ann"}])
async def test_headers_mean_nothing_on_other_keys(policy: PolicyStub, kind: str, fields: dict[str, str]) -> None:
    by = key("sk-eve", **fields)
    plain = await identifier(policy).identify(by, {}, CHAT)

    assert await identifier(policy).identify(by, FOREIGN[kind], CHAT) == plain
    assert plain.subject.user_id != "ann"
    assert plain.connection is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-openwebui-user-id": "ann"},
        {"x-openwebui-user-jwt": ""},
        {"x-openwebui-user-jwt": "   "},
        {"x-openwebui-user-jwt": token("another secret that is long enough for HS256")},
        {"x-openwebui-user-jwt": "garbage", "x-openwebui-user-id": "ann"},
        {"authorization": f"Bearer {token()}"},
    ],
)
async def test_a_connection_without_proof_of_its_user_is_refused(policy: PolicyStub, headers: dict[str, str]) -> None:
    with pytest.raises(BudgetAnswer) as refusal:
        await who(policy, CONNECTION, headers)

    assert refusal.value.code == "401"
    assert not any(value in refusal.value.message for value in headers.values() if len(value) > 10)


async def test_the_token_counts_whatever_the_plain_headers_say(policy: PolicyStub) -> None:
    headers = {**webui("ann", "g1"), "x-openwebui-user-id": "eve", "x-openwebui-user-role": "admin"}

    assert await who(policy, CONNECTION, headers) == Subject(Caller.OPENWEBUI, "ann", Role.USER, frozenset({"g1"}))


async def test_plain_headers_without_an_id_are_no_proof(policy: PolicyStub) -> None:
    with pytest.raises(BudgetAnswer, match="X-OpenWebUI-User-Id is missing"):
        await who(policy, CONNECTION, {"x-openwebui-user-role": "admin"}, secret=None)


GROUPS = [
    ("", frozenset()),
    (",", frozenset()),
    ("g1", frozenset({"g1"})),
    ("g1,g2", frozenset({"g1", "g2"})),
    (" g1 , g2 ,, g1", frozenset({"g1", "g2"})),
    (",".join(f"group-{number}" for number in range(500)), frozenset(f"group-{number}" for number in range(500))),
]


@pytest.mark.parametrize(("header", "ids"), GROUPS)
async def test_the_group_header_lists_the_groups(policy: PolicyStub, header: str, ids: frozenset[str]) -> None:
    assert (await who(policy, CONNECTION, webui("ann", header))).group_ids == ids


async def test_without_a_group_header_the_stored_memberships_serve(policy: PolicyStub) -> None:
    assert (await who(policy, CONNECTION, webui("ann", None), SPEECH)).group_ids == ANN.group_ids
    assert (await who(policy, CONNECTION, webui("new", None), SPEECH)).group_ids == frozenset()


async def test_memberships_that_are_needed_and_cannot_be_read_are_an_error(policy: PolicyStub) -> None:
    policy.down = True

    with pytest.raises(LedgerUnavailableError):
        await who(policy, CONNECTION, webui("ann", None), SPEECH)
    with pytest.raises(LedgerUnavailableError):
        await who(policy, key(user_id="ann"))
    assert (await who(policy, CONNECTION, webui("ann", "g1"))).user_id == "ann"


@pytest.mark.parametrize("call_type", ["aembedding", "amoderation", "arerank"])
async def test_open_webui_indexes_documents_for_nobody(policy: PolicyStub, call_type: str) -> None:
    found = await who(policy, CONNECTION, {}, ROUTES[call_type])

    assert found == Subject(Caller.SERVICE, service_id="openwebui")


async def test_a_chat_cannot_pass_for_indexing(policy: PolicyStub) -> None:
    with pytest.raises(BudgetAnswer):
        await who(policy, CONNECTION, {"x-openwebui-message-id": "m1"}, ROUTES["aembedding"])
    with pytest.raises(BudgetAnswer):
        await who(policy, CONNECTION, {}, None)


async def test_an_email_counts_only_where_the_operator_says_so(policy: PolicyStub) -> None:
    by = key(user_id="litellm-7", user_email="Eve@Example.org")

    assert (await who(policy, by)).caller is Caller.SERVICE
    assert (await who(policy, by, match_email=True)).user_id == "eve"
    assert (await who(policy, key(user_id="EVE@example.org"), match_email=True)).user_id == "eve"
    assert (await who(policy, key(user_id="someone"), match_email=True)).caller is Caller.SERVICE


def stored(api_key: str | None) -> UserAPIKeyAuth:
    """A key as LiteLLM's database has it (its own constructor imports half the proxy for keys without `sk-`)."""
    return UserAPIKeyAuth.model_construct(api_key=api_key)


async def test_the_hash_of_the_connection_key_is_what_makes_a_connection(policy: PolicyStub) -> None:
    told = identifier(policy)

    assert told.is_connection(CONNECTION)
    assert told.is_connection(stored(hash_key(CONNECTION_KEY)))
    assert not told.is_connection(key(CONNECTION_KEY + "x"))
    assert not told.is_connection(key("sk-" + CONNECTION_KEY[3:].upper()))
    assert not told.is_connection(stored(None))
    assert not told.is_connection(stored(""))
