import copy

import pytest
import torch

from glassgpt.errors import ConfigError
from glassgpt.inspection import (
    capture,
    contributions,
    cosine_table,
    head_outputs,
    most_excited,
    neuron_contributions,
    neuron_writes,
    parts,
    similar_rows,
    stages,
)
from glassgpt.inspection.capture import last_of_mlp
from glassgpt.inspection.stream import through_norm
from glassgpt.model.lora import LoRA, attach_lora, merge_lora


def test_the_positions_that_excite_a_neuron_most_are_found(model, tokens):
    neurons = capture(model, tokens, ["block.1.neurons"])["block.1.neurons"]
    found = most_excited(model, tokens, layer=1, k=3)
    for neuron in (0, 17):
        every = sorted(((neurons[b, t, neuron].item(), b, t) for b in range(5) for t in range(7)), reverse=True)[:3]
        there = zip(
            found.activation[neuron].tolist(), found.row[neuron].tolist(), found.position[neuron].tolist(), strict=True
        )
        assert [*there] == every


def test_a_neuron_writes_what_the_stream_gains_from_it(model):
    writes = neuron_writes(model, layer=0)
    last = last_of_mlp(model.blocks[0])
    one = torch.zeros(model.config.mlp_width, dtype=torch.float64)
    one[4] = 1
    added = last(one) - last(torch.zeros_like(one))
    torch.testing.assert_close(writes[4], model.unembed(added))


def test_through_the_last_norm_as_it_came_out_a_unit_writes_what_the_neurons_contribution_is(model, tokens):
    stream = capture(model, tokens, ["block.1"])["block.1"][0, -1]
    writes = neuron_writes(model, 0, stream=stream)
    ones = torch.ones(model.config.mlp_width, dtype=torch.float64)
    for token in (0, 17):
        torch.testing.assert_close(writes[:, token], neuron_contributions(model, 0, ones, stream, torch.tensor(token)))
    assert not torch.allclose(writes, neuron_writes(model, 0))


def test_neighbours_are_sorted_and_leave_the_token_itself_out():
    matrix = torch.tensor([[1.0, 0.0], [2.0, 0.1], [-1.0, 0.0], [0.0, 3.0]])
    cosines, rows = similar_rows(matrix, [0, 3], k=9)
    assert rows.tolist() == [[1, 3, 2], [1, 0, 2]] or rows.tolist() == [[1, 3, 2], [1, 2, 0]]
    torch.testing.assert_close(cosines, cosine_table(matrix)[[0, 3]].gather(1, rows))
    assert cosine_table(matrix).diagonal().allclose(torch.ones(4))


def test_what_the_neurons_write_is_what_their_mlp_writes(model, tokens):
    """But for the bias of its last matrix, which is no neuron's."""
    found = capture(model, tokens, [*parts(model), *stages(model), "block.*.neurons"])
    wanted = tokens[:, -1]
    stream = found["block.1"][:, -1]
    whole = contributions(model, found, tokens)  # its last column: of the last token of each row
    for layer in range(2):
        written = neuron_contributions(model, layer, found[f"block.{layer}.neurons"][:, -1], stream, wanted)
        assert written.shape == (5, model.config.mlp_width)
        bias = last_of_mlp(model.blocks[layer]).bias
        rest = 0 if bias is None else through_norm(model.final_norm, bias, stream) @ model.unembedding.T
        rest = rest if bias is None else rest.gather(1, wanted[:, None])[:, 0]
        torch.testing.assert_close(written.sum(dim=-1) + rest, whole[f"block.{layer}.mlp"][:, -1])


def test_chosen_neurons_write_what_they_write_among_all(model):
    torch.testing.assert_close(neuron_writes(model, 1, torch.tensor([7, 2])), neuron_writes(model, 1)[[7, 2]])


@pytest.mark.parametrize("layer", [2, -1])
def test_a_layer_that_there_is_not_is_named(model, layer):
    with pytest.raises(ConfigError, match=f"there is no layer {layer}; the model's are 0 to 1"):
        neuron_writes(model, layer)
    with pytest.raises(ConfigError, match=f"there is no layer {layer}"):
        head_outputs(model, layer, torch.zeros(1, model.config.n_head, 2, model.config.head_width))


def test_a_neuron_that_there_is_not_is_named(model):
    last = model.config.mlp_width - 1
    for neuron in (99999, last + 1, -1):
        with pytest.raises(ConfigError, match=f"there is no neuron {neuron}; each layer's are 0 to {last}"):
            neuron_writes(model, 0, torch.tensor([3, neuron]))
    torch.testing.assert_close(
        neuron_writes(model, 0, torch.tensor([last])), neuron_writes(model, 0, slice(last, None))
    )


def test_what_parts_write_counts_adapters_in(model, tokens):
    """A model with adapters, and the same with these folded in."""
    attach_lora(model, LoRA(2, 4.0, "all"))
    with torch.no_grad():
        for name, parameter in model.double().named_parameters():
            if "lora_B" in name:
                parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    whole = copy.deepcopy(model)
    merge_lora(whole)
    torch.testing.assert_close(neuron_writes(model, 1), neuron_writes(whole, 1))
    ours, theirs = (capture(one, tokens, ["block.1.heads"])["block.1.heads"] for one in (model, whole))
    torch.testing.assert_close(head_outputs(model, 1, ours), head_outputs(whole, 1, theirs))
