"""What `boli train following` can be told."""

from dataclasses import dataclass, field

from training.adapter_recipe import BaseOptions
from training.augment import AugmentOptions
from training.recipe import DataOptions, RunOptions, check


@dataclass(frozen=True)
class FollowOptions:
    """What is trained, on what."""

    finished: bool = True
    """Read the encoder's output beside the tap's states: a third more to compute, and what is written of the sounds (its
    script above all) says much of the language (docs/log.md)."""
    width: int = 128
    """Hidden width."""
    window_s: float = 2.0
    """Seconds of the past that are encoded at each hop."""
    hop_s: float = 0.1
    """Seconds between two decisions."""
    look_ahead_s: float = 0.1
    """Sound that a frame has behind it when it is read; it counts as delay."""
    joined: int = 1400
    """Clips that are joined at random from the training clips in one language (training/following_joins.py). Those that
    change language already are taken as they are."""
    coarse: int = 0
    """Further clips joined so, but heard each `coarse_hop_s`: a tenth of the work, most frames with more sound behind them
    than a decision hears. They teach more voices and words; the others how to hear them early."""
    coarse_hop_s: float = 1.0
    sped: float = 0.7
    """Share of the pieces of joined clips that are faster or slower, and so in another voice."""
    plain: float = 0.45
    """Share of the clips whose sound is left as it is."""
    epochs: int = 8
    batch_clips: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    dropout: float = 0.3
    noise: float = 0.3
    """Gaussian noise on the states in each update, in each layer's standard deviation."""
    soon: float = 5.0
    """Weight in the loss of the frames of the first `soon_s` after another piece begins, in another language or not, where others
    have 1: what counts is how soon a language is heard (docs/log.md)."""
    soon_s: float = 1.0

    def __post_init__(self):
        check(0 <= self.plain <= 1, "follow.plain", self.plain, "0 to 1")
        check(0 <= self.sped <= 1, "follow.sped", self.sped, "0 to 1")
        check(
            self.epochs > 0 and self.batch_clips > 0,
            "follow.epochs/batch_clips",
            (self.epochs, self.batch_clips),
            "above 0",
        )
        check(self.joined >= 0 and self.coarse >= 0, "follow.joined/coarse", (self.joined, self.coarse), "0 or more")
        longest = self.window_s - self.look_ahead_s
        check(
            not self.coarse or self.hop_s <= self.coarse_hop_s <= longest,
            "follow.coarse_hop_s",
            self.coarse_hop_s,
            f"{self.hop_s:g} (hop_s) to {longest:g} (window_s less look_ahead_s)",
        )
        check(0 <= self.dropout < 1, "follow.dropout", self.dropout, "0 to below 1")
        check(self.noise >= 0, "follow.noise", self.noise, "0 or more")
        check(self.soon > 0 and self.soon_s >= 0, "follow.soon/soon_s", (self.soon, self.soon_s), "above 0; 0 or more")


@dataclass(frozen=True)
class FollowingRecipe:
    run: RunOptions = field(default_factory=RunOptions)
    data: DataOptions = field(default_factory=DataOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    base: BaseOptions = field(default_factory=BaseOptions)
    follow: FollowOptions = field(default_factory=FollowOptions)
    classifier: str = ""
    """Folder of the classifier that it follows beside: its classes and its tap are taken over."""
    export: bool = True
    """Put the head into that folder, beside the run's own copy."""

    def __post_init__(self):
        check(bool(self.classifier), "classifier", self.classifier, "a folder that `boli train classifier` wrote")
