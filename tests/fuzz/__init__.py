"""Every parser that faces the network, given what nobody would send."""
