"""Order from the shop: python shop_client.py [ADDRESS]."""

import sys

from shop import Order, Receipt

import tofu_aio as tofu


async def main(address: str = "tcp://127.0.0.1:7000") -> None:
    async with tofu.Client(address, call_timeout=5) as client:
        receipt = await client.call("order", Order("tofu", 3), result=Receipt)
        print(receipt.text, receipt.cents / 100)
        try:
            await client.call("order", Order("beef"))
        except tofu.ServiceError as error:
            print(error, error.details)


tofu.run(main(*sys.argv[1:]))
