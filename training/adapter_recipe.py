"""What `boli train adapter` can be told."""

from dataclasses import dataclass, field

from training.augment import AugmentOptions
from training.batches import PlanOptions
from training.recipe import DataOptions, RunOptions, check, choice

METHODS = ("lora", "full", "decoder")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class BaseOptions:
    """The frozen model underneath."""

    name: str = "boli-embedded"
    """Card, local folder, or hub id that was pulled."""
    publish_as: str = ""
    """Name of the base in the adapter's key; empty: its card's name."""
    context: str = ""
    """`30s` or `dynamic`; empty: the card's."""
    tap: int = -1
    """Encoder layers below the tap; -1: the card's."""
    dtype: str = "float32"
    """What the frozen weights are held in: float32, bfloat16, float16."""
    quantize: str = ""
    """`nf4` (QLoRA, Dettmers et al. 2023) or `8bit`; empty: no."""

    def __post_init__(self):
        choice("base.context", self.context, ("", "30s", "dynamic"))
        choice("base.quantize", self.quantize, ("", "nf4", "8bit"))
        choice("base.dtype", self.dtype, ("float32", "bfloat16", "float16"))


@dataclass(frozen=True)
class AdapterOptions:
    """What is trained."""

    language: str = ""
    """Language of the key; empty: the only one in the training data."""
    method: str = "lora"
    """`lora`; or `full` and `decoder` fine-tuning, the references an adapter is measured against (not published)."""
    rank: int = 16
    alpha: float = 0.0
    """Scale of the update is alpha / rank; 0: twice the rank."""
    dropout: float = 0.05
    """On the input of the low-rank branch."""
    targets: list[str] = field(default_factory=list)
    """Kinds of module (q_proj, v_proj, fc1, ...); `all`: every kind the base has; empty: the card's."""
    layers: str = "all"
    """`all`, or `above_tap`: nothing below the tap changes, so routing needs no second encoder pass."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) (Kalajdzievski 2023)."""
    variant: str = "default"
    """Last part of the key: keeps seeds, ratios, target sets and tap classes apart."""
    start_from: str = ""
    """Folder of another language's adapter of the same rank and sites to start from (few-shot transfer)."""
    progressive: int = 0
    """Stages of progressive unfreezing, from the output down (Howard & Ruder 2018); 0: everything at once."""

    def __post_init__(self):
        choice("adapter.method", self.method, METHODS)
        choice("adapter.layers", self.layers, ("all", "above_tap"))
        check(1 <= self.rank <= 4096, "adapter.rank", self.rank, "1 to 4096; the study uses 8, 16, 32, 64")
        check(self.alpha >= 0, "adapter.alpha", self.alpha, "above 0, or 0 for twice the rank")
        check(0 <= self.dropout < 1, "adapter.dropout", self.dropout, "0 up to below 1")
        check(self.progressive >= 0, "adapter.progressive", self.progressive, "0 or more stages")

    @property
    def scale_alpha(self) -> float:
        return self.alpha or 2.0 * self.rank


@dataclass(frozen=True)
class FitOptions:
    """How long and how fast."""

    steps: int = 1000
    """Updates; the schedule is laid out over them."""
    epochs: float = 0.0
    """Passes over the data instead of `steps`; 0: by steps."""
    max_minutes: float = 0.0
    """Wall-clock budget instead: the schedule follows the clock and always completes. 0: none."""
    learning_rate: float = 1e-3
    warmup: float = 0.05
    """Share of the training."""
    decay: str = "cosine"
    """`cosine`, `linear` or `constant` after the warm-up."""
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    accumulate: int = 1
    """Batches per update."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    precision: str = "auto"
    """`auto`: bf16 where a GPU has it, else fp32; `fp32`, `bf16`, `fp16`."""
    evaluate_every: int = 100
    """Updates between two validations, each followed by a checkpoint."""
    evaluate_at_start: bool = False
    """Score the base on the validation set before the first update."""
    metric: str = "wer"
    """What decides the best checkpoint and early stopping: `wer` or `cer`, raw text."""
    patience: int = 0
    """Stop after so many validations without a better `metric`; 0: never."""

    def __post_init__(self):
        check(self.steps > 0, "fit.steps", self.steps, "a whole number above 0")
        check(self.learning_rate > 0, "fit.learning_rate", self.learning_rate, "above 0")
        check(self.accumulate > 0, "fit.accumulate", self.accumulate, "1 or more")
        check(self.evaluate_every > 0, "fit.evaluate_every", self.evaluate_every, "1 or more")
        check(0 <= self.warmup < 1, "fit.warmup", self.warmup, "0 up to below 1")
        check(self.epochs >= 0 and self.max_minutes >= 0 and self.patience >= 0, "fit.epochs/max_minutes/patience",
              (self.epochs, self.max_minutes, self.patience), "0 or more")  # fmt: skip
        choice("fit.decay", self.decay, ("cosine", "linear", "constant"))
        choice("fit.precision", self.precision, PRECISIONS)
        choice("fit.metric", self.metric, ("wer", "cer"))


@dataclass(frozen=True)
class PublishOptions:
    """Where the adapter goes."""

    store: str = ""
    """Store to publish to; empty: it stays in the run folder."""
    licence: str = ""
    author: str = ""
    notes: str = ""
    dtype: str = "float32"
    """What the adapter's weights are written in; the scores are those of the weights as written."""

    def __post_init__(self):
        choice("publish.dtype", self.dtype, ("float32", "bfloat16", "float16"))


@dataclass(frozen=True)
class AdapterRecipe:
    run: RunOptions = field(default_factory=RunOptions)
    data: DataOptions = field(default_factory=DataOptions)
    plan: PlanOptions = field(default_factory=PlanOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    base: BaseOptions = field(default_factory=BaseOptions)
    adapter: AdapterOptions = field(default_factory=AdapterOptions)
    fit: FitOptions = field(default_factory=FitOptions)
    publish: PublishOptions = field(default_factory=PublishOptions)
