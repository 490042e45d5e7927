"""The one door to the network: whether it may be used, how long a server may take, and how often it is asked again."""

import os

from zoo.errors import ModelError

CONNECT_TIMEOUT_S = 10.0
RETRIES = 4  # in a row without a byte of progress
_OFFLINE = ("BOLI_OFFLINE", "HF_HUB_OFFLINE")


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() not in ("", "0", "false", "no", "off")


def offline() -> bool:
    """True when BOLI_OFFLINE or HF_HUB_OFFLINE says that no network call may be made."""
    return any(map(_is_set, _OFFLINE))


def require(what: str, name: str) -> None:
    """Raises ModelError in offline mode: `what` needs the network."""
    if offline():
        variables = [variable for variable in _OFFLINE if _is_set(variable)]
        raise ModelError(
            f"{what} needs the network, and {' and '.join(f'{v}={os.environ[v]}' for v in variables)} forbids it",
            valid="a model that is already in the cache (`boli zoo list --pulled`)",
            remedy=f"{' '.join(f'{v}=0' for v in variables)} boli zoo pull {name}",
        )


def read_timeout_s() -> float:
    """Seconds without a byte after which a server counts as gone (`BOLI_TIMEOUT_S`, by default 30)."""
    text = os.environ.get("BOLI_TIMEOUT_S", "30")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ModelError(f"BOLI_TIMEOUT_S is {text!r}", valid="seconds, more than 0", remedy="export BOLI_TIMEOUT_S=30")
    return seconds
