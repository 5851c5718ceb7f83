"""tokenizer.json files: other people's, damaged ones, and how ours are written."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as LibraryTokenizer

from glassgpt.errors import MachineError, TokenizerError
from glassgpt.tokenizer import END_OF_TEXT, Tokenizer, build_tokenizer, load_tokenizer, save_tokenizer, tokenizer_hash

from .conftest import CORPUS

Change = Callable[[dict[str, Any]], object]


def load_changed(tokenizer: Tokenizer, change: Change, folder: Path) -> Tokenizer:
    document = json.loads(tokenizer.to_json())
    change(document)
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    return load_tokenizer(folder / "tokenizer.json")


def test_gpt2_as_hugging_face_publishes_it(gpt2: Tokenizer, tmp_path: Path) -> None:
    """No name for the model, empty words for "none", a post-processor, the added token flagged as normalized."""

    def as_published(document: dict[str, Any]) -> None:
        document["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
        document["post_processor"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False}
        document["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
        document["added_tokens"][0]["normalized"] = True
        document["model"] = {
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "vocab": document["model"]["vocab"],
            "merges": document["model"]["merges"],
        }

    loaded = load_changed(gpt2, as_published, tmp_path)
    assert loaded.kind == "gpt2"
    assert tokenizer_hash(loaded) == tokenizer_hash(gpt2)


def test_gpt2_with_a_token_added_is_bpe(gpt2: Tokenizer, tmp_path: Path) -> None:
    def add(document: dict[str, Any]) -> None:
        document["added_tokens"].append({**document["added_tokens"][0], "id": 50257, "content": "<|pad|>"})

    loaded = load_changed(gpt2, add, tmp_path)
    assert (loaded.kind, loaded.vocab_size, loaded.end_of_text) == ("bpe", 50258, 50256)
    assert loaded.decode([50257]) == "<|pad|>"
    assert loaded.encode("<|pad|>") == gpt2.encode("<|pad|>")


def test_gpt2_with_other_ids_or_without_its_special_token_is_bpe(gpt2: Tokenizer, tmp_path: Path) -> None:
    plain = load_changed(gpt2, lambda document: document["added_tokens"].clear(), tmp_path)
    assert (plain.kind, plain.vocab_size, plain.end_of_text) == ("bpe", 50257, None)
    swapped = load_changed(gpt2, lambda document: document["model"]["vocab"].update({"!": 1, '"': 0}), tmp_path)
    assert (swapped.kind, swapped.encode("!"), swapped.decode([1])) == ("bpe", [1], "!")


def test_bpe_that_somebody_else_trained(tmp_path: Path) -> None:
    """Special tokens first, as the library's trainer puts them, truncation and padding on."""
    theirs = LibraryTokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = decoders.ByteLevel()
    theirs.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=["<pad>", END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
    )
    theirs.train_from_iterator(CORPUS, trainer)
    theirs.add_special_tokens([AddedToken("<|user|>", special=True)])
    expected = [theirs.encode(text).ids for text in CORPUS]
    theirs.enable_truncation(4)
    theirs.enable_padding(length=9)
    theirs.save(str(tmp_path / "tokenizer.json"))

    ours = load_tokenizer(tmp_path / "tokenizer.json")
    assert (ours.kind, ours.vocab_size, ours.end_of_text) == ("bpe", 291, 1)
    assert [ours.encode(text) for text in CORPUS] == expected
    assert ours.decode([0, 290]) == "<pad><|user|>"
    assert LibraryTokenizer.from_str(ours.to_json()).get_vocab() == theirs.get_vocab()


def test_a_library_that_panics_is_one_that_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it raises then is no Exception."""
    panic = type("PanicException", (BaseException,), {})

    class Panics:
        @staticmethod
        def from_str(text: str) -> None:
            raise panic("range end index out of range")

    tokenizer = build_tokenizer("bpe", lambda: iter(["abab"]), 258)
    monkeypatch.setattr("glassgpt.tokenizer.published.tokenizers.Tokenizer", Panics)
    with pytest.raises(TokenizerError, match="the tokenizers library cannot read it .range end"):
        load_changed(tokenizer, lambda d: d.update(normalizer={"type": "NFC"}), tmp_path)


def test_bytes_in_another_order_are_not_the_byte_kind(tmp_path: Path) -> None:
    tokenizer = build_tokenizer("bpe", lambda: iter([]), 257)
    loaded = load_changed(tokenizer, lambda document: None, tmp_path)
    assert loaded.kind == "bpe"
    assert loaded.encode("a!") == tokenizer.encode("a!") != build_tokenizer("byte", lambda: iter([])).encode("a!")


CHANGES: dict[str, tuple[str, Change]] = {
    'not a tokenizer.json: it has no "model"': ("bpe", lambda d: d.pop("model")),
    "its model is 'Unigram', which is not supported": ("bpe", lambda d: d["model"].update(type="Unigram")),
    "its model is None": ("char", lambda d: d["model"].pop("type")),
    "its model is ['BPE']": ("bpe", lambda d: d["model"].update(type=["BPE"])),
    "does not spell text in bytes (ByteLevel)": ("bpe", lambda d: d.update(pre_tokenizer={"type": "Whitespace"})),
    "its normalizer changes the text": ("char", lambda d: d.update(normalizer={"type": "NFC"})),
    "its normalizer changes the text otherwise": ("bpe", lambda d: d.update(normalizer={"type": "Lowercase"})),
    "the tokenizers library cannot read it": (
        "bpe",
        lambda d: d.update(normalizer={"type": "NFC"}) or d["model"].update(merges=[["q", "qq"]]),
    ),
    "its decoder is not ByteLevel": ("bpe", lambda d: d.update(decoder=None)),
    "its pre_tokenizer sets add_prefix_space": ("bpe", lambda d: d["pre_tokenizer"].update(add_prefix_space=True)),
    "its model sets byte_fallback": ("bpe", lambda d: d["model"].update(byte_fallback=True)),
    "its model sets dropout": ("bpe", lambda d: d["model"].update(dropout=0.1)),
    "its model sets end_of_word_suffix": ("bpe", lambda d: d["model"].update(end_of_word_suffix="</w>")),
    "its model sets end_of_word_suffix, which bytes do not": (
        "bpe",
        lambda d: d.update(normalizer={"type": "NFC"}) or d["model"].update(end_of_word_suffix="</w>"),
    ),
    "its model sets continuing_subword_prefix, which bytes do not": (
        "bpe",
        lambda d: (
            d.update(normalizer={"type": "NFC"}) or d["model"].update(continuing_subword_prefix="longer than any")
        ),
    ),
    '"vocab" is damaged': ("bpe", lambda d: d["model"].update(vocab=["a"])),
    '"vocab" is damaged;': ("byte", lambda d: d["model"]["vocab"].update(a="1")),
    'the ids in "vocab" are not 0 to': ("bpe", lambda d: d["model"]["vocab"].update({"ab": 7})),
    "it holds half of a surrogate pair": (
        "char",
        lambda d: d["model"]["vocab"].update({"\ud800": len(d["model"]["vocab"])}),
    ),
    '"merges" is damaged': ("bpe", lambda d: d["model"].pop("merges")),
    "merge 'a' is not a pair": ("bpe", lambda d: d["model"]["merges"].append("a")),
    "merge ['a', 1] is not a pair": ("bpe", lambda d: d["model"]["merges"].append(["a", 1])),
    "'qq' is not in the vocabulary": ("bpe", lambda d: d["model"]["merges"].append("q qq")),
    "1 of the 256 bytes have no token": ("byte", lambda d: d["model"]["vocab"].update(qq=d["model"]["vocab"].pop("q"))),
    "token '日' is not spelled": ("byte", lambda d: d["model"]["vocab"].update({"日": 257})),
    '"added_tokens" is damaged': ("bpe", lambda d: d["added_tokens"][0].pop("id")),
    '"added_tokens" is damaged;': ("bpe", lambda d: d.update(added_tokens=7)),
    "'<|endoftext|>' has two ids": ("bpe", lambda d: d["added_tokens"][0].update(id=3)),
    "'<|endoftext|>' is not special": ("bpe", lambda d: d["added_tokens"][0].update(special=False)),
    "WordLevel vocabulary is not of single characters": ("char", lambda d: d.update(pre_tokenizer=None)),
    "'ab' in a vocabulary of characters": (
        "char",
        lambda d: d["model"]["vocab"].update(ab=len(d["model"]["vocab"])),
    ),
}


@pytest.mark.parametrize("message", CHANGES)
def test_a_file_that_is_damaged_or_of_another_sort_is_refused_in_one_line(message: str, tmp_path: Path) -> None:
    kind, change = CHANGES[message]
    tokenizer = build_tokenizer(kind, lambda: iter(["abab é"]), 258 if kind == "bpe" else None)
    with pytest.raises(TokenizerError) as caught:
        load_changed(tokenizer, change, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'tokenizer.json'}: ")
    assert message in str(caught.value)
    assert str(caught.value).endswith("of kind char, byte, gpt2, bpe or another BPE over bytes")
    assert "\n" not in str(caught.value)


def test_every_truncated_file_is_refused(tmp_path: Path) -> None:
    for kind in ("char", "byte", "bpe"):
        content = build_tokenizer(kind, lambda: iter(CORPUS), 260 if kind == "bpe" else None).to_json().encode()
        for length in range(0, len(content) - 2, 1 + len(content) // 50):
            (tmp_path / "tokenizer.json").write_bytes(content[:length])
            with pytest.raises(TokenizerError, match="not JSON"):
                load_tokenizer(tmp_path / "tokenizer.json")


def test_a_file_that_is_not_there_or_not_a_file(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.json", tmp_path):
        with pytest.raises(TokenizerError, match=r"cannot be read \(.+\); pass the path of a tokenizer\.json"):
            load_tokenizer(path)


def test_saving_replaces_the_old_file_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokenizer.json"
    old, new = (build_tokenizer("char", lambda text=text: iter([text])) for text in ("old", "new"))
    save_tokenizer(old, path)

    def disk_full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", disk_full)
        with pytest.raises(
            MachineError,
            match=r"could not be written \(No space left on device\): \d+ bytes are needed, [\d,]+ are free; make room$",
        ):
            save_tokenizer(new, path)
    assert load_tokenizer(path).to_json() == old.to_json()
    assert list(tmp_path.iterdir()) == [path]

    save_tokenizer(new, path)
    assert load_tokenizer(path).to_json() == new.to_json()

    with pytest.raises(MachineError, match="could not be written .*there is no folder .*no such folder; bring it"):
        save_tokenizer(new, tmp_path / "no such folder" / "tokenizer.json")


def test_the_file_keeps_nothing_that_depends_on_where_it_came_from(tmp_path: Path) -> None:
    """Shuffled keys, pairs for merges: the same tokenizer, the same bytes."""
    tokenizer = build_tokenizer("bpe", lambda: iter(CORPUS), 280)

    def shuffle(document: dict[str, Any]) -> None:
        model = document["model"]
        model["vocab"] = dict(reversed(copy.copy(model["vocab"]).items()))
        model["merges"] = [merge.split(" ") for merge in model["merges"]]
        document.update(dict(reversed(document.items())))

    loaded = load_changed(tokenizer, shuffle, tmp_path)
    assert loaded.to_json() == tokenizer.to_json()
    assert loaded.decode(loaded.encode(CORPUS[0])) == CORPUS[0]
