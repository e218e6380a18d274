"""A service that takes orders: python shop.py [ADDRESS]."""

import sys
from dataclasses import dataclass

import tofu_aio as tofu


@dataclass
class Order:
    """What a customer wants."""

    item: str
    count: int = 1


@dataclass
class Receipt:
    """What it costs."""

    text: str
    cents: int


PRICES = {"miso": 480, "tofu": 250}

service = tofu.Service()


@service.handler("order")
async def take_order(order: Order) -> Receipt:
    if order.item not in PRICES:
        raise tofu.ServiceError("not_found", f"no {order.item} here", {"items": list(PRICES)})
    return Receipt(f"{order.count} x {order.item}", order.count * PRICES[order.item])


if __name__ == "__main__":
    tofu.run(service.serve(*sys.argv[1:] or ["tcp://127.0.0.1:7000"]))
