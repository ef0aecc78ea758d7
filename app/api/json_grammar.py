"""Tells whether a text is JSON at all, without recursion and without building anything.

It is asked only about texts that the decoder gives up on: those with hundreds of brackets open at once.
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
