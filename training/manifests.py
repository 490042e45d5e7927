"""The clips that a recipe names."""

from collections.abc import Collection, Mapping, Sequence

from training.data.manifest import Record, read_manifest, require_languages, set_name
from training.recipe import DataOptions
from zoo.errors import DataError


def load_manifests(paths: Sequence[str], options: DataOptions) -> tuple[list[Record], list[str]]:
    """Records of all manifests in the recipe's languages and corpora, and each one's source (`set_name` of its manifest).

    Raises DataError where nothing is named, a manifest is faulty, or no clip, or none of a wanted language, is left.
    """
    if not paths:
        raise DataError("The recipe names no training manifest", remedy="give data.train=[MANIFEST.jsonl]")
    records: list[Record] = []
    sources: list[str] = []
    left_out, corpora = set(options.without_corpora), set[str]()
    for path in paths:
        found = read_manifest(path, subset=options.subset)
        if left_out:
            corpora |= {name for record in found for name in record.corpora}
            found = [record for record in found if not record.corpora & left_out]
        if options.languages:
            found = [record for record in found if record.lang in options.languages]
        records += found
        sources += [set_name(path)] * len(found)
    if left_out and not records:
        raise DataError(
            f"All clips of {', '.join(paths)} are of corpora that are left out: {', '.join(sorted(left_out))}",
            valid=f"some of {', '.join(sorted(corpora))}",
        )
    require_languages(records, options.languages, ", ".join(map(str, paths)))
    return records, sources


def ratios_left(ratios: Mapping[str, float], options: DataOptions, sources: Collection[str]) -> dict[str, float]:
    """The ratios without the manifests of which `without_corpora` leaves nothing; `sources` are those of the clips left."""
    if not options.without_corpora:
        return dict(ratios)
    emptied = {set_name(path) for path in options.train} - set(sources)
    return {name: ratio for name, ratio in ratios.items() if name not in emptied}
