"""Section: what do adapters change inside?"""

from analysis.sections import Section, Tables


def _run(inputs):
    from analysis.inputs import manifest_checksums, read_clips
    from analysis.representations import representations

    clips = read_clips(inputs.manifests, subset=inputs.subset, limit=inputs.layer_clips)
    return representations(
        inputs.fresh_base(), inputs.served_and_twins, clips, cache=inputs.cache, seed=inputs.seed,
        batch_clips=inputs.batch_size, manifests=manifest_checksums(inputs.manifests), progress=inputs.show,
    )  # fmt: skip


def _draw(found, folder):
    from analysis.representations_figures import draw

    return draw(found, folder)


def says(tables: Tables) -> list[str]:
    rows = [r for r in tables.get("with_base", []) if r["speech"] == "all" and r["cka"] is not None]
    said = []
    for label in dict.fromkeys(r["adapter"] for r in rows):
        own = [r for r in rows if r["adapter"] == label]
        least = min(own, key=lambda r: r["cka"])
        mean = sum(r["cka"] for r in own) / len(own)
        said.append(
            f"{label}: CKA with the base is {mean:.3f} on average over {len(own)} layers and lowest at {least['layer']} "
            f"({least['cka']:.3f})."
        )
    pairs = [r for r in tables.get("pairs", []) if r["cka"] is not None and not r["two_seeds"]]
    if pairs:
        layers = list(dict.fromkeys(r["layer"] for r in pairs))
        means = {
            layer: sum(r["cka"] for r in pairs if r["layer"] == layer) / sum(r["layer"] == layer for r in pairs)
            for layer in layers
        }
        low = min(means, key=lambda layer: means[layer])
        said.append(f"Between adapters it is lowest at {low} ({means[low]:.3f} on average): there they differ most.")
    twins = [r["cka"] for r in tables.get("pairs", []) if r["cka"] is not None and r["two_seeds"]]
    if twins:
        said.append(f"Two seeds of one language reach {sum(twins) / len(twins):.3f} on average: the ceiling.")
    return said


SECTION = Section(
    name="representations",
    title="Representations",
    question="Where do adapters change what the base makes of the same audio?",
    method=(
        "One adapter a language, the one that the router serves, and its second seed where there is one. Hidden states of "
        "every layer on the same clips, with each adapter and without, compared by linear centred kernel alignment "
        "(Kornblith et al. 2019), debiased. 1 is the same up to rotation and scale. The tap's features, from which the "
        "language is heard, are laid out in the plane."
    ),
    run=_run,
    draw=_draw,
    says=says,
    captions={
        "representations_with_base": "CKA with the base alone, layer by layer: lower is changed more.",
        "representations_pairs": "CKA between adapters, layer by layer.",
        "representations_tap": "The tap's features of each clip in the plane; only nearness has a meaning.",
    },
)
