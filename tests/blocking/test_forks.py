"""Engines in forked children."""

from __future__ import annotations

from tests.blocking.conftest import PATIENCE
from tests.blocking.processes import finished, posix, process
from tofu_aio import blocking


@posix
def test_a_child_cannot_use_its_parent_s_engine(listener: blocking.Listener) -> None:
    code = """
    import warnings
    warnings.simplefilter("ignore")  # a fork with threads; what the child leaves open
    engine = blocking.Engine()
    with engine, engine.create_group() as group, group.connect(address) as channel:
        child = os.fork()
        if child == 0:
            for call in (channel.receive, channel.request, engine.create_group, group.receive):
                try:
                    call()
                except RuntimeError as error:
                    assert "create another engine in the child" in str(error)
                else:
                    raise AssertionError
            with blocking.connect(address, body=b"child") as own:
                own.signal(b"of the child")
            sys.exit(7)  # leaves the with statement
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        channel.signal(b"of the parent")
    """
    with process(listener.address, code) as running:
        parent = listener.accept(PATIENCE)
        with listener.accept(PATIENCE) as child:
            assert [message.body for message in child] == [b"of the child"]
        assert [message.body for message in parent] == [b"of the parent"]
        parent.close()
        assert finished(running) == (0, "", "")


@posix
def test_a_child_can_enter_an_engine_that_was_created_before_the_fork(
    listener: blocking.Listener,
) -> None:
    code = """
    import threading
    engine = blocking.Engine()
    child = os.fork()
    if child == 0:
        with engine, engine.create_group() as group, group.connect(address) as channel:
            channel.signal(b"of the child")
        assert threading.enumerate() == [threading.main_thread()]
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    with engine, engine.create_group() as group, group.connect(address) as channel:
        channel.signal(b"of the parent")
    """
    with process(listener.address, code) as running:
        for wanted in (b"of the child", b"of the parent"):
            with listener.accept(PATIENCE) as channel:
                assert [message.body for message in channel] == [wanted]
        assert finished(running) == (0, "", "")
