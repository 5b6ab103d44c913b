"""The contract of the transports on daphne."""

from tests.transport_contract.contract import TransportContract

SERVER = "daphne"


class TestOnDaphne(TransportContract):
    patience = 1.0
