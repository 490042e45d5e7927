"""Family `owsm`: ESPnet's speech-to-text models (OWSM), from a local folder.

The network is ESPnet's; the loops around its layers are ours: the encoder in two halves around the tap, and decoding of
many clips at once. Context `30s` pads every clip to the length the model was trained on, as ESPnet's Speech2Text does
(no masks: the model saw its padding); context `dynamic` pads to the next point of the card's grid.
"""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo import cache, owsm_files
from zoo.card import Card
from zoo.ctc import NEVER, CtcPrefixScorer, best_path
from zoo.encoder_decoder import EncoderDecoder
from zoo.errors import ModelError
from zoo.interface import DecodeOptions, Features, Hidden, Hypothesis, Site, TimedWord
from zoo.joining import frame_mask, frames_seen
from zoo.joint_search import search
from zoo.loops import without_loop
from zoo.owsm_decoder import OwsmStepper
from zoo.owsm_languages import candidates, language_tokens
from zoo.owsm_rules import TimestampRules
from zoo.owsm_sites import sites
from zoo.owsm_tokens import OwsmTokenizer
from zoo.search import Found, Stepper
from zoo.speech import SAMPLE_RATE, Utterance


class OwsmBase(EncoderDecoder):
    """Implements `zoo.interface.BaseModel`."""

    def __init__(
        self,
        module: nn.Module,
        tokenizer: OwsmTokenizer,
        config: dict[str, Any],
        frame_samples: int,
        card: Card,
        folder: Path,
        weights_sha256: str,
        *,
        context: str | None = None,
        tap: int | None = None,
    ):
        super().__init__(card, folder, context)
        self.module, self.tokenizer, self.config = module, tokenizer, config
        self.weights_sha256, self.tokenizer_sha256 = weights_sha256, tokenizer.sha256
        module.eval().requires_grad_(False)
        self.n_layers = len(module.encoder.encoders)
        self.tap = self._valid_tap(tap)
        self.hidden_size = module.encoder.output_size()
        self.frame_samples = frame_samples
        self.frame_rate = SAMPLE_RATE / frame_samples
        speech = config.get("preprocessor_conf") or {}
        self.max_duration_s = float(speech.get("speech_length", 30))
        self.timestamp_s = float(speech.get("speech_resolution", 0.02))
        ids = tokenizer.ids
        self._language_ids = language_tokens(tokenizer.tokens)
        self.languages = tuple(self._language_ids)
        self._task_ids = {"transcribe": ids.get("<asr>"), "translate": ids.get("<st_eng>")}
        self._no_times = tokenizer.id(speech.get("notime_symbol", "<notimestamps>"))
        self._zero = tokenizer.id(speech.get("first_time_symbol", "<0.00>"))
        self._last_time = tokenizer.id(speech.get("last_time_symbol", "<30.00>"))
        self.sites: tuple[Site, ...] = sites(module)
        self.max_tokens = self._encoder_frames(int(self.max_duration_s * SAMPLE_RATE))

    @property
    def device(self) -> torch.device:
        return self.module.decoder.output_layer.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.module.decoder.output_layer.weight.dtype

    # --- audio in

    def features(self, utterances: Sequence[Utterance]) -> Features:
        """ESPnet's own log-mels, normalised, `[B, frames, n_mels]`. Raises ModelError where the clips' grids differ."""
        samples = self._samples(utterances)
        audio = torch.zeros(len(utterances), samples)
        for row, utterance in zip(audio, utterances, strict=True):
            row[: len(utterance.audio)] = torch.from_numpy(utterance.audio)
        whole = torch.full((len(utterances),), samples, device=self.device)
        with torch.no_grad():
            values, lengths = self.module.frontend(audio.to(self.device), whole)
            if self.module.normalize is not None:
                values, _ = self.module.normalize(values, lengths)
        most = self._encoder_frames(samples)
        real = [min(most, max(1, math.ceil(len(u.audio) / self.frame_samples))) for u in utterances]
        return Features(values.to(self.dtype), torch.tensor(real, device=self.device), self.context)

    def _encoder_frames(self, samples: int) -> int:
        frames = samples // self.module.frontend.hop_length + 1
        for layer in self.module.encoder.embed.conv:
            if isinstance(layer, nn.Conv2d):
                frames = (frames - layer.kernel_size[0]) // layer.stride[0] + 1
        return frames

    # --- encoder

    def encode(self, inputs: Features | Hidden, until: int | None = None) -> Hidden:
        """Up to layer `until`, or to the end with the final norm. Continues where a Hidden stopped."""
        encoder = self.module.encoder
        if isinstance(inputs, Features):
            x, _ = encoder.embed(inputs.values, None)
            hidden = Hidden(x[0] if isinstance(x, tuple) else x, inputs.lengths, 0)
        else:
            hidden = inputs
        stop = self._stop(hidden, until)
        x = hidden.values
        positions = self._positions(x)
        for i in range(hidden.layer, stop):
            out, _ = encoder.encoders[i](x if positions is None else (x, positions), None)
            x = out[0] if isinstance(out, tuple) else out
            if encoder.interctc_use_conditioning and i + 1 in encoder.interctc_layer_idx:
                x = x + encoder.conditioning_layer(self.module.ctc.softmax(self._normed(x, intermediate=True)))
        if until is None:
            x = self._normed(x)
        return Hidden(x, hidden.lengths, stop, done=until is None)

    def _positions(self, x: torch.Tensor) -> torch.Tensor | None:
        """Embeddings of relative positions `[1, 2T - 1, d]` (or ESPnet's older `[1, T, d]`), which follow from T alone;
        None where positions were added to the input."""
        embed = self.module.encoder.embed
        encoding = getattr(embed, "pos_enc", None)
        encoding = embed.out[-1] if encoding is None else encoding
        made = encoding(x.new_zeros(1, x.shape[1], x.shape[2])) if "Rel" in type(encoding).__name__ else None
        return made[1] if made is not None else None

    def _normed(self, x: torch.Tensor, intermediate: bool = False) -> torch.Tensor:
        """An E-Branchformer's last layer is normalised always, its intermediate ones never; the others' as they say."""
        encoder = self.module.encoder
        normalise = getattr(encoder, "normalize_before", not intermediate)
        return encoder.after_norm(x) if normalise else x

    # --- decoder

    def prompt(self, languages: Sequence[str], options: DecodeOptions = DecodeOptions()) -> torch.Tensor:
        """int64 `[B, P]`: start, language, task, and no-timestamps where none are wanted; before it the previous text."""
        task = self._task_ids[options.task]
        if task is None:
            raise ModelError(f"{self.card.name} has no token for task {options.task!r}", valid="transcribe")
        network = self.module
        before: list[int] = []
        if options.previous.strip():
            said = self.tokenizer.encode(options.previous)
            before = [network.sop, *said[-(self.max_tokens // 2) :]]
        after = [] if options.timestamps else [self._no_times]
        prompts = [[*before, network.sos, self.language_id(language), task, *after] for language in languages]
        return torch.tensor(prompts, device=self.device)

    def _tags(self, language: str) -> Sequence[str]:
        """BCP-47 and ISO 639-3."""
        return candidates(language)

    @torch.inference_mode()
    def decode(
        self, hidden: Hidden, languages: Sequence[str], options: DecodeOptions = DecodeOptions()
    ) -> list[Hypothesis]:
        """One hypothesis per clip; `languages` gives each clip's language token.

        `options.ctc_weight`: 0 the decoder alone; between, both (ESPnet's joint search); 1 CTC alone: with one beam the
        best path, which no language token steers, with more ESPnet's prefix search.
        """
        if options.ctc_weight == 1.0 and options.beam_size == 1:
            self._check(hidden, languages, options)
            scores = self._ctc_scores(hidden)
            assert scores is not None, "checked"
            paths = best_path(scores, self._blank)
            found = [Found(tokens, score, values) for tokens, values, score in paths]
            return self._hypotheses(found, languages, hidden, options)
        return super().decode(hidden, languages, options)

    @torch.inference_mode()
    def align_words(self, hidden: Hidden, hypotheses: Sequence[Hypothesis]) -> list[tuple[TimedWord, ...]]:
        """When each word of each hypothesis was said, by CTC. hidden: what it was decoded from."""
        from zoo.owsm_words import align

        return align(self, hidden, hypotheses)

    @property
    def end_token(self) -> int:
        return self.module.eos

    @property
    def _start_token(self) -> int:
        return self.module.sos

    def _check(self, hidden: Hidden, languages: Sequence[str], options: DecodeOptions) -> None:
        super()._check(hidden, languages, options)
        if not 0.0 <= options.ctc_weight <= 1.0:
            raise ModelError(f"ctc_weight is {options.ctc_weight}", valid="0 to 1")
        if options.ctc_weight and self.module.ctc is None:
            raise ModelError(f"{self.card.name} has no CTC", valid="ctc_weight 0")
        if options.ctc_weight and options.timestamps:
            raise ModelError("CTC cannot predict timestamps", valid="ctc_weight 0, or no timestamps")

    def _rooms(self, hidden: Hidden, prompt: torch.Tensor) -> list[int]:
        return frames_seen(hidden).tolist()

    @property
    def _n_tokens(self) -> int:
        return self.module.vocab_size

    def _ctc_scores(self, hidden: Hidden) -> torch.Tensor | None:
        """A frame that a clip was filled up with holds nothing but a certain blank, which changes no score."""
        if self.module.ctc is None:
            return None
        scores = self.module.ctc.log_softmax(hidden.values).float()
        if hidden.seen is not None:
            filled = ~frame_mask(hidden.seen, scores.shape[1])
            scores[filled] = NEVER
            scores[..., self.module.blank_id].masked_fill_(filled, 0.0)
        return scores

    def _stepper(self, states: Hidden, prompt: torch.Tensor, limit: int) -> OwsmStepper:
        return OwsmStepper(self.module.decoder, states, prompt)

    def _search(
        self, stepper: Stepper, prompt: torch.Tensor, hidden: Hidden, limits: Sequence[int], options: DecodeOptions
    ) -> list[Found]:
        network = self.module
        ctc = None
        if options.ctc_weight:
            scores = self._ctc_scores(hidden)
            assert scores is not None, "checked"
            ctc = CtcPrefixScorer(scores, self._blank, network.eos)
        found = search(
            stepper,
            prompt,
            network.eos,
            limits,
            options.beam_size,
            TimestampRules(self._first_time, self._last_time, self._no_times, network.eos),
            ctc=ctc,
            ctc_weight=options.ctc_weight,
            length_penalty=0.0 if options.length_penalty is None else options.length_penalty,
        )
        return [without_loop(each) for each in found] if options.cut_loops else found

    def _text(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens)

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    @property
    def _blank(self) -> int:
        return self.module.blank_id

    @property
    def _first_time(self) -> int:
        return self._zero

    def _is_time(self, token: int) -> bool:
        return self._first_time <= token <= self._last_time

    def save(self, folder: Path) -> None:
        """The model as it stands, as a folder that ESPnet and the zoo load: its own files, with these weights."""
        files = owsm_files.find(self.folder, self.card.name)
        for path in self.folder.rglob("*"):
            place = path.relative_to(self.folder)
            if path.is_file() and path != files.weights and place.as_posix() != cache.MANIFEST:
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / place)
        target = folder / files.weights.relative_to(self.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.module.state_dict().items()}
        if target.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(state, target)
        else:
            torch.save(state, target)

    # --- training

    def labels(self, texts: Sequence[str], languages: Sequence[str]) -> torch.Tensor:
        """int64 `[B, L]`: language, task, no-timestamps, text, end; -100 behind. The start token is the decoder's first
        input and no label."""
        rows_of = []
        for language, text in zip(languages, texts, strict=True):
            said = self.tokenizer.encode(text)
            row = [self.language_id(language), self._task_ids["transcribe"], self._no_times, *said, self.module.eos]
            if len(said) > self.max_tokens:
                raise ModelError(
                    f"A text of {len(said)} tokens does not fit {self.card.name}: {text[:60]!r}",
                    valid=f"up to {self.max_tokens} tokens",
                )
            rows_of.append(row)
        width = max(map(len, rows_of))
        return torch.tensor([row + [-100] * (width - len(row)) for row in rows_of], device=self.device)

    def logits(self, features: Features, labels: torch.Tensor) -> torch.Tensor:
        """Teacher-forced logits `[B, L, V]`."""
        return self._decoded(self.encode(features).values, labels)

    def loss(self, features: Features, labels: torch.Tensor) -> torch.Tensor:
        """What ESPnet trains with: (1 - w) attention + w CTC with the model's own w and label smoothing, summed over the
        tokens of a clip and averaged over clips (`ESPnetS2TModel.forward`)."""
        network = self.module
        states = self.encode(features).values
        weight = network.ctc_weight
        attention = network.criterion_att(
            self._decoded(states, labels), labels.masked_fill(labels == -100, network.ignore_id)
        )
        if not weight:
            return attention
        said = [row[(row != -100)][3:-1] for row in labels]  # without language, task, no-timestamps and end
        lengths = torch.tensor([len(row) for row in said], device=labels.device)
        padded = nn.utils.rnn.pad_sequence(said, batch_first=True, padding_value=network.ignore_id)
        frames = torch.full_like(lengths, states.shape[1])
        return weight * network.ctc(states, frames, padded, lengths) + (1 - weight) * attention

    def _decoded(self, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        network = self.module
        inputs = labels.new_full(labels.shape, network.sos)
        inputs[:, 1:] = labels[:, :-1].masked_fill(labels[:, :-1] == -100, network.eos)
        lengths = (labels != -100).sum(dim=1)
        frames = torch.full_like(lengths, states.shape[1])
        output, _ = network.decoder(states, frames, inputs, lengths)
        return output
