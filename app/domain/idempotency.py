"""Calls that their callers may repeat: done once, answered each time the same."""

from msgspec import Struct


class Idempotency(Struct, kw_only=True):
    """What makes a call the repeat of another one. Belongs to one call: the backend says in it what came of it."""

    scope: str
    """What the key was given for: the same key in another scope is another key."""
    key: str
    body_hash: str
    """Tells apart what was asked for: the same key with another hash raises IdempotencyMismatch."""
    is_replay: bool = False
    """Set when the call returns: whether it changed nothing and gave the answer of the one before it."""
