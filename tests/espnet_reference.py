"""ESPnet's own Speech2Text on a folder of ours, and on what its own packing and unpacking makes of it."""

from pathlib import Path

import yaml

from zoo import owsm_files
from zoo.espnet_import import quietly, speech2text
from zoo.owsm_family import family


def recogniser(folder: Path, scratch: Path, **options):
    """ESPnet looks for the files a config names where it was started; so the config is copied with their full paths."""
    files = owsm_files.find(folder, "reference")
    made = yaml.safe_load(files.config.read_text(encoding="utf-8"))
    made["bpemodel"] = str(folder / made["bpemodel"])
    if "stats_file" in made["normalize_conf"]:
        made["normalize_conf"]["stats_file"] = str(folder / made["normalize_conf"]["stats_file"])
    config = scratch / f"{folder.name}.yaml"
    config.write_text(yaml.safe_dump(made, allow_unicode=True), encoding="utf-8")
    recogniser = speech2text()
    with quietly():
        return recogniser(str(config), str(files.weights), **options)


def loaded(folder: Path, context: str = "30s"):
    return family.load(folder, family.card(folder, folder.name), context=context)


def written(recogniser, utterance, language: str, timestamps: bool = False) -> tuple[list[int], float, str]:
    """Tokens after the prompt, without end; the score; the text without special tokens."""
    with quietly():
        found = recogniser(utterance.audio, lang_sym=language, task_sym="<asr>", predict_time=timestamps)
    if not found:
        return [], 0.0, ""
    _, _, tokens, text, hypothesis = found[0]
    tokens = [token for token in tokens[2 if timestamps else 3 :] if token != recogniser.s2t_model.eos]
    return tokens, float(hypothesis.score), text
