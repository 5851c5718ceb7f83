"""The tables of `inspect`."""

import re

from rich.console import Console

from glassgpt.cli.inspect_tables import neurons_of, pair_of, parts_of, percent, unexpected_of


def test_a_token_that_looks_like_a_style_is_text(capsys):
    tag = "[/b]"
    key = {"before": tag, "text": tag, "activation": 1.0}
    neuron = {
        "layer": 0, "neuron": 3, "activation": 1.0, "adds": 0.5, "against": False, "keys": [key], "values": [tag],
    }  # fmt: skip
    console = Console(width=200)
    console.print(neurons_of({"next": [(tag, 1.0)], "neurons": [neuron], "signs": ""}))
    console.print(
        pair_of({
            "texts": [[tag], ["x"]], "answers": [tag, "y"], "probabilities": [[1, 0], [0, 1]], "known": False, "about": "",
        })
    )  # fmt: skip
    assert capsys.readouterr().out.count(tag) == 6
    console.print(neurons_of({"next": [(tag, 1.0)], "neurons": [neuron | {"adds": None}], "signs": ""}))
    assert "neurons that are furthest from 0" in capsys.readouterr().out


def test_a_neuron_is_shown_with_its_sign_and_its_context_to_the_end(capsys):
    """In a terminal of the usual width."""
    key = {"before": "some<e2><80> = {", "text": " import", "activation": 2.0}
    neuron = {
        "layer": 11, "neuron": 3071, "activation": -0.17, "adds": 0.5, "against": True, "keys": [key],
        "values": ["a"] * 3,
    }  # fmt: skip
    active = neuron | {"activation": 3.25, "against": False, "keys": []}
    Console(width=80).print(
        neurons_of({"next": [("x", 1.0)], "neurons": [neuron, active], "signs": "What a minus means."})
    )
    _, _, first, *_, second, note = capsys.readouterr().out.splitlines()
    assert "-0.17" in first and "  <80>·=·{[·import]  against: [a] [a] [a]" in first
    assert "+3.25" in second and "nothing here" in second and "against" not in second and note == "What a minus means."


def test_what_was_expected_is_no_surprise():
    """However unlikely it was beside all the others."""
    tokens = [
        {"text": "a"},
        {"text": "b", "probability": 0.3, "rank": 1},
        {"text": "c", "probability": 0.4, "rank": 2},
        {"text": "d", "probability": 0.1, "rank": 3},
    ]
    assert [token["text"] for token in unexpected_of(tokens)] == ["d", "c"]


def test_small_shares_keep_their_digits():
    words = {0.4869: "49%", 0.0996: "10%", 0.0123: "1.2%", 0.0000072: "0.00072%", 1e-7: "<0.0001%", 0.0: "<0.0001%"}
    assert {p: percent(p) for p in words} == words


WHOLE = {"loss": 2.0, "least": 0.0005}


def test_parts_that_are_in_the_way_are_shown_too(capsys):
    console = Console(width=80)
    lost = {
        "loss": 2.0,
        "least": 0.0005,
        "heads": [[0.5, -0.25, 0.0001]],
        "attention": [-1.0],
        "mlp": [-0.0001],
        "embedding": {},
    }
    console.print(parts_of(lost))
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert [re.split(" {2,}", row.strip()) for row in rows] == [
        ["layer 0, head 0", "+0.500"],
        ["layer 0, attention", "-1.000", "better without it"],
        ["layer 0, head 1", "-0.250", "better without it"],
    ]
    console.print(
        parts_of(
            {
                "loss": 2.0,
                "least": 0.0005,
                "heads": [[0.5]],
                "attention": [0.25],
                "mlp": [0.125],
                "embedding": {"embedding.2-gram": 1},
            }
        )
    )
    out = capsys.readouterr().out
    assert "better without" not in out and "no part is in the way" in out and "no part helps" not in out
    assert re.search("2-gram embedding +[+]1.000", out)
    console.print(parts_of(WHOLE | {"heads": [[0]], "attention": [-0.25], "mlp": [-0.125], "embedding": {}}))
    out = capsys.readouterr().out
    assert (
        "no part helps: the loss never grows by 0.0005 nats when one is left out" in out
        and "no part is in the way" not in out
    )
