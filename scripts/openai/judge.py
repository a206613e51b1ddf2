"""Checks an address and a model with the official client: judge.py BASE_URL MODEL."""

import sys

import openai

base_url, model = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key="tml-judge", max_retries=0, timeout=120)
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
checks = 0


def check(is_right, what):
    global checks
    checks += 1
    if not is_right:
        sys.exit(f"{base_url}: {what}")


def chat(**more):
    return client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=12, seed=7, **more)


def refusal(call):
    try:
        call()
    except openai.APIStatusError as error:
        return error
    sys.exit(f"{base_url}: no error")


def models():
    names = [found.id for found in client.models.list()]
    check(model in names, names)
    check(client.models.retrieve(model).id == model, "retrieve")


def whole():
    answer = chat(n=2, logprobs=True, top_logprobs=3)
    check([choice.index for choice in answer.choices] == [0, 1], answer)
    check(all(choice.finish_reason in ("stop", "length") for choice in answer.choices), answer)
    usage = answer.usage
    check(usage.prompt_tokens > 0 and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage)
    for choice in answer.choices:
        tokens = choice.logprobs.content
        check(all(len(token.top_logprobs) == 3 and token.logprob <= 0 for token in tokens), tokens)
        text = b"".join(bytes(token.bytes) for token in tokens).decode(errors="replace")
        check(choice.message.content.strip() in text, (choice.message.content, text))


def streamed():
    answer = chat()
    with chat(stream=True, stream_options={"include_usage": True}) as stream:
        events = list(stream)
    check(events[-1].choices == [], events[-1])
    check(events[-1].usage.completion_tokens == answer.usage.completion_tokens, (events[-1], answer))
    content = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    check(content == answer.choices[0].message.content, (content, answer))
    reasons = [event.choices[0].finish_reason for event in events if event.choices]
    check(reasons[-1] == answer.choices[0].finish_reason and not any(reasons[:-1]), reasons)


def completions():
    def complete(**more):
        return client.completions.create(model=model, prompt="Once upon a time", max_tokens=8, temperature=0, **more)

    answer = complete(logprobs=2)
    logprobs = answer.choices[0].logprobs
    check(len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset), logprobs)
    check(all(found <= 0 for found in logprobs.token_logprobs), logprobs)
    text = "".join(event.choices[0].text for event in complete(stream=True))
    check(text == answer.choices[0].text, (text, answer))
    several = client.completions.create(model=model, prompt=["a", "b"], max_tokens=2, n=2)
    check(len(several.choices) == 4, several)
    if len(text) > 1:
        cut = complete(stop=text[1]).choices[0]
        check(cut.text == text.split(text[1])[0] and cut.finish_reason == "stop", (cut, text))


def tools():
    function = {"name": "weather", "description": "The weather", "parameters": {"type": "object", "properties": {}}}
    tools = [{"type": "function", "function": function}]
    try:
        answer = chat(tools=tools, tool_choice="auto")
        check(answer.choices[0].finish_reason in ("stop", "length", "tool_calls"), answer)
    except openai.BadRequestError as error:
        # The template of this model has no place for tools, and says so.
        check("tools" in str(error), error)
    check(refusal(lambda: chat(tools=tools, tool_choice="required")).param == "tool_choice", "tool_choice")


def errors():
    def ask(**more):
        return lambda: client.chat.completions.create(**{"model": model, "messages": MESSAGES, "max_tokens": 1, **more})

    missing = refusal(ask(model="judge/none"))
    check((missing.status_code, missing.code, missing.param) == (404, "model_not_found", "model"), missing)
    check(isinstance(missing, openai.NotFoundError), missing)
    for more in ({"presence_penalty": 1}, {"response_format": {"type": "json_object"}}, {"logit_bias": {"5": 1}}):
        refused = refusal(ask(**more))
        check(isinstance(refused, openai.BadRequestError) and refused.param == next(iter(more)), refused)
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    check(refusal(ask(messages=[{"role": "user", "content": [image]}])).status_code == 400, "image")
    check(refusal(ask(max_tokens=100_000_000)).status_code == 400, "context")
    ask(presence_penalty=0, user="judge", store=False)()


for part in (models, whole, streamed, completions, tools, errors):
    part()
print(f"openai: {checks} checks hold at {base_url}")
