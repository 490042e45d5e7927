"""Text to OWSM's tokens and back: SentencePiece pieces, numbered by the config's token list."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from zoo.errors import ModelError


class OwsmTokenizer:
    """tokens: the config's token list; model: bpe.model, or None where every character is a token (`char`)."""

    def __init__(self, tokens: Sequence[str], model: Path | None, name: str):
        self.tokens = tuple(tokens)
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.name, self.model = name, model
        self._pieces = None
        digest = hashlib.sha256("\n".join(self.tokens).encode())
        if model is not None:
            from sentencepiece import SentencePieceProcessor

            content = model.read_bytes()
            try:
                self._pieces = SentencePieceProcessor(model_proto=content)
            except RuntimeError as error:
                raise ModelError(
                    f"{model} of {name} is no SentencePiece model: {error}", remedy=f"boli zoo verify {name}"
                ) from None
            digest.update(content)
        self.sha256 = digest.hexdigest()

    def id(self, token: str) -> int:
        if token not in self.ids:
            raise ModelError(
                f"{self.name} has no token {token}", valid="the tokens of an OWSM: <asr>, <notimestamps>, ..."
            )
        return self.ids[token]

    def is_special(self, token: int) -> bool:
        """Language, task, timestamp, ...: in angle brackets, as ESPnet tells them apart."""
        written = self.tokens[token]
        return written[0] == "<" and written[-1] == ">" and written != "<space>"

    def encode(self, text: str) -> list[int]:
        """A piece that is not in the list is `<unk>`, as in ESPnet."""
        if self._pieces is not None:
            pieces = self._pieces.encode_as_pieces(text)
        else:
            pieces = ["<space>" if character == " " else character for character in " ".join(text.split())]
        unknown = self.ids.get("<unk>", 0)
        return [self.ids.get(piece, unknown) for piece in pieces]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text without special tokens (those in angle brackets, as ESPnet's `text_nospecial`)."""
        pieces = [self.tokens[token] for token in tokens if not self.is_special(token)]
        if self._pieces is None:
            pieces = [" " if piece == "<space>" else piece for piece in pieces]
        return ("".join(pieces) if self._pieces is None else self._pieces.decode_pieces(pieces)).strip()
