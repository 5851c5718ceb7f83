import re

import torch

import glassgpt.machine
from glassgpt.cli.doctor import doctor
from glassgpt.machine import Decision


def test_compilation_is_tried_where_training_would_be(monkeypatch, capsys):
    """There may be a compiler for the processor and none for the GPU, or the other way round."""
    compiled_for = []
    ones = torch.ones

    def watched(*size, device=None, **more):
        if size == (64,):
            compiled_for.append(str(device))
        return ones(*size, device=device, **more)

    monkeypatch.setattr(torch, "ones", watched)
    monkeypatch.setattr(torch, "compile", lambda function: function)
    monkeypatch.setattr(glassgpt.machine, "decide_device", lambda: Decision("cpu:0", "a name that only it has"))
    doctor()
    assert compiled_for == ["cpu:0"]
    assert re.search(r"compile +works here", capsys.readouterr().out)


def test_a_compiler_that_fails_is_one_line(monkeypatch, capsys):
    def failing(function):
        raise RuntimeError("no C++ compiler\nwas found\n")

    monkeypatch.setattr(torch, "compile", failing)
    doctor()
    out = capsys.readouterr().out
    assert re.search(r"compile +torch.compile failed here \(no C\+\+ compiler\)", out)
    assert re.search(r"one training step +ok", out) and re.search(r"one generation +ok", out)
