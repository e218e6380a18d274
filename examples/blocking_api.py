"""Use plain calls and threads, without asyncio: python blocking_api.py."""

from concurrent.futures import ThreadPoolExecutor

from tofu_aio import blocking


def serve(listener: blocking.Listener) -> None:
    with listener.accept(timeout=30) as channel:
        for request in channel:  # ends at the client's Bye
            with request:
                channel.reply(request, request.body.upper())


def main() -> None:
    # The engine runs on an event loop in a thread of its own; each call waits for its result.
    with (
        blocking.Engine() as engine,
        engine.create_group() as group,
        ThreadPoolExecutor() as threads,
    ):
        listener = group.listen("tcp://127.0.0.1:0")
        serving = threads.submit(serve, listener)
        with group.connect(listener.address) as channel:

            def ask(word: bytes) -> str:
                return channel.request(word, timeout=30).body.decode()

            # Any number of threads may make requests on one channel.
            for answer in threads.map(ask, (b"plain", b"calls", b"only")):
                print(answer)
        serving.result()


main()
