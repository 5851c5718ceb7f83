"""What a chat shows the model, and when an answer is over."""

import pytest

from glassgpt.errors import ConfigError
from glassgpt.finetune import PLAIN, Message
from glassgpt.generate import Chat, Engine

from .conftest import Script, small


@pytest.fixture
def chat(byte):
    def build(answer, asked, ends=(), **more):
        """A chat whose model gives the ids of `answer` after `asked`."""
        length = len(PLAIN.prompt(byte, asked))
        return Chat(Engine(Script(byte.vocab_size, [answer], length), byte, ends), PLAIN, **more)

    return build


def test_an_answer_ends_with_its_token_and_both_sides_are_remembered(chat, byte):
    asked = [Message("system", "Be kind."), Message("user", "Hi.")]
    answer = [*byte.encode("Ho, né."), byte.end_of_text, *byte.encode("### User:\nnever")]
    talk = chat(answer, asked, system="Be kind.")
    pieces = list(talk.say("Hi.", max_new_tokens=50))
    assert "".join(pieces) == "Ho, né." and len(pieces) > 5
    assert talk.messages == [*asked, Message("assistant", "Ho, né.")]
    assert talk.prompt([*talk.messages, Message("user", "?")]) == PLAIN.prompt(
        byte, [*asked, Message("assistant", "Ho, né."), Message("user", "?")]
    )


def test_an_answer_that_nobody_waited_for_is_not_remembered(chat, byte):
    talk = chat([*byte.encode("Ho."), byte.end_of_text], [Message("user", "Hi.")])
    pieces = talk.say("Hi.")
    next(pieces)
    pieces.close()
    assert talk.messages == []


def test_the_oldest_messages_are_forgotten_first_and_the_systems_never(byte):
    talk = Chat(Engine(small(vocab_size=byte.vocab_size, context_length=200), byte), PLAIN)
    messages = [Message("system", "S"), *(Message("user", f"question {n}") for n in range(20))]
    seen = byte.decode(talk.prompt(messages))
    assert seen.startswith("### System:\nS\n\n### User:\nquestion ") and "question 19" in seen
    first = int(seen.split("question ")[1].split("\n")[0])
    assert first > 10 and seen.count("question") == 20 - first  # the newest ones, without a gap
    assert len(talk.prompt(messages)) <= 150  # a quarter of the context is left for the answer
    one_more = [messages[0], *messages[first:]]
    assert len(PLAIN.prompt(byte, one_more)) > 150
    two = [
        Message("user", "old"),
        Message("user", "x" * (150 - len(PLAIN.prompt(byte, 2 * [Message("user", "")])) - 3)),
    ]
    assert len(talk.prompt(two)) == 150 and talk.prompt(two) == PLAIN.prompt(
        byte, two
    )  # the room is used to its last token
    long = [Message("user", "old"), Message("user", "x" * 160)]
    assert talk.prompt(long) == PLAIN.prompt(
        byte, long[1:]
    )  # the last one is kept, as long as there is place for an answer
    assert (
        len(list(talk.answer(long, temperature=0))) <= 200 - len(talk.prompt(long)) + 1
    )  # which ends with the context
    for messages, said in (
        ([Message("user", "x" * 200)], "the message takes 2.. tokens, the model sees 200 at once, its answer included"),
        ([Message("system", "x" * 170), Message("user", "y")], "what the system says and the last message take 2"),
    ):
        with pytest.raises(ConfigError, match=said):
            talk.prompt(messages)


def test_an_answer_also_ends_where_any_text_does(chat, byte):
    """A model that was taught to end answers otherwise still knows the end of a text."""
    talk = chat([*byte.encode("Ho."), 5, *byte.encode("never")], [Message("user", "Hi.")], ends=[5])
    assert "".join(talk.say("Hi.")) == "Ho."


def test_settings_are_those_of_sampling(chat):
    with pytest.raises(ConfigError, match="temperature is -1"):
        next(chat([65], [Message("user", "Hi.")]).say("Hi.", temperature=-1))
