"""What `boli train classifier` can be told."""

from dataclasses import dataclass, field

from training.adapter_recipe import BaseOptions
from training.augment import AugmentOptions
from training.recipe import DataOptions, RunOptions, check

HEADS = ("linear", "mlp", "cnn", "lstm", "attention", "tdnn")


@dataclass(frozen=True)
class HeadOptions:
    """What is trained, on what."""

    heads: list[str] = field(default_factory=lambda: list(HEADS))
    """Heads to train and compare; the best on the validation set (mean of the share of clips, over the classes, and of
    frames recognised: routing asks for the one, switching for the other) becomes the classifier."""
    width: int = 128
    """Hidden width of the heads that have one."""
    languages: list[str] = field(default_factory=lambda: ["en", "hi", "it", "pa", "te"])
    """Classes."""
    unknown: bool = True
    """One more class for every other language in the data; without it such clips are left out."""
    copies: int = 3
    """Augmented versions of each training clip that are encoded and kept; 1 with no augmentation is the clip itself."""
    plain: float = 0.0
    """Share of the copies whose sound is left as it is but for their speed. Where a language's recordings are few, all
    that `augment` does to them makes them less like those that are still to come (docs/log.md)."""
    corpus_clips: int = 0
    """A corpus that has fewer clips of a language gets more copies of each, up to so many clips (at most 24 copies): what
    is drawn again and again (`corpus_alpha`) is then augmented anew instead of learnt by heart."""
    crop: float = 0.5
    """Share of the copies that are cut to a random part, so that short clips are known too."""
    crop_shortest_s: float = 0.5
    crop_longest_s: float = 0.0
    """Lengths of such a part; 0: up to the whole clip. A change of language is followed through a window of 1 to 3 s
    (router/causal.py), so its frames are best learnt from parts that long. Clips longer than the base was taught on
    (`Card.longest_s`) are always cut to that."""
    speed: list[float] = field(default_factory=lambda: [1.0, 1.0])
    """Speed of each copy, drawn evenly between these two: pitch, formants and tempo move together, so that one speaker
    is heard as several (Ko et al. 2015). Where a corpus has two speakers, what is learnt is otherwise their voices."""
    epochs: int = 12
    """Passes over all copies, balanced over the classes."""
    corpus_alpha: float = 0.3
    """A corpus of n clips comes, within its class, with a share proportional to n ** corpus_alpha: 1 as in the data,
    0 every corpus equally often. Few recordings of people are so not lost among much synthetic speech."""
    synthetic_corpora: list[str] = field(default_factory=list)
    """Corpora of synthesised speech; needed for `recorded_share`."""
    recorded_share: float = 0.0
    """Share of recordings (clips of no synthetic corpus) in every class, the same in all of them, so that being a recording
    says nothing of the language; 0: as `corpus_alpha` gives. Where most of `unknown` is recorded and most of a language
    synthesised, people are taken for unknown."""
    batch_clips: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    own_detection: bool = False
    """Let the base's own language detection speak beside the head, weighed on the validation set (router/pooling.py): one
    decoder step more, and what is left of the encoder above the tap."""
    dropout: float = 0.1
    """Share of a head's hidden values that are left out in each update."""
    noise: float = 0.0
    """Gaussian noise on the states in each update, in their standard deviations. With more dropout it keeps a head from
    learning its speakers (docs/log.md)."""
    centred: bool = True
    """Take each clip's mean over time out of its frames before the head reads them, so that it hears less of the voice and
    the channel: people it was not taught by are heard far better (docs/log.md)."""
    frame_weight: float = 0.5
    """Weight of the loss over frames beside that over utterances."""
    seam_weight: float = 1.0
    seam_s: float = 0.5
    """Frames less than `seam_s` before or behind a seam (where another segment begins, in another language or not) count
    `seam_weight` times in that loss: they are few, and it is they that say where the language changes."""

    def __post_init__(self):
        check(bool(self.heads) and set(self.heads) <= set(HEADS), "head.heads", self.heads, ", ".join(HEADS))
        check(
            len(set(self.languages)) == len(self.languages) > 0, "head.languages", self.languages, "each language once"
        )
        check(
            "unknown" not in self.languages, "head.languages", self.languages, "languages; head.unknown adds the class"
        )
        check(self.copies > 0 and self.epochs > 0, "head.copies/epochs", (self.copies, self.epochs), "above 0")
        check(
            len(self.speed) == 2 and 0.5 <= self.speed[0] <= self.speed[1] <= 2,
            "head.speed",
            self.speed,
            "[slowest, fastest] within 0.5 to 2",
        )
        check(self.corpus_clips >= 0, "head.corpus_clips", self.corpus_clips, "0 or more")
        check(0 <= self.crop <= 1, "head.crop", self.crop, "0 to 1")
        check(0 <= self.plain <= 1, "head.plain", self.plain, "0 to 1")
        check(self.crop_longest_s == 0 or self.crop_longest_s >= self.crop_shortest_s > 0, "head.crop_longest_s",
              self.crop_longest_s, f"at least head.crop_shortest_s={self.crop_shortest_s:g}, or 0")  # fmt: skip
        check(0 <= self.dropout < 1, "head.dropout", self.dropout, "0 to below 1")
        check(self.noise >= 0, "head.noise", self.noise, "0 or more")
        check(0 <= self.recorded_share < 1, "head.recorded_share", self.recorded_share, "0 to below 1")
        check(
            self.seam_weight > 0 and self.seam_s >= 0,
            "head.seam_weight/seam_s",
            (self.seam_weight, self.seam_s),
            "above 0; 0 or more",
        )
        check(not self.recorded_share or bool(self.synthetic_corpora), "head.synthetic_corpora", self.synthetic_corpora,
              "the corpora that are synthesised, beside head.recorded_share")  # fmt: skip
        check(0 <= self.corpus_alpha <= 1, "head.corpus_alpha", self.corpus_alpha, "0 to 1")

    @property
    def classes(self) -> tuple[str, ...]:
        return (*self.languages, "unknown") if self.unknown else tuple(self.languages)


@dataclass(frozen=True)
class ClassifierRecipe:
    run: RunOptions = field(default_factory=RunOptions)
    data: DataOptions = field(default_factory=DataOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    base: BaseOptions = field(default_factory=BaseOptions)
    head: HeadOptions = field(default_factory=HeadOptions)
    export: str = ""
    """Folder for the best head, beside the run's own copy; empty: none."""
