import torch

from glassgpt.inspection import capture, cosine_table, most_excited, neuron_writes, similar_rows
from glassgpt.inspection.capture import LAST_OF_MLP, MLP, child_of


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
    last = child_of(child_of(model.blocks[0], MLP), LAST_OF_MLP)
    one = torch.zeros(model.config.mlp_width, dtype=torch.float64)
    one[4] = 1
    added = last(one) - last(torch.zeros_like(one))
    torch.testing.assert_close(writes[4], model.unembed(added))


def test_neighbours_are_sorted_and_leave_the_token_itself_out():
    matrix = torch.tensor([[1.0, 0.0], [2.0, 0.1], [-1.0, 0.0], [0.0, 3.0]])
    cosines, rows = similar_rows(matrix, 0, k=9)
    assert rows.tolist() == [1, 3, 2]
    torch.testing.assert_close(cosines, cosine_table(matrix)[0, rows])
    assert cosine_table(matrix).diagonal().allclose(torch.ones(4))
