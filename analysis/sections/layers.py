"""Section: which layers carry an adapter's gain?"""

from analysis.sections import Section, Tables, percent, signed

MEASURE = "cer"
MOST_SHARE = 3  # of a gain that is next to nothing everything is a multiple


def _run(inputs):
    from analysis.inputs import manifest_checksums, read_clips
    from analysis.layers import layer_importance

    clips = read_clips(inputs.manifests, subset=inputs.subset, limit=inputs.layer_clips)
    return layer_importance(
        inputs.fresh_base(), inputs.served, clips, scopes=inputs.scopes, cache=inputs.cache,
        bootstrap=inputs.bootstrap, seed=inputs.seed, batch_clips=inputs.batch_size,
        manifests=manifest_checksums(inputs.manifests), progress=inputs.show,
    )  # fmt: skip


def _draw(found, folder):
    from analysis.layers_figures import draw

    return draw(found, folder, measure=MEASURE)


def says(tables: Tables) -> list[str]:
    rows = tables.get("conditions", [])
    said = []
    for label in dict.fromkeys(r["adapter"] for r in rows):
        own = [
            r for r in rows if r["adapter"] == label and r["scope"] == "layer" and r[f"{MEASURE}_change"] is not None
        ]
        off, only = [r for r in own if r["how"] == "off"], [r for r in own if r["how"] == "only"]
        if not off or not only:
            continue
        most = max(off, key=lambda r: r[f"{MEASURE}_change"])
        alone = min(only, key=lambda r: r[f"{MEASURE}_change"])
        sure = [r for r in off if r[f"{MEASURE}_change_low"] is not None and r[f"{MEASURE}_change_low"] > 0]
        share = most[f"{MEASURE}_share"]
        change = alone[f"{MEASURE}_change"]
        said.append(
            f"{label}: the layer it can least do without is {most['group']} ("
            f"{signed(most[f'{MEASURE}_change'], 1)} character errors"
            f"{f', {percent(share)} of the gain' if share is not None and share <= MOST_SHARE else ''}); "
            + (
                f"alone, {alone['group']} does most ({signed(change, 1)}). "
                if change < 0
                else "no layer alone does better than the base. "
            )
            + f"{len(sure)} of {len(off)} layers are missed beyond their interval."
        )
    parts = [r for r in rows if r["scope"] == "part" and r["how"] == "only" and r[f"{MEASURE}_share"] is not None]
    for part in ("encoder", "decoder"):
        if shares := [r[f"{MEASURE}_share"] for r in parts if r["group"] == part]:
            said.append(
                f"The {part}'s part alone reaches {percent(sum(shares) / len(shares))} of the gain, mean of {len(shares)} "
                "adapters."
            )
    return said


SECTION = Section(
    name="layers",
    title="Layer importance",
    question="Which layers carry an adapter's gain?",
    method=(
        "One adapter a language, the one that the router serves. Each layer's part of it is switched off, and switched on "
        "alone, in the bank, and the clips of its language are transcribed again. Changes are differences of the character "
        "error rate on the same clips, with a paired bootstrap. Shares are of what the whole adapter gains over the base; "
        "they are not given where it gains nothing. Parts do not add up: layers work through each other."
    ),
    run=_run,
    draw=_draw,
    says=says,
    captions={
        "layers_part_bars": "Encoder and decoder: loss without, gain alone; 95 % intervals.",
        "layers_layer_bars": "Every layer: loss without, gain alone; 95 % intervals.",
        "layers_module_bars": "Every type of module: loss without, gain alone; 95 % intervals.",
        "layers_part_heat": "Share of the adapter's gain, encoder and decoder.",
        "layers_layer_heat": "Share of the adapter's gain, layer by layer.",
        "layers_module_heat": "Share of the adapter's gain, by type of module.",
        "layers_depth": "The same along relative depth, so that bases of other depth can be laid beside it.",
    },
)
