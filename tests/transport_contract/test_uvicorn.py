"""The contract of the transports on uvicorn."""

from tests.transport_contract.contract import TransportContract

SERVER = "uvicorn"


class TestOnUvicorn(TransportContract):
    pass
