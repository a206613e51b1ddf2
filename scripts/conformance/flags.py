"""Every setting that a server announces to the client, away from its default: the results stay the same.

The arguments are the file with this crate's results and the program `tinkex`.
"""

import collections
import concurrent.futures
import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import tinker
from tinker import types

import sampling
import training
from common import BASE, check, rejected


class Requests(logging.Handler):
    """The requests that the client sends, from its own log: by server, path, and whether the body is compressed.

    And the cancellations that failed, of which the client tells nobody else.
    """

    def __init__(self):
        super().__init__()
        self.paths = collections.Counter()
        self.compressed = 0
        self.failed_cancellations = []
        logger = logging.getLogger("tinker._base_client")
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        logger.addHandler(self)
        logging.getLogger("tinker.lib.internal_client_holder").addHandler(self)

    def emit(self, record):
        if "cancel" in record.msg:
            self.failed_cancellations.append(record.getMessage())
        elif record.msg.startswith("Sending HTTP Request"):
            server, path = re.fullmatch(r"(http://[^/]+)/api/v1/(.*)", str(record.args[1])).groups()
            self.paths[server, path] += 1
        elif record.msg.startswith("Request options"):
            self.compressed += "zstd" in str(record.args.get("headers"))


def compressed(requests, _server, _service):
    check(requests.compressed > 0)


def chunks(requests, server, service):
    """Three datums take two requests each time; the losses of chunks are added."""
    check(requests.paths[server, "forward_backward"] >= 2 * 6, requests.paths)


def polled_together(requests, server, _service):
    check(requests.paths[server, "retrieve_futures"] > 0)


def joined(requests, server, service):
    sampling.clones(service)
    check(requests.paths[server, "join_sampling_session"] == 3, requests.paths)


def cancelled(requests, server, service):
    polls = requests.paths[server, "retrieve_future"]
    sampling.cancelled(service, lambda: requests.paths[server, "retrieve_future"] > polls)
    sampling.wait_until(lambda: requests.paths[server, "cancel_future"] == 1)


def identified(requests, server, service):
    check(requests.paths[server, "auth/token"] > 0)
    check(service.create_rest_client().whoami().result().user_urn)


def unpaid(requests, server, service):
    """The second 402 is final."""
    trainer = service.create_lora_training_client(BASE, rank=1).result()
    rejected(tinker.BillingError, trainer.save_state("unpaid").result)


# The values away from the defaults.
VALUES = dict(line.split("=") for line in Path(__file__).with_name("settings").read_text().split())
# What else the server is told, and how a setting is seen to have been followed. For the others, equal results are all there is.
ALSO = {
    "credential_default_source": ["--flag", "pjwt_auth_enabled=true"],
    "parallel_fwdbwd_chunks": ["--flag", "fwdbwd_max_chunk_len=2"],
    "billing_exception_max_pause_duration_sec": ["--chaos", "save_weights:402"],
    "sample_cancel_max_batch_size": ["--flag", "sample_cancel_enabled=true"],
}
EVIDENCE = {
    "pjwt_auth_enabled": identified,
    "credential_default_source": identified,
    "parallel_fwdbwd_chunks": chunks,
    "fwdbwd_max_chunk_len": chunks,
    "fwdbwd_max_chunk_bytes_count": chunks,
    "proto_compress_fwdbwd": compressed,
    "sample_use_retrieve_futures": polled_together,
    "sample_join_sampling_session": joined,
    "billing_exception_max_pause_duration_sec": unpaid,
    "custom_loss_server_side": lambda _requests, _server, service: training.server_side_loss(service),
    "sample_cancel_enabled": cancelled,
    "sample_cancel_max_batch_size": cancelled,
}


@contextlib.contextmanager
def server(program, options):
    process = subprocess.Popen([program, "serve", *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()


def follow(program, name, expected, requests):
    value = VALUES[name]
    with server(program, ["--flag", f"{name}={value}", *ALSO.get(name, [])]) as url:
        service = tinker.ServiceClient(base_url=url)
        announced = {**service.holder._client_config.model_dump(), **service.holder._client_dynamic_config.model_dump()}
        check(str(announced[name]).lower() == value, name, announced)
        _, _, results = training.train(service)
        training.compare(results, expected)
        if name in EVIDENCE:
            EVIDENCE[name](requests, url, service)
        service.close("success").result()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ["TINKER_CREDENTIAL_CMD"] = f"echo {os.environ['TINKER_API_KEY']}"
    with open(sys.argv[1]) as file:
        expected = json.load(file)
    settings = {*types.ClientConfigResponse.model_fields, *types.ClientDynamicConfigResponse.model_fields}
    check(settings == set(VALUES), "settings without a value", settings ^ set(VALUES))
    requests = Requests()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = {name: pool.submit(follow, sys.argv[2], name, expected, requests) for name in VALUES}
        failed = {name: future.exception() for name, future in running.items() if future.exception()}
    for name, error in failed.items():
        print(f"{name}: {error!r}", file=sys.stderr)
    check(not requests.failed_cancellations, requests.failed_cancellations)
    check(not failed, "settings that were not followed", sorted(failed))


main()
