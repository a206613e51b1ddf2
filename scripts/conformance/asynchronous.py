"""The asynchronous form of every method."""

import asyncio

import tinker
from tinker import types

from accounts import hours
from common import BASE, check, close, datum, loss_of, prompt

AFTER_0_4 = not tinker.__version__.startswith("0.4.")


async def asynchronous(service, client, saved):
    names = [model.model_name for model in (await service.get_server_capabilities_async()).supported_models]
    check(BASE in names, names)
    # 0.4.1 does not restore from a checkpoint which layers are trained.
    parts = {"train_mlp": False} if AFTER_0_4 else {}
    trainer = await service.create_lora_training_client_async(BASE, rank=2, user_metadata={"a": "b"}, **parts)
    if hasattr(tinker, "BackcompatTrainingClientFuture"):
        # The future stands for the client, as in programs written for earlier versions.
        trainer = service.create_lora_training_client(BASE, rank=2, user_metadata={"a": "b"}, **parts)
    check((await trainer.get_info_async()).lora_rank == 2)
    future = await trainer.forward_backward_async([datum("async")], "cross_entropy")
    step = await trainer.optim_step_async(types.AdamParams())
    await future.result_async()
    await step.result_async()
    loss = loss_of(await (await trainer.forward_async([datum("async")], "cross_entropy")).result_async())

    state = (await (await trainer.save_state_async("later")).result_async()).path
    named = (await (await trainer.save_weights_for_sampler_async("later")).result_async()).path
    await (await trainer.load_state_async(state)).result_async()
    again = await service.create_training_client_from_state_async(state)
    future = await again.forward_async([datum("async")], "cross_entropy")
    check(close(loss_of(await future.result_async()), loss))
    if AFTER_0_4:
        await (await trainer.load_state_with_optimizer_async(state)).result_async()
        await service.create_training_client_from_state_with_optimizer_async(state)
        check(await (await trainer.create_sampling_client_async(named)).get_base_model_async() == BASE)
        await service.create_sampling_client_async(model_path=named)

    await trainer.save_weights_and_get_sampling_client_async()
    sampler = service.create_sampling_client(model_path=named)
    params = types.SamplingParams(max_tokens=2)
    await asyncio.gather(*(sampler.sample_async(prompt("a"), 1, params) for _ in range(100)))
    logprobs = await sampler.compute_logprobs_async(prompt("abc"))
    check(logprobs[0] is None and len(logprobs) == 3)
    if hasattr(sampler, "result_async"):
        await futures(service, trainer, sampler)
    await rest(client, saved, state, named)


async def futures(service, trainer, sampler):
    """The futures of clients, which are clients themselves."""
    check(await sampler.get_base_model_async() == BASE)
    for client in (trainer, sampler):
        check(type(client).__name__ not in repr(await client.result_async()))
        check(await client.coroutine() is client.future().result())
    check(await service.create_sampling_client(base_model=BASE).coroutine())
    check((await trainer.forward([datum("ab")], "cross_entropy").coroutine()).metrics)
    external = await (await trainer.save_weights_external_async("later")).result_async()
    check(external.path.endswith("/external_weights/later"))


async def rest(client, saved, state, named):
    run, checkpoint = saved.split("/")[2], "/".join(named.split("/")[3:])
    named_run = named.split("/")[2]
    check((await client.get_training_run_async(run)).training_run_id == run)
    check((await client.get_training_run_by_tinker_path_async(state)).user_metadata == {"a": "b"})
    check(len((await client.list_training_runs_async(limit=1)).training_runs) == 1)
    check(saved in [c.tinker_path for c in (await client.list_checkpoints_async(run)).checkpoints])
    check(len((await client.list_user_checkpoints_async(limit=1, offset=1)).checkpoints) == 1)
    await client.publish_checkpoint_from_tinker_path_async(state)
    await client.unpublish_checkpoint_from_tinker_path_async(state)
    if hasattr(client, "get_checkpoint_archive_url_async"):
        check((await client.get_checkpoint_archive_url_async(named_run, checkpoint)).url)
        check((await client.get_checkpoint_archive_url_from_tinker_path_async(named)).url)
    if AFTER_0_4:
        await client.set_checkpoint_ttl_from_tinker_path_async(state, 3600)
        sessions = (await client.list_sessions_async()).sessions
        samplers = [one for session in sessions for one in (await client.get_session_async(session)).sampler_ids]
        check((await client.get_sampler_async(samplers[0])).base_model == BASE)
    if hasattr(client, "assign_session_project_async"):
        await client.assign_session_project_async(sessions[0], "conformance")
        check((await client.export_session_trace_async(sessions[0])).startswith("http"))
        await organization(client)
    if hasattr(tinker, "AdminClient"):
        await organization(tinker.AdminClient())
    if hasattr(client, "copy_weights_async"):
        check((await client.copy_weights_async(state, "elsewhere")).startswith("tinker://"))
        urls = await client.get_external_weights_urls_async(f"tinker://{named_run}/external_weights/later")
        check(urls.urls)
    await client.delete_checkpoint_async(named_run, checkpoint)
    await client.delete_checkpoint_from_tinker_path_async(state)


async def organization(client):
    check((await client.get_billing_usage_async(*hours())).data)
    # In 0.24.1, it works on the client's own event loop only.
    audit = client.holder.run_coroutine_threadsafe(client.get_audit_log_async())
    check((await audit.result_async()).entries)
    if hasattr(client, "get_current_checkpoint_storage_usage_async"):
        check((await client.get_current_checkpoint_storage_usage_async()).data)
