"""Section: what does it cost?"""

from analysis.sections import Section, Tables, percent


def _run(inputs):
    from analysis.efficiency import efficiency

    return efficiency(
        inputs.listener, inputs.clips, latency_clips=inputs.latency_clips, manifests=inputs.manifests,
        bootstrap=inputs.bootstrap, seed=inputs.seed, show=inputs.show,
    )  # fmt: skip


def _draw(found, folder):
    from analysis.efficiency_figures import draw

    return draw(found, folder)


def says(tables: Tables) -> list[str]:
    said = []
    size = tables["base"][0]
    said.append(
        f"The base has {size['parameters'] / 1e6:.1f} million parameters ({size['bytes'] / 2**20:.0f} MiB in memory)."
    )
    costs = tables.get("costs", [])
    for language in dict.fromkeys(c["language"] for c in costs):
        own = [c for c in costs if c["language"] == language and c["system"] == "adapter" and c["wer"] is not None]
        base = next((c for c in costs if c["language"] == language and c["system"] == "base"), None)
        if not own or base is None:
            continue
        best = min(own, key=lambda c: c["wer"])
        said.append(
            f"{language}: WER {percent(base['wer'], 1)} → {percent(best['wer'], 1)} for {best['trained_parameters']:,} trained "
            f"parameters ({percent(best['share_of_base'], 1)} of the base), best of {len(own)}."
        )
    timed = [c for c in costs if c["latency_p50_s"] is not None]
    for system in ("base", "adapter"):
        values = sorted(c["latency_p50_s"] for c in timed if c["system"] == system)
        if values:
            middle = values[len(values) // 2]
            said.append(
                f"A clip that comes alone takes {1000 * middle:.0f} ms {'with an adapter' if system == 'adapter' else 'without'} (median)."
            )
    return said


SECTION = Section(
    name="efficiency",
    title="Efficiency",
    question="What does an error rate cost in parameters, memory and time?",
    method=(
        "Every rank and variant of the store on the clips of its language. Latency is that of clips that come one at a "
        "time, told their language, after one that warms up, on the machine named under provenance."
    ),
    run=_run,
    draw=_draw,
    says=says,
    captions={
        "efficiency_against": "Word error rate against trained parameters, model size and latency; open markers are the base alone.",
    },
    shown=("costs",),
)
