"""One event's journey, from publish() to the socket. Floors, each importing only those before:

events → topics, log, bus → publishing, hub → subscribing, control → runtime
"""
