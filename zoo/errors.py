"""The one small hierarchy of errors.

A message names the thing, the value it had, what would have been valid, and the command that mends it.
"""


class BoliError(Exception):
    """Base of every error boli raises on purpose.

    `what` names the thing and the value it had; `valid` says what would have been accepted; `remedy` is the
    command or step that mends it.
    """

    def __init__(self, what: str, *, valid: str = "", remedy: str = ""):
        self.what, self.valid, self.remedy = what, valid, remedy
        parts = [what.rstrip(".") + "."]
        if valid:
            parts.append(f"Valid: {valid.rstrip('.')}.")
        if remedy:
            parts.append(f"To mend it: {remedy}")
        super().__init__(" ".join(parts))


class AudioError(BoliError):
    """A sound that cannot be read, or that holds nothing to hear."""


class ModelError(BoliError):
    """A base model, card or family that is unknown, damaged or does not fit."""


class AdapterError(BoliError):
    """An adapter that is refused: damaged, dead, for another base, or of a kind that cannot be mixed exactly."""


class StoreError(BoliError):
    """A store that is missing, unreadable or inconsistent."""


class RoutingError(BoliError):
    """A language, policy or mixture that cannot be served."""


class DataError(BoliError):
    """A manifest, corpus or split that cannot be used."""


class RecipeError(BoliError):
    """A recipe with an unknown key or an impossible value."""
