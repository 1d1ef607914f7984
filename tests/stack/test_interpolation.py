"""Variables in compose files, as the Compose specification defines them."""

import pytest

from stack.errors import StackError
from stack.interpolation import interpolate, required, variables

VALUES = {"SET": "value", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$SET and ${SET}", "value and value"),
        ("${UNSET}", ""),
        ("${UNSET:-default}", "default"),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY-default}", ""),
        ("${SET:-default}", "value"),
        ("${UNSET-${SET}}", "value"),
        ("${UNSET:-http://${SET}:1}", "http://value:1"),
        ("${SET:+there}", "there"),
        ("${EMPTY:+there}", ""),
        ("${EMPTY+there}", "there"),
        ("$$SET costs $$5", "$SET costs $5"),
        ("{{USER_ID}}", "{{USER_ID}}"),
        ("${SET:?is missing}", "value"),
    ],
)
def test_cases(text: str, expected: str) -> None:
    assert interpolate(text, VALUES) == expected


@pytest.mark.parametrize("text", ["${UNSET:?run make env}", "${EMPTY:?run make env}", "${UNSET?run make env}"])
def test_a_missing_value_is_named_with_the_way_out(text: str) -> None:
    with pytest.raises(StackError, match=r"(UNSET|EMPTY) run make env"):
        interpolate(text, VALUES)


@pytest.mark.parametrize("text", ["${SET", "costs 5$", "${SET!x}", "${:-x}"])
def test_bad_syntax_is_refused(text: str) -> None:
    with pytest.raises(StackError):
        interpolate(text, VALUES)


def test_names_are_found() -> None:
    text = "${A:?needed} $B ${C:-${D:?needed}} $$E $${F:?no}"
    assert variables(text) == {"A", "B", "C", "D"}
    assert required(text) == {"A", "D"}
