"""What all parts of the check share."""

import inspect
import math
import os

import tinker
from tinker import types

BASE = os.environ.get("TINKER_BASE_MODEL", "tinkex/bytes-tiny")
TEXTS = ["the quick brown fox", "jumps over", "the lazy dog again and again"]
RestClient = getattr(tinker, "RestClient", None)
if RestClient is None:
    from tinker.lib.public_interfaces.rest_client import RestClient


def check(condition, *about):
    assert condition, about


def close(a, b):
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)


def all_close(a, b):
    return len(a) == len(b) and all(close(x, y) for x, y in zip(a, b))


def accepts(function, parameter):
    return parameter in inspect.signature(function).parameters


def rejected(kind, act, words=""):
    """`act` fails with this kind of error, and the message has the words."""
    try:
        act()
    except kind as error:
        check(words in str(error), "the message lacks", words, str(error))
        return
    check(False, "not rejected", kind, words)


def prompt(text):
    return types.ModelInput.from_ints(list(text.encode()))


def datum(text, **inputs):
    """Trains the prediction of every byte from those before it."""
    tokens = list(text.encode())
    targets = tokens[1:]
    inputs = inputs or {"weights": [1.0] * len(targets)}
    return types.Datum(
        model_input=types.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs={"target_tokens": targets, **inputs}
    )


def policy_datum(loss):
    mask = {"sequence_ratio_mask": [0.0, 1.0, 1.0, 1.0]} if loss == "gspo" else {}
    one = datum("abcde", logprobs=[-1.0] * 4, advantages=[0.5, -0.5, 1.0, 0.0], **mask)
    if loss != "stable_reinforce":
        return one
    of_prompt = tinker.PromptProvenanceSpan(sequence_id="sequence", length=1)
    sampled = lambda length: tinker.SampledProvenanceSpan(sequence_id="sequence", length=length)
    return one.with_provenance([of_prompt, sampled(3)], [sampled(4)])


def loss_of(output):
    return output.metrics["loss:sum"]
