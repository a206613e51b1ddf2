"""Calls every public method of the Python client against a server. The argument is the file with this crate's results."""

import asyncio
import functools
import io
import json
import math
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import tinker
from tinker import types
from tinker.lib.public_interfaces.rest_client import RestClient

BASE = "tinkex/bytes-tiny"
TEXTS = ["the quick brown fox", "jumps over", "the lazy dog again and again"]
AFTER_0_4 = not tinker.__version__.startswith("0.4.")
CLIENTS = (tinker.ServiceClient, tinker.TrainingClient, tinker.SamplingClient, RestClient)
# Not for users: callbacks of the queue state, constructors from another client's internals, and local state.
INTERNAL = {"get_telemetry", "on_queue_state_change", "create"}
# Need transformers or torch. For 0.4.1 there is a stub of torch.
NEED_LARGE_PACKAGES = {"get_tokenizer"}
if AFTER_0_4:
    NEED_LARGE_PACKAGES |= {"forward_backward_custom", "forward_backward_custom_async"}


def watch_calls():
    """Wraps every public method of the clients. Returns the set of names that have not been called yet."""
    uncalled = set()

    def recorded(name, method):
        @functools.wraps(method)
        def wrapper(*arguments, **named):
            uncalled.discard(name)
            return method(*arguments, **named)

        return wrapper

    for client in CLIENTS:
        methods = {name for name in dir(client) if not name.startswith("_") and callable(getattr(client, name))}
        for name in methods - INTERNAL - NEED_LARGE_PACKAGES:
            qualified = f"{client.__name__}.{name}"
            uncalled.add(qualified)
            setattr(client, name, recorded(qualified, getattr(client, name)))
    return uncalled


def check(condition, *about):
    assert condition, about


def datum(text, **inputs):
    tokens = list(text.encode())
    targets = tokens[1:]
    inputs = inputs or {"weights": [1.0] * len(targets)}
    return types.Datum(
        model_input=types.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs={"target_tokens": targets, **inputs}
    )


def prompt(text):
    return types.ModelInput.from_ints(list(text.encode()))


def close(a, b):
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)


def train(service):
    """The same steps as examples/conformance.rs."""
    trainer = service.create_lora_training_client(BASE, rank=8, seed=1)
    batch = [datum(text) for text in TEXTS]
    losses = [trainer.forward(batch, "cross_entropy").result().metrics["loss:sum"]]
    for _ in range(5):
        # Pipelined: both are sent before either is waited for.
        backward = trainer.forward_backward(batch, "cross_entropy")
        step = trainer.optim_step(types.AdamParams(learning_rate=0.01))
        losses.append(backward.result().metrics["loss:sum"])
        check(step.result().metrics is not None)
    policy_batch = [datum("abcde", logprobs=[-1.0] * 4, advantages=[0.5, -0.5, 1.0, 0.0])]
    for loss in ("importance_sampling", "ppo"):
        losses.append(trainer.forward(policy_batch, loss).result().metrics["loss:sum"])
    sampler = trainer.save_weights_and_get_sampling_client(name="final")
    greedy = types.SamplingParams(max_tokens=12, temperature=0.0)
    greedy_sequence = sampler.sample(prompt("the "), num_samples=1, sampling_params=greedy).result().sequences[0]
    seeded = types.SamplingParams(max_tokens=12, temperature=0.9, top_k=40, top_p=0.95, seed=5)
    seeded_sequences = sampler.sample(prompt("the "), num_samples=2, sampling_params=seeded).result().sequences
    logprobs = sampler.compute_logprobs(prompt("the lazy dog")).result()
    results = {
        "losses": losses,
        "greedy": list(greedy_sequence.tokens),
        "seeded": [list(sequence.tokens) for sequence in seeded_sequences],
        "logprobs": logprobs[1:],
    }
    check(logprobs[0] is None and len(logprobs) == 12)
    return trainer, sampler, results


def compare(results, expected):
    for name in ("greedy", "seeded"):
        check(results[name] == expected[name], name, results[name], expected[name])
    for name in ("losses", "logprobs"):
        pairs = list(zip(results[name], expected[name], strict=True))
        check(all(close(a, b) for a, b in pairs), name, pairs)


def other_losses(trainer):
    text = "abcde"
    for loss in ("importance_sampling", "ppo"):
        inputs = {"logprobs": [-1.0] * 4, "advantages": [0.5, -0.5, 1.0, 0.0]}
        out = trainer.forward_backward([datum(text, **inputs)], loss).result()
        check(len(out.loss_fn_outputs[0]["logprobs"].data) == 4)
        check(math.isfinite(out.metrics["loss:sum"]))
    if AFTER_0_4:
        clip = {"clip_low_threshold": 0.9, "clip_high_threshold": 1.1}
        trainer.forward_backward([datum(text, **inputs)], "ppo", loss_fn_config=clip).result()
        trainer.optim_step(types.AdamParams(learning_rate=1e-4, weight_decay=0.01, grad_clip_norm=1.0)).result()
    else:
        custom_loss(trainer)
    # The client splits this into several requests.
    many = trainer.forward_backward([datum("abc")] * 300, "cross_entropy").result()
    check(len(many.loss_fn_outputs) == 300 and many.metrics["tokens:sum"] == 600.0)


def custom_loss(trainer):
    import torch

    class Loss:
        def __init__(self, logprobs):
            self.logprobs = logprobs

        def backward(self):
            for logprobs in self.logprobs:
                logprobs.grad = torch.tensor([-1.0] * len(logprobs.tolist()))

    def loss(data, logprobs):
        return Loss(logprobs), {"mine": 7.0}

    check(trainer.forward_backward_custom([datum("abcd")], loss).result().metrics["mine"] == 7.0)

    async def run():
        future = await trainer.forward_backward_custom_async([datum("abcd")], loss)
        return await future.result_async()

    check(asyncio.run(run()).metrics["mine"] == 7.0)


def weights(service, trainer):
    info = trainer.get_info()
    check(info.model_data.tokenizer_id == "bytes" and info.lora_rank == 8, info)
    saved = trainer.save_state("state").result().path
    check(saved.endswith("/weights/state"))
    for_sampler = trainer.save_weights_for_sampler("sampler").result().path
    trainer.load_state(saved).result()
    batch = [datum(TEXTS[0])]
    loss = trainer.forward(batch, "cross_entropy").result().metrics["loss:sum"]
    again = service.create_training_client_from_state(saved)
    check(close(again.forward(batch, "cross_entropy").result().metrics["loss:sum"], loss))
    if AFTER_0_4:
        trainer.load_state_with_optimizer(saved).result()
        service.create_training_client_from_state_with_optimizer(saved)
    sampler = service.create_sampling_client(model_path=for_sampler)
    check(len(sampler.sample(prompt("a"), 1, types.SamplingParams(max_tokens=3)).result().sequences[0].tokens) <= 3)
    unnamed = trainer.save_weights_and_get_sampling_client()
    submitted = trainer.save_weights_and_get_sampling_client_submit().result()
    check(len(trainer.create_sampling_client(for_sampler).compute_logprobs(prompt("ab")).result()) == 2)
    check(len(submitted.compute_logprobs(prompt("ab")).result()) == 2)
    if AFTER_0_4:
        check(sampler.get_base_model() == BASE and unnamed.get_base_model() == BASE)
    return saved, for_sampler


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


def rest(service, saved, for_sampler):
    client = service.create_rest_client()
    run = saved.split("/")[2]
    check(client.get_training_run(run).result().base_model == BASE)
    check(client.get_training_run_by_tinker_path(saved).result().last_checkpoint is not None)
    check(run in [r.training_run_id for r in client.list_training_runs(limit=5).result().training_runs])
    check(saved in [c.tinker_path for c in client.list_checkpoints(run).result().checkpoints])
    check(client.list_user_checkpoints(limit=50).result().cursor.total_count >= 2)
    client.publish_checkpoint_from_tinker_path(saved).result()
    public = {c.tinker_path: c.public for c in client.list_checkpoints(run).result().checkpoints}
    check(public[saved] and not public[for_sampler])
    client.unpublish_checkpoint_from_tinker_path(saved).result()

    link = client.get_checkpoint_archive_url_from_tinker_path(for_sampler).result()
    with urllib.request.urlopen(link.url) as response, tarfile.open(fileobj=io.BytesIO(response.read())) as archive:
        check(sorted(archive.getnames()) == ["adapter_config.json", "adapter_model.safetensors"])
    try:
        urllib.request.urlopen(link.url[:-1] + "x")
        check(False, "a link with a changed signature works")
    except urllib.error.HTTPError as error:
        check(error.code == 403)

    if AFTER_0_4:
        check(client.get_weights_info_by_tinker_path(saved).result().lora_rank == 8)
        client.set_checkpoint_ttl_from_tinker_path(saved, 3600).result()
        session = client.list_sessions().result().sessions[0]
        check(run in client.get_session(session).result().training_run_ids)
        sampler = client.get_session(session).result().sampler_ids[0]
        check(client.get_sampler(sampler).result().base_model == BASE)
    return client


def command_line(saved, unwanted):
    def run(*arguments):
        done = subprocess.run(["tinker", "--format", "json", *arguments], capture_output=True, text=True)
        check(done.returncode == 0, arguments, done.stdout, done.stderr)
        return json.loads(done.stdout) if done.stdout.strip().startswith(("{", "[")) else done.stdout

    run_id = saved.split("/")[2]
    run("version")
    check(run_id in json.dumps(run("run", "list")))
    check(run_id in json.dumps(run("run", "info", run_id)))
    check(saved in json.dumps(run("checkpoint", "list", "--run-id", run_id)))
    check(saved in json.dumps(run("checkpoint", "info", saved)))
    run("checkpoint", "publish", saved)
    run("checkpoint", "unpublish", saved)
    if AFTER_0_4:
        run("checkpoint", "set-ttl", saved, "--ttl", "3600")
        run("checkpoint", "set-ttl", saved, "--remove")
        with tempfile.TemporaryDirectory() as folder:
            run("checkpoint", "download", saved, "--output", folder)
            check(list(Path(folder).glob("*/adapter_model.safetensors")), list(Path(folder).rglob("*")))
    # 0.16.1 documents paths here too, but fails: its command named `list` shadows the built-in.
    other_run = unwanted.split("/")[2]
    run("checkpoint", "delete", "--yes", *(["--run-id", other_run] if AFTER_0_4 else [unwanted]))
    check(unwanted not in json.dumps(run("checkpoint", "list", "--run-id", other_run)))


def errors(service, trainer):
    def rejected(kind, act):
        try:
            act()
        except kind:
            return
        check(False, "not rejected", kind)

    rejected(tinker.APIStatusError, lambda: service.create_lora_training_client("no/such-model"))
    bad = types.Datum(
        model_input=types.ModelInput.from_ints([1, 2]),
        loss_fn_inputs={"target_tokens": [2, 99999], "weights": [1.0, 1.0]},
    )
    rejected(tinker.BadRequestError, lambda: trainer.forward_backward([bad], "cross_entropy").result())
    rejected(tinker.RequestFailedError, lambda: trainer.load_state("tinker://x/weights/y").result())


async def asynchronous(service, saved):
    """The asynchronous form of every method."""
    names = [model.model_name for model in (await service.get_server_capabilities_async()).supported_models]
    check(BASE in names, names)
    # 0.4.1 does not restore from a checkpoint which layers are trained.
    parts = {"train_mlp": False} if AFTER_0_4 else {}
    trainer = await service.create_lora_training_client_async(BASE, rank=2, user_metadata={"a": "b"}, **parts)
    check((await trainer.get_info_async()).lora_rank == 2)
    future = await trainer.forward_backward_async([datum("async")], "cross_entropy")
    step = await trainer.optim_step_async(types.AdamParams())
    await future.result_async()
    await step.result_async()
    loss = (await (await trainer.forward_async([datum("async")], "cross_entropy")).result_async()).metrics["loss:sum"]

    state = (await (await trainer.save_state_async("later")).result_async()).path
    named = (await (await trainer.save_weights_for_sampler_async("later")).result_async()).path
    await (await trainer.load_state_async(state)).result_async()
    again = await service.create_training_client_from_state_async(state)
    future = await again.forward_async([datum("async")], "cross_entropy")
    check(close((await future.result_async()).metrics["loss:sum"], loss))
    if AFTER_0_4:
        await (await trainer.load_state_with_optimizer_async(state)).result_async()
        await service.create_training_client_from_state_with_optimizer_async(state)
        check(await (await trainer.create_sampling_client_async(named)).get_base_model_async() == BASE)
        await service.create_sampling_client_async(model_path=named)

    sampler = await trainer.save_weights_and_get_sampling_client_async()
    params = types.SamplingParams(max_tokens=2)
    await asyncio.gather(*(sampler.sample_async(prompt("a"), 1, params) for _ in range(100)))
    logprobs = await sampler.compute_logprobs_async(prompt("abc"))
    check(logprobs[0] is None and len(logprobs) == 3)

    client = service.create_rest_client()
    run, checkpoint = saved.split("/")[2], "/".join(named.split("/")[3:])
    check((await client.get_training_run_async(run)).training_run_id == run)
    check((await client.get_training_run_by_tinker_path_async(state)).user_metadata == {"a": "b"})
    check(len((await client.list_training_runs_async(limit=1)).training_runs) == 1)
    check(saved in [c.tinker_path for c in (await client.list_checkpoints_async(run)).checkpoints])
    check(len((await client.list_user_checkpoints_async(limit=1, offset=1)).checkpoints) == 1)
    await client.publish_checkpoint_from_tinker_path_async(state)
    await client.unpublish_checkpoint_from_tinker_path_async(state)
    check((await client.get_checkpoint_archive_url_async(named.split("/")[2], checkpoint)).url)
    check((await client.get_checkpoint_archive_url_from_tinker_path_async(named)).url)
    if AFTER_0_4:
        await client.set_checkpoint_ttl_from_tinker_path_async(state, 60)
        sessions = (await client.list_sessions_async()).sessions
        samplers = [one for session in sessions for one in (await client.get_session_async(session)).sampler_ids]
        check((await client.get_sampler_async(samplers[0])).base_model == BASE)
    await client.delete_checkpoint_async(named.split("/")[2], checkpoint)
    await client.delete_checkpoint_from_tinker_path_async(state)


def deleted(client, trainer, for_sampler):
    """The blocking ways to delete a checkpoint."""
    other = trainer.save_weights_for_sampler("other").result().path
    client.get_checkpoint_archive_url(other.split("/")[2], "sampler_weights/other").result()
    client.delete_checkpoint(other.split("/")[2], "sampler_weights/other").result()
    client.delete_checkpoint_from_tinker_path(for_sampler).result()
    left = [c.tinker_path for c in client.list_user_checkpoints().result().checkpoints]
    check(other not in left and for_sampler not in left, left)


def main():
    with open(sys.argv[1]) as file:
        expected = json.load(file)
    uncalled = watch_calls()
    service = tinker.ServiceClient()
    names = [model.model_name for model in service.get_server_capabilities().supported_models]
    check(BASE in names, names)
    trainer, _, results = train(service)
    compare(results, expected)
    other_losses(trainer)
    saved, for_sampler = weights(service, trainer)
    samples(service)
    client = rest(service, saved, for_sampler)
    unwanted = service.create_lora_training_client(BASE, rank=1).save_state("unwanted").result().path
    command_line(saved, unwanted)
    errors(service, trainer)
    asyncio.run(asynchronous(service, saved))
    deleted(client, trainer, for_sampler)
    check(not uncalled, "public methods that were not called", sorted(uncalled))


main()
