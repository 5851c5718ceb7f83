"""No file can hurt: thousands of damaged and hostile files, each read by the command that reads such files.

`fuzz(cases, seed)` runs them and sums up; `python -m tests.faults.fuzz CASES SEED [NUMBER]` prints that as JSON, or with a
number runs that case alone and shows it. A case is its seed and its number: one folder out of `TARGETS`, copied; one of its
files damaged (mutations.py); where hashes stand before the parser they are mostly written anew, so that it is reached; then
`glassgpt.cli.main.main` in a forked child of this process, which has torch loaded already. The child may use `ROOM` bytes
and `SECONDS`, and reports by an audit hook whatever would be a program from the file at work.

A case is fine where the exit code is 0, 1 or 2, and 1 and 2 come with one last line that begins with `glassgpt: `; where no
traceback is shown; where neither time, memory nor disk ran away; and where nothing was run, and nothing written or read
outside its folder.
"""

import contextlib
import hashlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .mutations import OUTSIDE, mutate

HOME = Path(__file__).resolve().parent.parent.parent
GOLDEN = HOME / "tests" / "golden" / "format-1"
ROOM = 3 << 30  # address space that a case may add to what the process has
GROWTH = 400 << 20  # bytes of memory that it may really add: every file is a few KB
DISK = 50 << 20
SECONDS = 20
SECRET = "secret.txt"  # beside the folders of the cases: a file that no name in a file may lead to

TRAIN = ["--max-steps", "1", "--warmup-steps", "0", "--batch-size", "2", "--micro-batch-size", "2", "--device", "cpu"]
TRAIN += ["--precision", "float32", "--compile", "off", "--threads", "1", "--eval-every", "1", "--sample-every", "1"]
SHAPE = ["--architecture", "gpt2", "--n-layer", "1", "--n-head", "2", "--n-embd", "8", "--context-length", "16"]
WRITE = ["--max-new-tokens", "4", "--device", "cpu"]
SAMPLE = [["sample", "RUN", "--prompt", "the", *WRITE]]
EXPORT = [["export", "RUN", "--out", "out"]]
RESUME = [["resume", "RUN"]]
VERIFY = [["verify", "RUN"]]


class Target(NamedTuple):
    """A folder of the world, and which commands read it."""

    folder: str
    commands: list[list[str]]
    beside: tuple[str, ...] = ()  # what else of the world the commands need


TARGETS = [
    Target("gpt2", SAMPLE + EXPORT + RESUME * 2 + VERIFY, ("song.txt",)),
    Target("modern", SAMPLE + EXPORT + RESUME * 2 + VERIFY, ("song.txt",)),
    Target(
        "lora",
        [*SAMPLE, *RESUME, *VERIFY, ["merge", "RUN", "--out", "out"], [*EXPORT[0], "--to", "peft"], *EXPORT],
        ("song.txt", "gpt2"),
    ),
    Target("chat", [*SAMPLE, *EXPORT, *RESUME, ["chat", "RUN", "--prompt", "how?", *WRITE]], ("talk.jsonl",)),
    Target(
        "labels", [*EXPORT, *RESUME, ["classify", "RUN"], ["classify", "RUN", "--text", "a dream"]], ("moods.csv",)
    ),
    Target("settings", [["train", "song.txt", "--config", "RUN/config.toml", "--out", "out", "--max-steps", "1"]],
        ("song.txt",),
    ),
    *(
        Target(f"prepared-{kind}", [["train", "RUN", "--out", "out", *TRAIN, *SHAPE]])
        for kind in ("text", "chat", "labels")
    ),
    *(
        Target(f"tokenizer-{kind}", [["prepare", "song.txt", "--tokenizer", "RUN", "--out", "out"]], ("song.txt",))
        for kind in ("char", "byte", "bpe", "published")
    ),
    *(
        Target(folder, [["import", "RUN", "--out", "out"], ["train", "song.txt", "--from", "RUN", "--out", "out", *TRAIN]],
               ("song.txt",))
        for folder in ("hf-gpt2", "hf-pair", "hf-shards", "hf-qwen3", "hf-chat")
    ),
    *(
        Target(f"pt-{school}", [["import", f"RUN/{school}.pt", "--out", "out", *heads]])
        for school, heads in (("nanogpt", []), ("book", ["--n-head", "3"]), ("mingpt", ["--n-head", "3"]))
    ),
    Target("records", [["prepare", f"RUN/{name}", "--out", "out", "--tokenizer", "byte"] for name in
                       ("talk.jsonl", "moods.csv", "song.txt")]),
]  # fmt: skip
# Files that one command alone reads: any other would pass them by.
ONLY = {"optimizer.safetensors": "resume", "talk.jsonl": "talk.jsonl", "moods.csv": "moods.csv", "song.txt": "song.txt"}


def build_world(world: Path) -> None:
    """The folders of TARGETS, whole. No step is trained here: a process that has computed gradients cannot be forked."""
    import tokenizers
    import torch
    from safetensors.torch import load_file, save_file
    from tests.formats.references import SHAPE as SIZES
    from tests.formats.references import BookGPT, MinimalGPT, nanogpt_content

    from glassgpt.checkpoint import Run
    from glassgpt.data import prepare
    from glassgpt.formats import export_model
    from glassgpt.tokenizer import build_tokenizer, save_tokenizer

    shutil.copytree(GOLDEN, world, dirs_exist_ok=True)
    os.chdir(world)
    (world / "settings").mkdir()
    shutil.copy(Run(Path("gpt2")).config_file, world / "settings" / "config.toml")
    for kind, text in (("text", "song.txt"), ("chat", "talk.jsonl"), ("labels", "moods.csv")):
        prepare([text], Path(f"prepared-{kind}"), "char")
    song = Path("song.txt").read_text(encoding="utf-8")
    for kind in ("char", "byte", "bpe"):
        Path(f"tokenizer-{kind}").mkdir()
        made = build_tokenizer(kind, lambda: iter([song]), 270 if kind == "bpe" else None)
        save_tokenizer(made, Path(f"tokenizer-{kind}/tokenizer.json"))
    Path("tokenizer-published").mkdir()
    bpe = json.loads(Path("tokenizer-bpe/tokenizer.json").read_text(encoding="utf-8"))
    split = {"type": "Split", "pattern": {"Regex": "\\s*\\S+|\\s+"}, "behavior": "Isolated", "invert": False}
    bpe["pre_tokenizer"]["use_regex"] = False
    bpe |= {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bpe["pre_tokenizer"]]},
        "normalizer": {"type": "NFC"},
    }
    Path("tokenizer-published/tokenizer.json").write_text(json.dumps(bpe), encoding="utf-8")
    for out, run in (("hf-gpt2", "gpt2"), ("hf-qwen3", "modern"), ("hf-chat", "chat"), ("hf-shards", "gpt2")):
        export_model(Path(run), Path(out), to="huggingface")
        Path(out, "README.md").unlink()
    tensors = load_file("hf-shards/model.safetensors")
    places = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(tensors)}
    for shard in set(places.values()):
        save_file({name: tensors[name] for name in tensors if places[name] == shard}, Path("hf-shards") / shard)
    Path("hf-shards/model.safetensors").unlink()
    Path("hf-shards/model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    shutil.copytree("hf-gpt2", "hf-pair")
    Path("hf-pair/tokenizer.json").unlink()
    characters = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {c: i for i, c in enumerate([*sorted(characters), "th", "the"])}
    settings = json.loads(Path("hf-pair/config.json").read_text(encoding="utf-8")) | {"vocab_size": len(vocabulary)}
    Path("hf-pair/config.json").write_text(json.dumps(settings), encoding="utf-8")
    tensors = load_file("hf-pair/model.safetensors")
    save_file(tensors | {"transformer.wte.weight": torch.ones(len(vocabulary), 8)}, "hf-pair/model.safetensors")
    Path("hf-pair/vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    Path("hf-pair/merges.txt").write_text("#version: 0.2\nt h\nth e\n", encoding="utf-8")
    minimal = MinimalGPT(*SIZES).state_dict()
    for school in ("nanogpt", "book", "mingpt"):
        Path(f"pt-{school}").mkdir()
    torch.save(nanogpt_content(minimal), "pt-nanogpt/nanogpt.pt")
    torch.save(BookGPT(*SIZES).state_dict(), "pt-book/book.pt")
    masks = {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, SIZES[1], SIZES[1]) for i in range(SIZES[2])}
    torch.save(minimal | masks, "pt-mingpt/mingpt.pt")
    Path("records").mkdir()
    for name in ("song.txt", "talk.jsonl", "moods.csv"):
        shutil.copy(name, Path("records") / name)


class Case(NamedTuple):
    target: str
    file: str
    mutation: str
    arguments: list[str]


def make_case(world: Path, folder: Path, seed: int, number: int) -> Case:
    """Case `number` of `seed`, its files in `folder`."""
    draw = random.Random(f"{seed}:{number}")
    target = TARGETS[number % len(TARGETS)]
    folder.mkdir(parents=True)
    (folder.parent / SECRET).write_text("secret", encoding="utf-8")
    for name in (target.folder, *target.beside):
        (shutil.copytree if (world / name).is_dir() else shutil.copy)(world / name, folder / name)
    copy = folder / target.folder
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    file = draw.choice(files)
    commands = target.commands
    if word := ONLY.get(file.name):
        commands = [command for command in commands if any(word in argument for argument in command)] or commands
    if draw.random() < 0.03:
        mutation = replace_by_something(draw, file)
    elif file.name == "manifest.json" and draw.random() < 0.5:
        mutation = "names a file outside"
        content = json.loads(file.read_bytes())
        content[draw.choice(OUTSIDE)] = {"bytes": 6, "sha256": hashlib.sha256(b"secret").hexdigest()}
        file.write_text(json.dumps(content), encoding="utf-8")
    else:
        mutation, content = mutate(draw, file.name, file.read_bytes())
        file.write_bytes(content)
    if draw.random() < 0.92:
        seal(file)
    arguments = [word.replace("RUN", target.folder) for word in draw.choice(commands)]
    return Case(target.folder, str(file.relative_to(folder)), mutation, arguments)


def replace_by_something(draw: random.Random, file: Path) -> str:
    """No file at all where one is expected."""
    file.unlink()
    kinds = ["nothing", "folder", "loop"]
    if file.parent.name not in ("records", "settings"):  # a person who names a stream means what will come out of it
        kinds += ["pipe", "endless"]
    kind = draw.choice(kinds)
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "loop":
        file.symlink_to(file.name)
    elif kind == "endless":
        file.symlink_to("/dev/zero")
    return f"replaced by {kind}"


def seal(file: Path) -> None:
    """The hash of a damaged file, where its folder keeps them, as if it had been written so."""
    if not file.is_file() or file.stat().st_size > 10**8:
        return
    size, sha256 = file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest()
    for name in ("manifest.json", "meta.json"):
        index = file.with_name(name)
        if file == index or not index.is_file():
            continue
        content = json.loads(index.read_bytes())
        sums = content["files"] if name == "meta.json" else content
        if file.name in sums:
            sums[file.name] = {"bytes": size, "sha256": sha256}
            index.write_text(json.dumps(content), encoding="utf-8")


# The child


def run_child(folder: Path, arguments: list[str], warm_bytes: int) -> None:
    """Never comes back: the process ends with main's exit code, or 70 and a traceback. What the audit hook sees goes into
    the file `seen` beside the folder."""
    from glassgpt.cli.main import main
    from glassgpt.formats import unpickle

    os.chdir(folder)
    os.environ.update(GLASSGPT_CACHE=str(folder / "cache"), TMPDIR=str(folder / "tmp"))
    (folder / "tmp").mkdir(exist_ok=True)
    tempfile.tempdir = None
    for number, name in ((0, os.devnull), (1, folder.parent / "stdout"), (2, folder.parent / "stderr")):
        os.dup2(os.open(name, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False, errors="replace")  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, errors="replace")  # noqa: SIM115
    resource.setrlimit(resource.RLIMIT_AS, (warm_bytes + ROOM, warm_bytes + ROOM))
    resource.setrlimit(resource.RLIMIT_FSIZE, (DISK, DISK))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    unpickle._run = read_pickle_here  # a second torch for each would take seconds
    watch(folder, os.open(folder.parent / "seen", os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
    code = 70
    try:
        main(arguments)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 71
    except BaseException:
        import traceback

        traceback.print_exc()
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def read_pickle_here(reader: Sequence[str]) -> tuple[int, str]:
    """As the process that formats/unpickle.py starts."""
    from glassgpt.formats import unpickle

    try:
        unpickle._main(*reader[-2:])
    except SystemExit as left:
        return (1 if left.code else 0), str(left.code)
    except BaseException as error:  # that process would have died of it, in a traceback of which the last line is shown
        return 1, f"TRACEBACK {error!r}"
    return 0, ""


NEVER = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class", "socket.connect",
         "socket.getaddrinfo", "ctypes.dlopen", "marshal.loads")  # fmt: skip
WRITING = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.chmod", "os.truncate")


def watch(folder: Path, out: int) -> None:
    """Report to `out` what nobody who reads a file should do."""
    place = os.path.realpath(folder)
    library = tuple(os.path.realpath(path) for path in {sys.prefix, sys.base_prefix, HOME / "src"})

    def is_outside(path: Any, base: str = place) -> bool:
        if isinstance(path, int):
            return False
        real = os.path.realpath(Path.cwd() / os.fsdecode(path))
        return not (real == base or real.startswith(base + os.sep)) and real != os.devnull

    def hook(event: str, details: tuple[Any, ...]) -> None:
        bad = None
        if event == "ctypes.dlopen" and details == (None,):
            return  # this very process: what is loaded already
        if event == "marshal.loads" and sys._getframe(1).f_code.co_filename.startswith("<frozen importlib"):
            return
        if event in NEVER:
            bad = details
        elif event == "exec":
            name = details[0].co_filename  # <string> for a program in a text
            if not name.startswith(("<frozen", *library)):
                bad = (name, sys._getframe(1).f_code.co_filename)
        elif event == "import" and details[1] and not str(details[1]).startswith(library):
            bad = details[:2]
        elif event == "open":
            writes = isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            real = Path(os.fsdecode(details[0])).name if isinstance(details[0], (str, bytes)) else ""
            if (writes and is_outside(details[0])) or real in (SECRET, "passwd"):
                bad = details
        elif event in WRITING and any(isinstance(d, (str, bytes)) and is_outside(d) for d in details):
            bad = details
        if bad is not None:
            os.write(out, f"{event} {bad!r:.200}\n".encode(errors="replace"))

    sys.addaudithook(hook)


# The verdict


def run_case(folder: Path, case: Case, warm_bytes: int, warm_resident: int) -> tuple[int | None, str | None, str]:
    """The exit code (None: it did not end), what is wrong if anything, and what stood on standard error."""
    child = os.fork()
    if not child:
        run_child(folder, case.arguments, warm_bytes)
    deadline = time.monotonic() + SECONDS
    pause = 0.002
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.wait4(child, 0)
            return None, f"no end within {SECONDS} seconds", read_text(folder.parent / "stderr")
        time.sleep(pause)
        pause = min(0.02, pause * 1.5)
    code = os.waitstatus_to_exitcode(status)
    said, seen = read_text(folder.parent / "stderr"), read_text(folder.parent / "seen")
    growth = usage.ru_maxrss * 1024 - warm_resident
    lines = said.rstrip("\n").split("\n")
    why = None
    if code not in (0, 1, 2):
        why = f"exit code {code}"
    elif "Traceback" in said or "TRACEBACK" in said:
        why = "a traceback"
    elif "panicked at" in said:
        why = "a panic below Python"
    elif code and not lines[-1].startswith("glassgpt: "):
        why = "no last line that says what is wrong"
    elif code and len(lines[-1]) > 2000:
        why = "a line that nobody reads"
    elif code and "out of memory" in lines[-1]:
        why = "memory for which the file is to blame"
    elif "Warning" in said:
        why = "a warning"
    elif growth > GROWTH:
        why = f"{growth >> 20} MB of memory"
    elif seen:
        why = f"it did {seen.splitlines()[0]}"
    return code, why, said


def read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def memory_of(name: str) -> int:
    """VmSize or VmRSS of this process in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def warm() -> None:
    """What this process has to have done once, before it is forked."""
    import torch
    from matplotlib.figure import Figure

    from glassgpt.machine import describe_environment

    torch.set_num_threads(1)
    describe_environment()
    Figure().savefig(os.devnull, format="png")


def load_what_commands_load(world: Path, place: Path) -> None:
    """Whole commands, each in a child that says which modules it has at its end: this process loads the same, so that no case
    has to. The children train, which is what this process must not do."""
    said = place / "modules"
    train = next(target for target in TARGETS if target.folder == "settings").commands[0]
    for target, arguments in (("settings", train), ("gpt2", EXPORT[0]), ("gpt2", SAMPLE[0])):
        child = os.fork()
        if not child:
            os.chdir(world)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            from glassgpt.cli.main import main

            with contextlib.suppress(SystemExit):
                main([word.replace("RUN", target) for word in arguments])
            said.write_text("\n".join(sys.modules), encoding="utf-8")
            os._exit(0)
        os.waitpid(child, 0)
        shutil.rmtree(world / "out", ignore_errors=True)
        for name in said.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(Exception):  # some exist only in the course of something else
                importlib.import_module(name)


def run_cases(cases: list[int], seed: int, show: bool = False) -> dict[str, Any]:
    before = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="glassgpt-fuzz-") as place:
        world = Path(place) / "world"
        os.environ["GLASSGPT_CACHE"] = str(Path(place) / "cache")
        warm()
        build_world(world)
        load_what_commands_load(world, Path(place))
        warm_bytes, warm_resident = memory_of("VmSize"), memory_of("VmRSS")
        codes: Counter[str] = Counter()
        by_target: Counter[str] = Counter()
        faults = []
        ready = time.monotonic()
        for number in cases:
            folder = Path(place) / "cases" / str(number) / "here"
            case = make_case(world, folder, seed, number)
            code, why, said = run_case(folder, case, warm_bytes, warm_resident)
            codes[str(code)] += 1
            by_target[case.target] += 1
            if why:
                print(
                    f"case {number}: {case.file}, {case.mutation}, {case.arguments[0]}: {why}",
                    file=sys.stderr,
                    flush=True,
                )
                faults.append({"number": number, "seed": seed, "why": why, **case._asdict(), "stderr": said[-3000:]})
            if show:
                print(case, code, why, said, read_text(folder.parent / "stdout"), sep="\n")
            os.chdir(world)
            shutil.rmtree(folder.parent)
    return {
        "cases": len(cases),
        "seed": seed,
        "exit codes": dict(sorted(codes.items())),
        "by target": dict(by_target),
        "faults": faults,
        "seconds": round(time.monotonic() - before, 1),
        "seconds before the first case": round(ready - before, 1),
    }


def fuzz(cases: int, seed: int = 1) -> dict[str, Any]:
    """So many cases, in a process of their own, which has no threads and can be forked. The summary's `faults` is empty
    where every file was read or refused as it should be. Linux only."""
    environment = os.environ | {
        "PYTHONPATH": str(HOME / "src"), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1",
        "NO_COLOR": "1", "PYTHONWARNINGS": "default",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.fuzz", str(cases), str(seed)],
        cwd=HOME, env=environment, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


if __name__ == "__main__":
    how_many, which_seed, *one = map(int, sys.argv[1:])
    summary = run_cases(one or list(range(how_many)), which_seed, show=bool(one))
    print(json.dumps(summary, indent=1))
    sys.exit(1 if summary["faults"] else 0)
