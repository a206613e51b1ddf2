"""Calls every public method of the Python client, and every command of its program, against a server.

The argument is the file with this crate's results.
"""

import asyncio
import json
import os
import sys
import warnings

# Deprecated methods are called, too.
warnings.simplefilter("ignore")

import tinker

import accounts
import sampling
import stored
import training
from asynchronous import asynchronous
from commands import command_line
from common import BASE, RestClient, check
from watch import LEFT_OUT, watch_calls


def main():
    with open(sys.argv[1]) as file:
        expected = json.load(file)
    uncalled = watch_calls()
    service = tinker.ServiceClient()
    names = [model.model_name for model in service.get_server_capabilities().supported_models]
    check(BASE in names, names)
    of_2026 = hasattr(tinker, "AdminClient")
    config = getattr(service.holder, "_client_config", None)
    jwt = getattr(config, "pjwt_auth_enabled", False)

    trainer, sampler, results = training.train(service)
    training.compare(results, expected)
    training.other_losses(trainer)
    training.custom_losses(service, trainer)
    if of_2026:
        training.provenance(sampler, trainer)
        training.optimizers(service, trainer)
    saved, for_sampler = stored.weights(service, trainer)
    sampling.samples(service)
    client = service.create_rest_client()
    stored.rest(client, saved, for_sampler)
    run, session = saved.split("/")[2], None
    if hasattr(client, "list_sessions"):
        session = accounts.sessions(client, run)
    if hasattr(client, "assign_session_project"):
        accounts.projects(client, session, run)
        accounts.trace(client, session)
        accounts.identity(client, jwt)
        accounts.organization(client, session)
    if of_2026:
        sampling.inflight(trainer)
        sampling.clones(service)
        sampling.cancelled(service)
        stored.checkpoints_of_2026(service, trainer, client)
        accounts.organization(tinker.AdminClient(), session)
        accounts.console(service, trainer)
        accounts.ends(client)
        accounts.auth()
        check(RestClient().get_server_capabilities().result().supported_models[0].trainable)
    unwanted = service.create_lora_training_client(BASE, rank=1).save_state("unwanted").result().path
    command_line(uncalled, saved, unwanted, session, jwt)
    training.refused(service, trainer)
    asyncio.run(asynchronous(service, client, saved))
    stored.deleted(client, trainer, for_sampler)
    telemetry(service, trainer, sampler, client)
    uncalled -= set(LEFT_OUT)
    check(not uncalled, "public methods that were not called", sorted(uncalled))
    if hasattr(service, "close"):
        service.close("success").result()


def telemetry(service, trainer, sampler, client):
    clients = [service, trainer, sampler, client]
    if hasattr(tinker, "AdminClient"):
        clients.append(tinker.AdminClient())
    for one in clients:
        check((one.get_telemetry() is None) == (os.environ["TINKER_TELEMETRY"] == "0"), one)
    if hasattr(tinker.SamplingClient, "create"):
        check(tinker.SamplingClient.create(service.holder, base_model=BASE).result())


main()
