"""Finds every public method of the clients and every command of the program, and notes which have been called."""

import functools
import inspect

import click
import tinker
from tinker.cli.__main__ import main_cli
from tinker.lib import public_interfaces

from common import RestClient

# What is not called, and why. A name that a version does not have is no error.
LEFT_OUT = {
    "SamplingClient.on_queue_state_change": "the client calls it itself when the server pauses its queue",
    "TrainingClient.on_queue_state_change": "the same",
    "BackcompatSamplingClientFuture.on_queue_state_change": "the same",
    "tinker checkpoint push-hf": "uploads to the Hugging Face Hub, which needs an account there",
}


def client_classes():
    """The clients and the futures that users hold."""
    exported = {**vars(public_interfaces), **vars(tinker), "RestClient": RestClient}
    return {
        value
        for name, value in exported.items()
        if inspect.isclass(value) and name.endswith(("Client", "Future")) and not inspect.isabstract(value)
    }


def watch_calls():
    """Wraps every public method and returns the set of those that have not been called."""
    uncalled = set()

    def recorded(name, method):
        @functools.wraps(method)
        def wrapper(*arguments, **named):
            uncalled.discard(name)
            return method(*arguments, **named)

        return wrapper

    def watch(owner, name, qualified):
        found = inspect.getattr_static(owner, name)
        uncalled.add(qualified)
        wrapper = recorded(qualified, getattr(owner, name))
        setattr(owner, name, staticmethod(wrapper) if isinstance(found, staticmethod) else wrapper)

    clients = client_classes()
    for client in sorted(clients, key=lambda client: len(client.__mro__), reverse=True):
        for name in dir(client):
            defined_by = next((one for one in client.__mro__ if name in vars(one)), None)
            inherited = defined_by in clients and defined_by is not client
            if not name.startswith("_") and callable(getattr(client, name)) and not inherited:
                watch(client, name, f"{client.__name__}.{name}")
    auth = getattr(tinker, "auth", None)
    for name in getattr(auth, "__all__", []):
        watch(auth, name, f"auth.{name}")
    uncalled |= set(commands(main_cli, "tinker"))
    return uncalled


def commands(command, name):
    """The full names of the commands below this one."""
    if not isinstance(command, click.Group):
        return [name]
    context = click.Context(command)
    subcommands = command.list_commands(context)
    return [full for one in subcommands for full in commands(command.get_command(context, one), f"{name} {one}")]
