# What Python hands over, and the table of what is compiled.

cdef dict _table = {}  # the compiled functions, by the names of the methods they stand for
cdef dict plain = {}  # those methods

cdef object Account, ASK_RESPONSES, Arriving, Channel, ChannelEnded, Connection, Dispatcher
cdef object EMPTY_HEADERS, Exemptions, InvalidMessage, Message, NO_ITEMS, NOTHING_TAKEN, OPEN
cdef object PERMIT, Pool, Status, SUCCESS, TextHeaders, UNDECIDED, VERDICTS
cdef object current_task = asyncio.current_task, get_running_loop = asyncio.get_running_loop
cdef object decoded, encoded, message_ids, next_message_id, raise_in_loop, schedule_wake_ups
cdef tuple STATUSES
cdef int ANSWERED, MORE_BIT, OP_CODE_MASK, PUBLIC_BITS, PEER_BITS, SENT_BITS, WITHDRAWAL
cdef int RESPONSE, LAST_REGULAR
cdef Py_ssize_t SHORT, LONG, SMALL, FIRST_PORTION, AT_ONCE


def hand_over(*, classes, tables, functions, numbers):
    """Take what this module cannot import: Python's classes, tables, functions and constants."""
    global Account, ASK_RESPONSES, Arriving, Channel, ChannelEnded, Connection, Dispatcher
    global EMPTY_HEADERS, Exemptions, InvalidMessage, Message, NO_ITEMS, NOTHING_TAKEN, OPEN
    global PERMIT, Pool, Status, SUCCESS, TextHeaders, UNDECIDED, VERDICTS
    global decoded, encoded, message_ids, next_message_id, raise_in_loop, schedule_wake_ups, STATUSES
    global ANSWERED, MORE_BIT, OP_CODE_MASK, PUBLIC_BITS, PEER_BITS, SENT_BITS, WITHDRAWAL
    global RESPONSE, LAST_REGULAR, SHORT, LONG, SMALL, FIRST_PORTION, AT_ONCE
    (
        Account, Arriving, Channel, ChannelEnded, Connection, Dispatcher, Exemptions,
        InvalidMessage, Message, Pool, Status, TextHeaders,
    ) = classes
    (
        ASK_RESPONSES, EMPTY_HEADERS, NO_ITEMS, NOTHING_TAKEN, OPEN, PERMIT, STATUSES, UNDECIDED,
        VERDICTS,
    ) = tables
    decoded, encoded, next_message_id, raise_in_loop, schedule_wake_ups = functions
    SUCCESS = Status.SUCCESS
    message_ids = next_message_id.__self__
    (
        ANSWERED, MORE_BIT, OP_CODE_MASK, PUBLIC_BITS, PEER_BITS, SENT_BITS, WITHDRAWAL, RESPONSE,
        LAST_REGULAR, SHORT, LONG, SMALL, FIRST_PORTION, AT_ONCE,
    ) = numbers
    prepare(
        <PyTypeObject *>Message, <PyTypeObject *>Channel, <PyTypeObject *>Account,
        <PyTypeObject *>Pool, <PyTypeObject *>Counter, PERMIT, release_at_last,
    )
    (<ChannelMethod>_table["Channel.reply"]).extra = SUCCESS


def fast(method):
    """Return the compiled version of a method or function, which calls this one for the rest."""
    name = method.__qualname__
    compiled = _table[name]
    plain[name] = method
    compiled.__doc__ = method.__doc__
    compiled.__module__ = method.__module__
    compiled.__name__ = method.__name__
    compiled.__qualname__ = name
    if isinstance(compiled, ChannelMethod):
        compiled.__code__ = method.__code__  # for unittest.mock
    compiled.__annotations__ = method.__annotations__  # for typing.get_type_hints
    compiled.__wrapped__ = method  # its signature, for inspect and for documentation
    if inspect.iscoroutinefunction(method):
        compiled._is_coroutine = asyncio.coroutines._is_coroutine  # for asyncio, until 3.13
        if hasattr(inspect, "markcoroutinefunction"):  # since 3.12
            inspect.markcoroutinefunction(compiled)
    return compiled
