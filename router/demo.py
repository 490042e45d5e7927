"""`make demo`: the clips of the repository through the whole way.

Each line: the file, the language heard (and how sure), the adapters mixed in, what was written, what was really said,
word errors, and the seconds it took.
"""

import json
import sys
import time
from pathlib import Path

CLIPS = Path(__file__).parent / "clips"


def main() -> int:
    import jiwer
    from rich.console import Console
    from rich.table import Table

    import router

    manifest = [json.loads(line) for line in (CLIPS / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    console = Console(width=None if sys.stdout.isatty() else 150)
    started = time.perf_counter()
    loaded = router.load()
    console.print(
        f"{loaded.base.card.name}: {sum(p.numel() for p in loaded.base.module.parameters()) / 1e6:.1f} M parameters, "
        f"{len(loaded.adapters)} adapters ({', '.join(loaded.languages)}), loaded in {time.perf_counter() - started:.1f} s. "
        "It is a small and weak model: the way is real, many words are wrong (docs/embedded.md)."
    )
    loaded.transcribe(CLIPS / manifest[0]["path"])  # the first pass pays for warming up, not the first clip
    table = Table(show_lines=True)
    for column in ("clip", "language (p)", "adapters", "written / really said", "word errors", "s"):
        table.add_column(column)
    errors = words = 0
    for clip in manifest:
        start = time.perf_counter()
        transcript = loaded.transcribe(CLIPS / clip["path"])
        seconds = time.perf_counter() - start
        count = jiwer.process_words(clip["text"], transcript.text or "-")
        wrong = count.substitutions + count.insertions + count.deletions
        total = len(clip["text"].split())
        errors, words = errors + wrong, words + total
        languages = list(dict.fromkeys(segment.language for segment in transcript.segments)) or [transcript.language]
        heard = ", ".join(f"{language} {transcript.probabilities.get(language, 0):.2f}" for language in languages)
        mixed: dict[str, float] = {}
        for segment in transcript.segments:
            for name, weight in segment.weights.items():
                mixed[name] = max(weight, mixed.get(name, 0.0))
        table.add_row(
            f"{clip['path']}\n{clip['kind']}",
            f"{heard}\n(said: {clip['lang']})",
            "\n".join(f"{name.split('@')[0]} x{weight:.2f}" for name, weight in mixed.items()) or "the base alone",
            f"{transcript.text or '(nothing)'}\n{clip['text']}",
            f"{wrong} of {total}",
            f"{seconds:.2f}",
        )
    console.print(table)
    console.print(
        f"{errors} word errors in {words} words of {len(manifest)} clips. Sources and licences: router/clips/LICENCES.md"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
