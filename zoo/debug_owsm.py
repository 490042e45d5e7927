"""Card `debug-owsm`: a tiny ESPnet S2T model made from a seed, for tests and first tries.

It has OWSM's parts in small (E-Branchformer, Transformer decoder, CTC, a SentencePiece model whose special tokens stand
in OWSM's order) and the layout of ESPnet's packs, so that ESPnet itself loads it. It is untrained: it proves machinery,
it knows no words.
"""

import io
import unicodedata
from pathlib import Path
from typing import Any

LANGUAGES = ("eng", "hin", "ita", "pan", "tel")
BLOCKS = (range(0x0900, 0x0980), range(0x0A00, 0x0A80), range(0x0C00, 0x0C80))  # Devanagari, Gurmukhi, Telugu
LATIN = "abcdefghijklmnopqrstuvwxyzàèéìòù0123456789'-.,?!"
SEED = 20_261_121
TIMESTAMP_S = 0.02
MEL_BINS = 40
MEL_MEAN, MEL_DEVIATION = -10.0, 5.0  # of a log-mel, roughly
EXPERIMENT = "exp/s2t_debug"
CONFIG, WEIGHTS = f"{EXPERIMENT}/config.yaml", f"{EXPERIMENT}/valid.acc.best.pth"
STATS, BPE = "exp/s2t_stats/train/feats_stats.npz", "data/token_list/char/bpe.model"


def config(max_duration_s: float = 30.0, **changes: Any) -> dict[str, Any]:
    """An ESPnet S2T training config. changes: whole entries to replace (`encoder`, `encoder_conf`, ...)."""
    made: dict[str, Any] = {
        "token_type": "bpe",
        "bpemodel": BPE,
        "init": None,
        "input_size": None,
        "frontend": "default",
        "frontend_conf": {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": MEL_BINS, "fs": 16000},
        "specaug": None,
        "specaug_conf": {},
        "normalize": "global_mvn",
        "normalize_conf": {"stats_file": STATS},
        "encoder": "e_branchformer",
        "encoder_conf": {
            "output_size": 64,
            "attention_heads": 2,
            "attention_layer_type": "selfattn",
            "pos_enc_layer_type": "abs_pos",
            "rel_pos_type": "latest",
            "cgmlp_linear_units": 128,
            "cgmlp_conv_kernel": 15,
            "num_blocks": 3,
            "dropout_rate": 0.0,
            "positional_dropout_rate": 0.0,
            "input_layer": "conv2d",
            "linear_units": 128,
            "use_ffn": True,
            "macaron_ffn": True,
            "merge_conv_kernel": 15,
        },
        "decoder": "transformer",
        "decoder_conf": {
            "attention_heads": 2,
            "linear_units": 128,
            "num_blocks": 2,
            "dropout_rate": 0.0,
            "positional_dropout_rate": 0.0,
        },
        "ctc_conf": {},
        "model": "espnet",
        "model_conf": {"ctc_weight": 0.3, "lsm_weight": 0.1, "length_normalized_loss": False, "sym_na": "<na>"},
        "preprocessor": "s2t",
        "preprocessor_conf": {
            "fs": 16000,
            "na_symbol": "<na>",
            "speech_length": max_duration_s,
            "speech_resolution": TIMESTAMP_S,
            "notime_symbol": "<notimestamps>",
            "first_time_symbol": "<0.00>",
            "last_time_symbol": f"<{max_duration_s:.2f}>",
        },
    }
    return {**made, **changes}


def build(folder: Path, made: dict[str, Any] | None = None) -> None:
    """Write the model's files into `folder`: the same bytes every time."""
    import numpy as np
    import torch
    import yaml

    from zoo import owsm_files
    from zoo.owsm_network import build as build_network

    made = dict(made or config())
    proto, pieces = _pieces()
    made["token_list"] = _tokens(made["preprocessor_conf"]["speech_length"], pieces)
    for name in (CONFIG, STATS, BPE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / BPE).write_bytes(proto)
    bins = made["frontend_conf"]["n_mels"]
    mean = np.full(bins, MEL_MEAN, dtype=np.float32)
    np.savez(folder / STATS, count=1.0, sum=mean, sum_square=mean**2 + np.float32(MEL_DEVIATION**2))
    text = yaml.safe_dump(made, allow_unicode=True, sort_keys=False)
    (folder / CONFIG).write_text(text, encoding="utf-8")
    meta = {"espnet": "202511", "files": {"s2t_model_file": WEIGHTS}, "yaml_files": {"s2t_train_config": CONFIG}}
    (folder / owsm_files.META).write_text(yaml.safe_dump(meta), encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = build_network(made, owsm_files.OwsmFiles(folder, folder / CONFIG, folder / WEIGHTS), "debug-owsm")
    torch.save(network.state_dict(), folder / WEIGHTS)


def _tokens(max_duration_s: float, pieces: list[str]) -> list[str]:
    """OWSM's order: blank, unknown, not available, no speech, languages, tasks, timestamps, text, start, end, previous."""
    times = [f"<{i * TIMESTAMP_S:.2f}>" for i in range(round(max_duration_s / TIMESTAMP_S) + 1)]
    special = [
        "<blank>",
        "<unk>",
        "<na>",
        "<nospeech>",
        *(f"<{language}>" for language in LANGUAGES),
        "<asr>",
        "<st_eng>",
    ]
    return [*special, "<notimestamps>", *times, *pieces, "<sos>", "<eos>", "<sop>"]


def _pieces() -> tuple[bytes, list[str]]:
    """A SentencePiece model whose pieces are characters: its file, and the pieces."""
    import sentencepiece

    letters = LATIN + "".join(chr(c) for block in BLOCKS for c in block if unicodedata.category(chr(c)) != "Cn")
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([f" {letter}" for letter in letters]),
        model_writer=written,
        model_type="char",
        vocab_size=len(letters) + 4,
        character_coverage=1.0,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    return written.getvalue(), [piece for piece in pieces if not processor.is_control(processor.piece_to_id(piece))][1:]
