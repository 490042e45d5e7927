"""Section: what does each layer know?"""

from typing import Any

from analysis.sections import Section, Tables, named, percent


def _run(inputs):
    from analysis.probes import ProbeOptions, probe

    options = ProbeOptions(sentences=inputs.sentences, bootstrap=min(500, inputs.bootstrap), seed=inputs.seed)
    return probe(inputs.listener, inputs.clips, options, manifests=inputs.manifests, show=inputs.show)


def _draw(found, folder):
    from analysis.probes_figures import draw

    return draw(found, folder)


def says(tables: Tables) -> list[str]:
    said = []
    base = [r for r in tables.get("accuracy", []) if r["system"] == "base"]
    for task in dict.fromkeys(r["task"] for r in base):
        best: dict[str, dict[str, Any]] = {}
        for r in base:
            if r["task"] == task and (r["language"] not in best or r["accuracy"] > best[r["language"]]["accuracy"]):
                best[r["language"]] = r
        mean = sum(r["accuracy"] for r in best.values()) / len(best)
        control = sum(r["control"] for r in best.values()) / len(best)
        layers = named([f"{language} {r['layer']}" for language, r in best.items()])
        said.append(
            f"{task.capitalize()}: {percent(mean)} at the base's best layer, {percent(control)} on the control task, "
            f"{f'mean of {len(best)} languages' if len(best) > 1 else 'one language'} (best layers: {layers})."
        )
    changes = [r for r in tables.get("changes", []) if r["low"] is not None and r["layer"] > 0]
    if changes:
        up, down = [r for r in changes if r["low"] > 0], [r for r in changes if r["high"] < 0]
        said.append(
            f"Adapter against base, over {len(changes)} combinations of language, task and layer: {len(up)} rise and "
            f"{len(down)} fall beyond their interval (chance alone would give about {0.025 * len(changes):.0f} each)."
        )
        for group, word in ((up, "rise"), (down, "fall")):
            if group:
                most = max(group, key=lambda r: abs(r["change"]))
                said.append(
                    f"The largest {word}: {most['task']} in {most['language']} after layer {most['layer']}, from "
                    f"{percent(most['base'], 1)} to {percent(most['with_adapter'], 1)}."
                )
    return said


SECTION = Section(
    name="probes",
    title="Probes",
    question="What can be read off each encoder layer, and what does the adapter change in that?",
    method=(
        "The manifest's sentences are spoken by espeak-ng in voices no training clip has; its own events say when each "
        "phone and word begins. A linear probe (ridge classifier) is trained on the mean of a layer's frames over a phone "
        "or word and tested on other sentences. Selectivity is accuracy minus that on a control task with a random label "
        "per phone (Hewitt and Liang 2019). Manner, place and voicing are probed on consonants."
    ),
    run=_run,
    draw=_draw,
    says=says,
    captions={
        "probes_accuracy": "Accuracy by layer. Dotted: what the same probe reaches on random labels per phone.",
        "probes_selectivity": "Accuracy minus control: what the layer makes easy, beyond what the probe could memorise.",
        "probes_changes": "What the adapter changes, in points of accuracy.",
        "probes_overlap": "How much of the column language's running words, tokens, letters and phones the row language has too.",
    },
)
