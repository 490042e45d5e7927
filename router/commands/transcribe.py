"""`boli transcribe FILE|DIR ...`"""

import sys
from pathlib import Path
from typing import Annotated

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
    beam_size: Annotated[int, typer.Option(help="1 is greedy.")] = 1,
    timestamps: Annotated[str, typer.Option(help="none, segment or word.")] = "none",
    batch_size: Annotated[int, typer.Option(help="Most chunks in one pass.")] = 8,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    context: Annotated[str | None, typer.Option(help="30s or dynamic; the card's where none is named.")] = None,
    variant: Annotated[str | None, typer.Option(help="Only adapters of this variant.")] = None,
    rank: Annotated[int | None, typer.Option(help="Only adapters of this rank.")] = None,
) -> int:
    """Write down what is said in files or folders, each clip through the adapters of the language it is in.

    A file that fails gets a message and the others are still done; the exit code is then 1.
    """
    import router
    from router.writers import WRITERS, write
    from zoo.errors import BoliError, RoutingError

    formats = list(WRITERS) if format == "all" else [format]
    if unknown := [name for name in formats if name not in WRITERS]:
        raise RoutingError(f"Format {unknown[0]!r} is unknown", valid=", ".join([*WRITERS, "all"]))
    if len(formats) > 1 and output_dir is None:
        raise RoutingError("--format all writes several files per input", remedy="name a folder: --output-dir DIR")
    files = found_files(inputs)
    loaded = router.load(
        model,
        store,
        classifier,
        device=device,
        dtype=dtype,
        context=context,
        variant=variant,
        rank=rank,
        policy=policy,
        top_k=top_k,
        threshold=threshold,
        languages=tuple(languages.split(",")) if languages else None,
        language=language,
        beam_size=beam_size,
        timestamps=timestamps,
        batch_size=batch_size,
    )
    if output_dir is not None:
        output_dir.mkdir(parents=True, exist_ok=True)
    as_array = format == "json" and output_dir is None and len(files) > 1
    failed = written = 0
    for path, transcript in zip(files, loaded.transcribe(files, on_error="return"), strict=True):
        if isinstance(transcript, BoliError):
            failed += 1
            print(f"boli: {transcript}", file=sys.stderr)
            continue
        for name in formats:
            text = write(transcript, name)
            if output_dir is not None:
                target = output_dir / f"{path.stem}.{name}"
                target.write_text(text, encoding="utf-8")
            elif as_array:
                sys.stdout.write(("[" if written == 0 else ",") + text.rstrip("\n"))
            elif len(files) > 1 and name == "txt":
                sys.stdout.write(
                    f"{path}\t[{transcript.language} {transcript.language_probability:.2f}]\t{transcript.text}\n"
                )
            else:
                sys.stdout.write(text)
        written += 1
    if as_array:
        sys.stdout.write("]\n" if written else "[]\n")
    if failed:
        print(f"boli: {failed} of {len(files)} files failed", file=sys.stderr)
    return 1 if failed else 0


def found_files(inputs: list[Path]) -> list[Path]:
    """Files as given; of folders, the audio files inside, sorted. Raises AudioError for a folder without any."""
    from zoo.errors import AudioError

    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
            if not inside:
                raise AudioError(f"There is no audio file in {path}", valid=", ".join(sorted(AUDIO_SUFFIXES)))
            files += inside
        else:
            files.append(path)
    return files
