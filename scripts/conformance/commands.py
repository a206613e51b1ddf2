"""The commands of the official program, run in this process: starting an interpreter for each would take most of the time."""

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click.testing
from tinker.cli.__main__ import main_cli

from accounts import hours
from common import check
from watch import commands


class Program:
    def __init__(self, uncalled):
        self.uncalled = uncalled
        self.names = set(commands(main_cli, "tinker"))

    def has(self, name):
        return f"tinker {name}" in self.names

    def run(self, name, *arguments, form="json", **named):
        """The command's output, read if it is JSON."""
        self.uncalled.discard(f"tinker {name}")
        line = ["--format", form, *name.split(), *arguments]
        done = click.testing.CliRunner().invoke(main_cli, line, **named)
        check(done.exit_code == 0, line, done.output, done.exception, getattr(done.exception, "details", None))
        return json.loads(done.stdout) if done.stdout.strip().startswith(("{", "[")) else done.stdout


def command_line(uncalled, saved, unwanted, session, jwt):
    program = Program(uncalled)
    run = program.run
    run_id, other_run = saved.split("/")[2], unwanted.split("/")[2]
    tinker = Path(sys.executable).with_name("tinker")
    check("tinker" in subprocess.run([tinker, "version"], check=True, capture_output=True, text=True).stdout)
    run("version")
    check(run_id in json.dumps(run("run list", "--limit", "0")))
    check(run_id in json.dumps(run("run info", run_id)))
    check(saved in json.dumps(run("checkpoint list", "--run-id", run_id)))
    run("checkpoint list", "--limit", "0", form="table")
    check(saved in json.dumps(run("checkpoint info", saved)))
    run("checkpoint publish", saved)
    run("checkpoint unpublish", saved)
    with tempfile.TemporaryDirectory() as folder:
        if program.has("checkpoint set-ttl"):
            run("checkpoint set-ttl", saved, "--ttl", "3600")
            run("checkpoint set-ttl", saved, "--remove")
            run("checkpoint download", saved, "--output", folder)
            check(list(Path(folder).glob("*/adapter_model.safetensors")), list(Path(folder).rglob("*")))
        if program.has("session export-trace"):
            run("session export-trace", session, "--output", f"{folder}/trace.pftrace")
            check(Path(f"{folder}/trace.pftrace").stat().st_size > 0)
            check(run("session export-trace", session, "--url-only"))
        if program.has("billing usage"):
            start, end = (hour.strftime("%Y-%m-%dT%H:%M:%SZ") for hour in hours())
            check(run("billing usage", start, end)["data"])
            run("billing usage", start, end, form="table")
        if program.has("billing checkpoint-storage"):
            run("billing usage", start, end, "--csv", f"{folder}/usage.csv", "--sessions-csv", f"{folder}/sessions.csv")
            with open(f"{folder}/sessions.csv") as file:
                check(session in [row["session_id"] for row in csv.DictReader(file)])
            check(run("billing checkpoint-storage")["data"])
            run("billing checkpoint-storage", "--project-id", "conformance")
    if program.has("model list"):
        check("tinkex/bytes-tiny" in json.dumps(run("model list", "TINY")))
    if program.has("auth login"):
        auth(program, jwt)
    # 0.16.1 documents paths here too, but fails: its command named `list` shadows the built-in.
    delete_by_run = program.has("checkpoint set-ttl")
    run("checkpoint delete", "--yes", *(["--run-id", other_run] if delete_by_run else [unwanted]))
    check(unwanted not in json.dumps(run("checkpoint list", "--run-id", other_run)))


def auth(program, jwt):
    key = os.environ.pop("TINKER_API_KEY")
    # With a command for it, the key is never looked for.
    try:
        login = program.run("auth login", input=f"{key}\n")
        check("Logged in as" in login, login)
        check("Tinker accessible: yes" in program.run("auth status"))
        if jwt:
            check(program.run("auth whoami")["user_urn"])
        check("Removed credential" in program.run("auth logout"))
    finally:
        os.environ["TINKER_API_KEY"] = key
    if not jwt:
        # Without JWTs the program has no identity to show, and says so.
        program.uncalled.discard("tinker auth whoami")
        failed = click.testing.CliRunner().invoke(main_cli, ["auth", "whoami"])
        check(failed.exit_code != 0 and "JWT" in str(getattr(failed.exception, "message", "")), failed)
