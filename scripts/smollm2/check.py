"""Reads what the program prints for scripts/smollm2/run.

    check.py ask EXAMPLES                  the held-out conversations without their last message, as `tinkex chat` reads them
    check.py right EXAMPLES < REPLIES      how many of the replies to those are the last messages, in percent
    check.py value NAME < DOCUMENT         a value of a document
    check.py close DOCUMENT DOCUMENT       fails unless two samples have the same tokens and log-probabilities
"""

import json
import sys

TOLERANCE = 1e-3


def held_out(path):
    with open(path) as file:
        lines = [json.loads(line) for line in file]
    return [line["messages"] for line in lines if line.get("split") == "test"]


def ask(path):
    for messages in held_out(path):
        print(json.dumps({"messages": messages[:-1]}))


def right(path):
    replies = [json.loads(line) for line in sys.stdin]
    expected = [messages[-1]["content"] for messages in held_out(path)]
    assert len(replies) == len(expected), (len(replies), len(expected))
    found = [reply["message"]["content"] for reply in replies]
    for one in found[:3]:
        print("   ", one.replace("\n", " ")[:120], file=sys.stderr)
    print(100 * sum(a == b for a, b in zip(found, expected)) // len(expected))


def value(name):
    print(json.load(sys.stdin)[name])


def close(*paths):
    one, two = [json.load(open(path))["samples"][0] for path in paths]
    assert one["tokens"] == two["tokens"], (one["text"], two["text"])
    assert min(one["logprobs"]) < -0.1, "each token is certain, whatever the model"
    apart = max(abs(a - b) for a, b in zip(one["logprobs"], two["logprobs"]))
    print(f"{len(one['tokens'])} tokens, log-probabilities at most {apart:.1e} apart")
    assert apart <= TOLERANCE, apart


{"ask": ask, "right": right, "value": value, "close": close}[sys.argv[1]](*sys.argv[2:])
