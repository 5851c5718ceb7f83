# %% [markdown]
# # 10. What the heads learn
# Random tokens that come again: nothing in them means anything, so the only way to know what comes next is to find
# where the present token stood before, and to say what followed it there. It takes two layers: a head of the first one
# writes into each position which token stood before it; a head of the second one looks for its own token there (an
# induction head; Olsson et al. 2022, 2209.11895).

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from glassgpt.config import GPTConfig, TrainConfig
from glassgpt.inspection import capture, edited, head_scores
from glassgpt.model import build_model
from glassgpt.train.optimizer import build_optimizer

V, T, ROWS, STEPS, EVERY = 24, 40, 32, 400, 25
config = GPTConfig(architecture="modern", vocab_size=V, context_length=T, n_layer=2, n_head=2, n_embd=48)
model = build_model(config, seed=5)


def repeated(generator: torch.Generator) -> torch.Tensor:
    """Rows of 6 to 18 random tokens that come again and again: (ROWS, T). Since each row has a length of its own, no fixed
    distance helps."""
    lengths = torch.randint(6, 19, (ROWS, 1), generator=generator)
    return torch.randint(V, (ROWS, T), generator=generator).gather(1, torch.arange(T) % lengths)


# %% [markdown]
# Trained as glassgpt trains: Muon for the matrices, AdamW for the rest.

# %%
train = TrainConfig(max_steps=STEPS, optimizer="muon", learning_rate=1e-2, matrix_learning_rate=0.02, batch_size=ROWS)
optimizer = build_optimizer(model, train)
generator = torch.Generator().manual_seed(1)
steps, losses, previous, induction = [], [], [], []
print(f"{'step':>5} {'loss':>7}   token before{'':>18}what followed it earlier")
for step in range(STEPS + 1):
    tokens = repeated(generator)
    logits = model(tokens[:, :-1])
    loss = F.cross_entropy(
        logits[:, T // 2 :].flatten(0, 1), tokens[:, T // 2 + 1 :].flatten()
    )  # where all has come before
    if step % EVERY == 0:
        scores = head_scores(model)
        steps.append(step)
        losses.append(loss.item())
        previous.append(scores.previous_token.flatten().tolist())
        induction.append(scores.induction.flatten().tolist())
        if step % (2 * EVERY) == 0:
            row = ["".join(f"{v:7.2f}" for v in shares[-1]) for shares in (previous, induction)]
            print(f"{step:>5} {losses[-1]:>7.3f} {row[0]}  {row[1]}", flush=True)
    model.zero_grad()
    loss.backward()
    for group in optimizer.groups:
        group.learning_rate = group.rate * 1e-2 * min(1.0, 2 * (1 - step / (STEPS + 1)))
    optimizer.step()

# %%
names = [f"layer {i}, head {j}" for i in range(2) for j in range(2)]
best = max(range(4), key=lambda head: induction[-1][head])
before = max(range(4), key=lambda head: previous[-1][head])
print(f"\n{names[before]} looks at the token before ({previous[-1][before]:.2f}),")
print(f"{names[best]} is an induction head ({induction[-1][best]:.2f})")

# %% [markdown]
# Do they matter? The loss where all has come before, with heads silenced. Of two induction heads either one is enough, so that
# what both are worth shows only when both are gone; without the head that tells them what came before, they are lost.


# %%
def loss_without(layer: int, silenced: list[int], tokens: torch.Tensor) -> float:
    kept = torch.tensor([head not in silenced for head in range(2)]).view(1, 2, 1, 1)
    with edited(model, {f"block.{layer}.heads": lambda heads: heads * kept}), torch.inference_mode():
        logits = model(tokens[:, :-1])
    return F.cross_entropy(logits[:, T // 2 :].flatten(0, 1), tokens[:, T // 2 + 1 :].flatten()).item()


test = repeated(generator)
whole, both = loss_without(1, [], test), loss_without(1, [0, 1], test)
lost = [loss_without(head // 2, [head % 2], test) for head in range(4)]
print(f"\nloss on new rows: whole model {whole:.2f}; without both heads of layer 1 {both:.2f}; and without")
print(", ".join(f"{name}: {loss:.2f}" for name, loss in zip(names, lost, strict=True)))

# %%
half = torch.randint(V, (1, 9), generator=generator)
weights = capture(model, torch.cat((half, half), dim=1), ["block.*.weights"])
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained", width_ratios=(2, 1, 1))
left.plot(steps, [loss / losses[0] for loss in losses], color="#636363", label="loss (of the first)")
left.plot(steps, [row[before] for row in previous], color="#2171b5", label=f"{names[before]}: token before")
left.plot(steps, [row[best] for row in induction], color="#d94801", label=f"{names[best]}: induction")
left.set(xlabel="step", ylabel="share of attention; of the first loss", ylim=(0, 1.05))
left.legend(frameon=False, fontsize="small")
for axes, head in ((middle, before), (right, best)):
    axes.imshow(weights[f"block.{head // 2}.weights"][0, head % 2].detach().numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set(title=names[head], xlabel="looks at", ylabel="position", xticks=range(0, 18, 3), yticks=range(0, 18, 3))
Path("figures").mkdir(exist_ok=True)
figure.savefig("figures/10_induction_heads.png", dpi=120)
