"""`boli follow FILE|-`"""

import json as jsons
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import numpy as np
import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

BLOCK_S = 0.1  # of standard input, heard as soon as it is there


@app.command()
def follow(
    recording: Annotated[
        Path, typer.Argument(help="An audio file; `-`: raw samples on standard input, as they are spoken.")
    ],
    rate: Annotated[int, typer.Option(help="Of standard input, in Hz: signed 16 bits, little-endian, mono.")] = 16_000,
    model: Annotated[
        str, typer.Option(help="Base model: a card, a folder or a hub id (boli zoo list).")
    ] = "boli-embedded",
    store: Annotated[Path | None, typer.Option(help="Folder of adapters, whose classifier is taken.")] = None,
    classifier: Annotated[Path | None, typer.Option(help="Folder of a classifier.")] = None,
    languages: Annotated[str | None, typer.Option(help="Only these can be spoken: hi,pa,te")] = None,
    json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "cpu",
    context: Annotated[str | None, typer.Option(help="30s or dynamic; the card's where none is named.")] = None,
) -> None:
    """Which language is being spoken, and each change of it as soon as it is decided, from nothing but what was heard before.

    A line for each: when it was decided (seconds), the language, and the one before. A microphone:
    arecord -q -t raw -f S16_LE -r 16000 | boli follow -
    """
    import router

    only = tuple(tag.strip() for tag in languages.split(",")) if languages else None
    loaded = router.load(model, store, classifier, device=device, context=context, languages=only)
    source = samples(sys.stdin.buffer, rate) if str(recording) == "-" else recording
    for change in loaded.follow(source, rate if str(recording) == "-" else None):
        if json:
            seconds = {"decided": round(change.decided_s, 3), "since": round(change.since_s, 3)}
            line = jsons.dumps({**seconds, "language": change.language, "before": change.before})
        else:
            before = f"\tbefore: {change.before}" if change.before else ""
            line = f"{change.decided_s:.2f}\t{change.language}{before}"
        print(line, flush=True)


def samples(stream: IO[bytes], rate: int) -> Iterator[np.ndarray]:
    """int16 blocks of a tenth of a second, or less where the stream gives less at a time; half a sample is kept for later."""
    read = getattr(stream, "read1", stream.read)
    rest = b""
    while data := read(2 * max(1, round(BLOCK_S * rate))):
        rest += data
        whole = len(rest) // 2 * 2
        yield np.frombuffer(rest[:whole], dtype="<i2")
        rest = rest[whole:]
