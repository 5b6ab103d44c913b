"""Tokens of Django REST framework over real servers: on every transport, until they are deleted in
another process; and permissions on single objects, by django-guardian."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from tests.support.databases import ServerDatabase
from tests.support.http import Visitor
from tests.support.servers import Server
from tests.support.socket_client import SocketClient
from tests.support.sse_reader import SSEReader

StartServer = Callable[..., Server]

SETUP = """
from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token
from tests.testapp.models import Order
anna = User.objects.create_user("anna", password="anna")
bert = User.objects.create_user("bert", password="bert")
order = Order.objects.create(customer=anna, status="new", total=10)
print(order.pk, Token.objects.create(user=anna).key)
"""
DELETE = """
from rest_framework.authtoken.models import Token
Token.objects.all().delete()
"""


@pytest.fixture
def site(
    new_server_database: Callable[..., ServerDatabase], start_server: StartServer
) -> tuple[Server, ServerDatabase, str, str]:
    """A server, its database, the topic of anna's order, and her token."""
    database = new_server_database("sqlite", settings="tests.settings_tokens")
    pk, token = database.python(SETUP).split()[-2:]
    return start_server("uvicorn", env=database.env), database, f"orders/{pk}", token


def stream(server: Server, topic: str, query: str = "", **headers: str) -> SSEReader:
    headers["Accept"] = "text/event-stream"
    return SSEReader(server.host, server.port, f"/live/events/?topic={topic}{query}", headers)


def test_a_token_and_its_ticket_open_every_transport_until_it_is_deleted(
    site: tuple[Server, ServerDatabase, str, str],
) -> None:
    server, database, topic, token = site
    bearer = {"Authorization": f"Token {token}"}
    visitor = Visitor(server.url)
    answer = visitor.request("POST", "/live/tickets/", b"", bearer)
    assert answer.status == 200, answer.text
    ticket = answer.json()["ticket"]
    assert token not in ticket
    poll = f"/live/poll/?topic={topic}"
    say = json.dumps({"topic": "async-rooms/closed", "type": "hello"}).encode()
    as_json = {"Content-Type": "application/json"}

    assert visitor.get(poll).status == 403
    assert visitor.get(poll, headers=bearer).status == 200
    assert visitor.get(f"{poll}&ticket={ticket}").status == 200
    assert visitor.request("POST", "/live/send/", say, as_json).json()["errors"][0]["code"] == (
        "csrf-failed"
    )
    sent = visitor.request("POST", "/live/send/", say, {**as_json, **bearer})
    assert sent.json() == {"data": "hello"}
    with (
        stream(server, topic, **bearer) as by_token,
        stream(server, topic, f"&ticket={ticket}") as by_ticket,
        SocketClient(server.url, bearer) as socket,
        SocketClient(server.url, path=f"/live/ws/?ticket={ticket}") as socket_by_ticket,
    ):
        for reader in (by_token, by_ticket):
            reader.wait_for(lambda frame: frame.event == "stream-open")
        for one in (socket, socket_by_ticket):
            assert one.subscribe(topic).data["topics"] == [topic]
        database.python(DELETE)
        deleted = time.monotonic()
        for reader in (by_token, by_ticket):
            frame = reader.wait_for(lambda frame: frame.event == "stream-error", timeout=10)
            assert frame.json()["code"] == "signed-out"
        for one in (socket, socket_by_ticket):
            assert one.close_code() == 4100
        # A second without a layer between the processes, and a margin for a busy machine.
        assert time.monotonic() - deleted < 4
    refused = visitor.get(poll, headers=bearer)
    assert (refused.status, refused.json()["errors"][0]["code"]) == (401, "not-authenticated")
    assert visitor.get(f"{poll}&ticket={ticket}").status == 401
    with SocketClient(server.url, bearer) as late:
        assert late.close_code() == 4102


GUARDED = """
from django.contrib.auth.models import User
from guardian.shortcuts import {change}_perm
from tests.testapp.models import Order
from django_live import recheck
bert = User.objects.get(username="bert")
{change}_perm("testapp.view_order", bert, Order.objects.get())
recheck(user=bert)
"""


def test_a_permission_on_one_object_is_asked_for_anew(
    site: tuple[Server, ServerDatabase, str, str],
) -> None:
    server, database, topic, _token = site
    topic = topic.replace("orders", "guarded-orders")
    bert = Visitor(server.url)
    bert.log_in("bert", "bert")
    with stream(server, topic, **bert.cookie_header) as before:
        assert before.status == 403
    database.python(GUARDED.format(change="assign"))
    with stream(server, topic, **bert.cookie_header) as his:
        his.wait_for(lambda frame: frame.event == "stream-open")
        database.python(GUARDED.format(change="remove"))
        frame = his.wait_for(lambda frame: frame.event == "stream-error", timeout=10)
        assert frame.json()["code"] == "revoked"
