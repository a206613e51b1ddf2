"""The work of examples/compare.rs, done with the official Python client. Prints the same line of JSON."""

import glob
import json
import os
import sys
import time
import urllib.request
from collections import deque

BASE = "tinkex/bytes-tiny"
URL = os.environ["TINKER_BASE_URL"]


def start():
    service().get_server_capabilities()
    return {"peak": status("VmHWM")}


class Meter:
    def __init__(self):
        self.began, self.cpu = time.perf_counter(), time.process_time()

    def stop(self, calls):
        cpu, wall = time.process_time() - self.cpu, time.perf_counter() - self.began
        return {"cpu": cpu / calls, "wall": wall / calls}


def status(name, process="self"):
    with open(f"/proc/{process}/status") as lines:
        for line in lines:
            if line.startswith(name + ":"):
                value = line.split()
                return int(value[1]) * (1024 if value[-1] == "kB" else 1)
    raise KeyError(name)


def peak(act):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = status("VmRSS")
    result = act()
    return result, max(status("VmHWM") - before, 0)


# The connections of the measurement itself.
own_connections = 0


def counted(name):
    global own_connections
    own_connections += 1
    with urllib.request.urlopen(f"{URL}/stub") as response:
        return json.load(response)[name]


def wait_for(name, count):
    while counted(name) < count:
        time.sleep(0.2)


def release():
    global own_connections
    own_connections += 1
    urllib.request.urlopen(urllib.request.Request(f"{URL}/stub/release", data=b"", method="POST")).close()


def noise(index):
    bits = index * 2654435761 & 0xFFFFFFFF
    bits ^= bits >> 15
    return bits * 2246822519 & 0xFFFFFFFF


def token(index):
    return noise(index) % 150_000


def data(datums, tokens):
    import numpy as np
    from tinker import types

    def datum(index):
        places = range(index * tokens, (index + 1) * tokens)
        inputs = {
            "target_tokens": types.TensorData.from_numpy(np.array([token(p + 1) for p in places], dtype=np.int64)),
            "weights": types.TensorData.from_numpy(np.array([noise(p) / 1e9 for p in places], dtype=np.float32)),
        }
        return types.Datum(model_input=types.ModelInput.from_ints([token(p) for p in places]), loss_fn_inputs=inputs)

    return [datum(index) for index in range(datums)]


def service():
    import tinker

    return tinker.ServiceClient()


def ready(client):
    """The versions of 2026 return a future, which older ones do not have."""
    return client.result() if hasattr(client, "result") else client


def trainer():
    return ready(service().create_lora_training_client(BASE))


def sampler():
    return ready(service().create_sampling_client(base_model=BASE))


def sampled(client, prompt):
    from tinker import types

    return client.sample(prompt, 1, types.SamplingParams(max_tokens=16))


def long_prompt(tokens):
    from tinker import types

    return types.ModelInput.from_ints([token(place) for place in range(tokens)])


def calls(count, call):
    _, above = peak(call)
    meter = Meter()
    for _ in range(count):
        call()
    return {**meter.stop(count), "peak": above, "calls": count + 1}


def once(call):
    def act():
        meter = Meter()
        call()
        return meter.stop(1)

    measured, above = peak(act)
    return {**measured, "peak": above, "calls": 1}


def train(datums, tokens, count):
    batch, client = data(datums, tokens), trainer()

    def call():
        output = client.forward_backward(batch, "cross_entropy").result()
        assert len(output.loss_fn_outputs) == datums

    return calls(count, call)


def result(datums, tokens):
    batch, client = data(datums, tokens), trainer()
    pending = client.forward(batch, "cross_entropy")
    # Each chunk has a promise. As many datums are in one as in that of compare.rs.
    length = 500_000 // (3 * tokens) if os.environ["TINKER_WIRE"] == "json" else 5_000_000 // (16 * tokens)
    wait_for("promises", -(-datums // length))

    def read():
        release()
        outputs = pending.result().loss_fn_outputs
        # Packed numbers become a list when they are read.
        assert sum(len(output["logprobs"].data) for output in outputs) == datums * tokens

    return once(read)


def samples(count, at_once, in_rounds=False):
    client, prompt = sampler(), long_prompt(16)

    def act():
        pending = deque()
        for _ in range(count):
            if len(pending) == at_once:
                for _ in range(at_once if in_rounds else 1):
                    pending.popleft().result()
            pending.append(sampled(client, prompt))
        for sample in pending:
            sample.result()

    return once(act)


def rounds(count, at_once):
    return samples(count, at_once, in_rounds=True)


def prompt(tokens, count):
    client, prompt = sampler(), long_prompt(tokens)
    return calls(count, lambda: sampled(client, prompt).result())


def futures(count):
    warm_up = 200
    client, prompt = sampler(), long_prompt(1000)
    warm = [sampled(client, prompt) for _ in range(warm_up)]
    wait_for("promises", warm_up)
    before, meter = status("VmRSS"), Meter()
    pending = [sampled(client, prompt) for _ in range(count)]
    wait_for("promises", warm_up + count)
    submitted = meter.stop(count)
    resident = max(status("VmRSS") - before, 0) // count
    meter = Meter()
    release()
    for sample in warm + pending:
        sample.result()
    return {**meter.stop(count), "peak": resident, "submit_cpu": submitted["cpu"], "calls": count}


def idle(seconds):
    client = service()
    of_sampling = ready(client.create_sampling_client(base_model=BASE))
    of_training = ready(client.create_lora_training_client(BASE))
    time.sleep(12)

    def wakes():
        tasks = [os.path.basename(task) for task in glob.glob("/proc/self/task/*")]
        return sum(status("voluntary_ctxt_switches", f"self/task/{task}") for task in tasks)

    before, meter = wakes(), Meter()
    time.sleep(seconds)
    measured = meter.stop(seconds)
    fields = {"peak": status("VmRSS"), "threads": status("Threads"), "wakes": (wakes() - before) / seconds, "calls": 1}
    del of_sampling, of_training
    return {**measured, **fields}


WORK = {
    "start": start, "pass": train, "result": result, "samples": samples, "rounds": rounds, "prompt": prompt,
    "futures": futures, "idle": idle,
}
measured = WORK[sys.argv[1]](*(int(number) for number in sys.argv[2:]))
print(json.dumps({**measured, "own_connections": own_connections}), flush=True)
# What a client does at its end is not measured, and some versions take long.
os._exit(0)
