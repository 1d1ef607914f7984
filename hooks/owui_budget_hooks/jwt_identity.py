"""Open WebUI's signed word about its user: an HS256 JWT with `iss`, `exp` and `sub`."""

from dataclasses import dataclass

import jwt

from owui_budget.domain.identity import Role

ISSUER = "open-webui"
HEADER = "x-openwebui-user-jwt"


class InvalidUserTokenError(ValueError):
    """The token proves nothing; the message says why and never quotes it."""


@dataclass(frozen=True, slots=True)
class TokenUser:
    """Who the token says is calling."""

    id: str
    role: Role


def verify(token: str, secret: str) -> TokenUser:
    """Check signature, algorithm, issuer and expiry (against the machine's real clock) and return the user.

    Raises:
        InvalidUserTokenError: any check failed.

    """
    try:
        claims = jwt.decode(
            token, secret, algorithms=["HS256"], issuer=ISSUER, options={"require": ["exp", "iss", "sub"]}, leeway=10
        )
    except jwt.ExpiredSignatureError:
        raise InvalidUserTokenError("it has expired; compare the clocks of the Open WebUI and LiteLLM hosts") from None
    except jwt.InvalidIssuerError:
        raise InvalidUserTokenError(f"its issuer is not {ISSUER!r}") from None
    except (jwt.InvalidTokenError, UnicodeError, RecursionError, OverflowError) as error:
        # The latter three are what PyJWT lets through of tokens that are no tokens at all.
        raise InvalidUserTokenError(
            f"{type(error).__name__}; compare OWUI_BUDGET_JWT_SECRET with Open WebUI's"
            " FORWARD_USER_INFO_HEADER_JWT_SECRET"
        ) from None
    subject = claims["sub"]
    if not isinstance(subject, str) or not subject:
        raise InvalidUserTokenError("it names no user")
    role = claims.get("role")
    return TokenUser(subject, Role.parse(role if isinstance(role, str) else None))
