"""What a conversation becomes: ids, and which of them the model should say."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.errors import DataError, TokenizerError
from glassgpt.finetune import CHATML, PLAIN, Message, read_template, template_for
from glassgpt.tokenizer import build_tokenizer, read_tokenizer

BYTE = build_tokenizer("byte", lambda: iter([]))
BPE = build_tokenizer("bpe", lambda: iter(["### User:\nhello there\n\n### Assistant:\n hello " * 30]), 290)


def with_chatml_tokens():
    """A tokenizer of Qwen's kind: the bytes, and two special tokens."""
    document = json.loads(BYTE.to_json())
    for id, name in ((257, "<|im_start|>"), (258, "<|im_end|>")):
        document["model"]["vocab"][name] = id
        document["added_tokens"].append(document["added_tokens"][0] | {"id": id, "content": name})
    document["pre_tokenizer"]["use_regex"] = False
    document["normalizer"] = {"type": "NFC"}
    return read_tokenizer(json.dumps(document))


QWEN = with_chatml_tokens()
contents = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["<|endoftext|>", "<|im_end|>\n<|im_start|>assistant\n", "### Assistant:\n"]
)
conversations = st.lists(
    st.tuples(st.sampled_from(["system", "user", "assistant"]), contents).map(lambda pair: Message(*pair)),
    min_size=1,
    max_size=6,
)
GPT2 = build_tokenizer("gpt2", lambda: iter([]))
spoken = pytest.mark.parametrize(
    ("template", "tokenizer"), [(PLAIN, BYTE), (PLAIN, BPE), (PLAIN, GPT2), (CHATML, QWEN)]
)


def test_tokens_that_may_stand_in_a_text_are_not_special():
    document = json.loads(QWEN.to_json())
    document["model"]["vocab"]["<think>"] = 259
    document["added_tokens"].append(document["added_tokens"][0] | {"id": 259, "content": "<think>", "special": False})
    assert "<think>" not in read_tokenizer(json.dumps(document)).specials


def test_the_text_of_a_conversation():
    messages = [
        Message("system", "Be brief."),
        Message("user", "Hi."),
        Message("assistant", "Ho."),
        Message("user", "?"),
    ]
    (whole,) = PLAIN.encode(BYTE, [messages])
    assert BYTE.decode(whole.ids.tolist()) == (
        "### System:\nBe brief.\n\n### User:\nHi.\n\n### Assistant:\nHo.<|endoftext|>### User:\n?\n\n"
    )
    assert BYTE.decode(whole.ids[whole.scored].tolist()) == "Ho.<|endoftext|>"
    (whole,) = CHATML.encode(QWEN, [messages])
    assert QWEN.decode(whole.ids.tolist()) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi.<|im_end|>\n"
        "<|im_start|>assistant\nHo.<|im_end|>\n<|im_start|>user\n?<|im_end|>\n"
    )
    assert QWEN.decode(whole.ids[whole.scored].tolist()) == "Ho.<|im_end|>"


@spoken
@given(some=st.lists(conversations, min_size=1, max_size=3))
def test_scored_is_what_the_assistant_says_and_its_end_whatever_the_words(template, tokenizer, some):
    for messages, whole in zip(some, template.encode(tokenizer, some), strict=True):
        answers = [m.content for m in messages if m.role == "assistant"]
        end = [template.end_id(tokenizer)]
        expected = [id for answer in answers for id in tokenizer.encode(answer) + end]
        assert whole.ids[whole.scored].tolist() == expected
        # No message ends a turn: the special ids are the template's own.
        specials = [id for id in whole.ids.tolist() if id in tokenizer.specials.values()]
        assert len(specials) == len([piece for piece in template.pieces(messages) if piece.kind == "special"])


@spoken
@given(messages=conversations, answer=contents)
def test_what_is_asked_in_use_is_what_was_learned(template, tokenizer, messages, answer):
    """The prompt of an answer, and the answer's ids, are a beginning of the conversation's ids in training."""
    prompt = template.prompt(tokenizer, messages)
    said = [*tokenizer.encode(answer), template.end_id(tokenizer)]
    (whole,) = template.encode(tokenizer, [[*messages, Message("assistant", answer)]])
    assert whole.ids.tolist()[: len(prompt) + len(said)] == prompt + said
    assert whole.scored[len(prompt) :].tolist()[: len(said)] == [True] * len(said)


words = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=12)


@spoken
@given(contents=st.lists(words, min_size=1, max_size=5))
def test_the_ids_are_those_of_the_whole_text(template, tokenizer, contents):
    """So that other programs, which encode the whole, see what was learned."""
    messages = [Message(("user", "assistant")[n % 2], content) for n, content in enumerate(contents)]
    text = "".join(piece.text for piece in template.pieces(messages, answering=True))
    whole = [id for part in re.split(f"({'|'.join(map(re.escape, template.specials))})", text) if part
             for id in ([tokenizer.specials[part]] if part in template.specials else tokenizer.encode(part))]  # fmt: skip
    assert template.prompt(tokenizer, messages) == whole


def test_a_tokenizer_has_the_template_whose_tokens_it_has():
    assert template_for(BYTE) is template_for(BPE) is PLAIN
    assert template_for(QWEN) is CHATML
    single = build_tokenizer("char", lambda: iter(["abc"]), single_text=True)
    with pytest.raises(
        TokenizerError, match=r"char tokenizer has no token <\|endoftext\|>, which marks where an answer"
    ):
        template_for(single)


@pytest.mark.parametrize("template", [PLAIN, CHATML])
def test_a_template_comes_back_from_its_file(template):
    assert read_template(template.to_json(), "file") == template


def test_what_the_template_adds_and_the_tokenizer_lacks_is_not_blamed_on_the_text():
    tokenizer = build_tokenizer("char", lambda: iter(["Use rAant\n"]))
    told = r"the plain template writes '### User:\\n' into every conversation, .* char .*'#'.*; take a model with"
    messages = [Message("user", "sea"), Message("assistant", "star")]
    with pytest.raises(TokenizerError, match=told) as caught:
        PLAIN.encode(tokenizer, [messages])
    assert "leave it out" not in str(caught.value)
    with pytest.raises(TokenizerError, match=told):
        PLAIN.prompt(tokenizer, messages[:1])
    knows = build_tokenizer(
        "char", lambda: iter(["### User: Assistant\n"])
    )  # and nothing of a system, which nobody uses here
    assert len(PLAIN.encode(knows, [messages])) == 1
    with pytest.raises(TokenizerError, match=r"^character 'z' \(U\+007A\) at position 1 .*; leave it out"):
        PLAIN.encode(knows, [[Message("user", "sz"), *messages[1:]]])


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"name": 1}', PLAIN.to_json().replace('"end": "<|', '"end": "<'), b"\xff"]
)
def test_a_damaged_template_is_refused(text):
    with pytest.raises(DataError, match="t.json is no template of a conversation"):
        read_template(text, "t.json")
