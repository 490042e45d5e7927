"""Section: how much of its rank does an adapter use?"""

from analysis.sections import Section, Tables


def _run(inputs):
    from analysis.spectrum import spectrum

    return spectrum(inputs.adapters, inputs.fresh_base(), cache=inputs.cache, seed=inputs.seed, progress=inputs.show)


def _draw(found, folder):
    from analysis.spectrum_figures import draw

    return draw(found, folder)


def says(tables: Tables) -> list[str]:
    rows = tables.get("adapters", [])
    if not rows:
        return []
    said = []
    for label, field, form in (
        ("effective rank", "effective_rank_share", "{:.0%} of the rank"),
        ("‖ΔW‖/‖W‖", "relative_norm", "{:.3f}"),
    ):
        known = [row for row in rows if row[field] is not None]
        if known:
            high, low = max(known, key=lambda r: r[field]), min(known, key=lambda r: r[field])
            said.append(
                f"The {label} is largest for {high['adapter']} ({form.format(high[field])}) and smallest for "
                f"{low['adapter']} ({form.format(low[field])})."
            )
    few = [row["components_for_90_percent"] for row in rows]
    said.append(f"90 % of an update's energy lies in {min(few):.1f} to {max(few):.1f} directions a site, on average.")
    if counted := [row for row in rows if row["intruders"] is not None]:
        total = sum(row["intruders"] for row in counted)
        said.append(
            f"{total} intruder dimensions in {len(counted)} adapters: directions among the strongest of W + ΔW that W "
            "does not have."
        )
    for row in tables.get("resources", []):
        if row["measure"] in ("effective_rank_share", "relative_norm"):
            said.append(
                f"Hours of training data against {row['measure'].replace('_', ' ')}: ρ = "
                f"{row['spearman_with_hours']:+.2f}, p = {row['p']:.2f}, over {row['adapters']} adapters."
            )
    return said


SECTION = Section(
    name="spectrum",
    title="Spectra of updates",
    question="How many directions does an adapter use, how strongly, and how strange are they to the base?",
    method=(
        "Singular values of ΔW by r × r algebra. Effective rank is the exponential of the entropy of the singular values "
        "(Roy and Vetterli 2007); ‖ΔW‖/‖W‖ is of Frobenius norms; an intruder dimension is a leading singular vector of "
        "W + ΔW that resembles none of W's (Shuttleworth et al. 2024)."
    ),
    run=_run,
    draw=_draw,
    says=says,
    captions={
        "spectrum_energy": "Share of the update's energy in its strongest directions, averaged over sites.",
        "spectrum_layers": "Strength and effective rank, layer by layer.",
        "spectrum_intruders": "Intruder dimensions for several thresholds of resemblance.",
        "spectrum_hours": "The same measures against hours of training data.",
    },
    shown=("adapters",),
)
