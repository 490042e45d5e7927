"""Tries to corrupt a store, and measures a large one.

    python -m adapters.reliability --kills 200 --publishers 80 --scale 10000
    python -m adapters.reliability --pulls 200 --docs docs/reliability.md      # the zoo's kills too, written down

Kills: processes that publish are killed (`SIGKILL`) at random moments, and after each kill every adapter that a reader
can see is read in full. Publishers: eighty processes publish at once, each of their jobs twice as if requeued, while a
reader polls. Scale: look-up, opening and reindexing of a store of ten thousand adapters.
"""

import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from adapters import staging
from adapters.index import INDEX, RECORD
from adapters.key import AdapterKey
from adapters.peft_files import CONFIG, WEIGHTS
from adapters.record import Record
from adapters.store import Store, StoredAdapter, content_version
from zoo.errors import BoliError

LANGUAGES = ("hi", "pa", "te", "it", "ta", "bn", "mr", "gu")
BASE = "someone/whisper-odd"
Rows = dict[str, str | int | float]


def make_adapter(folder: Path, seed: int, sites: int = 12, width: int = 64, rank: int = 4) -> Path:
    """A LoRA folder of random weights, about 25 kB."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    folder.mkdir(parents=True)
    tensors = {}
    for i in range(sites):
        name = f"base_model.model.model.encoder.layers.{i}.self_attn.q_proj.lora_"
        tensors[f"{name}A.weight"] = torch.randn(rank, width, generator=generator)
        tensors[f"{name}B.weight"] = torch.randn(width, rank, generator=generator)
    save_file(tensors, folder / WEIGHTS)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["q_proj"]}
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


def kills(count: int, seed: int, folder: Path) -> Rows:
    """Kill `count` processes while they publish. Every number under `corrupt` and below must be 0."""
    chance = random.Random(seed)
    made = {i: make_adapter(folder / f"made-{i}", i) for i in range(8)}
    right = {(made[i] / WEIGHTS).read_bytes(): i for i in made}
    store = Store(folder / "store", create=True)
    started = time.monotonic()
    store.publish(_key(0), made[0])
    usual_s = time.monotonic() - started
    started, under_way, corrupt, doubled, swept, lost = time.monotonic(), 0, 0, 0, 0, 0
    started_processes = 0

    def publish(i: int) -> None:
        Store(store.folder).publish(_key(i), made[i])

    left = {"nothing new": 0, "a staged folder": 0, "a published adapter": 0}
    while under_way < count:
        chosen = [chance.randrange(len(made)) for _ in range(chance.choice([1, 1, 2, 3]))]
        for i in chosen:
            if chance.random() < 0.6:
                for stored in store.find(language=_key(i).language):
                    store.remove(stored)
        before = {stored.folder for stored in store.all()}
        waiting = _stopped_publisher(store, made[7]) if chance.random() < 0.1 else 0
        running = [_fork(partial(publish, i)) for i in chosen]
        time.sleep(chance.uniform(0, 1.2 * usual_s * len(running)))
        for process in running:
            under_way += _kill(process)
            started_processes += 1
        after = {stored.folder for stored in store.all()}
        folders = [path for path in (store.folder / staging.STAGING).iterdir()]
        left["a published adapter" if after - before else "a staged folder" if folders else "nothing new"] += 1
        for stored in store.all():
            try:
                store.weights(stored)
                corrupt += (stored.folder / WEIGHTS).read_bytes() not in right
            except BoliError:
                corrupt += 1
        corrupt += len(store.problems())
        doubled += len(after) - len({path.parent for path in after})
        if waiting:  # a live publisher, stopped in the middle: cleaning must leave its folder alone
            store.reindex()
            os.kill(waiting, signal.SIGCONT)
            swept += os.waitpid(waiting, 0)[1] != 0
        if chance.random() < 0.3:
            store.reindex()
            lost += len(list((store.folder / staging.STAGING).iterdir()))
    return {
        "processes started": started_processes,
        "killed under way": under_way,
        **{f"rounds that left {what}": number for what, number in left.items()},
        "corrupt adapters seen": corrupt,
        "adapters in two versions": doubled,
        "leftovers that reindex did not clear": lost,
        "live publishers disturbed by reindex": swept,
        "seconds": round(time.monotonic() - started, 1),
    }


def _stopped_publisher(store: Store, made: Path) -> int:
    """A process that stops itself (SIGSTOP) when its staging folder is filled, before the rename. Returns its id."""

    def publish() -> None:
        rename = os.rename

        def stop_first(*names: str | os.PathLike) -> None:
            os.rename = rename
            os.kill(os.getpid(), signal.SIGSTOP)
            rename(*names)

        os.rename = stop_first  # type: ignore[assignment]
        Store(store.folder).publish(AdapterKey(BASE, "kn", 4), made)

    process = _fork(publish)
    os.waitpid(process, os.WUNTRACED)
    return process


def publishers(count: int, folder: Path) -> Rows:
    """`count` processes publish at once: each job twice, and one adapter that all of them publish. A reader polls."""
    jobs = max(1, count // 2)
    made = [make_adapter(folder / f"job-{job}", 100 + job) for job in range(jobs + 1)]
    keys = [AdapterKey(BASE, LANGUAGES[job % len(LANGUAGES)], 4, f"job{job}") for job in range(jobs + 1)]
    store = Store(folder / "store", create=True)
    reading, go = os.pipe()
    answers, answer = os.pipe()

    def publish(job: int) -> None:
        os.close(go)
        os.read(reading, 1)  # all start when the parent closes its end
        mine = Store(store.folder)
        mine.publish(keys[job], made[job])
        mine.publish(keys[jobs], made[jobs])
        assert mine.get(keys[job]).folder.is_dir()

    def poll() -> None:
        os.close(go)
        mine, looked, broken = Store(store.folder), 0, 0
        seen: set[Path] = set()
        end = None
        while end is None or time.monotonic() < end:
            if end is None and (folder / "stop").exists():
                end = time.monotonic() + 0.2
            now = {stored.folder for stored in mine.all()}
            broken += len(seen - now) + len(mine.problems())  # nothing is removed here: what was seen stays
            for stored in mine.all():
                if stored.folder not in seen:
                    try:
                        mine.weights(stored)
                    except BoliError:
                        broken += 1
            seen |= now
            looked += 1
        os.write(answer, json.dumps([looked, broken, len(seen)]).encode())

    reader = _fork(poll)
    running = [_fork(partial(publish, i % jobs)) for i in range(count)]
    started = time.monotonic()
    os.close(go)
    failed = sum(os.waitpid(process, 0)[1] != 0 for process in running)
    seconds = time.monotonic() - started
    (folder / "stop").touch()
    os.waitpid(reader, 0)
    looked, broken, seen = json.loads(os.read(answers, 1000))
    for end in (reading, answers, answer):
        os.close(end)
    found = [stored.key for stored in Store(store.folder).all()]
    return {
        "processes at once": count,
        "adapters published by several of them": jobs + 1,
        "processes that failed": failed,
        "adapters lost": len(set(keys) - set(found)),
        "adapters doubled": len(found) - len(set(found)),
        "adapters the reader saw half-made or vanish": broken,
        "adapters the reader had seen at the end": seen,
        "times the reader looked": looked,
        "staging folders left": len(list((store.folder / staging.STAGING).iterdir())),
        "seconds": round(seconds, 1),
    }


def scale(count: int, folder: Path) -> Rows:
    """Times of a store of `count` adapters, each with a record as long as whisper-small's (72 sites)."""
    made = make_adapter(folder / "made", 0)
    store = Store(folder / "store", create=True)
    config = json.loads((made / CONFIG).read_text())
    norms = {f"model.decoder.layers.{i // 6}.encoder_attn.site_{i}": 0.1234567890123 for i in range(72)}
    keys = []
    for i in range(count):
        key = AdapterKey(f"openai/whisper-{i % 4}", LANGUAGES[i % 8], (8, 16, 32, 64)[i // 8 % 4], f"seed{i // 32}")
        version = content_version(f"{i:064x}", config)
        record = Record(key.base, key.language, key.rank, key.variant, version, update_norms=norms, created=f"{i:06}")
        target = store.folder / key.path / version
        target.mkdir(parents=True)
        for name in (CONFIG, WEIGHTS):
            os.link(made / name, target / name)
        (target / RECORD).write_text(record.to_json())
        keys.append(key)
    chance = random.Random(0)
    some = chance.sample(keys, min(1000, count))
    rows: Rows = {"adapters": count}
    rows["reindex, s"] = _seconds(store.reindex)
    time.sleep(2.1)  # until the index counts as settled
    walked = Store(store.folder)
    rows["open and find, folders walked once more, s"] = _seconds(lambda: walked.find(base=keys[0].base, language="hi"))
    opened = Store(store.folder)
    rows["open and find, by the index, s"] = _seconds(lambda: opened.find(base=keys[0].base, language="hi", rank=8))
    rows["look-up by key, median of 1,000, ms"] = 1000 * _each(some, opened.get)
    rows["look-up by key, slowest of 1,000, ms"] = 1000 * _each(some, opened.get, max)
    rows["find by model, language and rank, median, ms"] = 1000 * _each(
        some, lambda key: opened.find(base=key.base, language=key.language, rank=key.rank, variant=key.variant)
    )
    rows["publish one more, s"] = _seconds(lambda: store.publish(AdapterKey(BASE, "hi", 4), made))
    rows["seen by the open store, s"] = _seconds(lambda: opened.find(base=BASE))
    assert len(opened.find(base=BASE)) == 1
    rows["size of index.json, MB"] = (store.folder / INDEX).stat().st_size / 1e6
    return rows


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _each(keys: list[AdapterKey], call: Callable[[AdapterKey], StoredAdapter | list], summary=median) -> float:
    call(keys[0])
    return summary([_seconds(partial(call, key)) for key in keys])


def _key(i: int) -> AdapterKey:
    return AdapterKey(BASE, LANGUAGES[i % len(LANGUAGES)], 4)


def _fork(work: Callable[[], object]) -> int:
    process = os.fork()
    if process == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return process


def _kill(process: int) -> bool:
    """True when it was still running."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        pass
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


_BAD = ("corrupt", "two versions", "did not clear", "disturbed", "failed", "lost", "doubled", "half-made", "errors")


def _text(rows: Rows) -> str:
    def shown(value) -> str:
        return f"{value:,.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)

    return "\n".join(f"{label:<52}{shown(value):>10}" for label, value in rows.items())


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def main(
    kill: Annotated[int, typer.Option("--kills", help="How many publishing processes to kill.")] = 0,
    publisher: Annotated[int, typer.Option("--publishers", help="How many processes publish at once.")] = 0,
    scales: Annotated[int, typer.Option("--scale", help="How many adapters the large store has.")] = 0,
    pulls: Annotated[int, typer.Option(help="How many pulls of base models to kill (python -m zoo.reliability).")] = 0,
    seed: Annotated[int, typer.Option(help="Of the random moments.")] = 0,
    docs: Annotated[Path | None, typer.Option(help="Write what was found into this file of Markdown.")] = None,
    answer: Annotated[Path | None, typer.Option("--json", help="Write what was found into this file, too.")] = None,
) -> None:
    """Kill and crowd publishers, and count what is wrong with the store afterwards. It must be nothing."""
    import torch

    torch.set_num_threads(1)  # a fork of a process whose torch has used threads waits forever
    warnings.simplefilter("ignore")  # what a store warns of is counted as a problem
    if not (kill or publisher or scales or pulls):
        kill, publisher, scales = 200, 80, 10_000
    with tempfile.TemporaryDirectory() as home:
        parts: dict[str, Rows] = {}
        if kill:
            parts[f"python -m adapters.reliability --kills {kill} --seed {seed}"] = kills(
                kill, seed, Path(home, "kills")
            )
        if publisher:
            parts[f"python -m adapters.reliability --publishers {publisher}"] = publishers(
                publisher, Path(home, "many")
            )
        if scales:
            parts[f"python -m adapters.reliability --scale {scales}"] = scale(scales, Path(home, "scale"))
        if pulls:
            from zoo import reliability

            report = reliability.run(pulls, seed, Path(home, "zoo"))
            parts[f"python -m zoo.reliability --kills {pulls} --seed {seed}"] = report.rows()
    for command, rows in parts.items():
        print(f"$ {command}\n{_text(rows)}\n")
    if docs is not None:
        write(docs, parts)
    if answer is not None:
        answer.write_text(json.dumps(parts, indent=1))
    wrong = [
        label for rows in parts.values() for label, value in rows.items() if value and any(b in label for b in _BAD)
    ]
    if wrong:
        print(f"wrong: {', '.join(wrong)}", file=sys.stderr)
        raise typer.Exit(1)


def write(docs: Path, parts: dict[str, Rows]) -> None:
    """docs: replaced. Each part under its own command line."""
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    lines = [
        "# What kills and crowds do to a store and to the zoo's cache",
        "",
        "Written by `python -m adapters.reliability --kills 200 --publishers 80 --scale 10000 --pulls 200 --docs "
        "docs/reliability.md`",
        f"({machine}). Counts of damage must be 0, and the command fails where one is not.",
        "",
        "- **Kills**: processes are killed at random moments while they publish. After each, every adapter that a",
        "  reader can see is read in full and compared with what was published; a live publisher, stopped in the",
        "  middle, must survive `reindex`.",
        "- **Publishers**: each job runs twice, as if requeued, and all publish one adapter more in common, while a",
        "  reader polls and reads in full whatever is new.",
        "- **Scale**: a store of adapters with records as long as whisper-small's.",
        "- **Pulls**: processes that pull base models (of a hub, an archive, ESPnet's model zoo) are killed; the cache is",
        "  compared with the server byte by byte.",
        "",
    ]
    for command, rows in parts.items():
        lines += ["```", f"$ {command}", _text(rows), "```", ""]
    docs.parent.mkdir(parents=True, exist_ok=True)
    docs.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    app()
