"""Puts a trained base where the repository carries it, and writes its card:

    python -m zoo.embed RUN/model --tap 4 --notes "..."

The files are copied into `zoo/models/boli-embedded`; the card takes their checksums, sizes and the model's shape, and the
tap that is named, else the whole encoder. Adapters and the classifier of the base before no longer fit: they name its weights.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from zoo.checksum import sha256
from zoo.errors import BoliError, ModelError
from zoo.registry import family_of

NAME = "boli-embedded"
ROOT = Path(__file__).resolve().parent
CARDS = ROOT / "cards" / "boli.json"


def embed(
    folder: Path, notes: str, tap: int | None = None, models: Path = ROOT / "models", cards: Path = CARDS
) -> dict:
    """Returns the new card. Raises ModelError for a folder that holds no model of a known family."""
    from safetensors import safe_open

    weights, family = folder / "model.safetensors", family_of(folder)
    if family is None or not weights.is_file():
        raise ModelError(
            f"{folder} holds no model with model.safetensors", valid="the folder `model` of a run of boli train base"
        )
    shape = family.card(folder, NAME)
    known = json.loads(cards.read_text(encoding="utf-8"))
    card = next(each for each in known if each["name"] == NAME)
    with safe_open(weights, "pt") as tensors:
        card["parameters"] = sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118
    target = models / NAME
    for path in target.iterdir():
        path.unlink()
    for path in sorted(folder.iterdir()):
        shutil.copyfile(path, target / path.name)
    files = sorted(target.iterdir())
    card |= {
        "frame_rate": shape.frame_rate,
        "n_layers": shape.n_layers,
        "tap": shape.n_layers if tap is None else tap,
        "longest_s": shape.longest_s,
        "files": {path.name: sha256(path) for path in files},
        "notes": notes or card["notes"],
        "size_bytes": sum(path.stat().st_size for path in files),
    }
    rows = ",\n".join(json.dumps(each, ensure_ascii=False, indent=1) for each in known)
    cards.write_text(f"[\n{rows}\n]\n", encoding="utf-8")
    return card


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m zoo.embed", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="the folder `model` of a run of boli train base")
    parser.add_argument("--notes", default="", help="what the card says of it")
    parser.add_argument("--tap", type=int, help="encoder layers below the tap (docs/embedded.md measures it)")
    options = parser.parse_args(argv)
    try:
        card = embed(options.folder, options.notes, options.tap)
    except (BoliError, OSError) as error:
        print(f"boli: {error}", file=sys.stderr)
        return 1
    print(
        f"{NAME}: {card['parameters']:,} parameters, {card['size_bytes']:,} bytes, {card['frame_rate']:g} frames a second"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
