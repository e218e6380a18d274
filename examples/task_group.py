"""Cancel requests that take too long, in an anyio task group: python task_group.py."""

import anyio

import tofu_aio as tofu


async def sleeper(channel: tofu.Channel) -> None:
    async with anyio.create_task_group() as tasks:
        async for request in channel:
            tasks.start_soon(answer, channel, request)
        tasks.cancel_scope.cancel()


async def answer(channel: tofu.Channel, request: tofu.Message) -> None:
    with request:
        await anyio.sleep(float(request.body))
        await channel.reply(request, request.body)


async def ask(channel: tofu.Channel, seconds: str) -> None:
    with anyio.move_on_after(0.5) as scope:
        response = await channel.request(seconds.encode())
        print(f"slept {response.body.decode()} s")
    if scope.cancelled_caught:
        print(f"did not wait {seconds} s")


async def main() -> None:
    async with anyio.create_task_group() as tasks:
        address = await tasks.start(tofu.serve, sleeper, "tcp://127.0.0.1:0")
        async with tofu.connect(address) as channel:
            async with anyio.create_task_group() as asking:
                for seconds in ("0.01", "30", "0.02"):
                    asking.start_soon(ask, channel, seconds)
            print(f"late responses so far: {channel.statistics().late_responses}")
        tasks.cancel_scope.cancel()


anyio.run(main, backend_options={"loop_factory": tofu.new_event_loop})
