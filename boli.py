"""The console script `boli`: joins the rooms' commands. It imports a room only when its command is called."""

import importlib
import sys

# command -> (module that holds the typer app, what it does)
COMMANDS = {
    "transcribe": ("router.commands.transcribe", "write down what is said in files or folders"),
    "follow": ("router.commands.follow", "say while a recording runs which language is being spoken"),
    "zoo": ("zoo.commands", "base models: list, show, pull, verify, rm, du, gc"),
    "adapters": ("adapters.commands", "the store of adapters: list, show, add, export, rm, verify, reindex, best"),
    "train": ("training.commands.train", "train adapters, classifiers and base models from recipes"),
    "data": ("training.commands.data", "describe, convert and make corpora"),
    "evaluate": ("training.commands.evaluate", "score adapters, routing and code-switching; check the criteria"),
    "analyze": ("analysis.commands", "what adapters learned: similarity, spectra, layers, transfer, the report"),
    "slurm": ("slurm.commands", "plan, submit, watch and collect cluster jobs"),
    "bench": ("", "measure: bank, steps, router, training, analysis"),
}
BENCHES = {
    "bank": "adapters.bench",
    "steps": "adapters.bench_steps",
    "router": "router.bench",
    "training": "training.bench",
    "analysis": "analysis.speed",
}


def _usage() -> str:
    lines = [
        "usage: boli COMMAND ...",
        "",
        "Speech recognition in many languages from one frozen model and many LoRA adapters.",
        "",
        "commands:",
    ]
    lines += [f"  {name:<11} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join([*lines, "", "boli COMMAND --help shows what each takes."])


def main(argv: list[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    name, rest = argv[0], argv[1:]
    if name not in COMMANDS:
        print(f"boli: no command {name!r}. Valid: {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    module = COMMANDS[name][0]
    program = f"boli {name}"
    if name == "bench":
        if not rest or rest[0] not in BENCHES:
            print(f"usage: boli bench {{{','.join(BENCHES)}}} [options]", file=sys.stderr)
            return 0 if rest and rest[0] in ("-h", "--help") else 2
        module, program, rest = BENCHES[rest[0]], f"boli bench {rest[0]}", rest[1:]
    return run(module, rest, program)


def run(module: str, argv: list[str], program: str) -> int:
    """Run the typer app of `module`. boli's own errors become one line and exit code 1, without a traceback."""
    app = importlib.import_module(module).app
    from zoo.errors import BoliError

    try:
        result = app(args=argv, prog_name=program, standalone_mode=False)
        if result == 130:  # how typer passes Ctrl-C on
            print("boli: stopped", file=sys.stderr)
        return result if isinstance(result, int) else 0
    except BoliError as error:
        print(f"boli: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("boli: stopped", file=sys.stderr)
        return 130
    except (
        Exception
    ) as error:  # typer may carry its own copy of click, so its exceptions are known by their methods only
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            return error.exit_code
        if type(error).__name__ == "Abort":
            return 130
        raise


if __name__ == "__main__":
    sys.exit(main())
