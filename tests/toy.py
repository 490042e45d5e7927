"""Toy speech and briefly trained models for the tests: tones for letters, a hum for the language.

A model trained on it for a minute writes varying texts, ends early and reorders beams; one of random weights repeats one
token and would prove little.
"""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import torch

from zoo import debug
from zoo.speech import SAMPLE_RATE, Utterance
from zoo.threads import thread_count
from zoo.whisper_family import family

LETTER_S = 0.09
ALPHABETS = {"en": "abcdefgh", "hi": "अआइईउऊएऐ", "it": "ijklmnop", "pa": "ਅਆਇਈਉਊਏਐ", "te": "అఆఇఈఉఊఎఏ"}
HUM_HZ = {"en": 110.0, "hi": 150.0, "it": 200.0, "pa": 260.0, "te": 330.0}
TONES_HZ = [600.0 * 1.28**i for i in range(8)]


def clip(letters: list[int], language: str, rng: np.random.Generator) -> tuple[Utterance, str]:
    """letters: indices 0..7. The same tones are written in another alphabet in each language."""
    n = int(LETTER_S * SAMPLE_RATE)
    t = np.arange(n) / SAMPLE_RATE
    ramp = np.minimum(1.0, np.minimum(np.arange(n), np.arange(n)[::-1]) / (0.01 * SAMPLE_RATE))
    tones = [ramp * np.sin(2 * np.pi * TONES_HZ[i] * t + rng.uniform(0, 6)) for i in letters]
    lead = np.zeros(int(rng.uniform(0.02, 0.1) * SAMPLE_RATE))
    sound = 0.3 * np.concatenate([lead, *tones, lead])
    sound += 0.1 * np.sin(2 * np.pi * HUM_HZ[language] * np.arange(len(sound)) / SAMPLE_RATE)
    sound += 0.01 * rng.standard_normal(len(sound))
    text = "".join(ALPHABETS[language][i] for i in letters)
    return Utterance(sound.astype(np.float32), f"{language}:{text}"), text


def clips(count: int, languages, seed: int, longest: int = 9) -> list[tuple[Utterance, str, str]]:
    """(utterance, text, language), deterministic by seed."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        language = str(rng.choice(list(languages)))
        utterance, text = clip(list(rng.integers(0, 8, rng.integers(2, longest))), language, rng)
        made.append((utterance, text, language))
    return made


def train(base, module, languages, seed: int, steps: int, lr: float, batch: int = 24) -> float:
    """A minute's training of whatever in `module` takes gradients; returns the last loss."""
    torch.manual_seed(seed)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.1)
    pool = [entry for entry in clips(steps * batch // 3, languages, seed) if base.grid_s(entry[0]) == 1.0]
    rng = np.random.default_rng(seed)
    with thread_count(1):  # the same weights however many cores there are
        for _ in range(steps):
            chosen = [pool[i] for i in rng.integers(0, len(pool), batch)]
            features = base.features([u for u, _, _ in chosen])
            loss = base.loss(features, base.labels([t for _, t, _ in chosen], [lang for _, _, lang in chosen]))
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
    return float(loss.detach())


def cache_folder() -> Path:
    """Trained models are kept between runs of the suite, under the hash of the code that made them."""
    root = Path(__file__).parent.parent
    sources = [Path(__file__), root / "zoo/debug.py", root / "zoo/whisper_files.py"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    return root / ".cache" / "tests" / digest


def trained_folder() -> Path:
    """The debug model after a minute on toy speech: English mostly, a little of each other language."""
    target = cache_folder() / "base"
    if not (target / "model.safetensors").is_file():
        staging = target.with_name(f"base.{os.getpid()}")
        debug.build(staging)
        base = family.load(staging, family.card(staging, "debug"), context="dynamic")
        base.module.requires_grad_(True)
        base.module.model.encoder.embed_positions.requires_grad_(False)
        base.module.train()
        train(base, base.module, ("en", "en", "en", "en", "hi", "it", "pa", "te"), seed=1, steps=700, lr=3e-3)
        base.module.eval().save_pretrained(staging)
        _settle(staging, target)
    return target


def trained_adapter(language: str, rank: int, targets: tuple[str, ...] | str, seed: int = 0, **config) -> Path:
    """A LoRA folder written by PEFT, trained for seconds on one language of toy speech."""
    from peft import LoraConfig, get_peft_model

    name = hashlib.sha256(repr((language, rank, targets, seed, sorted(config.items()))).encode()).hexdigest()[:10]
    target = cache_folder() / f"adapter-{language}-r{rank}-{name}"
    if not (target / "adapter_model.safetensors").is_file():
        folder = trained_folder()
        base = family.load(folder, family.card(folder, "debug"), context="dynamic")
        torch.manual_seed(seed)
        settings = {"lora_alpha": 2 * rank, **config}
        peft = get_peft_model(
            base.module,
            LoraConfig(r=rank, target_modules=targets if isinstance(targets, str) else list(targets), **settings),
        )
        train(base, peft, (language,), seed=10 + seed, steps=160, lr=1e-2)
        staging = target.with_name(f"{target.name}.{os.getpid()}")
        peft.save_pretrained(staging)
        _settle(staging, target)
    return target


def _settle(staging: Path, target: Path) -> None:
    try:
        os.rename(staging, target)
    except OSError:  # another worker was first
        shutil.rmtree(staging, ignore_errors=True)
