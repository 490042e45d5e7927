"""`boli transcribe FILE|DIR ...`"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

AUDIO_SUFFIXES = {
    ".wav",
    ".flac",
    ".ogg",
    ".oga",
    ".opus",
    ".mp3",
    ".m4a",
    ".aac",
    ".webm",
    ".mp4",
    ".mkv",
    ".aiff",
    ".aif",
    ".amr",
    ".wma",
    ".caf",
}


@app.command()
def transcribe(
    inputs: Annotated[list[Path], typer.Argument(help="Audio files, or folders whose audio files are taken.")],
    model: Annotated[
        str, typer.Option(help="Base model: a card, a folder or a hub id (boli zoo list).")
    ] = "boli-embedded",
    store: Annotated[
        Path | None, typer.Option(help="Folder of adapters; the embedded one where none is named.")
    ] = None,
    classifier: Annotated[
        str | None, typer.Option(help="Folder of a classifier, or `whisper` for the model's own detection.")
    ] = None,
    policy: Annotated[str, typer.Option(help="hard, soft, threshold or hierarchical.")] = "hard",
    top_k: Annotated[int | None, typer.Option(help="soft: mix at most this many languages.")] = None,
    threshold: Annotated[
        float, typer.Option(help="threshold: one language where it is more probable than this.")
    ] = 0.8,
    languages: Annotated[str | None, typer.Option(help="Only these can be spoken: hi,pa,te")] = None,
    language: Annotated[str | None, typer.Option(help="This one is spoken; nothing is detected.")] = None,
    format: Annotated[
        str, typer.Option("--format", "-f", help="txt, srt, vtt, tsv, json or all (all needs --output-dir).")
    ] = "txt",
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Write a file per input here; else to standard output.")
    ] = None,
    beam_size: Annotated[int | None, typer.Option(help="1 is greedy; the model card's where none is given.")] = None,
    ctc_weight: Annotated[
        float | None,
        typer.Option(
            help="Share of CTC in the scores: 0 the decoder alone, 1 CTC alone; the card's where none is given."
        ),
    ] = None,
    timestamps: Annotated[
        str | None, typer.Option(help="none, segment or word. If not given: word for srt and vtt, else none.")
    ] = None,
    task: Annotated[str, typer.Option(help="transcribe, or translate into English.")] = "transcribe",
    ensemble: Annotated[str, typer.Option(help="Several adapters mix weights (one pass) or logits.")] = "weights",
    carry_context: Annotated[
        bool, typer.Option("--carry-context", help="Give each chunk of a long recording the text before it.")
    ] = False,
    cut_loops: Annotated[bool, typer.Option(help="Keep a repetition that only the limit of tokens ended once.")] = True,
    rescore: Annotated[
        bool, typer.Option(help="Where the classifier is not sure, let each candidate language write the clip.")
    ] = True,
    switching: Annotated[
        bool | None,
        typer.Option(
            "--switching/--no-switching", help="Cut where the language changes; by default where it clearly does."
        ),
    ] = None,
    strategy: Annotated[
        str, typer.Option(help="Where it changes: segments one by one, or frames (one pass, mixture by frame).")
    ] = "segments",
    switch_cost: Annotated[
        float | None, typer.Option(help="What a change must be worth, in nat-seconds; less finds more changes.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw sound, languages, segments and adapters in time, of one input: OUT.png")
    ] = None,
    vad: Annotated[str, typer.Option(help="What finds the pauses of long audio: silero or energy.")] = "silero",
    batch_size: Annotated[int, typer.Option(help="Most chunks in one pass.")] = 8,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    context: Annotated[str | None, typer.Option(help="30s or dynamic; the card's where none is named.")] = None,
    quantize: Annotated[
        str | None, typer.Option(help="Hold the base in int8 (CPU, faster), 8bit or nf4 (bitsandbytes).")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Only adapters of this variant.")] = None,
    rank: Annotated[int | None, typer.Option(help="Only adapters of this rank.")] = None,
    adapter_memory: Annotated[
        float | None, typer.Option(help="MiB that adapters may take at once; the least recently used leaves.")
    ] = None,
    progress: Annotated[
        bool | None, typer.Option("--progress/--no-progress", help="A bar; by default where output is a terminal.")
    ] = None,
) -> int:
    """Write down what is said in files or folders, each clip through the adapters of the language it is in.

    A file that fails gets a message and the others are still done; the exit code is then 1.
    """
    import router
    from router.writers import WRITERS
    from zoo.errors import RoutingError

    formats = list(WRITERS) if format == "all" else [format]
    if unknown := [name for name in formats if name not in WRITERS]:
        raise RoutingError(f"Format {unknown[0]!r} is unknown", valid=", ".join([*WRITERS, "all"]))
    if len(formats) > 1 and output_dir is None:
        raise RoutingError("--format all writes several files per input", remedy="name a folder: --output-dir DIR")
    for out in (sys.stdout, sys.stderr):  # a terminal that lacks a letter shows its number, and nothing breaks
        if hasattr(out, "reconfigure"):
            out.reconfigure(errors="backslashreplace")
    files, empty = found_files(inputs)
    for message in empty:
        print(f"boli: {message}", file=sys.stderr)
    if not files:
        return 1
    if plot is not None and len(files) > 1:
        raise RoutingError(
            f"--plot draws one recording, there are {len(files)}", remedy="name one file, or call once for each"
        )
    loaded = router.load(
        model,
        store,
        classifier,
        device=device,
        dtype=dtype,
        context=context,
        quantize=quantize,
        variant=variant,
        rank=rank,
        max_bytes=None if adapter_memory is None else int(adapter_memory * 2**20),
        policy=policy,
        top_k=top_k,
        threshold=threshold,
        languages=tuple(tag.strip() for tag in languages.split(",")) if languages else None,
        language=language,
        beam_size=beam_size,
        ctc_weight=ctc_weight,
        task=task,
        ensemble=ensemble,
        carry_context=carry_context,
        cut_loops=cut_loops,
        rescore=rescore,
        switching=switching,
        strategy=strategy,
        switch_cost=switch_cost,
        vad=vad,
        batch_size=batch_size,
    )
    if timestamps is None:
        aligns = hasattr(loaded.base, "align_words") and ensemble == "weights"
        timestamps = "word" if aligns and {"srt", "vtt"} & set(formats) else "none"
    bar = sys.stderr.isatty() and output_dir is not None if progress is None else progress
    asked: dict[str, Any] = {} if ctc_weight is None else {"ctc_weight": ctc_weight}
    transcripts = loaded.transcribe(files, on_error="return", timestamps=timestamps, progress=bar, **asked)
    if plot is not None:
        transcripts = drawn(files[0], transcripts, plot)
    try:
        if output_dir is not None:
            failed = _to_folder(files, transcripts, formats, output_dir)
        else:
            failed = _to_stdout(files, transcripts, format)
    except BrokenPipeError:  # the reader (`head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if failed:
        print(f"boli: {failed} of {len(files)} files failed", file=sys.stderr)
    return 1 if failed or empty else 0


def drawn(path: Path, transcripts: Iterable, target: Path) -> Iterator:
    """The transcript of `path` as it comes, once its time line is drawn."""
    from router import timeline
    from zoo import audio
    from zoo.errors import BoliError

    for transcript in transcripts:
        if not isinstance(transcript, BoliError):
            timeline.draw(audio.decode(path), transcript, target, title=path.name)
        yield transcript


def _to_folder(files: list[Path], transcripts: Iterable, formats: list[str], folder: Path) -> int:
    """One file per input and format; each appears whole or not at all. Returns how many inputs failed."""
    from router.writers import write
    from zoo.errors import BoliError, RoutingError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RoutingError(
            f"The folder {folder} cannot be made: {error.strerror}", remedy="name another: --output-dir"
        ) from None
    failed = 0
    for stem, transcript in zip(target_stems(files), transcripts, strict=True):
        if isinstance(transcript, BoliError):
            failed += 1
            print(f"boli: {transcript}", file=sys.stderr)
            continue
        for name in formats:
            target = folder / f"{stem}.{name}"
            temporary = folder / f".{stem}.{name}.{os.getpid()}"
            try:
                temporary.write_text(write(transcript, name), encoding="utf-8")
                os.replace(temporary, target)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                raise RoutingError(
                    f"{target} cannot be written: {error.strerror}", remedy="free space, or name another --output-dir"
                ) from None
    return failed


def _to_stdout(files: list[Path], transcripts: Iterable, format: str) -> int:
    """One file: as it is; several: a line each (txt) or an array in order (json). Returns how many failed."""
    import json

    from router.writers import write
    from zoo.errors import BoliError

    out = sys.stdout
    several = len(files) > 1
    plain = not (out.encoding or "utf-8").lower().replace("-", "").startswith("utf")
    failed = written = 0
    if several and format == "json":
        out.write("[")
    try:
        for path, transcript in zip(files, transcripts, strict=True):
            if isinstance(transcript, BoliError):
                failed += 1
                print(f"boli: {transcript}", file=sys.stderr)
                continue
            if format == "json":
                text = json.dumps(transcript.to_dict(), ensure_ascii=plain)
                out.write((",\n" if written else "") + text if several else text + "\n")
            elif several and format == "txt":
                heard = f"{transcript.language} {transcript.language_probability:.2f}"
                out.write(f"{path}\t[{heard}]\t{transcript.text}\n")
            else:
                out.write(write(transcript, format))
            written += 1
            out.flush()
    finally:  # also where Ctrl-C ended it: what was written can be read
        if several and format == "json":
            out.write("]\n")
    return failed


def found_files(inputs: list[Path]) -> tuple[list[Path], list[str]]:
    """Files as given; of folders, the audio files inside, sorted. And a message for each folder without any."""
    files: list[Path] = []
    empty: list[str] = []
    for path in inputs:
        if not path.is_dir():
            files.append(path)
        elif inside := sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file()):
            files += inside
        else:
            empty.append(f"There is no audio file in {path}. Valid: {', '.join(sorted(AUDIO_SUFFIXES))}.")
    return files, empty


def target_stems(files: list[Path]) -> list[str]:
    """A name for each file's output: its stem; where several share one, with the ending, then with the folder, then
    with a number."""
    ways: list[Callable[[Path], str]] = [
        lambda path: path.stem,
        lambda path: path.name,
        lambda path: f"{path.absolute().parent.name}-{path.name}",
    ]
    stems = [path.stem for path in files]
    for way in ways:
        counts = Counter(stem.casefold() for stem in stems)
        stems = [way(path) if counts[stem.casefold()] > 1 else stem for path, stem in zip(files, stems, strict=True)]
    taken: set[str] = set()
    for i, stem in enumerate(stems):
        number = 2
        while stems[i].casefold() in taken:
            stems[i] = f"{stem}-{number}"
            number += 1
        taken.add(stems[i].casefold())
    return stems
