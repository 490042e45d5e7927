"""Writes transcripts as txt, srt, vtt, tsv and json, as openai/whisper's users parse them.

Where a recording holds several languages, subtitles say which: WebVTT by its own markup, `<lang hi>`, SRT, which has
none, by `[hi]` in front.
"""

import json
from collections.abc import Callable

from router.transcript import Segment, Transcript
from zoo.errors import RoutingError


def timestamp(seconds: float, *, hours: bool, mark: str) -> str:
    """`[HH:]MM:SS<mark>mmm`; hours are written where asked for or needed."""
    milliseconds = round(max(0.0, seconds) * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    whole_hours, minutes = divmod(minutes, 60)
    whole_seconds, milliseconds = divmod(milliseconds, 1000)
    start = f"{whole_hours:02d}:" if hours or whole_hours else ""
    return f"{start}{minutes:02d}:{whole_seconds:02d}{mark}{milliseconds:03d}"


def txt(transcript: Transcript) -> str:
    return "".join(f"{segment.text.strip()}\n" for segment in transcript.segments)


def srt(transcript: Transcript) -> str:
    def line(seconds: float) -> str:
        return timestamp(seconds, hours=True, mark=",")

    several = len(transcript.languages) > 1
    return "".join(
        f"{i}\n{line(s.start)} --> {line(s.end)}\n{f'[{s.language}] ' if several else ''}{_cue(s.text)}\n\n"
        for i, s in enumerate(_spoken(transcript), start=1)
    )


def vtt(transcript: Transcript) -> str:
    def line(seconds: float) -> str:
        return timestamp(seconds, hours=False, mark=".")

    def cue(segment: Segment) -> str:
        text = _cue(segment.text)
        return f"<lang {segment.language}>{text}</lang>" if several else text

    several = len(transcript.languages) > 1
    return "WEBVTT\n\n" + "".join(f"{line(s.start)} --> {line(s.end)}\n{cue(s)}\n\n" for s in _spoken(transcript))


def tsv(transcript: Transcript) -> str:
    """Times in whole milliseconds; tabs in the text become spaces."""
    lines = (
        f"{round(1000 * s.start)}\t{round(1000 * s.end)}\t{s.text.strip().replace(chr(9), ' ')}\n"
        for s in transcript.segments
    )
    return "start\tend\ttext\n" + "".join(lines)


def json_text(transcript: Transcript) -> str:
    return json.dumps(transcript.to_dict(), ensure_ascii=False) + "\n"


def _spoken(transcript: Transcript) -> list[Segment]:
    """Segments with text: an empty cue shows nothing."""
    return [segment for segment in transcript.segments if segment.text.strip()]


def _cue(text: str) -> str:
    """An arrow inside a cue would end it."""
    return text.strip().replace("-->", "->")


WRITERS: dict[str, Callable[[Transcript], str]] = {"txt": txt, "srt": srt, "vtt": vtt, "tsv": tsv, "json": json_text}


def write(transcript: Transcript, format: str) -> str:
    """The transcript as text in one of `WRITERS`."""
    if format not in WRITERS:
        raise RoutingError(f"Format {format!r} is unknown", valid=", ".join(WRITERS))
    return WRITERS[format](transcript)
