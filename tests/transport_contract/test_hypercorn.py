"""The contract of the transports on hypercorn."""

from tests.transport_contract.contract import TransportContract

SERVER = "hypercorn"


class TestOnHypercorn(TransportContract):
    cuts_off = False
