"""Makes the files of a new Whisper-architecture model: tokenizer, generation config, feature extractor.

The special tokens stand in Whisper's order (end of text, start of transcript, languages, translate, transcribe,
startoflm, startofprev, nospeech, notimestamps, timestamps); transformers derives the prompt's ids from that order.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import GenerationConfig, WhisperFeatureExtractor, WhisperTokenizer

END, START = "<|endoftext|>", "<|startoftranscript|>"
TASKS = ("translate", "transcribe")


def special_tokens(languages: Sequence[str], max_duration_s: float) -> list[str]:
    """All special tokens in order, timestamps every 0.02 s up to `max_duration_s` included."""
    timestamps = [f"<|{i * 0.02:.2f}|>" for i in range(round(max_duration_s / 0.02) + 1)]
    return [
        END,
        START,
        *(f"<|{language}|>" for language in languages),
        *(f"<|{task}|>" for task in TASKS),
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
        *timestamps,
    ]


def byte_alphabet() -> list[str]:
    """The 256 characters that stand for bytes in a byte-level tokenizer, in byte order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    characters = {byte: chr(byte) for byte in printable}
    shifted = 0
    for byte in range(256):
        if byte not in characters:
            characters[byte] = chr(256 + shifted)
            shifted += 1
    return [characters[byte] for byte in range(256)]


def build_tokenizer(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], languages: Sequence[str], max_duration_s: float = 30.0
) -> "WhisperTokenizer":
    """A WhisperTokenizer over a byte-level BPE vocabulary (token -> id, ids 0..n-1) and its merges."""
    from transformers import AddedToken, WhisperTokenizer

    specials = special_tokens(languages, max_duration_s)
    vocabulary = dict(vocabulary)
    for token in specials:
        vocabulary[token] = len(vocabulary)
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=merges, language=None, task=None)
    is_timestamp = specials.index("<|notimestamps|>") + 1
    tokenizer.add_special_tokens({"additional_special_tokens": specials[1:is_timestamp]})
    # Timestamps are added but not special, as in Whisper: skip_special_tokens must leave the choice to the decoder.
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in specials[is_timestamp:]])
    wrong = [token for token in specials if tokenizer.convert_tokens_to_ids(token) != vocabulary[token]]
    if wrong:
        raise AssertionError(f"special tokens out of order: {wrong[:3]}")
    return tokenizer


def build_generation_config(
    tokenizer: "WhisperTokenizer", languages: Sequence[str], max_length: int
) -> "GenerationConfig":
    """The generation config that transformers' Whisper needs to write prompts and timestamps."""
    from transformers import GenerationConfig

    def token_id(token: str) -> int:
        return tokenizer.convert_tokens_to_ids(token)

    config = GenerationConfig(
        bos_token_id=token_id(END),
        eos_token_id=token_id(END),
        pad_token_id=token_id(END),
        decoder_start_token_id=token_id(START),
        max_length=max_length,
    )
    config.is_multilingual = True
    config.lang_to_id = {f"<|{language}|>": token_id(f"<|{language}|>") for language in languages}
    config.task_to_id = {task: token_id(f"<|{task}|>") for task in TASKS}
    config.no_timestamps_token_id = token_id("<|notimestamps|>")
    config.prev_sot_token_id = token_id("<|startofprev|>")
    config.max_initial_timestamp_index = 50
    config.return_timestamps = False
    config.suppress_tokens = None
    config.begin_suppress_tokens = None
    return config


def build_extractor(
    mel_bins: int = 80, chunk_s: int = 30, hop_samples: int = 160, fft_samples: int = 400
) -> "WhisperFeatureExtractor":
    """Log-mels of windows of `fft_samples` every `hop_samples`, Whisper's own where nothing is given."""
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(
        feature_size=mel_bins, chunk_length=chunk_s, hop_length=hop_samples, n_fft=fft_samples
    )


def save_extractor(folder: Path, mel_bins: int = 80, chunk_s: int = 30) -> None:
    """Write preprocessor_config.json."""
    build_extractor(mel_bins, chunk_s).save_pretrained(folder)
