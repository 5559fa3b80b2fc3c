"""Whether a password is hard to guess: by zxcvbn, which knows the most used ones, words, names, keys and dates."""

import re
import threading
from collections.abc import Iterable

from zxcvbn import zxcvbn

MIN_SCORE = 3
"""Of zxcvbn's 0 to 4: more than 10^8 guesses."""
_JUDGED_CHARACTERS = 72  # zxcvbn takes no more, and needs 40 ms for them
_TOO_COMMON = frozenset(
    {"This is a top-10 common password.", "This is a top-100 common password.", "This is a very common password."}
)

_turn = threading.Lock()  # zxcvbn puts the words of a call into a table that all calls share


def find_weakness(password: str, about: Iterable[str | None] = (), *, min_score: int = MIN_SCORE) -> str | None:
    """Return why a password is easy to guess for who knows the words `about` its user, or None.

    The reason repeats nothing of the password.
    """
    words = {word for text in about if text for word in [text, *re.split(r"[\W_]+", text)] if len(word) > 2}
    with _turn:
        verdict = zxcvbn(password[:_JUDGED_CHARACTERS], user_inputs=sorted({*words, "pinhole"}))
    if verdict["score"] >= min_score:
        return None
    warning = verdict["feedback"]["warning"]
    if warning in _TOO_COMMON:
        return "is one of the most used passwords"
    return f"is too easy to guess. {warning or 'Add another word or two.'}"
