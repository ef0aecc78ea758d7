"""Which of the servers over one database does what is to be done once."""

from msgspec import Struct


class Lead(Struct, frozen=True):
    """What became of a wish to lead."""

    term: int | None
    """None where another server leads. It rises with each change of leader: the fence of what a leader does."""
    seconds: float
    """How long it stays so, unless this leader renews or that one does."""
