"""What a base recipe says of the tokenizer and of the learning (training/base.py)."""

from dataclasses import dataclass, field

from training.recipe import check


@dataclass(frozen=True)
class TokenizerOptions:
    size: int = 1200
    """Text tokens, the 256 bytes included."""
    text: list[str] = field(default_factory=list)
    """Further text, `language=file` (one sentence a line), beside the training manifests' own."""
    languages: list[str] = field(default_factory=list)
    """Languages that the model gets an identity for; empty: all that have text in a manifest or a text file."""


@dataclass(frozen=True)
class LearnOptions:
    """How it learns."""

    max_minutes: float = 0.0
    """Wall-clock budget from the start of the job, loading included; the schedule follows the clock. 0: by steps."""
    steps: int = 20_000
    """Steps, where the clock does not decide."""
    learning_rate: float = 1.5e-3
    """Peak."""
    final_share: float = 0.01
    """Learning rate at the end, as a share of the peak."""
    warmup: float = 0.03
    """Share of the training spent on warming up."""
    weight_decay: float = 0.05
    optimizer: str = "muon"
    """`muon` for the matrices with AdamW for the rest, or `adamw` for all (training/optimizer.py)."""
    start_from: str = ""
    """Folder of a Whisper-architecture model to go on from: its tokenizer and weights. More layers, or another number
    of frames a second, are allowed (base_model.begin_from)."""
    parallel: int = 1
    """Batches of one step that are computed side by side, a thread each, their gradients averaged. On two CPU cores 2 is
    half as fast again as two threads on one batch, which wait for each other after every operation."""
    clip_norm: float = 1.0
    """Gradients above this norm are scaled down to it."""
    label_smoothing: float = 0.1
    ctc: float = 0.5
    """Weight of the CTC auxiliary loss at the start; it falls linearly to `ctc_final`. 0: none."""
    ctc_final: float = 0.1
    timestamps: float = 0.1
    """Share of clips written with timestamps (0.00 and the clip's end)."""
    gentle: float = 0.0
    """Share of the training, at its start, with clips of at most `gentle_s` and without augmentation. A small base that
    starts with everything at once may never leave the plateau on which CTC writes blanks (docs/log.md)."""
    gentle_s: float = 4.5
    gentle_ratios: dict[str, float] = field(default_factory=dict)
    """`plan.ratios` of that time: one language breaks the plateau sooner than many. Empty: as later."""
    ema: float = 0.999
    """Decay of the moving average of weights that is validated and saved; 0: the weights themselves."""
    precision: str = "auto"
    """`auto`: bf16 where the device has it; `fp32`, `bf16`."""
    compile: bool = False
    """torch.compile the layers: pays on a GPU after about a minute of training."""
    validate_minutes: float = 1.0
    """Minutes between two validations; 0: only at the end."""
    checkpoint_minutes: float = 1.0

    def __post_init__(self):
        check(
            self.max_minutes > 0 or self.steps > 0, "learn.steps", self.steps, "above 0, or learn.max_minutes above 0"
        )
        check(self.precision in ("auto", "fp32", "bf16"), "learn.precision", self.precision, "auto, fp32, bf16")
        check(self.optimizer in ("adamw", "muon"), "learn.optimizer", self.optimizer, "adamw, muon")
        check(self.learning_rate > 0, "learn.learning_rate", self.learning_rate, "above 0")
        check(self.parallel >= 1, "learn.parallel", self.parallel, "1 or more")
        check(0 <= self.timestamps <= 1, "learn.timestamps", self.timestamps, "0 to 1")
        check(0 <= self.gentle < 1, "learn.gentle", self.gentle, "0 up to below 1")
        check(0 <= self.ema < 1, "learn.ema", self.ema, "0 up to below 1")
