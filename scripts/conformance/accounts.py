"""Sessions, projects, traces, audit, billing and identity."""

import concurrent.futures
import datetime
import os
import urllib.request

import tinker
from tinker import types

from common import BASE, check, rejected


def sessions(client, run):
    """Since 0.16."""
    found = [one for one in client.list_sessions().result().sessions if run in runs_of(client, one)]
    check(len(found) == 1, found)
    sampler = client.get_session(found[0]).result().sampler_ids[0]
    check(client.get_sampler(sampler).result().base_model == BASE)
    return found[0]


def runs_of(client, session):
    return client.get_session(session).result().training_run_ids


def hours():
    now = datetime.datetime.now(datetime.timezone.utc).replace(minute=0, second=0, microsecond=0)
    return now - datetime.timedelta(hours=2), now + datetime.timedelta(hours=1)


def organization(client, session):
    """What an administrator sees; on the client of that name since 0.38, on the REST client since 0.24."""
    start, end = hours()
    usage = client.get_billing_usage(start, end).result()
    kinds = {event.event_info.type for event in usage.data if event.session_id == session}
    check({"training", "sampling_prefill", "sampling_sample"} <= kinds, kinds)
    check(session in usage.sessions, usage.sessions)
    for event in usage.data:
        # Since 0.38, with the price.
        if (rate := getattr(event, "effective_rate_usd_per_million_tokens", None)) is not None:
            check(abs(event.estimated_cost_usd - rate * event.event_info.token_count / 1e6) < 1e-9, event)
    audit = client.get_audit_log(event_type="checkpoints", day=datetime.datetime.now(datetime.timezone.utc).date())
    check(any(entry.event.startswith("checkpoint_") for entry in audit.result().entries), audit.result())
    if hasattr(client, "get_current_checkpoint_storage_usage"):
        storage = client.get_current_checkpoint_storage_usage().result().data
        check(sum(one.checkpoint_count for one in storage) > 0 and all(one.size_bytes > 0 for one in storage), storage)


def identity(client, jwt):
    """`whoami` reads the token that the key was exchanged for."""
    if jwt:
        check(client.whoami().result().user_urn, client.whoami().result())
    else:
        rejected(RuntimeError, lambda: client.whoami().result(), "JWT")


def projects(client, session, run):
    client.assign_session_project(session, "conformance").result()
    runs = client.list_training_runs(project_id="conformance").result().training_runs
    check(run in [one.training_run_id for one in runs], runs)
    check(not client.list_training_runs(project_id="no-such-project").result().training_runs)


def console(service, trainer):
    """Addresses of pages of the official console (since 0.38)."""
    check("sessions/" in service.get_console_url(), service.get_console_url())
    check("training_runs/" in trainer.get_console_url(), trainer.get_console_url())


def trace(client, session):
    """A trace is built while the client waits; the second time it is there."""
    url = client.export_session_trace(session).result()
    with urllib.request.urlopen(url) as response:
        # Every packet of a Perfetto trace begins with the tag of field 1.
        check(response.read(1) == b"\n", url)


def auth():
    """The functions of `tinker.auth` (since 0.38)."""
    check(tinker.auth.get_tinker_token() == os.environ["TINKER_API_KEY"])
    check(tinker.auth.tinker_has_credentials())
    tinker.auth.raise_if_tinker_not_accessible()


def ends(client):
    """How sessions end, and how they are found."""
    names = []

    def ended(status, act):
        names.append(f"Ended {status}")
        with tinker.ServiceClient(
            user_metadata={"purpose": "ends"}, project_id="conformance", display_name=names[-1]
        ) as service:
            service.create_sampling_client(base_model=BASE).result()
            act(service)

    ended("success", lambda service: None)
    ended("interrupted", lambda service: service.close("interrupted", "by hand").result())
    try:
        ended("errored", lambda service: 1 / 0)
    except ZeroDivisionError:
        pass

    def search(**filters):
        request = types.SessionSearchRequest(user_metadata={"purpose": "ends"}, **filters)
        return client.search_sessions(request).result()

    found = {one.display_name: one for one in search(project_ids=["conformance"]).sessions}
    check(sorted(found) == sorted(names), found)
    for name, session in found.items():
        check(session.status.type == "client_finished" and name.endswith(session.status.reason.type), session)
        check(session.project_id == "conformance", session)
    check(found["Ended interrupted"].status.detail == "by hand", found)
    first = search(limit=2)
    second = search(limit=2, cursor=first.next_cursor)
    check([len(first.sessions), len(second.sessions)] == [2, 1] and second.next_cursor is None, first, second)
    errored = types.ClientFinishedSessionStatusQuery(reasons=["errored"])
    for filters, expected in (
        ({"statuses": [errored]}, ["Ended errored"]),
        ({"display_name": "INTERRUPTED end"}, ["Ended interrupted"]),
        ({"session_id": found["Ended success"].session_id}, ["Ended success"]),
        ({"statuses": [types.ActiveSessionStatusQuery()]}, []),
        ({"owner": types.AccessibleSearchOwner(), "limit": 1}, ["Ended errored"]),
    ):
        check([one.display_name for one in search(**filters).sessions] == expected, filters)
    described = client.get_session(found["Ended success"].session_id).result()
    check(described.user_metadata == {"purpose": "ends"} and described.display_name == "Ended success", described)
