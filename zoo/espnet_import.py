"""Imports of ESPnet, without what they do on the side.

Importing parts of espnet2 imports torchaudio (whose library does not load beside every torch), asks nltk to download,
prints to standard output, and through `logging.info` gives the root logger a handler. Nothing of ESPnet is imported
but inside `quietly()`.
"""

import importlib
import io
import logging
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.machinery import ModuleSpec
from typing import Any

from zoo.errors import ModelError

_lock = threading.RLock()


@contextmanager
def quietly() -> Iterator[None]:
    """Inside this block ESPnet may be imported and its models built."""
    with _lock, redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = logging.getLogger()
        silent = logging.NullHandler()
        root.addHandler(silent)  # else `logging.info` would add one that prints
        absent = "torchaudio" not in sys.modules
        if absent:
            sys.modules["torchaudio"] = _stub("torchaudio")
        try:
            yield
        finally:
            root.removeHandler(silent)
            if absent:
                del sys.modules["torchaudio"]  # transformers looks for it, and would believe it to be there


def part(target: str) -> Any:
    """The object `module:name` of ESPnet. Raises ModelError where ESPnet or something it needs is not installed."""
    module, _, name = target.partition(":")
    with quietly():
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError as error:
            raise ModelError(
                f"{module} cannot be imported: {error}",
                valid="espnet 202511 with what requirements.txt names for it",
                remedy="pip install --no-deps -r requirements-no-deps.txt  (`make setup` does it)",
            ) from error


def speech2text() -> Any:
    """ESPnet's own `Speech2Text` of speech-to-text models, for comparison: boli itself never decodes with it.

    It imports every encoder and decoder ESPnet has (seconds). The state-space decoder, which no OWSM has, needs a
    package that is not installed; a stub stands for it.
    """
    import nltk

    missing = "espnet2.asr.decoder.s4_decoder"
    download = nltk.download
    nltk.download = lambda *args, **kwargs: True
    with _lock:
        try:
            importlib.import_module("hydra")
        except ImportError:
            if missing not in sys.modules:
                stub = _stub(missing)
                stub.S4Decoder = type("S4Decoder", (part("espnet2.asr.decoder.abs_decoder:AbsDecoder"),), {})  # type: ignore[attr-defined]
                sys.modules[missing] = stub
        try:
            return part("espnet2.bin.s2t_inference:Speech2Text")
        finally:
            nltk.download = download


def _stub(name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    return module
