"""Sets that change language, from a corpus of `python -m training.data.embedded`: its recordings of people concatenated,
and its synthetic ones."""

from dataclasses import replace
from pathlib import Path

from training.data.codeswitch import CodeSwitchOptions, make
from training.data.manifest import Record, read_manifest, write_manifest
from zoo.errors import DataError

# whole sentences, whose words are known; pieces cut in pauses, of which only the times are; and the controls
WHOLE = CodeSwitchOptions(kinds=("inter",), transcribed=True)
CUT = CodeSwitchOptions(kinds=("intra", "rapid", "speaker-change", "splice"))


def sets_of(corpus: Path, split: str, out: Path, clips: int, seed: int) -> list[Path]:
    """Concatenate the recordings of `human_LANGUAGE_SPLIT.jsonl` into `out`. Returns the manifests made and the corpus's
    own `switch_SPLIT.jsonl`, where it has one.

    split: `test` or `dev`; clips: of each kind. Raises DataError where fewer than two languages have recordings.
    """
    records = human(corpus, split)
    languages = sorted({record.lang for record in records})
    found = []
    for name, options in ((f"human_whole_{split}", WHOLE), (f"human_cut_{split}", CUT)):
        made = make(records, languages, out / name, replace(options, clips=clips, seed=seed))
        assert made.manifest is not None
        found.append(_named(made.manifest, name))
    synthetic = corpus / f"switch_{split}.jsonl"
    return [*found, *([synthetic] if synthetic.is_file() else [])]


def human(corpus: Path, split: str) -> list[Record]:
    """Recorded clips of a split, in the languages that have adapters (those with a test set of their own)."""
    records: list[Record] = []
    for path in sorted(corpus.glob(f"human_*_{split}.jsonl")):
        language = path.name.split("_")[1]
        if (corpus / f"{language}_test.jsonl").is_file():
            records += [replace(r, id=f"{path.stem}:{r.id}", subset=split) for r in read_manifest(path)]
    if len({record.lang for record in records}) < 2:
        raise DataError(
            f"{corpus} has recordings of fewer than two languages for {split}",
            valid=f"human_hi_{split}.jsonl, human_en_{split}.jsonl, ... as `python -m training.data.embedded` writes them",
        )
    return records


def _named(manifest: Path, name: str) -> Path:
    """The manifest with the set's name before its clips' ids, so that sets can be scored together."""
    return write_manifest(manifest, [replace(r, id=f"{name}/{r.id}") for r in read_manifest(manifest)])
