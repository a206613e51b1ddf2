"""Checkpoints: saved, loaded, listed, shared, downloaded, deleted."""

import io
import tarfile
import urllib.error
import urllib.request

import tinker
from tinker import types

from common import BASE, TEXTS, accepts, check, close, datum, loss_of, prompt, rejected


def fetch(url):
    with urllib.request.urlopen(url) as response:
        return response.read()


def changed_signature_is_refused(url):
    try:
        fetch(url[:-1] + ("x" if url[-1] != "x" else "y"))
    except urllib.error.HTTPError as error:
        check(error.code == 403, error)
        return
    check(False, "a link with a changed signature works", url)


def weights(service, trainer):
    info = trainer.get_info()
    check(info.model_data.tokenizer_id == "bytes" and info.lora_rank == 8, info)
    check(trainer.get_tokenizer().name_or_path == "bytes")
    saved = trainer.save_state("state").result().path
    check(saved.endswith("/weights/state"))
    for_sampler = trainer.save_weights_for_sampler("sampler").result().path
    trainer.load_state(saved).result()
    batch = [datum(TEXTS[0])]
    loss = loss_of(trainer.forward(batch, "cross_entropy").result())
    again = service.create_training_client_from_state(saved)
    check(close(loss_of(again.forward(batch, "cross_entropy").result()), loss))
    if hasattr(trainer, "load_state_with_optimizer"):
        trainer.load_state_with_optimizer(saved).result()
        both = service.create_training_client_from_state_with_optimizer(saved)
        check(close(loss_of(both.forward(batch, "cross_entropy").result()), loss))
    sampler = service.create_sampling_client(model_path=for_sampler)
    check(len(sampler.sample(prompt("a"), 1, types.SamplingParams(max_tokens=3)).result().sequences[0].tokens) <= 3)
    unnamed = trainer.save_weights_and_get_sampling_client()
    # In a version of its own, 0.4.1 and 0.16.1 have the same as a future.
    if hasattr(trainer, "save_weights_and_get_sampling_client_submit"):
        unnamed = trainer.save_weights_and_get_sampling_client_submit().result()
    check(len(trainer.create_sampling_client(for_sampler).compute_logprobs(prompt("ab")).result()) == 2)
    check(len(unnamed.compute_logprobs(prompt("ab")).result()) == 2)
    if hasattr(sampler, "get_base_model"):
        check(sampler.get_base_model() == BASE and unnamed.get_base_model() == BASE)
    if hasattr(sampler, "get_tokenizer"):
        check(sampler.get_tokenizer().name_or_path == BASE)
    return saved, for_sampler


def rest(client, saved, for_sampler):
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
    if accepts(client.list_training_runs, "access_scope"):
        check(client.get_training_run(run, access_scope="accessible").result().training_run_id == run)
        runs = client.list_training_runs(limit=50, access_scope="accessible").result().training_runs
        check(run in [one.training_run_id for one in runs])
    if hasattr(client, "get_checkpoint_archive_url_from_tinker_path"):
        link = client.get_checkpoint_archive_url_from_tinker_path(for_sampler).result()
        with tarfile.open(fileobj=io.BytesIO(fetch(link.url))) as archive:
            check(sorted(archive.getnames()) == ["adapter_config.json", "adapter_model.safetensors"])
        changed_signature_is_refused(link.url)
        other = "/".join(for_sampler.split("/")[3:])
        check(fetch(client.get_checkpoint_archive_url(run, other).result().url))
    if hasattr(client, "get_weights_info_by_tinker_path"):
        weights_info = client.get_weights_info_by_tinker_path(saved).result()
        check(weights_info.base_model == BASE and weights_info.lora_rank == 8, weights_info)
        client.set_checkpoint_ttl_from_tinker_path(saved, 3600).result()
        client.set_checkpoint_ttl_from_tinker_path(saved, None).result()


def checkpoints_of_2026(service, trainer, client):
    """What saves and loads have learned since 0.24."""
    run = trainer.get_info().model_id
    listed = lambda: {one.tinker_path: one for one in client.list_checkpoints(run).result().checkpoints}
    noted = trainer.save_state("noted", ttl_seconds=7200, user_metadata={"step": "1"}).result().path
    check(listed()[noted].user_metadata == {"step": "1"} and listed()[noted].expires_at, listed()[noted])
    trainer.save_state("noted", overwrite=True).result()
    check(listed()[noted].expires_at is None and not listed()[noted].user_metadata, listed()[noted])
    for_sampler = trainer.save_weights_for_sampler("noted", ttl_seconds=7200, user_metadata={"step": "2"}).result().path
    check(listed()[for_sampler].user_metadata == {"step": "2"}, listed()[for_sampler])
    rejected((tinker.APIStatusError, tinker.RequestFailedError), trainer.save_state("short", ttl_seconds=1).result)
    weights_info = client.get_weights_info_by_tinker_path(noted).result()
    check(weights_info.optimizer_config.type == "adamw" and weights_info.train_unembed, weights_info)

    external = trainer.save_weights_external("adapter", ttl_seconds=3600).result()
    check(external.path == f"tinker://{run}/external_weights/adapter", external)
    check(listed()[external.path].checkpoint_type == "external", listed()[external.path])
    urls = client.get_external_weights_urls(external.path).result().urls
    check(sorted(urls) == ["adapter_config.json", "adapter_model.safetensors"], urls)
    check(sum(len(fetch(url)) for url in urls.values()) == listed()[external.path].size_bytes, urls)
    changed_signature_is_refused(urls["adapter_config.json"])
    encrypted = trainer.save_weights_external("secret", age_encryption_recipients=["age1example"])
    rejected((tinker.APIStatusError, tinker.RequestFailedError), encrypted.result)

    batch = [datum(TEXTS[0])]
    elsewhere = tinker.ServiceClient(project_id="elsewhere")
    copies = [elsewhere.copy_weights(noted, ttl_seconds=3600), client.copy_weights(noted, "elsewhere")]
    loss = loss_of(trainer.forward(batch, "cross_entropy").result())
    for copy in (copy.result() for copy in copies):
        check(copy.split("/")[2] != run, copy)
        from_copy = service.create_training_client_from_state(copy, user_metadata={"from": "copy"}).result()
        check(close(loss_of(from_copy.forward(batch, "cross_entropy").result()), loss))
    return noted, external.path


def deleted(client, trainer, for_sampler):
    """The blocking ways to delete a checkpoint."""
    other = trainer.save_weights_for_sampler("other").result().path
    client.delete_checkpoint(other.split("/")[2], "sampler_weights/other").result()
    client.delete_checkpoint_from_tinker_path(for_sampler).result()
    left = [c.tinker_path for c in client.list_user_checkpoints(limit=1000).result().checkpoints]
    check(other not in left and for_sampler not in left, left)
