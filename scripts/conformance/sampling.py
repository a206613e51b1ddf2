"""Samples and logprobs."""

import pickle
import time

import numpy as np
import tinker
from tinker import types

from common import BASE, accepts, all_close, check, close, datum, prompt


def samples(service):
    sampler = service.create_sampling_client(base_model=BASE)
    sample = lambda **params: sampler.sample(
        prompt("hello"),
        num_samples=params.pop("num_samples", 1),
        sampling_params=types.SamplingParams(**params),
        include_prompt_logprobs=True,
        topk_prompt_logprobs=3,
    ).result()
    out = sample(max_tokens=4, temperature=0.5, top_k=5, top_p=0.9, seed=3, num_samples=3)
    check(len(out.sequences) == 3 and all(len(s.tokens) == len(s.logprobs) <= 4 for s in out.sequences))
    check(out.prompt_logprobs[0] is None and len(out.prompt_logprobs) == 5)
    check(out.topk_prompt_logprobs[0] is None and len(out.topk_prompt_logprobs[4]) == 3)
    greedy = sample(max_tokens=6, temperature=0.0).sequences[0].tokens
    stop = sample(max_tokens=6, temperature=0.0, stop=[greedy[2]]).sequences[0]
    check(stop.stop_reason == "stop" and len(stop.tokens) <= 3)
    sample(max_tokens=6, stop="nothing like it")
    sample(max_tokens=6, stop=["one", "two"])
    check(sample().sequences[0].stop_reason in ("stop", "length"))
    if accepts(sampler.sample, "prompt_logprobs_last_n") or hasattr(tinker, "BackcompatSamplingClientFuture"):
        samples_of_2026(service.create_sampling_client(base_model=BASE).result())


def samples_of_2026(sampler):
    text = "hello, hello, hello"
    n = len(text)
    greedy = types.SamplingParams(max_tokens=6, temperature=0.0)
    plain = sampler.sample(prompt(text), 2, greedy, include_prompt_logprobs=True).result()
    ids = [sequence.sequence_id for sequence in plain.sequences]
    check(all(ids) and len(set(ids)) == 2, ids)

    out = sampler.sample(prompt(text), 1, greedy, topk_sample_logprobs=3).result()
    sequence = out.sequences[0]
    check(sequence.tokens == plain.sequences[0].tokens, sequence, plain)
    for token, logprob, top in zip(sequence.tokens, sequence.logprobs, sequence.topk_logprobs, strict=True):
        check(len(top) == 3 and top[0][0] == token and close(top[0][1], logprob), token, logprob, top)
    check(out.prompt_cache_hit_tokens > 0, out.prompt_cache_hit_tokens)

    ordinals = list(text.encode())
    wanted = [[token, -1] for token in ordinals[1:]]
    dense = types.TensorData(data=np.array(wanted), dtype="int64", shape=[n - 1, 2])
    crow, col = list(range(n)), [0] * (n - 1)
    sparse = types.TensorData(
        data=ordinals[1:], dtype="int64", shape=[n - 1, 1], sparse_crow_indices=crow, sparse_col_indices=col
    )
    for targets, width in ((dense, 2), (sparse, 1)):
        scored = sampler.sample(prompt(text), 1, greedy, target_prompt_logprobs=targets).result().target_prompt_logprobs
        check(scored.shape == [n - 1, width] and scored.dtype == "float32", scored)
        check(all_close(scored.data[::width], plain.prompt_logprobs[1:]), scored.data, plain.prompt_logprobs)
        check(width == 1 or all(unasked == 0.0 for unasked in scored.data[1::2]), scored.data)

    alternatives = sampler.sample(prompt(text), 1, greedy, prompt_alt_tokens_k=2).result().prompt_alt_tokens
    check(alternatives.tokens.shape == alternatives.logprobs.shape == [n - 1, 2], alternatives)
    check(all(logprob <= 0.0 for logprob in alternatives.logprobs.data), alternatives.logprobs)

    last = sampler.compute_logprobs(prompt(text), prompt_logprobs_last_n=3).result()
    check(last[:-3] == [None] * (n - 3) and all_close(last[-3:], plain.prompt_logprobs[-3:]), last)

    endless = sampler.sample(prompt(text), 1, types.SamplingParams(max_tokens=6, temperature=0.0, stop=[])).result()
    check(endless.sequences[0].stop_reason == "length" and len(endless.sequences[0].tokens) == 6, endless)


def clones(service):
    """Clients of one sampler that are made in other processes; here, in the same."""
    base = service.create_sampling_client(base_model=BASE, record_stability_info=True)
    greedy = types.SamplingParams(max_tokens=4, temperature=0.0)
    own = base.sample(prompt("clone"), 1, greedy).result().sequences[0]
    handle = base.get_sampler_handle()
    others = [
        tinker.SamplingClient.from_sampler_handle(handle, api_key=service.holder._api_key),
        tinker.SamplingClient.from_sampler_handle(handle, api_key=service.holder._api_key),
        pickle.loads(pickle.dumps(base.result())),
    ]
    for clone in others:
        sequence = clone.sample(prompt("clone"), 1, greedy).result().sequences[0]
        check(sequence.tokens == own.tokens and sequence.sequence_id != own.sequence_id, sequence, own)
        check(clone.get_base_model() == BASE)
    numbers = [clone._cloned_sampler_id for clone in others]
    check(all(numbers) and len(set(numbers)) == 3, numbers)


def inflight(trainer):
    """Samplers that share the model's newest weights, and snapshots that keep theirs."""
    logprobs = lambda sampler, text: sampler.compute_logprobs(prompt(text)).result()[1:]
    snapshot = trainer.save_weights_and_get_sampling_client()
    shared = trainer.save_weights_and_get_sampling_client(kind="inflight")
    before = logprobs(snapshot, "first")
    check(all_close(logprobs(shared, "first"), before))
    trainer.forward_backward([datum("first and second")], "cross_entropy")
    trainer.optim_step(types.AdamParams(learning_rate=0.05)).result()
    newest = trainer.save_weights_and_get_sampling_client(kind="inflight")
    # Another prompt: the sampler may reuse what it has computed with the weights before.
    moved = logprobs(newest, "second")
    check(all_close(logprobs(shared, "second"), moved), moved)
    check(not all_close(logprobs(snapshot, "second"), moved), moved)
    check(all_close(logprobs(snapshot, "first"), before), before)


def cancelled(service, polled=lambda: True):
    """A sample that is given up. If `sample_cancel_enabled`, the client tells the server, once it has polled for the sample."""
    sampler = service.create_sampling_client(base_model=BASE).result()
    future = sampler.sample(prompt("endless"), 4, types.SamplingParams(max_tokens=200, stop=[])).future()
    wait_until(polled)
    check(future.cancel())
    # The next sample does not wait for the one that was given up.
    check(sampler.sample(prompt("a"), 1, types.SamplingParams(max_tokens=1)).result().sequences)


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        check(time.monotonic() < deadline, "waited for 30 seconds")
        time.sleep(0.01)
