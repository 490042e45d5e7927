"""The clips that a recipe names."""

from collections.abc import Sequence

from training.data.manifest import Record, read_manifest, require_languages, set_name
from training.recipe import DataOptions
from zoo.errors import DataError


def load_manifests(paths: Sequence[str], options: DataOptions) -> tuple[list[Record], list[str]]:
    """Records of all manifests in the recipe's languages, and each one's source (`set_name` of its manifest).

    Raises DataError where nothing is named, a manifest is faulty, or a wanted language has no clip.
    """
    if not paths:
        raise DataError("The recipe names no training manifest", remedy="give data.train=[MANIFEST.jsonl]")
    records: list[Record] = []
    sources: list[str] = []
    for path in paths:
        found = read_manifest(path, subset=options.subset)
        if options.languages:
            found = [record for record in found if record.lang in options.languages]
        records += found
        sources += [set_name(path)] * len(found)
    require_languages(records, options.languages, ", ".join(map(str, paths)))
    return records, sources
