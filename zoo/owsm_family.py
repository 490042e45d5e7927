"""How the registry meets family `owsm`: what a folder of it looks like, and how it is loaded.

torch and ESPnet are imported when a model is loaded, not when a folder is looked at.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from zoo import checksum, owsm_files
from zoo.card import Card
from zoo.errors import ModelError
from zoo.owsm_languages import language_tokens
from zoo.speech import SAMPLE_RATE

if TYPE_CHECKING:
    from zoo.owsm import OwsmBase

DTYPES = ("float32", "bfloat16", "float16")
DEFAULT_LAYERS = {"e_branchformer": 12, "conformer": 6, "transformer": 6}


class OwsmFamily:
    """How the registry meets this family."""

    name = "owsm"
    verifies_pickles = True  # weights are read with `weights_only`, every key is checked

    def matches(self, folder: Path) -> bool:
        return owsm_files.recognises(folder)

    def card(self, folder: Path, name: str) -> Card:
        """Describe a local folder."""
        config = owsm_files.read_config(owsm_files.find(folder, name), name)
        encoder = config.get("encoder_conf") or {}
        layers = int(encoder.get("num_blocks", DEFAULT_LAYERS.get(config["encoder"], 0)))
        return Card(
            name=name,
            family=self.name,
            source=f"file:{folder}",
            languages=tuple(language_tokens(config["token_list"])),
            frame_rate=SAMPLE_RATE / owsm_files.frame_samples(config, name),
            n_layers=layers,
            tap=layers // 2,
            context="30s",
            targets=("linear_q", "linear_v"),
        )

    def load(
        self,
        folder: Path,
        card: Card,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        context: str | None = None,
        tap: int | None = None,
        quantize: str | None = None,
    ) -> "OwsmBase":
        """Raises ModelError where files are missing, or where the weights do not fit the config to the last tensor."""
        import torch

        from zoo.owsm import OwsmBase
        from zoo.owsm_network import build, load_weights
        from zoo.owsm_tokens import OwsmTokenizer

        if dtype not in DTYPES:
            raise ModelError(f"dtype {dtype!r} is unknown", valid=", ".join(DTYPES))
        if quantize is not None:
            raise ModelError(f"Family owsm is not held in {quantize!r}", valid="quantize=None")
        folder = Path(folder)
        files = owsm_files.find(folder, card.name)
        config = owsm_files.read_config(files, card.name)
        kind = config.get("token_type", "bpe")
        if kind not in ("bpe", "char"):
            raise ModelError(f"{card.name} has token_type {kind!r}", valid="bpe, char")
        model = owsm_files.inside(folder, str(config.get("bpemodel")), card.name) if kind == "bpe" else None
        tokenizer = OwsmTokenizer(config["token_list"], model, card.name)
        module = build(config, files, card.name)
        load_weights(module, files.weights, card.name)
        module.to(torch.float32).to(device)
        for part in ("encoder", "decoder", "ctc"):  # features stay float32: logarithms of small numbers
            if getattr(module, part) is not None:
                getattr(module, part).to(getattr(torch, dtype))
        known = card.files.get(files.weights.relative_to(folder).as_posix())
        return OwsmBase(
            module,
            tokenizer,
            config,
            owsm_files.frame_samples(config, card.name),
            card,
            folder,
            known or checksum.sha256(files.weights),
            context=context,
            tap=tap,
        )


family = OwsmFamily()
