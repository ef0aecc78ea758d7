"""Tells whether a text is JSON at all, without recursion and without building anything, and makes it decodable.

It is asked only about texts that the decoder gives up on: those with hundreds of brackets open at once, or with
integers of thousands of digits.
"""

import re

import msgspec

_STRING = r'"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+"'
_SCALAR = rf"{_STRING}|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null"
_SPACE = r"[ \t\n\r]*"
_VALUE = re.compile(rf"{_SPACE}(?:(?P<open>[\[{{])|(?P<scalar>{_SCALAR}))")
_FIRST_ITEM = re.compile(rf"{_SPACE}(?:(?P<close>\])|(?P<open>[\[{{])|(?P<scalar>{_SCALAR}))")
_FIRST_KEY = re.compile(rf"{_SPACE}(?:(?P<close>\}})|(?P<key>{_STRING}){_SPACE}:)")
_KEY = re.compile(rf"{_SPACE}(?P<key>{_STRING}){_SPACE}:")
_AFTER_ITEM = re.compile(rf"{_SPACE}(?:(?P<close>\])|(?P<comma>,))")
_AFTER_MEMBER = re.compile(rf"{_SPACE}(?:(?P<close>\}})|(?P<comma>,))")
_END = re.compile(rf"{_SPACE}\Z")

_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|(?P<open>[\[{])|(?P<close>[\]}])|(?P<number>-?[0-9]++)[0-9.eE+-]*+')
_MAX_DIGITS = 1_000


def is_json_text(body: bytes) -> bool:
    """Return whether the bytes are one JSON text in UTF-8, its strings valid Unicode."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return False
    open_brackets: list[str] = []
    position = 0
    expected = _VALUE
    while True:
        match = expected.match(text, position)
        if match is None:
            return False
        position = match.end()
        found = match.lastgroup or ""
        if not _is_unicode(match[found]):
            return False
        if found == "open":
            open_brackets.append(match[found])
            expected = _FIRST_ITEM if match[found] == "[" else _FIRST_KEY
        elif found == "comma":
            expected = _VALUE if open_brackets[-1] == "[" else _KEY
        elif found == "key":
            expected = _VALUE
        else:
            if found == "close":
                open_brackets.pop()
            if not open_brackets:
                return _END.match(text, position) is not None
            expected = _AFTER_ITEM if open_brackets[-1] == "[" else _AFTER_MEMBER


def _is_unicode(token: str) -> bool:
    """Return whether the token, if it is a string with escapes, has no lone surrogate."""
    if "\\u" not in token:
        return True
    try:
        msgspec.json.decode(token, type=str)
    except msgspec.DecodeError:
        return False
    return True


def without_excess(text: str, *, max_depth: int) -> str:
    """Return a JSON text with null for what stands deeper than so many brackets, and for endless integers."""
    kept: list[str] = []
    position = depth = begin = 0
    for token in _TOKEN.finditer(text):
        match token.lastgroup:
            case "open":
                depth += 1
                if depth == max_depth + 1:
                    begin = token.start()
            case "close":
                if depth == max_depth + 1:
                    kept += text[position:begin], "null"
                    position = token.end()
                depth -= 1
            case "number" if len(token["number"]) > _MAX_DIGITS and depth <= max_depth:
                kept += text[position : token.start()], "null"
                position = token.end()
    return "".join([*kept, text[position:]])
