"""Section: does one language's adapter help another?"""

from analysis.sections import Section, Tables, named, percent, signed

METRIC, NORMALISER = "cer", "indic"


def _run(inputs):
    from analysis.transfer import transfer

    return transfer(
        inputs.listener, inputs.clips, manifests=inputs.manifests, bootstrap=inputs.bootstrap, seed=inputs.seed,
        show=inputs.show,
    )  # fmt: skip


def _draw(found, folder):
    from analysis.transfer_figures import draw

    return draw(found, folder)


def cells(tables: Tables):
    """Cells under the metric and normaliser that the text speaks of."""
    return [r for r in tables.get("zero_shot", []) if (r["metric"], r["normaliser"]) == (METRIC, NORMALISER)]


def says(tables: Tables) -> list[str]:
    rows = cells(tables)
    own = [r for r in rows if r["source"] == r["target"] and r["gain"] is not None]
    said = []
    for r in own:
        base = next(b for b in rows if b["source"] == "base" and b["target"] == r["target"])
        said.append(
            f"{r['target']}: its own adapter brings the character error rate from {percent(base['value'], 1)} to "
            f"{percent(r['value'], 1)}, a gain of {signed(r['gain'], 1)} (95 % interval {signed(r['gain_low'], 1)} to "
            f"{signed(r['gain_high'], 1)}, {r['clips']} clips)."
        )
    other = [r for r in rows if r["source"] not in ("base", r["target"]) and r["gain"] is not None]
    if other:
        helps = [r for r in other if r["gain_low"] > 0]
        hurts = [r for r in other if r["gain_high"] < 0]
        said.append(
            f"Of {len(other)} pairs of an adapter and another language, {len(helps)} help and {len(hurts)} hurt with an "
            f"interval that leaves out zero (chance alone would give about {0.025 * len(other):.1f} each)"
            + (f"; helped: {named([_pair(r) for r in helps])}" if 0 < len(helps) <= 6 else "")
            + (f"; hurt: {named([_pair(r) for r in hurts])}" if 0 < len(hurts) <= 6 else "")
            + "."
        )
    english = [r for r in rows if r["target"] == "en" and r["source"] not in ("base", "en") and r["gain"] is not None]
    if english:
        worst = min(english, key=lambda r: r["gain"])
        said.append(
            f"In English, {sum(r['gain_high'] < 0 for r in english)} of {len(english)} adapters cost accuracy beyond their "
            f"interval; the most: {worst['source']} ({signed(worst['gain'], 1)})."
        )
    for r in tables.get("correlations", []):
        if r["correlation"] is None:
            said.append(f"{r['what'].capitalize()} against {r['against']} was not tested: {r['reason']}.")
        else:
            said.append(
                f"{r['what'].capitalize()} against {r['against']}: ρ = {r['correlation']:+.2f}, p = {r['p']:.3f} "
                f"(smallest possible {r['least_p']:.3f}, {r['pairs']} pairs of {r['languages']} languages)."
            )
    gains = [r for r in tables.get("few_shot_gains", []) if (r["metric"], r["normaliser"]) == (METRIC, NORMALISER)]
    if gains:
        better = [r for r in gains if r["low"] > 0]
        said.append(
            f"From another language's adapter against from scratch, on the same data: better in {sum(r['gain'] > 0 for r in gains)} of "
            f"{len(gains)} trainings, {len(better)} of them beyond the interval."
        )
    return said


def _pair(row) -> str:
    return f"{row['source']}→{row['target']} ({signed(row['gain'])})"


SECTION = Section(
    name="transfer",
    title="Transfer",
    question="Does one language's adapter help another, what does it cost in English, and what goes with it?",
    method=(
        "Every adapter transcribes every language, under that language's token. Gain is the relative reduction of the "
        "number of errors against the base alone on the same clips, with a paired bootstrap over clips. Gains between "
        "languages are correlated (Spearman) with the similarity of the updates and with two distances between languages "
        "(family tree after Glottolog; phone frequencies of the Universal Declaration of Human Rights); p by Mantel's "
        "permutation test, which renames languages. Text is normalised by the Indic normaliser."
    ),
    run=_run,
    draw=_draw,
    says=says,
    captions={
        "transfer_zero_shot": "Character error rates, and the gain against the base alone. The diagonal is each adapter's own language.",
        "transfer_english": "English with each adapter on, 95 % intervals.",
        "transfer_against": "Gain of each pair against distances and similarity, with Spearman's ρ and the permutation test's p.",
        "transfer_few_shot": "Error rate against the share of training data, by what the training began with.",
    },
    shown=("few_shot_gains", "data_efficiency"),
)
