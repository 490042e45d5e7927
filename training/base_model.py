"""A Whisper-architecture model from scratch: its shape, its targets, its losses and its files."""

import copy
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from training.recipe import check
from zoo.errors import DataError
from zoo.speech import SAMPLE_RATE
from zoo.whisper_files import END, START, build_extractor, build_generation_config

if TYPE_CHECKING:
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

TIMESTAMP_SAMPLES = 320  # 0.02 s


@dataclass(frozen=True)
class ModelOptions:
    """Shape of the network."""

    width: int = 256
    """d_model."""
    heads: int = 4
    encoder_layers: int = 6
    decoder_layers: int = 2
    encoder_feed_forward: int = 768
    decoder_feed_forward: int = 1024
    mel_bins: int = 80
    hop_samples: int = 160
    """Between two mel frames; the encoder sees half as many. 160 (20 ms a frame) is Whisper's; 320 halves the encoder's
    work."""
    fft_samples: int = 400
    """Window of a mel frame; no shorter than the hop."""
    dropout: float = 0.1
    """After every block, while training."""
    max_duration_s: int = 30
    """Longest clip in one pass; positions and timestamps are made for it."""
    max_tokens: int = 256
    """Longest text with its prompt."""

    def __post_init__(self):
        check(self.width % self.heads == 0, "model.width", self.width, f"a multiple of model.heads={self.heads}")
        check(self.encoder_layers > 0 and self.decoder_layers > 0, "model.encoder_layers/decoder_layers",
              (self.encoder_layers, self.decoder_layers), "at least one each")  # fmt: skip
        check(0 < self.hop_samples <= self.fft_samples, "model.hop_samples", self.hop_samples,
              f"1 to model.fft_samples={self.fft_samples}")  # fmt: skip
        check(0 <= self.dropout < 1, "model.dropout", self.dropout, "0 up to below 1")

    @property
    def frame_samples(self) -> int:
        """Samples per encoder frame: the second convolution halves the mel frames."""
        return 2 * self.hop_samples


def build(
    options: ModelOptions, tokenizer: "WhisperTokenizer", languages: Sequence[str]
) -> "WhisperForConditionalGeneration":
    """A network with fresh weights and its generation config. `languages` are those it claims to write."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    end, start = token_id(tokenizer, END), token_id(tokenizer, START)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=options.mel_bins,
        d_model=options.width,
        encoder_layers=options.encoder_layers,
        decoder_layers=options.decoder_layers,
        encoder_attention_heads=options.heads,
        decoder_attention_heads=options.heads,
        encoder_ffn_dim=options.encoder_feed_forward,
        decoder_ffn_dim=options.decoder_feed_forward,
        dropout=options.dropout,
        max_source_positions=options.max_duration_s * SAMPLE_RATE // options.frame_samples,
        max_target_positions=options.max_tokens,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        attn_implementation="sdpa",
    )
    model = WhisperForConditionalGeneration(config)
    model.generation_config = build_generation_config(tokenizer, languages, options.max_tokens)
    return model


def save(
    model: "WhisperForConditionalGeneration",
    tokenizer: "WhisperTokenizer",
    folder: Path,
    options: ModelOptions,
    longest_s: float = 0.0,
) -> int:
    """A plain transformers folder, weights as float16. Returns its bytes.

    longest_s: the longest clips it was taught on, kept in its config (`Card.longest_s`); 0: not known."""
    half = copy.deepcopy(model).half()
    half.config.dropout = 0.0
    if longest_s:
        half.config.longest_s = longest_s
    half.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _forget_loading(folder / "tokenizer_config.json")
    extractor(options).save_pretrained(folder)
    return sum(path.stat().st_size for path in folder.iterdir())


def _forget_loading(path: Path) -> None:
    """A tokenizer that was read from a folder writes down how it was read; that is no part of a model."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("is_local", "local_files_only"):
        config.pop(key, None)
    path.write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def extractor(options: ModelOptions) -> "WhisperFeatureExtractor":
    """The log-mels of a model of this shape."""
    return build_extractor(options.mel_bins, options.max_duration_s, options.hop_samples, options.fft_samples)


def begin_from(model: "WhisperForConditionalGeneration", folder: Path) -> None:
    """Give `model` the weights of another Whisper-architecture model of the same width and tokens.

    Layers are taken in order. Layers beyond the other's begin as copies of its last ones whose two output projections
    are zero, so that they change nothing until they learn to (Chen et al. 2022, bert2BERT, do so in width). Positions
    of the encoder are taken at the same times, where the other has more or fewer frames a second.
    Raises DataError where the shapes cannot be matched.
    """
    from transformers import WhisperForConditionalGeneration

    other = WhisperForConditionalGeneration.from_pretrained(str(folder), dtype=torch.float32, local_files_only=True)
    theirs = other.state_dict()
    positions = theirs["model.encoder.embed_positions.weight"]
    wanted = model.config.max_source_positions
    at = (torch.arange(wanted) * len(positions) / wanted).round().long()
    theirs["model.encoder.embed_positions.weight"] = positions[at]
    counts = {"encoder": other.config.encoder_layers, "decoder": other.config.decoder_layers}
    taken = {}
    for name, weight in model.state_dict().items():
        part = re.match(r"model\.(encoder|decoder)\.layers\.(\d+)\.(.*)", name)
        source = theirs.get(name)
        if part and int(part[2]) >= counts[part[1]]:
            added = getattr(model.config, f"{part[1]}_layers") - counts[part[1]]
            copied = max(0, min(int(part[2]) - added, counts[part[1]] - 1))
            source = theirs[f"model.{part[1]}.layers.{copied}.{part[3]}"]
            if re.search(r"(out_proj|fc2)\.", part[3]):
                source = torch.zeros_like(source)
        if source is None or source.shape != weight.shape:
            found = "nothing" if source is None else tuple(source.shape)
            raise DataError(
                f"{folder} cannot be gone on from: {name} is {found}, wanted {tuple(weight.shape)}",
                valid="a model of the same width, heads, feed-forward sizes and tokens",
            )
        taken[name] = source
    model.load_state_dict(taken)
    model.tie_weights()


def token_id(tokenizer: "WhisperTokenizer", token: str) -> int:
    """Id of one special token. Raises DataError where the tokenizer has no such token."""
    known = tokenizer.get_vocab()
    if token not in known:
        raise DataError(f"The tokenizer has no token {token}", valid="Whisper's languages and special tokens")
    return known[token]


class Texts:
    """Token rows of all clips on the device, and the decoder's targets made from them without a Python loop."""

    def __init__(
        self,
        texts: Sequence[str],
        languages: Sequence[str],
        tokenizer: "WhisperTokenizer",
        max_tokens: int,
        device: str,
    ):
        self.end, self.start = token_id(tokenizer, END), token_id(tokenizer, START)
        self.transcribe, self.no_timestamps = (
            token_id(tokenizer, "<|transcribe|>"),
            token_id(tokenizer, "<|notimestamps|>"),
        )
        rows = tokenizer([text.strip() for text in texts], add_special_tokens=False)["input_ids"] if len(texts) else []
        room = max_tokens - 6  # start, language, task, two timestamps, end
        self.fits = [len(row) <= room for row in rows]
        rows = [row[:room] for row in rows]
        self.lengths = [len(row) for row in rows]
        table = torch.zeros(len(rows), max(self.lengths, default=1), dtype=torch.int32)
        for i, row in enumerate(rows):
            table[i, : len(row)] = torch.tensor(row, dtype=torch.int32)
        self.table = table.to(device)
        self.counts = torch.tensor(self.lengths, device=device)
        language_ids = {language: token_id(tokenizer, f"<|{language}|>") for language in set(languages)}
        self.languages = torch.tensor([language_ids[language] for language in languages], device=device)

    def targets(
        self, index: torch.Tensor, width: int, timed: torch.Tensor, durations: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Decoder input and labels int64 `[B, width + 5]`, text `[B, width]` and its lengths `[B]`.

        index: `[B]` clips. width: longest text of the batch. timed: bool `[B]`, rows written with timestamps, from
        0.00 to the clip's end at `durations` (`[B]`, samples). Labels are -100 behind the end.
        """
        size = len(index)
        text, count = self.table[index, :width].long(), self.counts[index]
        column = torch.arange(width, device=index.device)[None]
        first = self.no_timestamps + 1
        last = first + (durations // TIMESTAMP_SAMPLES)
        head = torch.stack([
            torch.full_like(index, self.start),
            self.languages[index],
            torch.full_like(index, self.transcribe),
            torch.where(timed, first, self.no_timestamps),
        ], dim=1)  # fmt: skip
        body = torch.where(column < count[:, None], text, self.end)
        row = torch.cat([head, body, body.new_full((size, 2), self.end)], dim=1)
        behind = (4 + count)[:, None]
        row = row.scatter(1, behind, torch.where(timed, last, self.end)[:, None])
        used = 4 + count + timed.long()  # position of the end token
        labels = row[:, 1:].clone()
        place = torch.arange(1, row.shape[1], device=index.device)[None]
        labels[place > used[:, None]] = -100
        return row[:, :-1], labels, body, count


def encode(model: "WhisperForConditionalGeneration", mel: torch.Tensor) -> torch.Tensor:
    """Encoder states `[B, T, d]` of log-mels `[B, n_mels, 2T]` of any length the model has positions for."""
    encoder = model.model.encoder
    x = F.gelu(encoder.conv1(mel))
    x = F.gelu(encoder.conv2(x)).permute(0, 2, 1)
    x = x + encoder.embed_positions.weight[: x.shape[1]]
    x = F.dropout(x, encoder.dropout, encoder.training)
    for layer in encoder.layers:
        x = layer(x, None)
    return encoder.layer_norm(x)


def attention_loss(
    model: "WhisperForConditionalGeneration",
    states: torch.Tensor,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    smoothing: float,
) -> torch.Tensor:
    """Cross-entropy of the decoder, label-smoothed, mean over labels that are not -100."""
    hidden = model.model.decoder(input_ids=inputs, encoder_hidden_states=states, use_cache=False).last_hidden_state
    logits = model.proj_out(hidden)
    return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100, label_smoothing=smoothing)


class CtcHead(nn.Module):
    """Connectionist temporal classification on the encoder's output (Graves et al. 2006).

    It shows the encoder early where the letters are, long before cross-attention finds them, and has a say in the search
    (Watanabe et al. 2017, hybrid CTC/attention; zoo/ctc.py). Symbol 0 is the blank, token i is symbol i + 1.
    """

    def __init__(self, width: int, tokens: int):
        super().__init__()
        self.out = nn.Linear(width, tokens + 1)

    def forward(
        self, states: torch.Tensor, frames: torch.Tensor, text: torch.Tensor, counts: torch.Tensor
    ) -> torch.Tensor:
        """states `[B, T, d]`, frames `[B]` real frames, text `[B, L]`, counts `[B]`; nats per token."""
        log_probabilities = self.out(states).float().log_softmax(-1).transpose(0, 1)
        # a text longer than its clip has frames cannot be aligned: such a row counts nothing
        losses = F.ctc_loss(log_probabilities, text + 1, frames, counts, reduction="none", zero_infinity=True)
        return losses.sum() / counts.sum().clamp(min=1)
