"""Section: are the adapters alike?"""

from analysis.sections import Section, Tables, named


def _run(inputs):
    from analysis.similarity import similarity

    return similarity(inputs.comparable, cache=inputs.cache, seed=inputs.seed, progress=inputs.show)


def _draw(found, folder):
    from analysis.similarity_figures import draw

    return draw(found, folder)


def says(tables: Tables) -> list[str]:
    pairs = tables.get("pairs", [])
    if not pairs:
        return []
    said = []
    others = [row for row in pairs if row["language"] != row["other_language"]]
    if others:
        values = sorted(others, key=lambda row: -row["cosine"])
        most, least = values[0], values[-1]
        mean = sum(row["cosine"] for row in others) / len(others)
        said.append(
            f"Between adapters of two languages the cosine of the updates is {mean:.3f} on average over {len(others)} "
            f"pairs: largest {most['cosine']:.3f} ({most['adapter']} and {most['other']}), smallest "
            f"{least['cosine']:.3f} ({least['adapter']} and {least['other']})."
        )
    twins = [row for row in pairs if row["two_seeds"]]
    if twins:
        ceiling = sum(row["cosine"] for row in twins) / len(twins)
        said.append(f"Two seeds of one language reach {ceiling:.3f} on average ({len(twins)} pairs): the ceiling.")
    for side in ("output", "input"):
        above = [row for row in others if row[f"{side}_p"] < 0.05]
        names = [f"{row['adapter']}-{row['other']}" for row in above]
        tail = f": {named(names)}" if 0 < len(names) <= 6 else ""
        said.append(
            f"{side.capitalize()} subspaces overlap more than random ones (p < 0.05) in {len(above)} of {len(others)} "
            f"pairs of languages{tail}."
        )
    same = [row for row in others if row["same_seed"]]
    if same:
        said.append(
            f"{len(same)} of these pairs were trained with one seed and so began with the same A: their input subspaces "
            "overlap for that reason too."
        )
    return said


SECTION = Section(
    name="similarity",
    title="Similarity of updates",
    question="Which adapters change the base in the same way?",
    method=(
        "An adapter adds ΔW = (α/r) B A to each site's weight (α/√r for rsLoRA). Cosines of ΔW over all sites come from "
        "r × r products (the trace trick); the overlap of subspaces is the mean squared cosine of the principal angles, "
        "shown between its expectation for random subspaces of the same size (0) and containment (1). A and B themselves are never compared: they "
        "are defined only up to an invertible matrix between them."
    ),
    run=_run,
    draw=_draw,
    says=says,
    captions={
        "similarity_heat_maps": "Every pair of adapters: cosine of ΔW, and overlap of output and input subspaces.",
        "similarity_tree": "Average linkage of 1 − cosine: adapters that join at the left are most alike.",
        "similarity_layers": "The same cosine layer by layer.",
        "similarity_plane": "The same distances laid out in the plane; axes have no meaning, only nearness has.",
    },
    shown=("languages",),
)
