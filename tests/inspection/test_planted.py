"""Probes and neurons of a model that was trained on planted agreement, pronouns and facts: here the right answer is known."""

import itertools
import random
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F

from glassgpt.config import GPTConfig
from glassgpt.inspection import Pair, attribute, capture, carried, most_excited, neuron_writes
from glassgpt.model import LanguageModel, build_model

NOUNS, VERBS = ("dog", "cat", "bird", "girl", "king", "cook"), ("run", "sing", "wait", "fall")
SHE, HE, THINGS = ("Ann", "Eve", "Mia", "Zoe"), ("Tom", "Ben", "Max", "Sam"), ("key", "book", "hat", "map")
COUNTRIES = ("Zor", "Kel", "Ruz", "Vim", "Pog", "Tas", "Lud", "Yem")
CITIES = ("Mib", "Dun", "Fal", "Gor", "Hix", "Jat", "Nob", "Qui")
DECIDED = 5  # words after which the next one is known
PLURAL = {noun + "s" for noun in NOUNS}


def sentences(seed, count):
    """The verb agrees with the first noun, not with the nearer one, the pronoun with the name, the city with the country."""
    draw = random.Random(seed)
    for _ in range(count):
        match draw.randrange(3):
            case 0:
                noun, ending = draw.choice([("s", ""), ("", "s")])
                near = draw.choice(NOUNS) + draw.choice(["", "s"])
                yield f"the {draw.choice(NOUNS)}{noun} near the {near} {draw.choice(VERBS)}{ending} ."
            case 1:
                names, pronoun = draw.choice([(SHE, "she"), (HE, "he")])
                yield f"{draw.choice(names)} lost the {draw.choice(THINGS)} . {pronoun} cries ."
            case 2:
                number = draw.randrange(len(COUNTRIES))
                yield f"the capital of {COUNTRIES[number]} is {CITIES[number]} ."


class Planted(NamedTuple):
    model: LanguageModel
    ids: dict[str, int]
    rows: torch.Tensor  # (B, 5): each way in which a sentence can begin, once

    def tokens(self, text):
        return torch.tensor([self.ids[word] for word in text.split()])

    def pair(self, text, answer, other_text, other_answer):
        return Pair(self.tokens(text), self.ids[answer], self.tokens(other_text), self.ids[other_answer])

    def agreement(self):
        """The number of the distractor is the same in both texts: with one, and with the other."""
        return [
            self.pair(f"the {noun}s near the {near}", verb, f"the {noun} near the {near}", f"{verb}s")
            for noun, verb in zip(NOUNS, itertools.cycle(VERBS), strict=False)
            for near in ("cat", "cats")
        ]

    def pronouns(self):
        return [
            self.pair(f"{she} lost the {thing} .", "she", f"{he} lost the {thing} .", "he")
            for she, he, thing in zip(SHE, HE, THINGS, strict=True)
        ]

    def facts(self):
        known = [(f"the capital of {country} is", city) for country, city in zip(COUNTRIES, CITIES, strict=True)]
        return [self.pair(*one, *other) for one, other in itertools.pairwise(known)]


def train(seed):
    """2 layers, 600 steps: a second or three on one thread, and more on several, which have too little to do."""
    corpus = [sentence.split() for sentence in sentences(seed=1, count=2000)]
    ids = {word: id for id, word in enumerate(sorted({word for words in corpus for word in words}))}
    T = max(map(len, corpus))
    rows = torch.tensor([[ids[word] for word in words + ["."] * (T - len(words))] for words in corpus])
    shape = {"n_layer": 2, "n_head": 4, "n_embd": 32, "n_inner": 128, "dropout": 0.0}
    model = build_model(GPTConfig(vocab_size=len(ids), context_length=T, **shape), seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(600):
        batch = rows[torch.randint(len(rows), (64,), generator=generator)]
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Planted(model.eval(), ids, rows[:, :DECIDED].unique(dim=0))


@pytest.fixture(scope="module")
def planted():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield train(seed=3)
    torch.set_num_threads(threads)


KINDS = ("agreement", "pronouns", "facts")


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_of_every_pair_prefers_what_was_planted(planted, kind):
    found = attribute(planted.model, getattr(planted, kind)())
    assert found.right == 1 and found.preference > 2


@pytest.mark.parametrize("kind", KINDS)
def test_attention_brings_the_answer_to_where_it_is_needed(planted, kind):
    """The last token is the same in both texts of each pair: only attention can tell them apart there. Few of the eight heads
    bring most of it."""
    found = attribute(planted.model, getattr(planted, kind)())
    assert found.attention.max() > 0.5
    heads = found.heads.flatten().sort(descending=True).values
    assert heads[0] > 0.15 and heads[4:].max() < heads[0] / 2


@pytest.mark.parametrize(("kind", "subject"), [("agreement", 1), ("pronouns", 0), ("facts", 3)])
def test_the_difference_goes_from_the_subject_to_the_end_and_is_nowhere_else(planted, kind, subject):
    for pair in getattr(planted, kind)():
        share = carried(planted.model, pair)  # (L + 1, T)
        T = len(pair.text)
        assert share.shape == (3, T)
        elsewhere = [t for t in range(T) if t != subject]
        torch.testing.assert_close(share[0, subject], torch.tensor(1.0))  # at first all of it is at the subject,
        torch.testing.assert_close(share[2, T - 1], torch.tensor(1.0))  # and at last all of it at the end
        assert share[0, elsewhere].abs().max() < 1e-6 and share[2, : T - 1].abs().max() < 1e-6
        assert share[:, :subject].numel() == 0 or share[:, :subject].abs().max() < 1e-6  # which cannot know


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_that_does_not_differ_adds_nothing(planted, kind):
    """Shares are of what is known of all pairs together: two equal texts prefer nothing, and no part of them carries it."""
    pairs = getattr(planted, kind)()
    same = [pair._replace(other_text=pair.text) for pair in pairs]
    found, alone = attribute(planted.model, [*same, *pairs]), attribute(planted.model, pairs)
    assert found.preference == pytest.approx(alone.preference / 2, abs=1e-5) and found.right == 0.75
    for part in ("heads", "attention", "mlp"):
        torch.testing.assert_close(getattr(found, part), getattr(alone, part), atol=1e-5, rtol=1e-4)


def found_neuron(planted, pairs):
    """Layer and number of the neuron that the texts of the pairs excite more, at their end, than the other texts, and that
    writes for their answers and against the others'."""
    model, done = planted.model, 0
    for pair in pairs:
        with torch.inference_mode():
            found = capture(model, torch.stack((pair.text, pair.other_text)), ["block.*.neurons"])
        for_it = []
        for layer in range(2):
            writes = neuron_writes(model, layer)
            more = found[f"block.{layer}.neurons"][0, -1] - found[f"block.{layer}.neurons"][1, -1]
            for_it.append(more.clamp(min=0) * (writes[:, pair.answer] - writes[:, pair.other_answer]))
        done = done + torch.cat(for_it)
    return divmod(int(done.argmax()), model.config.mlp_width)


def keys_and_values(planted, layer, neuron, about, k=20):
    """The beginnings of sentences with the word `about` that excite it most, and the vocabulary, first what it writes for."""
    words = list(planted.ids)
    rows = planted.rows[(planted.rows == planted.ids[about]).any(dim=1)]
    excited = most_excited(planted.model, rows, layer, k)
    contexts = [
        [words[id] for id in rows[row, : position + 1].tolist()]
        for row, position in zip(excited.row[neuron].tolist(), excited.position[neuron].tolist(), strict=True)
    ]
    order = neuron_writes(planted.model, layer)[neuron].argsort(descending=True)
    return contexts, [words[id] for id in order.tolist()]


def turned(pairs):
    return [Pair(pair.other_text, pair.other_answer, pair.text, pair.answer) for pair in pairs]


@pytest.mark.parametrize("number", ["plural", "singular"])
def test_subjects_of_a_number_excite_a_neuron_that_writes_verbs_of_this_number(planted, number):
    """All six nouns' sentences are searched; what stands nearest has the other number in half of them."""
    pairs = planted.agreement() if number == "plural" else turned(planted.agreement())
    contexts, writes = keys_and_values(planted, *found_neuron(planted, pairs), about="near")
    assert all((words[1] in PLURAL) == (number == "plural") for words in contexts)
    ending = ("", "s") if number == "plural" else ("s", "")
    assert all(writes.index(verb + ending[0]) < writes.index(verb + ending[1]) for verb in VERBS)
    assert sum(writes.index(verb + ending[0]) for verb in VERBS) / 4 < len(writes) / 2


@pytest.mark.parametrize(("pronoun", "names"), [("she", SHE), ("he", HE)])
def test_names_excite_a_neuron_that_writes_their_pronoun(planted, pronoun, names):
    pairs = planted.pronouns() if pronoun == "she" else turned(planted.pronouns())
    contexts, writes = keys_and_values(planted, *found_neuron(planted, pairs), about="lost", k=10)
    assert all(words[0] in names for words in contexts)
    assert writes.index(pronoun) < 5


def test_countries_excite_neurons_that_write_their_capitals(planted):
    """Facts share neurons, so it is asked of all eight: a country is in few of 40 contexts, and its city one of eight."""
    among_three, ranks = 0, 0
    for country, city in zip(COUNTRIES, CITIES, strict=True):
        pairs = [
            planted.pair(f"the capital of {country} is", city, f"the capital of {other} is", its)
            for other, its in zip(COUNTRIES, CITIES, strict=True)
            if other != country
        ]
        contexts, writes = keys_and_values(planted, *found_neuron(planted, pairs), about="capital", k=3)
        among_three += any(country in words for words in contexts)
        ranks += [word for word in writes if word in CITIES].index(city)
    assert among_three >= 4 and ranks / 8 < 1.5
