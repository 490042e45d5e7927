"""Audio in, transcript out.

    import router
    print(router.transcribe("clip.wav").text)

`router.transcribe` uses the embedded model; `router.load(model=..., store=..., policy=...)` returns a Router of your
choice. Importing this package is cheap; torch is imported by the first call.
"""

from typing import TYPE_CHECKING

try:
    from adapters import IS_BOLI as _IS_BOLI  # noqa: F401
except ImportError as error:
    raise ImportError(
        "The package `adapters` that Python found is not boli's (another project uses that name). "
        "To mend it: run from boli's clone, or `pip uninstall adapters`, then `pip install -e .` in the clone."
    ) from error

if TYPE_CHECKING:
    from router.loading import load, transcribe
    from router.router import Router
    from router.transcript import Segment, Transcript

_HOMES = {
    "load": "router.loading",
    "Router": "router.router",
    "transcribe": "router.loading",
    "Transcript": "router.transcript",
    "Segment": "router.transcript",
}
__all__ = ["Router", "Segment", "Transcript", "load", "transcribe"]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'router' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
