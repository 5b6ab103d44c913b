"""The contract of the transports on granian."""

from tests.transport_contract.contract import TransportContract

SERVER = "granian"


class TestOnGranian(TransportContract):
    cuts_off = False
