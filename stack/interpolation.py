"""Variables in compose files: `$NAME`, `${NAME}`, `:-` `-` `:?` `?` `:+` `+`, nested, and `$$` for a dollar sign.

As in the Compose specification, "Interpolation".
"""

import re
from collections.abc import Mapping

from stack.errors import StackError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")


def interpolate(text: str, values: Mapping[str, str]) -> str:
    """Replace the variables of `text`.

    Raises:
        StackError: a required variable (`?`) has no value, or the syntax is wrong.

    """
    result, position = [], 0
    while (dollar := text.find("$", position)) >= 0:
        result.append(text[position:dollar])
        following = text[dollar + 1 : dollar + 2]
        if following == "$":
            result.append("$")
            position = dollar + 2
        elif following == "{":
            end = _closing(text, dollar + 2)
            result.append(_expand(text[dollar + 2 : end], values))
            position = end + 1
        elif name := _NAME.match(text, dollar + 1):
            result.append(values.get(name[0], ""))
            position = name.end()
        else:
            msg = f"a lone $ in {text!r}; write $$ for a dollar sign"
            raise StackError(msg)
    return "".join([*result, text[position:]])


def variables(text: str) -> set[str]:
    """Names of all variables in `text`, nested ones too."""
    names = set()
    for match in re.finditer(r"\$(\$|\{?([A-Za-z_][A-Za-z0-9_]*))", text):
        if match[2]:
            names.add(match[2])
    return names


def required(text: str) -> set[str]:
    """Names that `text` demands with `?` or `:?`."""
    return set(re.findall(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*):?\?", text))


def _closing(text: str, start: int) -> int:
    depth, position = 1, start
    while position < len(text):
        if text.startswith("${", position):
            depth, position = depth + 1, position + 2
            continue
        if text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    msg = f"${{ without }} in {text!r}"
    raise StackError(msg)


def _expand(expression: str, values: Mapping[str, str]) -> str:
    match = _NAME.match(expression)
    if not match:
        msg = f"${{{expression}}} names no variable"
        raise StackError(msg)
    name, rest = match[0], expression[match.end() :]
    if not rest:
        return values.get(name, "")
    operator = next((known for known in _OPERATORS if rest.startswith(known)), None)
    if operator is None:
        msg = f"${{{expression}}}: unknown operator {rest[:2]!r}"
        raise StackError(msg)
    argument = rest[len(operator) :]
    there = bool(values.get(name)) if operator[0] == ":" else name in values
    match operator[-1]:
        case "-":
            return values[name] if there else interpolate(argument, values)
        case "+":
            return interpolate(argument, values) if there else ""
        case _:
            if there:
                return values[name]
            msg = f"{name} {interpolate(argument, values) or 'is required'}"
            raise StackError(msg)
