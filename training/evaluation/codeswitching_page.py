"""docs/codeswitching.md: what `boli evaluate codeswitch` found, as a page for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.data.files import written_whole
from training.evaluation.codeswitching import CodeSwitchReport
from training.evaluation.codeswitching_report import Rows, notes, sections

if TYPE_CHECKING:
    from router.router import Router

ABOUT = """# {title}

Where the language changes, audio is cut, and each segment is written through its own language's adapter. How it works
and how to use it: [transcribing.md](transcribing.md). This page is remade by one command; nothing in it is written by
hand:

```
{command}
```

{clips} clips, {minutes:.1f} minutes: {switched} in several languages with {switches} switches, {controls} in one language
as controls (another speaker, or one voice spliced). Model `{model}`, classifier head `{head}` on tap {tap}; adapters for
{adapters}.

- A switch counts as *found* where it lies within the tolerance of the reference (anywhere in a pause is right) and is into
  the language that is really spoken next.
- *Causally* every decision rests on the sound before it alone: each {hop:g} s the last {window:g} s are heard anew. The
  delay runs from the new language's start to the decision, so look-ahead ({look:g} s) and hop are in it.
- *Told where the language changes*: nothing but the sound from the switch on, cut off after so many seconds, goes through
  the classifier, and through the head that follows. It need not notice a change and can give no false alarm, so a causal
  decision that is as quick can hardly find more: where its share is below an aim, these heads do not reach it.
- *One by one*: the same clips cut at the reference's switches, each piece alone, routed; *told*: each in its language.
  *by-itself*: switching where the router finds it worth while, as it is when nobody says anything.
  *unswitched*: the whole clip in the one language that is heard in it as a whole.
- *PIER*: wrong words among those outside the clip's main language. *Dropped at seams*: words next to a switch that were
  not written. *Doubled*: written on both sides of a seam, of all seams.
"""


def write_page(
    path: Path,
    report: CodeSwitchReport,
    router: "Router",
    manifests: Mapping[str, str],
    drawn: Sequence[tuple[str, Path]],
    drawn_from: str = "",
    served: str = "",
) -> Path:
    """drawn: (title, picture), the delays first, then one for each of the worst clips; they are linked relative to the
    page. drawn_from: options that gave the clips, where they were made of a corpus. served: those that name another model than
    the embedded one, and its adapters."""
    from training.evaluation.switches import spoken_switches

    config = getattr(router.classifier, "config", None)
    inputs = [drawn_from] if drawn_from else [f"--manifest {name}" for name in manifests]
    command = " ".join(["boli evaluate codeswitch", *([served] if served else []), *inputs, f"--page docs/{path.name}"])
    following = getattr(router.classifier, "following", None)
    chosen = _manifests(config.switching.get("chosen_on", {})) if config else ""
    followed = _manifests(following.config.chosen_on) if following is not None else ""
    lines = [
        ABOUT.format(
            title=f"Code-switching with {router.base.card.name}" if served else "Code-switching",
            command=command,
            clips=len(report.clips),
            minutes=60 * report.clips.hours,
            switched=len(report.switched),
            switches=sum(len(spoken_switches(report.clips.records[i])) for i in report.switched),
            controls=len(report.controls),
            model=router.base.card.name,
            head=config.head if config else type(router.classifier).__name__,
            tap=router.base.tap,
            adapters=", ".join(router.languages) or "none",
            hop=router.causal.hop_s,
            window=router.causal.window_s,
            look=router.causal.look_ahead_s,
        ),
        f"Parameters: offline {_values(vars(router.smoothing))}; causal {_values(vars(router.causal))}. "
        + (
            f"Chosen on {chosen}{f', the causal ones on {followed}' if followed not in ('', chosen) else ''}."
            if chosen
            else "They are the defaults; `boli train switching` chooses them for a classifier."
        ),
        "",
    ]
    for title, (columns, rows) in sections(report, len(drawn) - 1):
        if not rows:
            continue
        lines += [f"## {title}", "", *markdown(columns, rows), ""]
        if title.startswith("Causally") and drawn:
            lines += [_image(path, *drawn[0]), ""]
        if title.startswith("Words"):
            lines += [*notes(report), ""]
    lines += [f"{title}\n\n{_image(path, title, picture)}\n" for title, picture in drawn[1:]]
    with written_whole(path) as temporary:
        temporary.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return path


def markdown(columns: Sequence[str], rows: Rows) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(columns), "|" + "---|" * len(columns), *(line(row) for row in rows)]


def _manifests(chosen_on: dict[str, Any]) -> str:
    return ", ".join(chosen_on.get("manifests", ()))


def _values(values: dict[str, float | None]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items() if value is not None)


def _image(page: Path, title: str, picture: Path) -> str:
    import os

    target = Path(os.path.relpath(picture, page.parent)).as_posix()
    return f"![{title}]({target})"
