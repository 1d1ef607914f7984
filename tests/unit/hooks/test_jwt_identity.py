import base64
import hashlib
import hmac
import json
import time
import warnings

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from kit import SECRET, token

from owui_budget.clock import SystemClock
from owui_budget.domain.identity import Role
from owui_budget_hooks.jwt_identity import InvalidUserTokenError, TokenUser, verify


def unsigned(claims: dict[str, object], header: dict[str, object] | None = None, signature: str = "") -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode()
        for each in (header or {"alg": "none", "typ": "JWT"}, claims)
    ]
    return f"{parts[0]}.{parts[1]}.{signature}"


def claims(**more: object) -> dict[str, object]:
    return {"iss": "open-webui", "sub": "eve", "exp": int(SystemClock().now()) + 300, **more}


def nested(depth: int) -> str:
    return base64.urlsafe_b64encode(b'{"alg":' + b"[" * depth + b"]" * depth + b"}").rstrip(b"=").decode() + ".e30.e30"


def test_a_valid_token_names_its_user() -> None:
    assert verify(token(sub="4c62", role="admin"), SECRET) == TokenUser("4c62", Role.ADMIN)


@pytest.mark.parametrize(
    ("role", "read"),
    [("admin", Role.ADMIN), ("user", Role.USER), ("pending", Role.PENDING), ("owner", Role.USER), (None, Role.USER),
     (["admin"], Role.USER), ({"admin": True}, Role.USER), (1, Role.USER)],
)  # fmt: skip
def test_only_the_word_admin_makes_an_admin(role: object, read: Role) -> None:
    assert verify(token(role=role), SECRET).role is read


def rs256() -> str:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return jwt.encode(claims(), private, "RS256")


def hs512() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return token(algorithm="HS512")


FORGED = {
    "another key": lambda: token("another secret that is long enough for HS256"),
    "alg none": lambda: unsigned(claims()),
    "alg none, upper case": lambda: unsigned(claims(), {"alg": "NONE"}),
    "alg none with the signature of a good token": lambda: unsigned(claims(), signature=token().split(".")[2]),
    "good header and signature, other claims": lambda: ".".join(
        [token().split(".")[0], unsigned(claims()).split(".")[1], token().split(".")[2]]
    ),
    "RS256": rs256,
    "HS512": hs512,
    "expired": lambda: token(exp=int(SystemClock().now()) - 60),
    "not yet valid": lambda: token(nbf=int(SystemClock().now()) + 600),
    "issued in the future": lambda: token(iat=int(SystemClock().now()) + 600),
    "another issuer": lambda: token(iss="somebody"),
    "issuer list": lambda: token(iss="open-webui2"),
    "no issuer": lambda: token(drop=["iss"]),
    "no expiry": lambda: token(drop=["exp"]),
    "no subject": lambda: token(drop=["sub"]),
    "empty subject": lambda: token(sub=""),
    "for another audience": lambda: token(aud="somebody else"),
    "expiry that is no number": lambda: token(exp="tomorrow"),
    "expiry beyond all numbers": lambda: token(exp=float("inf")),
    "huge": lambda: token(filler="x" * 1_000_000, secret="another secret that is long enough for HS256"),
    "empty": lambda: "",
    "two dots": lambda: "..",
    "garbage": lambda: "not a token",
    "no base64": lambda: "ä.ö.ü",
    "lone surrogates": lambda: "\ud800.\ud800.\ud800",
    "null bytes": lambda: "\x00.\x00.\x00",
    "nested deeper than the stack": lambda: nested(100_000),
    "an unknown critical header": lambda: unsigned(claims(), {"alg": "HS256", "crit": ["x"], "x": 1}),
    "a key id from outside": lambda: unsigned(
        claims(), {"alg": "HS256", "jku": "http://evil", "kid": "../../dev/null"}
    ),
}


@pytest.mark.parametrize("kind", FORGED)
def test_what_proves_nothing_is_refused_and_never_quoted(kind: str) -> None:
    forged = FORGED[kind]()

    with pytest.raises(InvalidUserTokenError) as refusal:
        verify(forged, SECRET)

    text = str(refusal.value)
    assert len(text) < 250
    assert SECRET not in text
    assert not any(part in text for part in forged.split(".") if len(part) > 3)
    assert refusal.value.__cause__ is None  # PyJWT's own text may quote
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@pytest.mark.parametrize("subject", [17, ["ann"], {"id": "ann"}, None, True])
def test_a_subject_that_is_no_text_names_nobody(subject: object) -> None:
    # PyJWT refuses to sign such a subject, another program would not.
    content = unsigned(claims(sub=subject), {"alg": "HS256", "typ": "JWT"}).rstrip(".")
    signature = hmac.new(SECRET.encode(), content.encode(), hashlib.sha256).digest()
    forged = content + "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()

    with pytest.raises(InvalidUserTokenError):
        verify(forged, SECRET)


def test_clocks_may_differ_by_a_few_seconds() -> None:
    moment = int(SystemClock().now())

    assert verify(token(exp=moment - 5, iat=moment + 5), SECRET).id == "ann"


def test_a_clock_that_is_wrong_is_named_as_the_cause() -> None:
    with pytest.raises(InvalidUserTokenError, match="compare the clocks"):
        verify(token(exp=int(SystemClock().now()) - 60), SECRET)


@given(st.text(max_size=400) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_no_text_is_a_token(text: str) -> None:
    with pytest.raises(InvalidUserTokenError):
        verify(text, SECRET)


def test_a_huge_token_costs_little() -> None:
    huge = token(filler="x" * 1_000_000)
    started = time.perf_counter()

    verify(huge, SECRET)

    assert time.perf_counter() - started < 1.0
