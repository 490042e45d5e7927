"""What the families share whose encoder hears and whose decoder writes token by token under a language's token.

A family's own class says how audio becomes features, how its layers run, and how its decoder steps and searches.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo import rows
from zoo.cached_stepper import CachedStepper
from zoo.card import Card
from zoo.ctc import text_log_probabilities
from zoo.ensemble import EnsembleStepper
from zoo.errors import ModelError
from zoo.interface import DecodeOptions, Hidden, Hypothesis, Piece, Site
from zoo.scripts import letters
from zoo.search import Found, Stepper
from zoo.speech import SAMPLE_RATE, Utterance


class EncoderDecoder(ABC):
    """Most of `zoo.interface.BaseModel`. A family sets the fields below before it is used."""

    module: nn.Module
    tokenizer: Any
    sites: tuple[Site, ...]
    n_layers: int
    hidden_size: int
    frame_rate: float
    max_duration_s: float
    timestamp_s: float
    """Seconds from one timestamp token to the next."""
    _language_ids: Mapping[str, int]

    def __init__(self, card: Card, folder: Path, context: str | None):
        self.card, self.folder, self.quantization = card, folder, ""
        self.context = context or card.context
        if self.context not in ("30s", "dynamic"):
            raise ModelError(f"Context {self.context!r} of {card.name} is unknown", valid="'30s', 'dynamic'")

    @property
    @abstractmethod
    def device(self) -> torch.device: ...

    def _valid_tap(self, tap: int | None) -> int:
        """The card's where none is given."""
        tap = self.card.tap if tap is None else tap
        if not 0 <= tap <= self.n_layers:
            raise ModelError(f"Tap {tap} of {self.card.name} lies outside its encoder", valid=f"0 to {self.n_layers}")
        return tap

    # --- audio in

    def grid_s(self, utterance: Utterance) -> float:
        """Seconds the clip is padded to; it depends on the clip alone."""
        if utterance.duration_s > self.max_duration_s:
            raise ModelError(
                f"{utterance.id or 'The clip'} lasts {utterance.duration_s:.1f} s",
                valid=f"up to {self.max_duration_s:g} s in one pass",
                remedy="call router.transcribe, which cuts long audio at silences",
            )
        if self.context == "30s":
            return self.max_duration_s
        steps = max(1, math.ceil(len(utterance.audio) / (self.card.grid_s * SAMPLE_RATE)))
        return min(steps * self.card.grid_s, self.max_duration_s)

    def _samples(self, utterances: Sequence[Utterance]) -> int:
        """Samples that all are padded to. Raises ModelError where the clips' grids differ."""
        grids = {self.grid_s(utterance) for utterance in utterances}
        if len(grids) != 1:
            raise ModelError(f"Clips padded to {sorted(grids)} s cannot share a batch", valid="clips of equal grid_s()")
        return round(grids.pop() * SAMPLE_RATE)

    def _stop(self, hidden: Hidden, until: int | None) -> int:
        """The layer to encode up to. Raises ModelError where `hidden` is past it."""
        stop = self.n_layers if until is None else until
        if hidden.done or stop < hidden.layer:
            raise ModelError(
                f"A hidden state after layer {hidden.layer} cannot be encoded until layer {until}",
                valid="a later layer",
            )
        return stop

    # --- decoder

    @abstractmethod
    def prompt(self, languages: Sequence[str], options: DecodeOptions = DecodeOptions()) -> torch.Tensor:
        """int64 `[B, P]`: what the decoder is given before the text."""

    def _tags(self, language: str) -> Sequence[str]:
        """The tags under which a language may be known, best first: a region falls back to its language."""
        return language, language.split("-")[0]

    def language_id(self, language: str) -> int:
        """Token of a language tag. Raises ModelError where the model has none."""
        for tag in self._tags(language):
            if tag in self._language_ids:
                return self._language_ids[tag]
        raise ModelError(
            f"{self.card.name} has no token for language {language!r}", valid=", ".join(sorted(self._language_ids))
        )

    @torch.inference_mode()
    def decode(
        self, hidden: Hidden, languages: Sequence[str], options: DecodeOptions = DecodeOptions()
    ) -> list[Hypothesis]:
        """One hypothesis per clip; `languages` gives each clip's language token."""
        self._check(hidden, languages, options)
        prompt = self.prompt(languages, options)
        limits = self._limits(hidden, prompt, options)
        stepper = self._stepper(hidden, prompt, max(limits))
        return self._hypotheses(self._search(stepper, prompt, hidden, limits, options), languages, hidden, options)

    @torch.inference_mode()
    def decode_ensemble(
        self,
        hidden: Hidden,
        languages: Sequence[str],
        weights: torch.Tensor,
        options: DecodeOptions = DecodeOptions(),
    ) -> list[Hypothesis]:
        """One hypothesis per clip, written by several members together (zoo/ensemble.py).

        weights: `[clips, members]`, rows summing to one. hidden and languages: `clips * members` rows, clip by clip;
        each member has its own language token. The hypothesis bears the language of the weightiest. options.max_tokens: one
        number, or one a clip.
        """
        self._check(hidden, languages, options)
        if options.ctc_weight:
            raise ModelError("An ensemble's distributions are the decoder's", valid="ctc_weight 0")
        members = weights.shape[1]
        prompt = self.prompt(languages, options)
        firsts = torch.arange(weights.shape[0], device=self.device) * members + weights.argmax(dim=1).to(self.device)
        first = hidden.rows(firsts)
        limits = self._limits(first, prompt, options)
        stepper = self._stepper(hidden, prompt, max(limits))
        with rows.in_groups(members):
            mixed = EnsembleStepper(stepper, weights.to(self.device))
            found = self._search(mixed, prompt[firsts], first, limits, options)
        return self._hypotheses(found, [languages[i] for i in firsts.tolist()], first, options)

    def detect_language(self, hidden: Hidden) -> torch.Tensor:
        """The model's own language identification: probabilities `[B, len(languages)]` of the token after the start."""
        start = torch.full((hidden.values.shape[0], 1), self._start_token, device=self.device)
        logits = self._stepper(hidden, start, 1).start().float()
        return logits[:, list(self._language_ids.values())].softmax(dim=-1)

    @torch.inference_mode()
    def text_log_probabilities(self, hidden: Hidden, texts: Sequence[str]) -> list[float] | None:
        """Log-probability of each text for the one clip of `hidden` under CTC; None where the model has no CTC."""
        scores = self._ctc_scores(hidden)
        if scores is None:
            return None
        frames = int(hidden.lengths[0])
        return text_log_probabilities(scores[0, :frames], self._blank, [self._tokens(text) for text in texts])

    @torch.inference_mode()
    def script_probabilities(self, hidden: Hidden, scripts: Sequence[str]) -> torch.Tensor | None:
        """How probable CTC's tokens of each script are at each frame of the one clip of `hidden`: `[T, len(scripts)]`, what
        is missing to 1 is blank, or in none of them. None where the model has no CTC."""
        scores = self._ctc_scores(hidden)
        if scores is None:
            return None
        members = torch.tensor(
            [[own == script for script in scripts] for own in self._token_scripts], device=scores.device
        )
        return scores[0, : int(hidden.lengths[0]), : len(members)].float().exp() @ members.float()

    @cached_property
    def _token_scripts(self) -> list[str]:
        """The script that most letters of each token are of; empty where it has none, as a part of a letter's bytes."""
        texts = (self._text([token]) for token in range(self._n_tokens))
        return [max(found, key=lambda script: found[script], default="") for found in map(letters, texts)]

    @abstractmethod
    def _ctc_scores(self, hidden: Hidden) -> torch.Tensor | None:
        """Log-probabilities `[B, T, V]` of the CTC head; None where there is none."""

    @property
    @abstractmethod
    def _blank(self) -> int:
        """CTC's blank, as `_ctc_scores` numbers it."""

    @abstractmethod
    def _tokens(self, text: str) -> list[int]: ...

    @property
    @abstractmethod
    def _start_token(self) -> int: ...

    def _check(self, hidden: Hidden, languages: Sequence[str], options: DecodeOptions) -> None:
        if not hidden.done:
            raise ModelError(
                f"Decoding needs the whole encoder, this state stops after layer {hidden.layer}",
                remedy="encode(hidden)",
            )
        if len(languages) != hidden.values.shape[0]:
            raise ModelError(
                f"{len(languages)} languages for {hidden.values.shape[0]} clips", valid="one language per clip"
            )

    def _limits(self, hidden: Hidden, prompt: torch.Tensor, options: DecodeOptions) -> list[int]:
        """The most new tokens of each clip."""
        rooms, wanted = self._rooms(hidden, prompt), options.max_tokens
        if wanted is None:
            return rooms
        each = [wanted] * len(rooms) if isinstance(wanted, int) else wanted
        if len(each) != len(rooms):
            raise ModelError(f"max_tokens are {len(each)} numbers for {len(rooms)} clips", valid="one, or one a clip")
        return [min(limit, room) for limit, room in zip(each, rooms, strict=True)]

    @abstractmethod
    def _rooms(self, hidden: Hidden, prompt: torch.Tensor) -> list[int]:
        """The most new tokens that the family can write for each clip."""

    @cached_property
    def spare_frames(self) -> int:
        """Encoder frames that a joint decode may be filled up with (zoo/joining.py): as many as have keys and values of
        the size of the decoder's weights, so that reading them costs no more than one more step would."""
        decoder = [site for site in self.sites if site.part == "decoder"]
        layers = 1 + max(site.layer for site in decoder)
        weights = sum(site.in_features * site.out_features for site in decoder) + self.hidden_size * self._n_tokens
        return weights // (2 * self.hidden_size * layers)

    @property
    @abstractmethod
    def _n_tokens(self) -> int:
        """Tokens that the decoder's head scores."""

    @abstractmethod
    def _stepper(self, states: Hidden, prompt: torch.Tensor, limit: int) -> CachedStepper: ...

    @abstractmethod
    def _search(
        self, stepper: Stepper, prompt: torch.Tensor, hidden: Hidden, limits: Sequence[int], options: DecodeOptions
    ) -> list[Found]: ...

    @abstractmethod
    def _text(self, tokens: list[int]) -> str: ...

    def _is_time(self, token: int) -> bool:
        return token >= self._first_time

    @property
    @abstractmethod
    def _first_time(self) -> int:
        """The token of 0.00 s."""

    def _hypotheses(
        self, found: Sequence[Found], languages: Sequence[str], hidden: Hidden, options: DecodeOptions
    ) -> list[Hypothesis]:
        return [
            Hypothesis(
                text=self._text(f.tokens),
                tokens=tuple(f.tokens),
                language=language,
                log_probability=f.log_probability,
                token_log_probabilities=tuple(f.token_log_probabilities),
                pieces=self._pieces(f.tokens, int(length) / self.frame_rate) if options.timestamps else (),
                goes_on_s=self._goes_on(f.tokens) if options.timestamps else None,
            )
            for f, language, length in zip(found, languages, hidden.lengths.tolist(), strict=True)
        ]

    def _goes_on(self, tokens: list[int]) -> float | None:
        """The last of two timestamps at the end: a piece was opened and nothing written into it. One timestamp at the end
        closes the last piece: all has been said (openai/whisper, `transcribe`)."""
        if len(tokens) < 2 or not (self._is_time(tokens[-2]) and self._is_time(tokens[-1])):
            return None
        return (tokens[-1] - self._first_time) * self.timestamp_s

    def _pieces(self, tokens: list[int], duration_s: float) -> tuple[Piece, ...]:
        """Cut at the timestamp tokens; a piece whose end the model did not write lasts to the clip's end."""
        pieces: list[Piece] = []
        start, held = 0.0, list[int]()

        def close(end: float) -> None:
            text = self._text(held)
            if text:
                pieces.append(Piece(start, max(start, end), text, tuple(held)))

        for token in tokens:
            if not self._is_time(token):
                held.append(token)
                continue
            time = (token - self._first_time) * self.timestamp_s
            if held:
                close(time)
                held = []
            start = time
        if held:
            close(max(start, duration_s))
        return tuple(pieces)
