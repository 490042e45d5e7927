"""Section: which mistakes?"""

from analysis.sections import Section, Tables, named, percent


def _run(inputs):
    from analysis.errors import errors

    return errors(
        inputs.listener, inputs.clips, vocabulary=inputs.vocabulary, manifests=[*inputs.manifests, *inputs.train],
        show=inputs.show,
    )  # fmt: skip


def _draw(found, folder):
    from analysis.errors_figures import draw

    return draw(found, folder)


def says(tables: Tables) -> list[str]:
    said = []
    rows = tables.get("classes", [])
    for language in dict.fromkeys(r["language"] for r in rows):
        base = {
            r["class"]: r["per_100_words"] or 0.0 for r in rows if (r["language"], r["system"]) == (language, "base")
        }
        own = {
            r["class"]: r["per_100_words"] or 0.0 for r in rows if (r["language"], r["system"]) == (language, "adapter")
        }
        most = max(own, key=lambda name: own[name])
        changed = sorted(own, key=lambda name: own[name] - base.get(name, 0.0))
        less, more = changed[0], changed[-1]
        said.append(
            f"{language}: {sum(base.values()):.0f} errors per 100 words without, {sum(own.values()):.0f} with its adapter; "
            f"most are of class “{most}” ({own[most]:.0f}). The adapter takes away most “{less}” "
            f"({base.get(less, 0.0):.0f} → {own[less]:.0f})"
            + (
                f" and adds “{more}” ({base.get(more, 0.0):.0f} → {own[more]:.0f})."
                if own[more] > base.get(more, 0.0)
                else "."
            )
        )
    loops = [r for r in tables.get("loops", []) if r["system"] == "adapter"]
    before = [r for r in tables.get("loops", []) if r["system"] == "base"]
    said.append(f"Clips that end in a loop: {len(before)} without adapters, {len(loops)} with them.")
    for r in tables.get("vocabulary", []):
        if r["system"] == "adapter" and not r["known"] and r["words"]:
            known = next(
                k
                for k in tables["vocabulary"]
                if k["known"] and (k["language"], k["system"]) == (r["language"], "adapter")
            )
            said.append(
                f"{r['language']}: {r['words']} of {r['words'] + known['words']} words were not in the training texts; "
                f"{percent(r['error_rate'])} of these are wrong, of the others {percent(known['error_rate'])}."
            )
    phones = [r for r in tables.get("phones", []) if r["system"] == "adapter" and "∅" not in (r["said"], r["written"])]
    for language in dict.fromkeys(r["language"] for r in phones):
        top = [f"{r['said']}→{r['written']} ({r['count']})" for r in phones if r["language"] == language][:4]
        said.append(f"{language}: the most frequent confusions of phones are {named(top)}.")
    return said


SECTION = Section(
    name="errors",
    title="Errors",
    question="Which mistakes are left, and which has the adapter cured?",
    method=(
        "Words are aligned after the Indic normaliser, and each error falls into one class: word boundary, other script, "
        "homophone (espeak-ng pronounces both alike), near in sound (at most a third of the phones differ), other word, "
        "dropped run (three or more deletions in a row), deletion, loop, insertion. Phones are read from the words, so a "
        "wrong spelling that sounds right is no phonetic error."
    ),
    run=_run,
    draw=_draw,
    says=says,
    captions={
        "errors_classes": "Errors per 100 reference words, by class, without and with the adapter.",
        "errors_features": "Of aligned phones, how many differ in being a vowel, and of consonants in manner, place, voicing.",
        "errors_phones": "The most frequent confusions of phones with the adapter on; “none” is a phone that is missing or added.",
        "errors_vocabulary": "Error rate on words that were in the training texts and on words that were not.",
    },
    shown=("words",),
)
