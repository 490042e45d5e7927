"""Makes Routers; the default one is made once and shared."""

import threading
from functools import cache
from pathlib import Path

from adapters.store import Store
from router.classifier import CONFIG, Classifier, TapClassifier, WhisperDetection
from router.options import TranscribeOptions, transcribe_options
from router.router import Router
from zoo.errors import RoutingError

EMBEDDED_MODEL = "boli-embedded"
REPOSITORY = Path(__file__).resolve().parent.parent
EMBEDDED_STORE = REPOSITORY / "adapters" / "embedded"
EMBEDDED_CLASSIFIER = REPOSITORY / "router" / "embedded"
_lock = threading.Lock()


def load(
    model: str = EMBEDDED_MODEL,
    store: str | Path | None = None,
    classifier: str | Path | None = None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    context: str | None = None,
    quantize: str | None = None,
    variant: str | None = None,
    rank: int | None = None,
    beam_size: int | None = None,
    ctc_weight: float | None = None,
    max_bytes: int | None = None,
    max_adapters: int | None = None,
    **options,
) -> Router:
    """A Router of your choice.

    model: a card, a folder or a hub id (`boli zoo list`). store: a folder of adapters; None: the embedded one for the
    embedded model, none for others. classifier: a folder, `whisper` for the model's own language detection, or None:
    the store's (`STORE/classifier`), the embedded one, else the model's own.
    context: None: the one that all the store's adapters for this model were trained in, else the card's.
    variant, rank: only such adapters. beam_size, ctc_weight: None: what the model's card says. max_bytes,
    max_adapters: how much the bank may hold. options: fields of `TranscribeOptions`, defaults of every call.
    Raises BoliError subclasses that say what is missing and how to get it.
    """
    import zoo

    search = {"beam_size": beam_size, "ctc_weight": ctc_weight}
    options |= {name: value for name, value in search.items() if value is not None}
    transcribe_options(options)  # what cannot be asked for is said before a model is loaded
    embedded = model == EMBEDDED_MODEL
    if store is None and embedded:
        store = EMBEDDED_STORE
    opened = Store(store) if store is not None else None
    folder: Path | None = None
    if classifier is not None and classifier != "whisper":
        folder = Path(classifier)
    elif classifier is None:
        for candidate in ([opened.folder / "classifier"] if opened else []) + (
            [EMBEDDED_CLASSIFIER] if embedded else []
        ):
            if (candidate / CONFIG).is_file():
                folder = candidate
                break
    tap = TapClassifier.load(folder).config.tap if folder is not None else None
    if context is None and opened is not None:
        trained_in = {stored.record.context for stored in opened.find(base=model, variant=variant, rank=rank)}
        context = trained_in.pop() if len(trained_in) == 1 else None
    base = zoo.load(model, device=device, dtype=dtype, context=context, tap=tap, quantize=quantize)
    of_card = TranscribeOptions(beam_size=base.card.beam_size, ctc_weight=base.card.ctc_weight)
    defaults = transcribe_options(options, of_card)
    chosen: Classifier
    if folder is not None:
        chosen = TapClassifier.load(folder, base)
    elif hasattr(base, "detect_language"):
        chosen = WhisperDetection(base)
    else:
        raise RoutingError(
            f"{model} has no classifier and cannot tell languages itself",
            valid="a folder written by boli train classifier",
            remedy=f"boli train classifier for {model}, then router.load(classifier=FOLDER)",
        )
    return Router(
        base,
        opened,
        chosen,
        defaults,
        variant=variant,
        rank=rank,
        max_bytes=max_bytes,
        max_adapters=max_adapters,
    )


@cache
def _default_router() -> Router:
    return load()


def transcribe(inputs, rate: int | None = None, **options):
    """`Router.transcribe` of the embedded model, which is loaded at the first call."""
    with _lock:
        router = _default_router()
    return router.transcribe(inputs, rate, **options)
