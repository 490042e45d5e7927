"""Learns a byte-level BPE vocabulary of our own.

Byte level: whatever the script, nothing is unknown. Text is balanced over languages before merges are learned, or the
language with most text takes them all.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.data.manifest import Record
from training.recipe import check
from zoo.errors import DataError
from zoo.whisper_files import build_tokenizer, byte_alphabet

if TYPE_CHECKING:
    from transformers import WhisperTokenizer

BYTES = 256
CHARACTERS = 300_000  # per language, at most: a thousand merges need no more


def learn(texts: Mapping[str, Sequence[str]], size: int = 1200, max_duration_s: float = 30.0) -> "WhisperTokenizer":
    """Learn merges from `texts` (language -> sentences); Whisper's special tokens come on top.

    size: text tokens, the 256 bytes included. Every language of Whisper gets its token, also those without text:
    transformers computes prompt ids from the position in the full list.

    Raises DataError for a language without text and for a size that leaves no merges.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    if empty := [language for language, sentences in texts.items() if not any(s.strip() for s in sentences)]:
        raise DataError(
            f"The tokenizer's text has nothing in {', '.join(empty)}", valid="at least one sentence per language"
        )
    if size <= BYTES:
        raise DataError(f"A tokenizer of {size} tokens has no merges", valid=f"more than the {BYTES} bytes")
    if unknown := sorted(set(texts) - set(LANGUAGES)):
        raise DataError(f"Whisper has no language token for {', '.join(unknown)}", valid=", ".join(LANGUAGES))
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=byte_alphabet(), show_progress=False)
    learner.train_from_iterator(_balanced(texts), trainer)
    model = json.loads(learner.to_str())["model"]
    return build_tokenizer(model["vocab"], [tuple(pair) for pair in model["merges"]], tuple(LANGUAGES), max_duration_s)


def read(folder: Path) -> "WhisperTokenizer":
    """The tokenizer in a folder."""
    from transformers import WhisperTokenizer

    return WhisperTokenizer.from_pretrained(folder, local_files_only=True)


def sentences(records: Sequence[Record], files: Sequence[str]) -> dict[str, list[str]]:
    """Sentences per language, each once: those of the clips, and of `language=file` texts with one a line.

    Raises RecipeError for a text file that is not there.
    """
    texts: dict[str, dict[str, None]] = {}
    for record in records:
        texts.setdefault(record.lang, {})[record.text] = None
    for item in files:
        language, _, path = item.partition("=")
        check(
            bool(path) and Path(path).is_file(),
            "tokenizer.text",
            item,
            "language=file, the file with one sentence a line",
        )
        texts.setdefault(language, {}).update(dict.fromkeys(Path(path).read_text(encoding="utf-8").splitlines()))
    return {language: list(found) for language, found in texts.items()}


def kept(folder: Path, make: Callable[[], "WhisperTokenizer"]) -> "WhisperTokenizer":
    """The tokenizer in `folder`; where there is none, a new one, kept there: a run that goes on with other text would
    learn other merges, and its weights would mean other tokens."""
    if folder.is_dir():
        return read(folder)
    made = make()
    staged = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(staged, ignore_errors=True)
    made.save_pretrained(staged)
    os.replace(staged, folder)
    return made


def _balanced(texts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Every language's sentences, repeated until each language gives about as many characters as the largest.

    Counted in characters, not bytes: a Telugu letter is three bytes and needs its merges all the more.
    """
    most = min(CHARACTERS, max(sum(map(len, sentences)) for sentences in texts.values()))
    for sentences in texts.values():
        given = 0
        while given < most:
            for sentence in sentences:
                # with the space that a word has inside a sentence, lest the merges be learned twice
                yield " " + sentence.strip()
                given += len(sentence) + 1
                if given >= most:
                    break
