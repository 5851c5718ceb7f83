import pytest

from glassgpt.errors import TokenizerError
from glassgpt.tokenizer import KINDS, build_tokenizer, named_tokenizer, save_tokenizer, tokenizer_hash


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_given_back_as_it_is(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / kind).mkdir()  # a folder of that name does not hide the kind
    assert named_tokenizer(kind) == kind


def test_a_file_or_its_folder_is_loaded(tmp_path):
    tokenizer = build_tokenizer("char", lambda: iter(["some text"]), single_text=True)
    save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
    for name in (tmp_path, tmp_path / "tokenizer.json"):
        assert tokenizer_hash(named_tokenizer(str(name))) == tokenizer_hash(tokenizer)


@pytest.mark.parametrize(
    ("name", "advice"), [("gtp2", "did you mean gpt2?"), ("nowhere/t.json", "choose a kind, or give the path")]
)
def test_anything_else_is_refused_with_advice(name, advice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TokenizerError, match=f"tokenizer '{name}' is none of .*{advice}"):
        named_tokenizer(name)
