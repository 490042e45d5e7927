"""Family `whisper`: transformers' Whisper, any size, from a local folder.

The encoder runs in two halves around the tap; context `30s` pads every clip to 30 s as openai/whisper does, context
`dynamic` to the next point of the card's grid, with the positions sliced.
"""

import math
import re
from collections.abc import Sequence
from functools import cached_property, reduce
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from zoo.card import Card
from zoo.ctc import CtcPrefixScorer, head_scores
from zoo.encoder_decoder import EncoderDecoder
from zoo.errors import ModelError
from zoo.fingerprint import tokenizer_sha256, weights_sha256
from zoo.interface import DecodeOptions, Features, Hidden, Hypothesis, Site, TimedWord
from zoo.joint_search import search
from zoo.loops import without_loop
from zoo.search import Found, Stepper, Suppressed, beam, greedy
from zoo.speech import SAMPLE_RATE, Utterance
from zoo.whisper_decoder import WhisperStepper

STRIDE = 2  # mel frames per encoder frame: the second convolution's
TIMESTAMP_S = 0.02
SITE_KINDS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


class WhisperBase(EncoderDecoder):
    """Implements `zoo.interface.BaseModel`."""

    timestamp_s = TIMESTAMP_S

    def __init__(
        self,
        module: nn.Module,
        tokenizer,
        extractor,
        card: Card,
        folder: Path,
        *,
        context: str | None = None,
        tap: int | None = None,
        ctc: nn.Linear | None = None,
    ):
        super().__init__(card, folder, context)
        self.ctc = ctc
        self.module, self.tokenizer, self.extractor = module, tokenizer, extractor
        module.eval().requires_grad_(False)
        encoder = module.model.encoder
        self.n_layers = len(encoder.layers)
        self.tap = self._valid_tap(tap)
        self.hidden_size = module.config.d_model
        self.frame_samples = extractor.hop_length * STRIDE  # 320 samples, 20 ms, in Whisper as published
        self.frame_rate = SAMPLE_RATE / self.frame_samples
        self.max_duration_s = module.config.max_source_positions / self.frame_rate
        config = module.generation_config
        self._language_ids = {token.strip("<|>"): i for token, i in (config.lang_to_id or {}).items()}
        self.languages = tuple(self._language_ids)
        self._processors = self._make_processors()
        self.sites = _sites(module)

    @cached_property
    def weights_sha256(self) -> str:
        return weights_sha256(self.folder, self.card.files)

    @cached_property
    def tokenizer_sha256(self) -> str:
        return tokenizer_sha256(self.folder)

    @property
    def device(self) -> torch.device:
        return self.module.model.encoder.conv1.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.module.model.encoder.conv1.weight.dtype

    # --- audio in

    def features(self, utterances: Sequence[Utterance]) -> Features:
        """Log-mel `[B, n_mels, n_frames]`. Raises ModelError where the clips' grids differ."""
        samples = self._samples(utterances)
        batch = self.extractor(
            [utterance.audio for utterance in utterances],
            sampling_rate=SAMPLE_RATE,
            padding="max_length",
            max_length=samples,
            truncation=True,
            return_tensors="pt",
            device=str(self.device),
        )
        lengths = torch.tensor(
            [max(1, math.ceil(len(u.audio) / self.frame_samples)) for u in utterances], device=self.device
        )
        return Features(batch["input_features"].to(self.device, self.dtype), lengths, self.context)

    # --- encoder

    def encode(self, inputs: Features | Hidden, until: int | None = None) -> Hidden:
        """Up to layer `until`, or to the end with the final norm. Continues where a Hidden stopped."""
        encoder = self.module.model.encoder
        if isinstance(inputs, Features):
            x = F.gelu(encoder.conv1(inputs.values))
            x = F.gelu(encoder.conv2(x)).permute(0, 2, 1)
            x = x + encoder.embed_positions.weight[: x.shape[1]]
            hidden = Hidden(x, inputs.lengths, 0)
        else:
            hidden = inputs
        stop = self._stop(hidden, until)
        x = hidden.values
        for layer in encoder.layers[hidden.layer : stop]:
            x = layer(x, None)
        if until is None:
            x = encoder.layer_norm(x)
        return Hidden(x, hidden.lengths, stop, done=until is None)

    # --- decoder

    def prompt(self, languages: Sequence[str], options: DecodeOptions = DecodeOptions()) -> torch.Tensor:
        """int64 `[B, P]`: start of transcript, language, task, and no-timestamps where none are wanted."""
        config = self.module.generation_config
        prompts = []
        before: list[int] = []
        if options.previous:
            said = self.tokenizer(" " + options.previous.strip(), add_special_tokens=False)["input_ids"]
            most = self.module.config.max_target_positions // 2 - 1
            before = [self.tokenizer.convert_tokens_to_ids("<|startofprev|>"), *said[-most:]]
        for language in languages:
            row = [*before, config.decoder_start_token_id]
            if self._language_ids:
                row += [self.language_id(language), config.task_to_id[options.task]]
            if not options.timestamps:
                row.append(config.no_timestamps_token_id)
            prompts.append(row)
        return torch.tensor(prompts, device=self.device)

    @torch.inference_mode()
    def align_words(self, hidden: Hidden, hypotheses: Sequence[Hypothesis]) -> list[tuple[TimedWord, ...]]:
        """When each word of each hypothesis was said. hidden: what it was decoded from."""
        from zoo.whisper_words import align

        return align(self, hidden, self.prompt([h.language for h in hypotheses]), hypotheses)

    @property
    def end_token(self) -> int:
        """End of text; text tokens lie below it."""
        end = self.module.generation_config.eos_token_id
        return end if isinstance(end, int) else end[0]

    @property
    def _start_token(self) -> int:
        return self.module.generation_config.decoder_start_token_id

    def _check(self, hidden: Hidden, languages: Sequence[str], options: DecodeOptions) -> None:
        super()._check(hidden, languages, options)
        if not 0.0 <= options.ctc_weight <= 1.0:
            raise ModelError(f"ctc_weight is {options.ctc_weight}", valid="0 to 1")
        if options.ctc_weight and self.ctc is None:
            raise ModelError(f"{self.card.name} has no CTC", valid="ctc_weight 0")
        if options.ctc_weight and options.timestamps:
            raise ModelError("CTC cannot predict timestamps", valid="ctc_weight 0, or no timestamps")

    def _rooms(self, hidden: Hidden, prompt: torch.Tensor) -> list[int]:
        return [self.module.config.max_target_positions - prompt.shape[1]] * hidden.values.shape[0]

    @property
    def _n_tokens(self) -> int:
        return self.module.config.vocab_size

    def _stepper(self, states: Hidden, prompt: torch.Tensor, limit: int) -> WhisperStepper:
        return WhisperStepper(self.module.model.decoder, self.module.proj_out, states, prompt, limit)

    def _search(
        self, stepper: Stepper, prompt: torch.Tensor, hidden: Hidden, limits: Sequence[int], options: DecodeOptions
    ) -> list[Found]:
        processors = self._processors[options.timestamps](prompt.shape[1])
        if options.ctc_weight:
            scores = self._ctc_scores(hidden)
            assert scores is not None, "checked"
            found = search(
                stepper,
                prompt,
                self.end_token,
                limits,
                options.beam_size,
                lambda tokens, _, scores: reduce(lambda kept, rule: rule(tokens, kept), processors, scores),
                ctc=CtcPrefixScorer(scores, self._blank, self.end_token),
                ctc_weight=options.ctc_weight,
                length_penalty=0.0 if options.length_penalty is None else options.length_penalty,
                prompt_as_labels=False,
            )
        elif options.beam_size > 1:
            penalty = 1.0 if options.length_penalty is None else options.length_penalty
            found = beam(stepper, prompt, self.end_token, limits, options.beam_size, penalty, processors)
        else:
            found = greedy(stepper, prompt, self.end_token, limits, processors)
        return [without_loop(each) for each in found] if options.cut_loops else found

    def _ctc_scores(self, hidden: Hidden) -> torch.Tensor | None:
        return None if self.ctc is None else head_scores(self.ctc, hidden.values, hidden.lengths, self._n_tokens)

    @property
    def _blank(self) -> int:
        return self._n_tokens

    def _text(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True).strip()

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    @property
    def _first_time(self) -> int:
        return self.module.generation_config.no_timestamps_token_id + 1

    def _make_processors(self):
        from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

        config = self.module.generation_config

        def build(timestamps: bool, begin: int):
            chain: list = []
            if config.suppress_tokens:
                chain.append(Suppressed(config.suppress_tokens, self.device))
            if config.begin_suppress_tokens:
                chain.append(Suppressed(config.begin_suppress_tokens, self.device, only_at=begin))
            if timestamps:
                chain.append(WhisperTimeStampLogitsProcessor(config, begin_index=begin))
            return chain

        return {False: lambda begin: build(False, begin), True: lambda begin: build(True, begin)}

    # --- training

    def labels(self, texts: Sequence[str], languages: Sequence[str]) -> torch.Tensor:
        """int64 `[B, L]`: language, task, no-timestamps, text, end of text; -100 behind. The start token is the
        decoder's first input and no label."""
        prompts = self.prompt(languages)[:, 1:].tolist()
        end = self.module.generation_config.eos_token_id
        room = self.module.config.max_target_positions
        rows = []
        for prompt, text in zip(prompts, texts, strict=True):
            row = [*prompt, *self.tokenizer(text, add_special_tokens=False)["input_ids"], end]
            if len(row) > room:
                raise ModelError(
                    f"A text of {len(row)} tokens does not fit {self.card.name}: {text[:60]!r}",
                    valid=f"up to {room} tokens",
                )
            rows.append(row)
        width = max(map(len, rows))
        return torch.tensor([row + [-100] * (width - len(row)) for row in rows], device=self.device)

    def logits(self, features: Features, labels: torch.Tensor) -> torch.Tensor:
        """Teacher-forced logits `[B, L, V]`."""
        config = self.module.config
        inputs = labels.new_full(labels.shape, config.decoder_start_token_id)
        inputs[:, 1:] = labels[:, :-1].masked_fill(labels[:, :-1] == -100, config.pad_token_id)
        states = self.encode(features).values
        output = self.module.model.decoder(input_ids=inputs, encoder_hidden_states=states, use_cache=False)
        return self.module.proj_out(output.last_hidden_state)

    def loss(self, features: Features, labels: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy over the labels that are not -100."""
        return F.cross_entropy(self.logits(features, labels).float().flatten(0, 1), labels.flatten(), ignore_index=-100)


def _sites(module: nn.Module) -> tuple[Site, ...]:
    """Encoder modules and cross-attention keys and values see frames; all else in the decoder sees tokens."""
    sites = []
    for name, child in module.named_modules():
        match = re.fullmatch(r"model\.(encoder|decoder)\.layers\.(\d+)\.(?:(\w+)\.)?(\w+)", name)
        if not match or match[4] not in SITE_KINDS:
            continue
        part: Literal["encoder", "decoder"] = "encoder" if match[1] == "encoder" else "decoder"
        layer, block, kind = int(match[2]), match[3], match[4]
        frames = part == "encoder" or (block == "encoder_attn" and kind in ("k_proj", "v_proj"))
        sites.append(Site(name, "frames" if frames else "tokens", part, layer, child.in_features, child.out_features))
    return tuple(sites)
