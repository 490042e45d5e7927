"""A recipe: a YAML file that fully describes one job, read into frozen dataclasses.

Unknown keys are rejected with the valid ones named, `key=value` overrides use dots for nesting
(`model.layers=2`), and every option's help is the docstring under its field. The launch command stands as the first
comment line of each recipe file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from zoo.errors import RecipeError

Options = TypeVar("Options")


def check(ok: bool, name: str, value: Any, valid: str) -> None:
    """Raise RecipeError naming the option, its value and what is valid, unless `ok`."""
    if not ok:
        raise RecipeError(
            f"Recipe option {name} is {value!r}", valid=valid, remedy=f"give {name}=VALUE, or edit the recipe"
        )


def choice(name: str, value: str, valid: Sequence[str]) -> None:
    check(value in valid, name, value, ", ".join(valid))


@dataclass(frozen=True)
class RunOptions:
    """Where a job writes and how it is followed."""

    name: str = ""
    """Name of the run; its folder is `<root>/<timestamp>_<name>`. Empty: the recipe's own name."""
    root: str = "runs"
    """Folder that holds the runs."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`."""
    seed: int = 0
    """Seed of weights, order and augmentation."""
    log_every: int = 10
    """Steps between two lines of metrics."""
    wandb: str = "none"
    """`none`, `offline` (no account needed; files under the run folder) or `online`."""
    wandb_project: str = "boli"
    """Weights & Biases project."""
    tensorboard: bool = False
    """Write TensorBoard event files under the run folder."""
    progress: bool = True
    """Show a progress bar with the time left."""
    resume_latest: bool = False
    """Resume the newest unfinished run of this name under `root` where there is one (for requeued cluster jobs)."""

    def __post_init__(self):
        choice("run.wandb", self.wandb, ("none", "offline", "online"))
        check(self.log_every > 0, "run.log_every", self.log_every, "a whole number above 0")


@dataclass(frozen=True)
class DataOptions:
    """Which clips a job learns from and is measured on."""

    train: list[str] = field(default_factory=list)
    """Manifests (JSON lines) to train on."""
    valid: list[str] = field(default_factory=list)
    """Manifests for early stopping and the best checkpoint. Never the test set."""
    test: list[str] = field(default_factory=list)
    """Manifests scored once, at the end, with the best checkpoint."""
    subset: str | None = None
    """Keep only lines of this `subset`."""
    languages: list[str] = field(default_factory=list)
    """Keep only these languages; empty: all."""
    without_corpora: list[str] = field(default_factory=list)
    """Corpora left out of training and validation, also clips that were joined from one of them: their test clips then
    show what holds across corpora. `plan.ratios` of manifests that are empty without them are dropped."""
    min_duration_s: float = 0.1
    """Shorter clips are left out and counted."""
    max_duration_s: float = 30.0
    """Longer clips are left out and counted."""
    max_valid_clips: int = 0
    """Measure on at most this many clips per language, spread evenly; 0: all."""
    max_train_clips: int = 0
    """Train on at most this many clips per language (a classifier, and a head
    that follows: per language and corpus), drawn by seed; 0: all."""
    workers: int = 0
    """Processes that decode audio files; 0: one per core."""

    def __post_init__(self):
        check(0 < self.min_duration_s < self.max_duration_s, "data.min_duration_s", self.min_duration_s,
              f"above 0 and below data.max_duration_s={self.max_duration_s}")  # fmt: skip


def load(kind: type[Options], path: str | Path, overrides: Sequence[str] = ()) -> Options:
    """Read the recipe at `path` as dataclass `kind`, apply `key=value` overrides, check everything.

    Raises RecipeError for a missing file, an unknown key, a value of the wrong type or out of range.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    path = Path(path)
    if not path.is_file():
        shipped = ", ".join(str(p) for p in sorted(Path(__file__).parent.glob("recipes/**/*.yaml")))
        raise RecipeError(f"Recipe {str(path)!r} is no file", valid=shipped)
    for item in overrides:
        if "=" not in item:
            raise RecipeError(f"Override {item!r} is no key=value", valid="for example run.seed=1 model.layers=2")
    given = [f'{item}""' if item.endswith("=") else item for item in overrides]  # `key=` is the empty text
    try:
        merged = OmegaConf.merge(
            _writable(OmegaConf.structured(kind)), OmegaConf.load(path), OmegaConf.from_dotlist(given)
        )
        return cast(Options, OmegaConf.to_object(merged))
    except YAMLError as error:
        raise RecipeError(f"Recipe {str(path)!r} is not YAML: {' '.join(str(error).split())}") from None
    except OmegaConfBaseException as error:
        raise RecipeError(_message(path, kind, error), valid=_valid(kind, error)) from None


def dump(options: Any) -> str:
    """The recipe as YAML, every default written out."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.structured(options))


def _writable(node: Any) -> Any:
    """Frozen dataclasses make read-only nodes; merging a file into them needs the flag off, at every level."""
    from omegaconf import DictConfig, OmegaConf

    node._set_flag("readonly", False)
    for key in node:
        if not OmegaConf.is_missing(node, key) and isinstance(node[key], DictConfig):
            _writable(node[key])
    return node


def _message(path: Path, kind: type, error: Exception) -> str:
    key = getattr(error, "full_key", None) or "?"
    return f"Recipe {str(path)!r}, option {key}: {str(error).splitlines()[0]}"


def _valid(kind: type, error: Exception) -> str:
    """The keys that stand beside the offending one."""
    from dataclasses import fields, is_dataclass

    owner: Any = getattr(error, "object_type", None)
    if not (isinstance(owner, type) and is_dataclass(owner)):
        owner = kind
    return ", ".join(f"{f.name} ({f.type.__name__ if isinstance(f.type, type) else f.type})" for f in fields(owner))
