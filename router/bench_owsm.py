"""`boli bench router` on OWSM: one batch of clips, beside ESPnet's own Speech2Text one by one.

All get the same random weights of a real shape and write the same number of tokens, so that only time differs; the
tokens are compared, too. ESPnet pads every clip to 30 s, and so does OWSM as published; *clip's own length* is what
adapters trained with context `dynamic` are served at.
"""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from adapters.bench_passes import interleaved
from router.bench_clips import BenchClip
from zoo.errors import ModelError

PREFIX = "owsm-"
VOCABULARY = 50_002
# shape -> width, heads, encoder and decoder layers, input layer, mel bins
SHAPES = {
    "owsm-debug": (64, 2, 3, "conv2d", 40),
    "owsm-v3.1-base": (384, 6, 6, "conv2d", 80),
    "owsm-v4-base": (384, 6, 6, "conv2d8", 128),
    "owsm-v4-small": (768, 12, 9, "conv2d8", 128),
    "owsm-v4-medium": (1024, 16, 18, "conv2d8", 128),
}
SEARCHES = {
    "greedy": {"beam_size": 1, "ctc_weight": 0.0},
    "beam": {"beam_size": 5, "ctc_weight": 0.0},
    "joint": {"beam_size": 5, "ctc_weight": 0.3},
}
OURS = {
    # name in the tables: (context, dtype)
    "boli fp32, padded": ("30s", "float32"),
    "boli bf16, padded": ("30s", "bfloat16"),
    "boli fp32, clip's own length": ("dynamic", "float32"),
}
PEER = "ESPnet Speech2Text, one by one"
ENCODER = "encoder of "
TOKENS = 24


def make(folder: Path, shape: str) -> None:
    """A model of that shape with random weights, as an ESPnet folder."""
    import torch
    import yaml

    from zoo import debug_owsm, owsm_files
    from zoo.owsm_network import build

    width, heads, layers, input_layer, bins = SHAPES[shape]
    made = debug_owsm.config()
    made["encoder_conf"] |= {
        "output_size": width, "attention_heads": heads, "num_blocks": layers, "input_layer": input_layer,
        "cgmlp_linear_units": 4 * width, "linear_units": 4 * width, "cgmlp_conv_kernel": 31, "merge_conv_kernel": 31,
    }  # fmt: skip
    made["decoder_conf"] |= {"attention_heads": heads, "num_blocks": layers, "linear_units": 4 * width}
    made["frontend_conf"] |= {"n_mels": bins}
    debug_owsm.build(folder, made)
    if shape == "owsm-debug":
        return
    files = owsm_files.find(folder, shape)
    config = owsm_files.read_config(files, shape)
    tokens = config["token_list"]
    config["token_list"] = [*tokens[:-3], *(f"▁{i}" for i in range(VOCABULARY - len(tokens))), *tokens[-3:]]
    files.config.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(debug_owsm.SEED)
        torch.save(build(config, files, shape).state_dict(), files.weights)


def check(models: list[str], searches: list[str]) -> None:
    """Raises ModelError for an OWSM shape or a search that is not measured."""
    for given, known in (([name for name in models if name.startswith(PREFIX)], SHAPES), (searches, SEARCHES)):
        if unknown := [name for name in given if name not in known]:
            raise ModelError(f"{unknown[0]!r} is not measured", valid=", ".join(known))


def measure(
    shape: str, searches: list[str], clips: list[BenchClip], runs: int, device: str, scratch: Path
) -> list[dict[str, Any]]:
    """A row per search and system: median seconds for all clips, and for their encoder, of interleaved runs."""
    folder = scratch / shape
    folder.mkdir()
    make(folder, shape)
    rows = []
    for search in searches:
        written: dict[str, list[list[int]]] = {}
        calls: dict[str, Callable[[], Any]] = {}
        for name, kind in OURS.items():
            if device == "cpu" or "bf16" not in name:
                write, encode = _ours(folder, search, clips, device, *kind)
                calls[name], calls[ENCODER + name] = _noted(written, name, write), encode
        calls[PEER] = _noted(written, PEER, _espnet(folder, search, clips, device))
        taken = {name: median(seconds) for name, seconds in interleaved(calls, runs).items()}
        for name in written:
            same = sum(one == two for one, two in zip(written[name], written[PEER], strict=True))
            rows.append(
                {
                    "shape": shape,
                    "search": search,
                    "system": name,
                    "clips": len(clips),
                    "seconds": taken[name],
                    "encode_s": taken.get(ENCODER + name),
                    "speedup": taken[PEER] / taken[name],
                    "same_tokens": same,
                }
            )
    return rows


def _noted(written: dict[str, list[list[int]]], name: str, write: Callable[[], list[list[int]]]) -> Callable[[], None]:
    """Writes, and keeps what was written."""

    def call() -> None:
        written[name] = write()

    return call


def _ours(
    folder: Path, search: str, clips: list[BenchClip], device: str, context: str, dtype: str
) -> tuple[Callable[[], list[list[int]]], Callable[[], Any]]:
    import torch

    from zoo.interface import DecodeOptions
    from zoo.joining import join
    from zoo.owsm_family import family

    card = family.card(folder, folder.name)
    base = family.load(folder, card, device=device, dtype=dtype, context=context)
    alike: dict[float, list[int]] = defaultdict(list)  # encoded grid by grid and decoded together, as in the router
    for i, clip in enumerate(clips):
        alike[base.grid_s(clip.utterance)].append(i)
    options = DecodeOptions(max_tokens=TOKENS, **SEARCHES[search])  # type: ignore[arg-type]

    @torch.inference_mode()
    def encode():
        hidden = [base.encode(base.features([clips[i].utterance for i in members])) for members in alike.values()]
        if hidden[0].values.is_cuda:
            torch.cuda.synchronize()
        return hidden

    def write() -> list[list[int]]:
        order = [i for members in alike.values() for i in members]
        found = base.decode(join(encode()), [clips[i].language for i in order], options)
        written = {i: list(hypothesis.tokens) for i, hypothesis in zip(order, found, strict=True)}
        return [written[i] for i in range(len(clips))]

    return write, encode


def _espnet(folder: Path, search: str, clips: list[BenchClip], device: str) -> Callable[[], list[list[int]]]:
    import yaml

    from zoo import owsm_files
    from zoo.espnet_import import quietly, speech2text
    from zoo.owsm_languages import language_tokens

    files = owsm_files.find(folder, folder.name)
    config = owsm_files.read_config(files, folder.name)
    config["bpemodel"] = str(folder / config["bpemodel"])
    config["normalize_conf"]["stats_file"] = str(folder / config["normalize_conf"]["stats_file"])
    absolute = folder / "absolute.yaml"
    absolute.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    recogniser = speech2text()
    with quietly():
        model = recogniser(
            str(absolute), str(files.weights), device=device, maxlenratio=-float(TOKENS), **SEARCHES[search]
        )
    known = language_tokens(config["token_list"])
    symbols = [config["token_list"][known[clip.language]] for clip in clips]

    def recognise() -> list[list[int]]:
        with quietly():
            found = [
                model(clip.utterance.audio, lang_sym=symbol)[0][2] for clip, symbol in zip(clips, symbols, strict=True)
            ]
        return [[token for token in each[3:] if token != model.s2t_model.eos] for each in found]

    return recognise


def as_text(rows: list[dict[str, Any]], shape: str) -> list[str]:
    """Lines of Markdown: one shape's table."""
    count = rows[0]["clips"]
    lines = [
        f"### {shape}",
        "",
        f"{count} clips up to 5 s, languages mixed, {TOKENS} tokens each.",
        "",
        "| search | system | s | of that encoder | times ESPnet | same tokens |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        encoder = "" if row["encode_s"] is None else f"{row['encode_s']:.2f}"
        lines.append(
            f"| {row['search']} | {row['system']} | {row['seconds']:.2f} | {encoder} | {row['speedup']:.2f} "
            f"| {row['same_tokens']} of {count} |"
        )
    return lines
