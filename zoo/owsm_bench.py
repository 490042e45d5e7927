"""`boli bench owsm`: many clips in one batch, against ESPnet's own Speech2Text one by one.

Both get the same random weights of a real shape and write the same number of tokens, so that only time differs; the
tokens are compared too.
"""

import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.errors import ModelError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

VOCABULARY = 50_002
# shape -> width, heads, encoder and decoder layers, input layer, mel bins
SHAPES = {
    "debug": (64, 2, 3, "conv2d", 40),
    "v3.1-base": (384, 6, 6, "conv2d", 80),
    "v4-base": (384, 6, 6, "conv2d8", 128),
    "v4-small": (768, 12, 9, "conv2d8", 128),
    "v4-medium": (1024, 16, 18, "conv2d8", 128),
}
SEARCHES = {
    "greedy": {"beam_size": 1, "ctc_weight": 0.0},
    "beam": {"beam_size": 5, "ctc_weight": 0.0},
    "joint": {"beam_size": 5, "ctc_weight": 0.3},
}


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
    if shape == "debug":
        return
    files = owsm_files.find(folder, shape)
    config = owsm_files.read_config(files, shape)
    tokens = config["token_list"]
    config["token_list"] = [*tokens[:-3], *(f"▁{i}" for i in range(VOCABULARY - len(tokens))), *tokens[-3:]]
    files.config.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(debug_owsm.SEED)
        torch.save(build(config, files, shape).state_dict(), files.weights)


def measure(shape: str, search: str, clips: int, clip_s: float, tokens: int, runs: int, device: str) -> dict[str, Any]:
    """Seconds for all clips, ours in one batch and ESPnet's one by one; medians of interleaved runs."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / shape
        folder.mkdir()
        make(folder, shape)
        ours, encode = _ours(folder, search, clips, clip_s, tokens, device)
        theirs = _espnet(folder, search, clips, clip_s, tokens, device)
        written, wanted = ours(), theirs()
        seconds: dict[str, list[float]] = {"ours": [], "encode": [], "espnet": []}
        for _ in range(runs):
            for name, call in (("ours", ours), ("encode", encode), ("espnet", theirs)):
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    same = sum(one == two for one, two in zip(written, wanted, strict=True))
    return {"shape": shape, "search": search, "clips": clips, "same_tokens": same, **medians,
            "speedup": medians["espnet"] / medians["ours"]}  # fmt: skip


def _sounds(clips: int, clip_s: float):
    import numpy as np

    generator = np.random.default_rng(0)
    return [0.1 * generator.standard_normal(int(clip_s * 16_000)).astype(np.float32) for _ in range(clips)]


def _ours(
    folder: Path, search: str, clips: int, clip_s: float, tokens: int, device: str
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    import torch

    from zoo.interface import DecodeOptions
    from zoo.owsm_family import family
    from zoo.speech import Utterance

    base = family.load(folder, family.card(folder, folder.name), device=device)
    utterances = [Utterance(sound) for sound in _sounds(clips, clip_s)]
    languages = [base.languages[i % len(base.languages)] for i in range(clips)]
    options = DecodeOptions(max_tokens=tokens, **SEARCHES[search])  # type: ignore[arg-type]

    @torch.inference_mode()
    def encode():
        hidden = base.encode(base.features(utterances))
        if hidden.values.is_cuda:
            torch.cuda.synchronize()
        return hidden

    return lambda: [list(h.tokens) for h in base.decode(encode(), languages, options)], encode


def _espnet(folder: Path, search: str, clips: int, clip_s: float, tokens: int, device: str) -> Callable[[], Any]:
    import yaml

    from zoo import debug_owsm, owsm_files
    from zoo.espnet_import import quietly, speech2text

    files = owsm_files.find(folder, folder.name)
    config = owsm_files.read_config(files, folder.name)
    config["bpemodel"] = str(folder / config["bpemodel"])
    config["normalize_conf"]["stats_file"] = str(folder / config["normalize_conf"]["stats_file"])
    absolute = folder / "absolute.yaml"
    absolute.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    recogniser = speech2text()
    with quietly():
        model = recogniser(
            str(absolute), str(files.weights), device=device, maxlenratio=-float(tokens), **SEARCHES[search]
        )
    symbols = [f"<{debug_owsm.LANGUAGES[i % len(debug_owsm.LANGUAGES)]}>" for i in range(clips)]

    def recognise() -> list[list[int]]:
        with quietly():
            found = [
                model(sound, lang_sym=symbol)[0][2]
                for sound, symbol in zip(_sounds(clips, clip_s), symbols, strict=True)
            ]
        return [[token for token in each[3:] if token != model.s2t_model.eos] for each in found]

    return recognise


@app.command()
def bench(
    shapes: Annotated[str, typer.Option(help=f"Of {', '.join(SHAPES)}.")] = "v3.1-base",
    searches: Annotated[str, typer.Option(help=f"Of {', '.join(SEARCHES)}.")] = "greedy,beam,joint",
    clips: Annotated[int, typer.Option(help="In one batch.")] = 8,
    clip_s: Annotated[float, typer.Option(help="Seconds of each; all are padded to 30 s, as ESPnet does.")] = 8.0,
    tokens: Annotated[int, typer.Option(help="Written for each clip.")] = 24,
    runs: Annotated[int, typer.Option(help="Timed rounds; medians are reported.")] = 3,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all rows here.")] = None,
) -> None:
    """Batched decoding of OWSM against ESPnet's Speech2Text one by one."""
    import torch

    for given, known in ((shapes, SHAPES), (searches, SEARCHES)):
        if unknown := [name for name in given.split(",") if name not in known]:
            raise ModelError(f"{unknown[0]!r} is not measured", valid=", ".join(known))
    where = torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine()
    machine = f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{machine}; {clips} clips of {clip_s:g} s padded to 30 s, {tokens} tokens each, medians of {runs} runs\n")
    print("| shape | search | ours, s | of that encoder | ESPnet one by one, s | times faster | same tokens |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for shape in shapes.split(","):
        for search in searches.split(","):
            row = measure(shape, search, clips, clip_s, tokens, runs, device)
            rows.append(row)
            print(
                f"| {shape} | {search} | {row['ours']:.2f} | {row['encode']:.2f} | {row['espnet']:.2f} "
                f"| {row['speedup']:.1f} | {row['same_tokens']} of {clips} |",
                flush=True,
            )
    if json_path is not None:
        settings = {"machine": machine, "clips": clips, "clip_s": clip_s, "tokens": tokens, "runs": runs}
        json_path.write_text(json.dumps({"settings": settings, "rows": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    app()
