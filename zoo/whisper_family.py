"""How the registry meets family `whisper`: what a folder of it looks like, and how it is loaded.

torch is imported when a model is loaded, not when a folder is looked at.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.card import Card
from zoo.errors import ModelError
from zoo.progress import quiet_bars
from zoo.speech import SAMPLE_RATE

if TYPE_CHECKING:
    from zoo.whisper import WhisperBase

HOP_SAMPLES = 160  # between mel frames of Whisper as published, 10 ms
STRIDE = 2  # mel frames per encoder frame: the second convolution's
DTYPES = ("float32", "bfloat16", "float16")
QUANTIZED = ("8bit", "nf4", "int8")
INT8_DECODER_WEIGHTS = 500_000  # a decoder's layer smaller than this is faster in fp32, a token at a time


class WhisperFamily:
    """How the registry meets this family."""

    name = "whisper"

    def matches(self, folder: Path) -> bool:
        config = folder / "config.json"
        return config.is_file() and json.loads(config.read_text(encoding="utf-8")).get("model_type") == "whisper"

    def card(self, folder: Path, name: str) -> Card:
        """Describe a local folder."""
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        layers = config["encoder_layers"]
        languages: tuple[str, ...] = ()
        generation = folder / "generation_config.json"
        if generation.is_file():
            languages = tuple(
                token.strip("<|>") for token in json.loads(generation.read_text(encoding="utf-8")).get("lang_to_id", {})
            )
        extractor = folder / "preprocessor_config.json"
        heard = json.loads(extractor.read_text(encoding="utf-8")) if extractor.is_file() else {}
        return Card(
            name=name,
            family=self.name,
            source=f"file:{folder}",
            languages=languages,
            frame_rate=SAMPLE_RATE / (heard.get("hop_length", HOP_SAMPLES) * STRIDE),
            n_layers=layers,
            tap=layers // 2,
            context="30s",
            longest_s=float(config.get("longest_s", 0.0)),
            targets=("q_proj", "v_proj"),
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
    ) -> "WhisperBase":
        """quantize: None, `8bit` or `nf4` (bitsandbytes), or `int8` (a CPU's own integer product, `zoo/int8.py`). Raises
        ModelError where weights are missing or do not fit."""
        import torch
        from transformers import (
            BitsAndBytesConfig,
            WhisperFeatureExtractor,
            WhisperForConditionalGeneration,
            WhisperTokenizer,
        )

        from zoo.allocator import keep_freed
        from zoo.ctc import read_head
        from zoo.whisper import WhisperBase

        if dtype not in DTYPES:
            raise ModelError(f"dtype {dtype!r} is unknown", valid=", ".join(DTYPES))
        options: dict = {
            "dtype": getattr(torch, dtype),
            "attn_implementation": "sdpa",
            "local_files_only": True,
            "use_safetensors": True,
        }
        if quantize not in (None, *QUANTIZED):
            raise ModelError(
                f"quantize {quantize!r} is unknown", valid=", ".join(["None", *(repr(kind) for kind in QUANTIZED)])
            )
        if quantize == "int8" and (device, dtype) != ("cpu", "float32"):
            raise ModelError(
                f"int8 on {device} in {dtype}",
                valid="device='cpu', dtype='float32'",
                remedy="quantize='8bit' or 'nf4' on a GPU",
            )
        if quantize in ("8bit", "nf4"):
            options["quantization_config"] = BitsAndBytesConfig(
                load_in_8bit=quantize == "8bit",
                load_in_4bit=quantize == "nf4",
                bnb_4bit_quant_type="nf4",
                bnb_4bit_compute_dtype=getattr(torch, dtype),
                llm_int8_skip_modules=["proj_out"],
            )
            options["device_map"] = {"": device}
        try:
            with quiet_bars():
                module, info = WhisperForConditionalGeneration.from_pretrained(
                    str(folder), output_loading_info=True, **options
                )
            tokenizer = WhisperTokenizer.from_pretrained(str(folder), local_files_only=True)
            extractor = WhisperFeatureExtractor.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"{card.name} in {folder} cannot be loaded: {error}", remedy=f"boli zoo verify {card.name}"
            ) from error
        missing = sorted(set(info["missing_keys"]) - {"proj_out.weight"})  # the head is tied to the embedding
        wrong = [*missing, *sorted(info["unexpected_keys"]), *(str(key) for key in info["mismatched_keys"])]
        if wrong:
            shown = ", ".join(wrong[:5]) + (" ..." if len(wrong) > 5 else "")
            raise ModelError(
                f"The weights of {card.name} do not fit its config: {shown}",
                remedy=f"boli zoo verify {card.name}",
            )
        if quantize in (None, "int8"):
            module.to(device)
        ctc = read_head(Path(folder), module.config.d_model)
        ctc = ctc.to(device) if ctc is not None else None
        base = WhisperBase(module, tokenizer, extractor, card, Path(folder), context=context, tap=tap, ctc=ctc)
        if quantize == "int8":
            to_int8(base)
        base.quantization = quantize or ""
        if device == "cpu":
            keep_freed()
        return base


def to_int8(base: "WhisperBase") -> None:
    """Hold in int8 what is worth it: all that sees frames, the large layers of the decoder, and its output layer."""
    from zoo.int8 import quantise

    worth = [
        site.name
        for site in base.sites
        if site.axis == "frames" or site.in_features * site.out_features >= INT8_DECODER_WEIGHTS
    ]
    quantise(base.module, [*worth, "proj_out"])


family = WhisperFamily()
