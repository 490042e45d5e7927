"""Family `espnet`: packs of ESPnet's other tasks (asr, tts, enh, ...). They are pulled, verified and pinned like any
model, for ESPnet itself to use; boli loads speech-to-text models only (family `owsm`).
"""

from pathlib import Path
from typing import Any

from zoo import owsm_files, pickles
from zoo.card import Card
from zoo.errors import ModelError


class EspnetFamily:
    """How the registry meets this family."""

    name = "espnet"
    verifies_pickles = True  # `card` refuses what holds more than tensors

    def matches(self, folder: Path) -> bool:
        return bool(_named(folder)) and not owsm_files.recognises(folder)

    def card(self, folder: Path, name: str) -> Card:
        """Raises ModelError where a file that meta.yaml names is missing, or a pickle holds more than tensors."""
        for file in _named(folder).values():
            owsm_files.inside(folder, file, name)
        for path in pickles.pickled(folder):
            pickles.check_tensors(path, name)
        return Card(name, self.name, source=f"file:{folder}", notes="For ESPnet itself; boli does not load this task.")

    def load(self, folder: Path, card: Card, **options: Any) -> Any:
        """Raises ModelError: it says where the files lie and what reads them."""
        files = ", ".join(f"{key}={file}" for key, file in _named(folder).items())
        raise ModelError(
            f"{card.name} is no speech-to-text model: boli keeps it for ESPnet and does not load it",
            valid="boli zoo list --source espnet --task s2t",
            remedy=f"cd {folder}  (there espnet2.bin.*_inference reads {files})",
        )


def _named(folder: Path) -> dict[str, str]:
    """What meta.yaml names: key -> file; empty where there is no meta.yaml of espnet2's pack."""
    import yaml

    meta = folder / owsm_files.META
    try:
        content = yaml.safe_load(meta.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    if not isinstance(content, dict):
        return {}
    parts = [content.get(key) for key in ("yaml_files", "files")]
    if not all(isinstance(part, dict) for part in parts):
        return {}
    return {str(key): str(file) for part in parts if part for key, file in part.items()}


family = EspnetFamily()
