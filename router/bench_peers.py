"""`boli bench router`: what people use today, on the same weights and clips.

Each peer is given the right language and adapter. It runs at its own context (30 s), and at ours where it can: a
transformers model whose positions are cut to the clip's grid; CTranslate2 itself, since faster-whisper always pads.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager

from router.bench_clips import BenchClip
from router.bench_models import Prepared

WINDOW_S = 30


def grid_s(clips: list[BenchClip], padded: bool) -> int:
    """Seconds that these clips are padded to: Whisper's window, or the next whole second of the longest."""
    return WINDOW_S if padded else math.ceil(max(clip.duration_s for clip in clips))


class TransformersPeft:
    """transformers with PEFT's layers: the pipeline under `set_adapter`, or `generate` under `adapter_names`."""

    def __init__(self, prepared: Prepared, device: str = "cpu"):
        import torch
        from peft import PeftModel
        from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer
        from transformers import logging as transformers_logging

        from zoo.progress import quiet_bars

        transformers_logging.set_verbosity_error()
        logging.getLogger("transformers").setLevel(logging.ERROR)
        with quiet_bars():
            module = WhisperForConditionalGeneration.from_pretrained(
                str(prepared.base), local_files_only=True, dtype=torch.float32
            )
        self.tokenizer = WhisperTokenizer.from_pretrained(str(prepared.base), local_files_only=True)
        self.tokenizer.pad_token_id = prepared.end  # the pipeline batches nothing without one
        names = list(prepared.peft)
        self.model = PeftModel.from_pretrained(module, prepared.peft[names[0]], adapter_name=names[0])
        for name in names[1:]:
            self.model.load_adapter(prepared.peft[name], adapter_name=name)
        self.module = module.to(device).eval()
        self.model.eval().requires_grad_(False)
        self.device = device
        self.whole = WhisperFeatureExtractor.from_pretrained(str(prepared.base), local_files_only=True)
        self._extractors: dict[int, object] = {}

    @contextmanager
    def context(self, seconds: int) -> Iterator[None]:
        """Inside this block the model takes clips of `seconds`, as a tutorial would make it: positions cut off."""
        from torch import nn

        encoder, config = self.module.model.encoder, self.module.config
        whole, most = encoder.embed_positions, config.max_source_positions
        if seconds != WINDOW_S:
            kept = most * seconds // WINDOW_S
            encoder.embed_positions = nn.Embedding.from_pretrained(whole.weight[:kept])
            encoder.max_source_positions = config.max_source_positions = kept
        try:
            yield
        finally:
            encoder.embed_positions = whole
            encoder.max_source_positions = config.max_source_positions = most

    def extractor(self, seconds: int):
        from zoo.whisper_files import build_extractor

        if seconds not in self._extractors:
            whole = self.whole
            self._extractors[seconds] = build_extractor(whole.feature_size, seconds, whole.hop_length, whole.n_fft)
        return self._extractors[seconds]

    def pipeline(self, clips: list[BenchClip], padded: bool) -> None:
        """Clips of one language after the other, each under its adapter, those of one language as a batch."""
        from transformers import pipeline

        seconds = grid_s(clips, padded)
        with self.context(seconds):
            pipe = pipeline(
                "automatic-speech-recognition",
                model=self.module,
                tokenizer=self.tokenizer,
                feature_extractor=self.extractor(seconds),
                device=self.device,
            )
            for language in sorted({clip.language for clip in clips}):
                self.model.set_adapter(language)
                audios = [clip.utterance.audio for clip in clips if clip.language == language]
                options = {"language": language, "task": "transcribe", "max_new_tokens": clips[0].tokens}
                pipe(
                    [{"raw": audio, "sampling_rate": 16_000} for audio in audios], batch_size=8, generate_kwargs=options
                )

    def adapter_names(self, clips: list[BenchClip], padded: bool) -> None:
        """All clips in one `generate`, each row with its own adapter."""
        import torch

        seconds = grid_s(clips, padded)
        with self.context(seconds), torch.no_grad():
            features = self.extractor(seconds)(
                [clip.utterance.audio for clip in clips], sampling_rate=16_000, return_tensors="pt"
            )["input_features"]
            tokens = self.model.generate(
                input_features=features.to(self.device),
                adapter_names=[clip.language for clip in clips],
                language=[clip.language for clip in clips],
                task="transcribe",
                max_new_tokens=clips[0].tokens,
            )
            self.tokenizer.batch_decode(tokens, skip_special_tokens=True)


class FasterWhisper:
    """CTranslate2 on merged weights, one model a language. compute_type: `float32`, `int8`."""

    def __init__(self, prepared: Prepared, compute_type: str):
        import torch
        from faster_whisper import WhisperModel

        logging.getLogger("faster_whisper").setLevel(logging.ERROR)
        self.models = {
            language: WhisperModel(
                str(folder), device="cpu", compute_type=compute_type, cpu_threads=torch.get_num_threads()
            )
            for language, folder in prepared.merged.items()
        }
        some = next(iter(self.models.values()))
        # A timestamp, too, would end the window early.
        self.suppressed = list(range(prepared.end, some.hf_tokenizer.get_vocab_size()))
        # CTranslate2 takes a vocabulary of less than 51,865 tokens for an English model, whose prompt has no language.
        self.multilingual = some.model.is_multilingual

    def padded(self, clips: list[BenchClip]) -> None:
        """faster-whisper as it comes: clip by clip, each padded to 30 s."""
        for clip in clips:
            segments, _ = self.models[clip.language].transcribe(
                clip.utterance.audio,
                language=clip.language,
                beam_size=1,
                temperature=0.0,
                # CTranslate2 writes at most half of its `max_length`, which counts from the prompt's first token.
                max_new_tokens=2 * clip.tokens - (4 if self.multilingual else 2),
                suppress_tokens=self.suppressed,
                without_timestamps=True,
                condition_on_previous_text=False,
                compression_ratio_threshold=None,
                log_prob_threshold=None,
                no_speech_threshold=None,
            )
            written = sum(len(segment.tokens) for segment in segments)
            if written:  # it leaves a segment out whose text is only spaces
                self._check(written, clip)

    def cut(self, clips: list[BenchClip]) -> None:
        """CTranslate2 below faster-whisper, which always pads: features of the grid's length, the clips of one language
        as a batch."""
        import numpy as np

        seconds = grid_s(clips, False)
        for language in sorted({clip.language for clip in clips}):
            model, mine = self.models[language], [clip for clip in clips if clip.language == language]
            features = [
                model.feature_extractor(np.pad(clip.utterance.audio, (0, seconds * 16_000 - len(clip.utterance.audio))))
                for clip in mine
            ]
            kept = seconds * model.frames_per_second
            encoded = model.encode(np.stack([each[:, :kept] for each in features]))
            marks = ["<|startoftranscript|>", "<|notimestamps|>"]
            if self.multilingual:
                marks[1:1] = [f"<|{language}|>", "<|transcribe|>"]
            prompt = [model.hf_tokenizer.token_to_id(mark) for mark in marks]
            results = model.model.generate(
                encoded,
                [prompt] * len(mine),
                beam_size=1,
                max_length=2 * mine[0].tokens,
                suppress_tokens=self.suppressed,
            )
            for clip, result in zip(mine, results, strict=True):
                self._check(len(result.sequences_ids[0]), clip)
                model.hf_tokenizer.decode(result.sequences_ids[0])

    def _check(self, written: int, clip: BenchClip) -> None:
        if written != clip.tokens:
            raise AssertionError(f"CTranslate2 wrote {written} tokens for {clip.utterance.id}, not {clip.tokens}")
