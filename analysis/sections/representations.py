"""Section: what changes inside the base?"""

from analysis.sections import Section, Tables, named


def _run(inputs):
    from analysis.inputs import manifest_checksums
    from analysis.representations import representations

    return representations(
        inputs.fresh_base(), inputs.adapters.stored, inputs.clips, cache=inputs.cache, seed=inputs.seed,
        batch_clips=inputs.batch_size, manifests=manifest_checksums(inputs.manifests), progress=inputs.show,
    )  # fmt: skip


def _draw(found, folder):
    from analysis.representations_figures import draw

    return draw(found, folder)


def says(tables: Tables) -> list[str]:
    said = []
    rows = [row for row in tables.get("with_base", []) if row["cka"] is not None]
    whole = [row for row in rows if row["speech"] == "all"]
    if whole:
        least = min(whole, key=lambda row: row["cka"])
        said.append(
            f"Over all clips, the layer that is moved furthest from the base is {least['layer']} of {least['adapter']} "
            f"(CKA {least['cka']:.3f})."
        )
        means = {}
        for part in ("encoder", "decoder"):
            values = [row["cka"] for row in whole if row["layer"].startswith(part)]
            if values:
                means[part] = sum(values) / len(values)
        if len(means) == 2:
            more = min(means, key=lambda part: means[part])
            said.append(
                f"The {more} is moved more: CKA with the base is {means['encoder']:.3f} in the encoder and "
                f"{means['decoder']:.3f} in the decoder, mean of adapters and layers."
            )
    own = [row["cka"] for row in rows if row["own_language"]]
    others = [row["cka"] for row in rows if row["speech"] != "all" and not row["own_language"]]
    if own and others:
        said.append(
            f"On clips of its own language an adapter keeps CKA {sum(own) / len(own):.3f} with the base, on those of other "
            f"languages {sum(others) / len(others):.3f}."
        )
    pairs = [row for row in tables.get("pairs", []) if row["adapter"] != "base" and row["cka"] is not None]
    if pairs:
        top = [row for row in pairs if row["layer"] == pairs[-1]["layer"]]
        most, least = max(top, key=lambda row: row["cka"]), min(top, key=lambda row: row["cka"])
        said.append(
            f"At the last layer {named([most['adapter'], most['other']])} are most alike (CKA {most['cka']:.3f}), "
            f"{named([least['adapter'], least['other']])} least ({least['cka']:.3f})."
        )
    return said


SECTION = Section(
    name="representations",
    title="Representations",
    question="How far does an adapter move each layer, and do adapters move it alike?",
    method=(
        "Linear, debiased CKA (Kornblith et al. 2019, with the unbiased HSIC of Song et al. 2012) of hidden states at the "
        "same frames of the same audio; in the decoder, at the same tokens of the reference text. 1 is equal up to rotation "
        "and scale. Frames of one clip resemble each other, so small differences say little. The tap is what the language "
        "classifier reads; each point is the mean of one clip's frames."
    ),
    run=_run,
    draw=_draw,
    says=says,
    captions={
        "representations_with_base": "CKA of each adapter's hidden states with those of the base alone, layer by layer.",
        "representations_pairs": "CKA of every two systems at layers spread over the base.",
        "representations_tap": "Clips by their mean features at the tap of the base alone; only nearness has a meaning.",
    },
)
