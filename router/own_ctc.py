"""What the base alone, without any adapter, has heard in one chunk with its whole encoder: how probable its CTC finds a text,
in which script each frame is written, and what a head that follows says of each. Encoded once, when it is first asked."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch

from adapters.bank import Bank
from router.classifier import Classifier
from router.following import Following
from router.passes import Listened
from zoo.interface import Hidden
from zoo.scripts import script_of

WRONG = 0.02  # probability of a token in another script than its language's
SCRIPTS = 1.5  # weight of what CTC writes beside what heads hear


class OwnCtc:
    """one: the chunk, a single row."""

    def __init__(self, base, bank: Bank, one: Listened):
        self.base, self.bank, self.one = base, bank, one

    @cached_property
    @torch.inference_mode()
    def _hidden(self) -> Hidden:
        with self.bank.off():
            return self.base.encode(self.one.tapped)

    def evidence(self, classifier: Classifier, floor: float) -> np.ndarray | None:
        """Evidence `[T, L]` in nats to be added to what the classifier hears, for its languages: of the scripts, and of the head
        that follows beside it, none below `floor`. That head was taught to hear nothing behind a frame; here it adds what the
        finished encoder knows. None: there is neither."""
        written = self.of_languages(classifier.languages)
        following: Following | None = getattr(classifier, "following", None)
        parts = [] if written is None else [SCRIPTS * written]
        if following is not None:
            parts.append(np.maximum(self._followed(following), floor))
        frames = min((len(part) for part in parts), default=0)
        return np.sum([part[:frames] for part in parts], axis=0) if parts else None

    @torch.inference_mode()
    def _followed(self, following: Following) -> np.ndarray:
        """Log-probabilities `[T, L]`."""
        assert isinstance(self.one.tapped, Hidden), "a classifier has heard it"
        states = following.states(self.base, self.one.tapped, self._hidden)[0]
        return following(states[: int(self._hidden.lengths[0])], None)[0]

    def of_texts(self, texts: Sequence[str]) -> list[float]:
        """Log-probability of each text; zeros where the base has no CTC."""
        score = getattr(self.base, "text_log_probabilities", None)
        found = score(self._hidden, texts) if score is not None and texts else None
        return [0.0] * len(texts) if found is None else found

    def of_languages(self, languages: Sequence[str]) -> np.ndarray | None:
        """Evidence `[T, L]` in nats: how much the scripts that are written at a frame favour each language above the mean of
        those that have a usual script; 0 where CTC writes nothing, and for a class without one. None: there is no CTC, or
        all languages share a script."""
        scripts = {tag: script_of(tag) for tag in languages if tag in self.base.languages}
        known = sorted(set(scripts.values()))
        if len(known) < 2 or not hasattr(self.base, "script_probabilities"):
            return None
        written = self.base.script_probabilities(self._hidden, known)
        if written is None:
            return None
        sharing = {script: list(scripts.values()).count(script) for script in known}
        likely = np.log([[1 / sharing[s] if s == own else WRONG for s in known] for own in scripts.values()])
        found = np.zeros((len(written), len(languages)))
        columns = [languages.index(tag) for tag in scripts]
        found[:, columns] = written.double().cpu().numpy() @ (likely - likely.mean(axis=0)).T
        return found
