# Received messages on their way to the tasks that wait for them.


cdef class MailboxFields:
    cdef public object _make, _receiver, end, items


cdef class PendingFields:
    cdef public object _connection, _joins, exchanges, late, posted, requests, slots
    cdef public bint warned


cdef class DispatcherFields:
    cdef public ConnectionFields _connection
    cdef public MailboxFields mailbox
    cdef public PendingFields pending
    cdef public object _channel, _forget, _introduced, hello, incoming, peer
    cdef public bint half_closed


def complete(future, result, wake_ups):
    complete_future(future, result, wake_ups)


cdef int complete_future(object future, object result, object wake_ups) except -1:
    """wake_up.complete"""
    if type(future) is Waiter and (<Waiter>future).progress == PENDING:
        (<Waiter>future).complete(FINISHED, result, <list?>wake_ups)
        return 0
    callbacks = getattr(future, "_callbacks", None)
    if callbacks:
        for fn, context in list(callbacks):
            future.remove_done_callback(fn)
            (<list?>wake_ups).append((context, fn, future))
    future.set_result(result)
    return 0


def deliver_items(MailboxFields self not None, items, wake_ups=None):
    deliver_batch(self, items, wake_ups, False)


cdef inline bint is_done(object future) except -1:
    if type(future) is Waiter:
        return (<Waiter>future).progress != PENDING
    return future.done()


cdef int deliver_batch(MailboxFields self, object items, object wake_ups,
                       bint emptied) except -1:
    """Mailbox.deliver; ``emptied`` if a list of items may be empty afterwards."""
    if self.end is not None:
        return 0
    if not is_empty(self.items):
        self.items.extend(items)
    else:
        if self._make is Inbox and type(items) is list:
            fresh = new_inbox(items, emptied)
        else:
            fresh = self._make(items)
        if is_empty(self.items):
            lock(self)
            self.items = fresh
            unlock()
        else:
            self.items.extend(fresh)  # the items may be in it alone
    receiver = self._receiver
    if receiver is not None:
        self._receiver = None
        if not is_done(receiver):
            if wake_ups is not None:
                complete_future(receiver, None, wake_ups)
            else:
                receiver.set_result(None)
    return 0


def arrival(MailboxFields self not None):
    return next_arrival(self)


cdef object next_arrival(MailboxFields self):
    """Mailbox.arrival"""
    receiver = self._receiver
    if self.end is not None or receiver is not None and not is_done(receiver):
        return plain["Mailbox.arrival"](self)
    receiver = new_waiter()
    self._receiver = receiver
    if self.end is not None or not is_empty(self.items):  # it came since the checks
        self._wake_receiver()
    else:
        lock(self)
        self.items = NO_ITEMS
        unlock()
    return receiver


def sort(PendingFields self not None, list batch, list wake_ups):
    sort_batch(self, batch, wake_ups)


cdef int sort_batch(PendingFields self, list batch, list wake_ups) except -1:
    """PendingRequests.sort"""
    cdef dict requests, joins
    cdef set posted = <set?>self.posted
    cdef list rest
    cdef MessageFields message
    requests = <dict?>self.requests
    joins = <dict?>self._joins
    rest = []
    for item in batch:
        message = <MessageFields?>item
        message_id = message.id_given if message.is_given else message.id_
        if message._proto != RESPONSE or joins and message_id in joins:
            if message._proto & OP_CODE_MASK != RESPONSE or self._takes_part(message, wake_ups):
                append(rest, message)
            continue
        response = requests.pop(message_id, None) if requests else None
        if response is not None:
            if is_done(response):
                self._drop(message)
            else:
                complete_future(response, message, wake_ups)
        elif message_id in posted:
            posted.discard(message_id)
            rest.append(message)
        elif message_id in self.exchanges:
            self.exchanges.pop(message_id)._deliver(message)
        else:
            self._drop(message)
    batch[:] = rest
    return 0


def deliver(DispatcherFields self not None, list batch, list wake_ups):
    deliver_messages(self, batch, wake_ups)


cdef int deliver_messages(DispatcherFields self, list batch, list wake_ups) except -1:
    """Dispatcher.deliver"""
    cdef ConnectionFields connection = self._connection
    cdef DecoderFields decoder = connection.decoder
    if (
        self.hello is None
        or (<MessageFields?>batch[len(batch) - 1])._proto & OP_CODE_MASK > LAST_REGULAR
    ):
        plain["Dispatcher.deliver"](self, batch, wake_ups)
        return 0
    if decoder.special or self.pending is not None or self.incoming is not None:
        sort_messages(self, decoder, batch, wake_ups)
        if not batch:
            return 0
    deliver_batch(self.mailbox, batch, wake_ups, True)
    if batch:  # an empty list would lose its memory, which is used again
        batch.clear()
    return 0


cdef int sort_messages(DispatcherFields self, DecoderFields decoder, list batch,
                       list wake_ups) except -1:
    """Dispatcher._sort"""
    cdef bint special = decoder.special
    cdef PendingFields pending
    if special and not (<MessageFields?>batch[len(batch) - 1]).message_id:
        self._sort(batch, wake_ups)
        return 0
    decoder.special = False
    if self.pending is not None:
        pending = self.pending
        if special or pending.posted or pending.exchanges:
            sort_batch(pending, batch, wake_ups)
    elif special:
        sort_batch(self.pending_requests(), batch, wake_ups)
    if batch and (special or self.incoming is not None and self.incoming.busy):
        self.incoming_requests().sort(batch)
    return 0
