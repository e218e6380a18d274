"""Greet at the addresses in GREETER, and at those given: python service.py [ADDRESS]..."""

import os
import socket
import sys

import tofu_aio as tofu

ADDRESSES = os.environ.get("GREETER", "tcp://127.0.0.1:7000").split()
DRAIN = 30.0  # seconds; whoever kills this program after a time has to give it ten more

instance = f"{socket.gethostname()}/{os.getpid()}"
service = tofu.Service()


@service.handler("greet")
async def greet(name: str) -> str:
    return f"hello, {name}, from {instance}"


if __name__ == "__main__":
    tofu.run(service.serve(*ADDRESSES, *sys.argv[1:], drain=DRAIN))
