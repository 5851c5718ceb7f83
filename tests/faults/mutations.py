"""Ways to damage a file, by someone who knows its format. Each takes the file's bytes and gives others; all chance comes from
the `Random` that is passed in, so that a case can be made again from its number."""

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

Mutation = Callable[[Random, bytes], bytes]

# What stands for a value that no JSON writer would write: replaced in the text.
RAW = {
    "infinite": "1e400",
    "minus infinite": "-1e400",
    "not a number": "NaN",
    "Infinity": "Infinity",
    "many digits": "9" * 5000,
    "deep list": "[" * 100_000 + "]" * 100_000,
    "deep list, not too deep to read": "[" * 900 + "]" * 900,
    "deep object": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "half a character": '"\\ud800"',
    "control character": '"\\u0000\\u001b[2J"',
}
OUTSIDE = ["../../secret.txt", "../secret.txt", "/etc/passwd", "..", ".", "", "a/b", "\0", "x" * 5000, "C:\\x", "~"]
VALUES = [
    None, True, False, 0, 1, -1, 2, 3, 7, 10**9, 10**18, 2**31, 2**63, -(10**18), 0.5, -0.0, 1e-300, 1e300, "", "x", "\n",
    "0", "a" * 100_000, "\u202e\u0000é𐀀", [], {}, [[]], [None], {"": {}}, [0] * 1000, {"__class__": "os.system"}, "<unk>",
    "gelu", "modern", "gpt2", "textbook", "float32", "text", "labels", "conversations", "<|endoftext|>",
]  # fmt: skip
TOML_VALUES = [
    '""', '"x"', "'raw'", "0", "1", "-1", "2", "1e400", "nan", "inf", "-inf", "1000000000000000000", "9" * 5000, "true",
    "[]", '["x"]', "[1]", "{}", "{ a = 1 }", "1979-05-27", "07:32:00", "0x10", '"\\ud800"', '"\\u0000"', '"""\n\n"""',
    "[" * 5000 + "]" * 5000, "{a=" * 2000 + "1" + "}" * 2000, '"' + "a" * 100_000 + '"', '"../../secret.txt"', '"/dev/zero"',
    '"nowhere"', "1e-300", "1e300", "2147483647", "0.5", '"auto"', '"cuda"', '"mps"', '"gpt2"', '"textbook"', '"modern"',
]  # fmt: skip
KEYS = ["x", "", "__proto__", "../../secret.txt", "format", "model_type", "lora", "labels", "state", "block_size", "\0"]
DTYPES = ["F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "U16", "U64", "F4", "C64", "X"]


# Any file


def flip(draw: Random, content: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 1, 3, 20))):
        if damaged:
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def truncate(draw: Random, content: bytes) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def insert(draw: Random, content: bytes) -> bytes:
    piece = draw.choice([b"\0", b"\xff", b"\xed\xa0\x80", b"\n", b'"', b"[", b"{", b"\xef\xbb\xbf", draw.randbytes(30)])
    place = draw.choice([0, len(content), draw.randrange(len(content) + 1)])
    return content[:place] + piece * draw.choice([1, 1, 50]) + content[place:]


def duplicate(draw: Random, content: bytes) -> bytes:
    a, b = _stretch(draw, content)
    return content[:b] + content[a:b] + content[b:]


def cut_out(draw: Random, content: bytes) -> bytes:
    a, b = _stretch(draw, content)
    return content[:a] + content[b:]


def swap(draw: Random, content: bytes) -> bytes:
    a, b, c, d = sorted(draw.randrange(len(content) + 1) for _ in range(4))
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def empty(draw: Random, content: bytes) -> bytes:
    return draw.choice([b"", b"\n", b"\0" * len(content), b"null", b"\xff\xfe"])


def _stretch(draw: Random, content: bytes) -> tuple[int, int]:
    a, b = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return a, b


# JSON


def json_value(draw: Random, content: bytes) -> bytes:
    """One to three places of the document changed."""
    document = [json.loads(content)]  # in a list, so that the whole of it has a place as well
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        change(draw, document)
    return written(document[0])


def json_whole(draw: Random, content: bytes) -> bytes:
    return written(nasty(draw))


def change(draw: Random, document: list[Any]) -> None:
    """One place of a tree of lists and dicts; the first entry of `document` is its root."""
    holder, key = place_in(draw, document)
    kind = draw.choice(["value", "value", "value", "near", "near", "remove", "rename", "add", "wrap", "copy"])
    root = holder is document
    if kind == "remove" and not root:
        del holder[key]
    elif kind == "rename" and isinstance(holder, dict):
        holder[draw.choice([*KEYS, *OUTSIDE, str(key) + "x", str(key).upper()])] = holder.pop(key)
    elif kind == "add" and isinstance(holder, dict):
        holder[draw.choice(KEYS)] = nasty(draw)
    elif kind == "add" and not root:
        holder.insert(key, nasty(draw))
    elif kind == "wrap":
        holder[key] = draw.choice([[holder[key]], {"a": holder[key]}, str(holder[key])])
    elif kind == "copy":
        other, name = place_in(draw, document)
        holder[key] = json.loads(json.dumps(other[name]))
    elif kind == "near":
        holder[key] = near(draw, holder[key])
    else:
        holder[key] = nasty(draw)


def place_in(draw: Random, document: list[Any]) -> tuple[Any, Any]:
    """Where to go from the root, evenly at each turn, so that a long vocabulary does not hide the few settings beside it."""
    holder, key = document, 0
    while isinstance(holder[key], (dict, list)) and holder[key] and (holder is document or draw.random() < 0.7):
        inside = holder[key]
        holder, key = inside, draw.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
    return holder, key


def near(draw: Random, value: Any) -> Any:
    """Another value of the same type: what a check of types alone would let pass."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return draw.choice([value + 1, value - 1, -value, value * 2, value * 1000, value * 10**9, float(value), 0])
    if isinstance(value, str):
        return draw.choice([value + "x", value[:-1], value.upper(), "", value * 1000, *OUTSIDE])
    if isinstance(value, list):
        return draw.choice([value + value, value[:-1], value[::-1], []])
    return nasty(draw)


def nasty(draw: Random) -> Any:
    if draw.random() < 0.3:
        return f"@@{draw.choice(list(RAW))}@@"
    return draw.choice(OUTSIDE) if draw.random() < 0.1 else json.loads(json.dumps(draw.choice(VALUES)))


def written(document: Any) -> bytes:
    text = json.dumps(document)
    for name, raw in RAW.items():
        text = text.replace(f'"@@{name}@@"', raw)
    return text.encode()


def json_line(draw: Random, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    number = draw.randrange(len(lines))
    lines[number] = draw.choice([json_value, json_value, json_value, json_whole, truncate])(draw, lines[number]) + b"\n"
    return b"".join(lines)


# TOML


def toml_value(draw: Random, content: bytes) -> bytes:
    lines = content.decode().splitlines()
    # Not what makes a run that is asked for: how long it is, and of which text, which may be all of Python's library.
    settings = [n for n, line in enumerate(lines) if re.match(r"(?!max_steps|minutes|data )[\w.]+ *=", line)]
    tables = [n for n, line in enumerate(lines) if line.startswith("[")]
    for _ in range(draw.choice((1, 1, 2, 4))):
        number = draw.choice(settings)
        name, _, value = lines[number].partition("=")
        kind = draw.choice(["value"] * 5 + ["remove", "rename", "add", "twice", "table"])
        if kind == "value":
            lines[number] = f"{name}= {draw.choice(TOML_VALUES)}"
        elif kind == "remove":
            lines[number] = ""
        elif kind == "rename":
            other = draw.choice(["x", "block_size", "a.b.c", '""', name.strip() + "s"])
            lines[number] = f"{other} = {value}"
        elif kind == "add":
            lines[number] += f"\n{draw.choice(['x', 'n_layers', 'preset', 'asked'])} = {draw.choice(TOML_VALUES)}"
        elif kind == "twice":
            lines[number] += f"\n{lines[number]}"
        elif tables:
            lines[draw.choice(tables)] = draw.choice(
                ["[x]", "[[model]]", "[model.x]", "[train", "[" + "a." * 3000 + "a]", ""]
            )
    return ("\n".join(lines) + "\n").encode()


# Tensors and arrays


def tensors_header(draw: Random, content: bytes) -> bytes:
    """Of a .safetensors file: a length of eight bytes, JSON, then the numbers."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    name = draw.choice(names)
    entry = header[name]
    kind = draw.choice(["length", "offsets", "shape", "dtype", "overlap", "any", "any", "rename", "numbers", "swap"])
    if kind == "length":
        huge = draw.choice([0, 1, length - 1, length + 1, 10**8 + 1, 2**40, 2**63, 2**64 - 1])
        return struct.pack("<Q", huge) + content[8:]
    if kind == "numbers":
        piece = struct.pack("<f", draw.choice([float("nan"), float("inf"), 3e38, -3e38, 0.0]))
        data = piece * (len(data) // 4) if draw.random() < 0.5 else piece + data[4:]
    elif kind == "offsets":
        entry["data_offsets"] = [draw.choice([0, -1, 4, len(data), 2**40, 2**64]) for _ in range(2)]
    elif kind == "shape":
        entry["shape"] = draw.choice(
            [[], [0], [10**18], [2**32, 2**32], entry["shape"][::-1], [*entry["shape"], 1], [-1, -1], [1] * 100, None]
        )
    elif kind == "dtype":
        entry["dtype"] = draw.choice(DTYPES)
        if draw.random() < 0.7:  # with a shape that goes with it, so that the file is a whole one
            a, b = entry["data_offsets"]
            bits = {"BOOL": 8, "F4": 4, "C64": 64}.get(entry["dtype"]) or int(
                "0" + re.sub(r"\D.*", "", entry["dtype"][1:])
            )
            entry["shape"] = [8 * (b - a) // (bits or 8)]
    elif kind == "overlap":
        entry["data_offsets"] = header[draw.choice(names)]["data_offsets"]
    elif kind == "rename":
        header[draw.choice(["x", "", "../../secret.txt", "wte.weight", f"{name}.0", "lm_head.weight"])] = header.pop(
            name
        )
    elif kind == "swap":
        other = draw.choice(names)
        header[name], header[other] = header[other], entry
    else:
        change(draw, [header])
    text = written(header)
    return struct.pack("<Q", len(text)) + text + data


def array_header(draw: Random, content: bytes) -> bytes:
    """Of a .npy file: magic, version, length, a Python dict as text, then the numbers."""
    length = struct.unpack("<H", content[8:10])[0]
    text, data = content[10 : 10 + length].decode(), content[10 + length :]
    old, new = draw.choice(
        [
            (r"\(\d+, \d+\)", "(1000000000000, 2)"), (r"\(\d+, \d+\)", "(-1, 2)"), (r"\(\d+, \d+\)", "()"),
            (r"\(\d+, \d+\)", f"({len(data) // 8},)"), (r"\(\d+, \d+\)", "(" * 3000 + ")" * 3000), (r"\(\d+, ", "(1, "),
            ("'<i8'", "'|O'"), ("'<i8'", "'<f8'"), ("'<i8'", "'<U2'"), ("'<i8'", "'<u4'"), ("'<i8'", "[('a', '<i8')]"),
            ("'<i8'", "'|V0'"), ("'<i8'", "__import__('os')"), ("False", "True"), ("'descr'", "'x'"), (r"\{", "{'x': 1, "),
            (r"\{.*\}", "1" * 90_000), (r"\{.*\}", "{}"),
        ]
    )  # fmt: skip
    text = re.sub(old, new.replace("\\", ""), text).rstrip() + "\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text.encode() + data


def array_numbers(draw: Random, content: bytes) -> bytes:
    """The last numbers, eight bytes each, changed."""
    head = 128 if content[:6] == b"\x93NUMPY" else 0
    count = (len(content) - head) // 8
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 2, 5))):
        at = head + 8 * draw.randrange(count)
        damaged[at : at + 8] = struct.pack("<q", draw.choice([-1, 0, 1, 7, 10**6, 2**62, -(2**62)]))
    return bytes(damaged)


def token_numbers(draw: Random, content: bytes) -> bytes:
    """Ids, marks and labels beyond what there is."""
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 10))):
        damaged[draw.randrange(len(damaged))] = draw.choice([255, 128, 2, 1, 0])
    return draw.choice([bytes(damaged), b"\xff" * len(damaged), bytes(len(damaged))])


# Files of torch.save


def zip_entry(draw: Random, content: bytes) -> bytes:
    """One of the entries damaged, under sums that are right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as whole, zipfile.ZipFile(out, "w") as part:
        names = whole.namelist()
        chosen = draw.choice([next(name for name in names if name.endswith("data.pkl")), draw.choice(names)])
        for name in names:
            piece = whole.read(name)
            if name == chosen:
                piece = draw.choice([flip, flip, truncate, insert, cut_out, swap, bomb])(draw, piece)
            packed = zipfile.ZIP_DEFLATED if len(piece) > 10**6 else zipfile.ZIP_STORED
            part.writestr(draw.choice([name] * 9 + ["../../secret.txt"]) if name == chosen else name, piece, packed)
    return out.getvalue()


def bomb(draw: Random, content: bytes) -> bytes:
    return bytes(50_000_000)


ANY = [flip, truncate, insert, duplicate, cut_out, swap, empty]
BY_SUFFIX: dict[str, list[Mutation]] = {
    ".json": [json_value] * 14 + [json_whole],
    ".jsonl": [json_line],
    ".toml": [toml_value],
    ".safetensors": [tensors_header],
    ".npy": [array_header, array_numbers],
    ".bin": [token_numbers],
    ".pt": [zip_entry],
}


def mutate(draw: Random, name: str, content: bytes) -> tuple[str, bytes]:
    """The name of what was done, and the damaged content; mostly by what is known of this kind of file."""
    own = BY_SUFFIX.get(name[name.rfind(".") :])
    chosen = draw.choice(own if own and draw.random() < 0.75 else ANY)
    return chosen.__name__, chosen(draw, content)
