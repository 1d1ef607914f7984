"""Who is calling: the key decides whose word is believed."""

import time

import jwt
import pytest
from support.proxied import Person, Proxied, eventually

pytestmark = pytest.mark.stack

CHAT = {"model": "sim-gpt", "messages": [{"role": "user", "content": "[[sim tokens=10]] hi"}]}


def test_a_signed_user_on_the_connection_key(proxied: Proxied) -> None:
    person = proxied.person()
    assert person.chat().status_code == 200
    event = person.events(1)[0]
    assert (event["caller"], event["user_id"], event["kind"]) == ("openwebui", person.id, "api")


def forged(proxied: Proxied, how: str) -> str:
    now = int(time.time())
    claims = {"sub": "victim", "iss": "open-webui", "exp": now + 300, "role": "admin"}
    match how:
        case "wrong key":
            return proxied.sign("victim", secret="x" * 40)
        case "alg none":
            return jwt.encode(claims, key=None, algorithm="none")
        case "expired":
            return proxied.sign("victim", exp=now - 60)
        case "other issuer":
            return proxied.sign("victim", iss="somebody")
        case "no expiry":
            return jwt.encode({"sub": "victim", "iss": "open-webui"}, proxied.litellm.jwt_secret, algorithm="HS256")
        case "garbage":
            return "not.a.jwt"
        case _:
            return ""


@pytest.mark.parametrize("how", ["wrong key", "alg none", "expired", "other issuer", "no expiry", "garbage", "empty"])
def test_a_forged_user_on_the_connection_key_is_refused(proxied: Proxied, how: str) -> None:
    token = forged(proxied, how)
    answer = proxied.person().chat(headers={"X-OpenWebUI-User-Jwt": token})
    assert answer.status_code == 401, answer.text
    assert answer.json()["error"]["code"] == "budget_identity_refused"
    assert not token or token not in answer.text
    assert proxied.events("victim") == []


def test_the_headers_mean_nothing_on_any_other_key(proxied: Proxied) -> None:
    group = proxied.group({"daily": {"hard": 0}})
    victim = proxied.known(proxied.person(group))
    key = proxied.new_key()
    headers = {**victim.headers(), "Authorization": f"Bearer {key}", "x-litellm-end-user-id": victim.id}
    answer = proxied.http.post("/v1/chat/completions", json={**CHAT, "user": victim.id}, headers=headers)
    assert answer.status_code == 200, answer.text
    time.sleep(1)
    assert proxied.events(victim.id) == []


def test_a_key_of_an_open_webui_user_counts_for_that_user(proxied: Proxied) -> None:
    group = proxied.group({"daily": {"hard": 15}})
    person = proxied.known(proxied.person(group))
    key = proxied.new_key(user_id=person.id)
    direct = {"Authorization": f"Bearer {key}"}
    assert proxied.http.post("/v1/chat/completions", json=CHAT, headers=direct).status_code == 200
    event = person.events(1)[0]
    assert (event["caller"], event["kind"]) == ("user_key", "api")
    assert proxied.http.post("/v1/chat/completions", json=CHAT, headers=direct).status_code == 429
    assert person.chat().status_code == 429


def test_a_key_of_our_team_counts_in_the_groups_pool_alone(proxied: Proxied) -> None:
    group = proxied.group(pool={"daily": {"hard": 15}}, name="Lab")
    team = {"team_id": f"owui-{group}", "team_alias": "Lab"}
    assert proxied.admin("POST", "/team/new", json=team).status_code == 200
    direct = {"Authorization": f"Bearer {proxied.new_key(team_id=f'owui-{group}')}"}
    assert proxied.http.post("/v1/chat/completions", json=CHAT, headers=direct).status_code == 200
    used = eventually(lambda: proxied.counter(f"pool:{group}", "daily_used"), bool)
    assert used >= 10
    refused = proxied.http.post("/v1/chat/completions", json=CHAT, headers=direct)
    assert refused.status_code == 429
    assert "Daily pool of 15 tokens for group Lab" in refused.text


def test_any_other_key_is_a_service_recorded_and_not_limited(proxied: Proxied) -> None:
    key = proxied.new_key(key_alias="nightly-report")
    direct = {"Authorization": f"Bearer {key}"}
    assert proxied.http.post("/v1/chat/completions", json=CHAT, headers=direct).status_code == 200

    def services() -> list[dict[str, object]]:
        return [event for event in proxied.events() if event["caller"] == "service" and event["user_id"] is None]

    found = eventually(services, bool)
    assert found[-1]["kind"] == "service"
    assert key not in str(found)


def test_admins_are_exempt_and_recorded(proxied: Proxied) -> None:
    group = proxied.group({"daily": {"hard": 0}}, pool={"daily": {"hard": 0}})
    admin = proxied.person(group, role="admin")
    assert admin.chat().status_code == 200
    assert admin.events(1)[0]["charge"] > 0
    assert admin.used() > 0
    assert proxied.counter(f"pool:{group}", "daily_used") == 0


def test_embeddings_without_group_headers_use_the_memberships_that_sync_wrote(proxied: Proxied) -> None:
    group = proxied.group({"daily": {"hard": 0}})
    person = proxied.known(proxied.person(group))
    headers = {name: value for name, value in person.headers().items() if "Group" not in name}
    answer = proxied.http.post("/v1/embeddings", json={"model": "sim-embed", "input": "hi"}, headers=headers)
    assert answer.status_code == 429, answer.text


def test_an_empty_group_header_means_no_groups(proxied: Proxied) -> None:
    group = proxied.group({"daily": {"hard": 0}})
    person = proxied.known(proxied.person(group))
    outside = Person(proxied, person.id, ())
    assert outside.chat().status_code == 200
