import pytest

import glassgpt.generate
from glassgpt.cli.sample import sample
from glassgpt.errors import TokenizerError


class Writer:
    """Writes each text letter by letter, and looks at what is on the screen before every letter."""

    def __init__(self, texts, look):
        self.texts, self.look = texts, look
        self.screens = []

    def stream_many(self, prompt, num_samples, **settings):
        assert num_samples == len(self.texts)
        for letters in zip(*self.texts, strict=True):
            self.screens.append(self.look())
            yield list(letters)


@pytest.fixture
def write(monkeypatch, capsys):
    def run(*texts, prompt=">"):
        seen = ""

        def look():
            nonlocal seen
            seen += capsys.readouterr().out
            return seen

        writer = Writer(texts, look)
        monkeypatch.setattr(glassgpt.generate, "load_run", lambda run, device, report, tokenizer: writer)
        sample(prompt=prompt, num_samples=len(texts))
        return writer.screens, look()

    return run


def test_one_text_appears_as_it_is_written(write):
    screens, at_the_end = write("abc")
    assert screens == ["", ">a", ">ab"]
    assert at_the_end == ">abc\n"


def test_of_several_the_first_appears_as_it_is_written_and_the_others_follow(write):
    screens, at_the_end = write("abc", "xyz", "123")
    first = "--- 1 of 3 ---\n"
    assert screens == ["", f"{first}>a", f"{first}>ab"]
    assert at_the_end == f"{first}>abc\n--- 2 of 3 ---\n>xyz\n--- 3 of 3 ---\n>123\n"


def test_a_text_that_ended_early_keeps_nobody_waiting_and_writes_nothing_more(write):
    screens, at_the_end = write(["a", "", ""], ["x", "y", "z"])
    assert screens[-1] == "--- 1 of 2 ---\n>a"
    assert at_the_end == "--- 1 of 2 ---\n>a\n--- 2 of 2 ---\n>xyz\n"


def test_a_prompt_that_cannot_be_read_prints_nothing(monkeypatch, capsys):
    class Refusing:
        def stream_many(self, *arguments, **settings):
            raise TokenizerError("no such character")
            yield

    monkeypatch.setattr(glassgpt.generate, "load_run", lambda run, device, report, tokenizer: Refusing())
    for number in (1, 3):
        with pytest.raises(TokenizerError):
            sample(prompt="Z", num_samples=number)
    assert capsys.readouterr().out == ""
