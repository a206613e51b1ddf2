"""Passes, steps and losses."""

import asyncio
import math
import typing

import tinker
from tinker import types

from common import BASE, TEXTS, accepts, all_close, check, close, datum, loss_of, policy_datum, prompt, rejected

# The losses of each version; `custom` has a method of its own.
LOSSES = [loss for loss in typing.get_args(types.LossFnType) if loss not in ("cross_entropy", "custom")]
# As in examples/conformance.rs.
SETTINGS = {
    "importance_sampling": {},
    "ppo": {"clip_low_threshold": 0.9, "clip_high_threshold": 1.1},
    "cispo": {"clip_low_threshold": 0.5, "clip_high_threshold": 1.5},
    "dro": {"beta": 0.1},
    "gspo": {"clip_low_threshold": 0.9, "clip_high_threshold": 1.1},
    "stable_reinforce": {"kl_coeff": 0.1},
}
RANKS = {"logprobs": 1, "weights": 1}


def train(service):
    """The same steps as examples/conformance.rs."""
    trainer = service.create_lora_training_client(BASE, rank=8, seed=1)
    batch = [datum(text) for text in TEXTS]
    losses = [loss_of(trainer.forward(batch, "cross_entropy").result())]
    for _ in range(5):
        # Pipelined: both are sent before either is waited for.
        backward = trainer.forward_backward(batch, "cross_entropy")
        step = trainer.optim_step(types.AdamParams(learning_rate=0.01))
        losses.append(loss_of(backward.result()))
        check(step.result().metrics is not None)
    policy = {loss: policy_losses(trainer, loss) for loss in LOSSES}
    several = several_targets(trainer) if hasattr(tinker, "AdminClient") else None
    sampler = trainer.save_weights_and_get_sampling_client()
    greedy = types.SamplingParams(max_tokens=12, temperature=0.0)
    greedy_sequence = sampler.sample(prompt("the "), num_samples=1, sampling_params=greedy).result().sequences[0]
    seeded = types.SamplingParams(max_tokens=12, temperature=0.9, top_k=40, top_p=0.95, seed=5)
    seeded_sequences = sampler.sample(prompt("the "), num_samples=2, sampling_params=seeded).result().sequences
    logprobs = sampler.compute_logprobs(prompt("the lazy dog")).result()
    check(logprobs[0] is None and len(logprobs) == 12)
    results = {
        "losses": losses,
        "policy": policy,
        "several_targets": several,
        "greedy": list(greedy_sequence.tokens),
        "seeded": [list(sequence.tokens) for sequence in seeded_sequences],
        "logprobs": list(logprobs[1:]),
    }
    return trainer, sampler, results


def policy_losses(trainer, loss):
    """With the default settings, and with others if the version can send them."""
    losses = [trainer.forward([policy_datum(loss)], loss)]
    if accepts(trainer.forward, "loss_fn_config") or hasattr(tinker, "AdminClient"):
        losses.append(trainer.forward([policy_datum(loss)], loss, loss_fn_config=SETTINGS[loss]))
    return [loss_of(future.result()) for future in losses]


def compare(results, expected):
    for name in ("greedy", "seeded"):
        check(results[name] == expected[name], name, results[name], expected[name])
    for name in ("losses", "logprobs"):
        check(all_close(results[name], expected[name]), name, results[name], expected[name])
    if (several := results["several_targets"]) is not None:
        check(close(several, expected["several_targets"]), several, expected["several_targets"])
    for loss, values in results["policy"].items():
        check(all_close(values, expected["policy"][loss][: len(values)]), loss, values, expected["policy"][loss])


def other_losses(trainer):
    for loss in LOSSES:
        out = trainer.forward_backward([policy_datum(loss)], loss).result()
        check(len(out.loss_fn_outputs[0]["logprobs"].data) == 4)
        check(math.isfinite(loss_of(out)))
    if "grad_clip_norm" in types.AdamParams.model_fields:
        trainer.optim_step(types.AdamParams(learning_rate=1e-4, weight_decay=0.01, grad_clip_norm=1.0)).result()
    # Before 0.25, the client splits this into several requests.
    many = trainer.forward_backward([datum("abc")] * 300, "cross_entropy").result()
    check(len(many.loss_fn_outputs) == 300 and many.metrics["tokens:sum"] == 600.0)


def custom_losses(service, trainer):
    """Losses that the caller computes from the logprobs."""

    def surprise(data, logprobs):
        loss = -sum(one.sum() for one in logprobs)
        return loss, {"mine": 7.0}

    plain = loss_of(trainer.forward([datum("abcd")], "cross_entropy").result())
    out = trainer.forward_backward_custom([datum("abcd")], surprise).result()
    check(out.metrics["mine"] == 7.0 and close(loss_of(out), plain), out.metrics, plain)

    async def run():
        future = await trainer.forward_backward_custom_async([datum("abcd")], surprise)
        return await future.result_async()

    check(asyncio.run(run()).metrics["mine"] == 7.0)
    if not hasattr(service, "create_custom_loss"):
        return

    if service.holder.get_client_config().custom_loss_server_side:
        return server_side_loss(service)
    created = service.create_custom_loss(weighted, RANKS).result()
    out = trainer.forward_backward_custom([datum("abcd")], created).result()
    check(close(out.metrics["custom/weighted:sum"], plain), out.metrics, plain)


def weighted(logprobs, weights):
    loss = -(logprobs * weights).sum()
    return loss, {"custom/weighted:sum": loss}


def server_side_loss(service):
    """The local server runs no custom losses, and says so."""
    created = service.create_custom_loss(weighted, RANKS)
    rejected(tinker.BadRequestError, lambda: created.result(timeout=30))


def several_targets(trainer):
    """The loss of two targets a position, dense and sparse (since 0.25)."""
    tokens = list(b"abcd")
    dense = {
        "target_tokens": [[98, 99], [99, 100], [100, 101], [101, 0]],
        "weights": [[0.75, 0.25], [0.5, 0.5], [1.0, 0.25], [1.0, 0.0]],
    }
    rows = {"sparse_crow_indices": [0, 2, 4, 6, 7], "sparse_col_indices": [0, 1, 0, 1, 0, 1, 0], "shape": [4, 2]}
    sparse = {
        "target_tokens": types.TensorData(data=[98, 99, 99, 100, 100, 101, 101], dtype="int64", **rows),
        "weights": types.TensorData(data=[0.75, 0.25, 0.5, 0.5, 1.0, 0.25, 1.0], dtype="float32", **rows),
    }
    losses = []
    for inputs in (dense, sparse):
        one = types.Datum(model_input=types.ModelInput.from_ints(tokens), loss_fn_inputs=inputs)
        out = trainer.forward([one], "cross_entropy").result()
        check(out.loss_fn_outputs[0]["logprobs"].shape == [4, 2], out.loss_fn_outputs)
        losses.append(loss_of(out))
    check(losses[0] == losses[1], losses)
    return losses[0]


def provenance(sampler, trainer):
    """A datum that says which of its tokens were sampled, and where."""
    sequence = sampler.sample(prompt("ab"), 1, types.SamplingParams(max_tokens=3, temperature=0.0)).result().sequences[0]
    check(sequence.sequence_id, sequence)
    sampled = len(sequence.tokens)
    tokens = [97, 98, *sequence.tokens]
    one = types.Datum(
        model_input=types.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": tokens[1:], "weights": [0.0] + [1.0] * sampled},
    )
    name = sequence.sequence_id
    of_prompt = lambda offset, length: tinker.PromptProvenanceSpan(sequence_id=name, offset=offset, length=length)
    of_sample = lambda offset, length: tinker.SampledProvenanceSpan(sequence_id=name, offset=offset, length=length)
    inputs = [of_prompt(0, 2)] + ([of_sample(0, sampled - 1)] if sampled > 1 else [])
    told = one.with_provenance(inputs, [of_prompt(1, 1), of_sample(0, sampled)])
    plain, with_spans = (loss_of(trainer.forward([each], "cross_entropy").result()) for each in (one, told))
    check(plain == with_spans, plain, with_spans)


def optimizers(service, trainer):
    check(trainer.get_info().optimizer_config.type == "adamw", trainer.get_info())
    trainer.optim_step(types.AdamParams(learning_rate=1e-4)).result()
    dimuon = types.DimuonOptimizerConfig()
    rejected(tinker.APIStatusError, lambda: service.create_lora_training_client(BASE, optimizer=dimuon).result())
    params = types.DimuonParams(learning_rate=0.01)
    rejected((tinker.APIStatusError, tinker.RequestFailedError), lambda: trainer.optim_step(params).result())


def refused(service, trainer):
    ready = lambda client: client.result() if hasattr(client, "result") else client
    rejected(tinker.APIStatusError, lambda: ready(service.create_lora_training_client("no/such-model")), "no/such-model")
    bad = types.Datum(
        model_input=types.ModelInput.from_ints([1, 2]),
        loss_fn_inputs={"target_tokens": [2, 99999], "weights": [1.0, 1.0]},
    )
    rejected(tinker.BadRequestError, lambda: trainer.forward_backward([bad], "cross_entropy").result(), "99999")
    rejected(tinker.RequestFailedError, lambda: trainer.load_state("tinker://x/weights/y").result())
