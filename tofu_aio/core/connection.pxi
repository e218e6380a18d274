# One connection: what its transport brings is decoded, delivered and answered, portion by portion.


cdef class GateFields:
    cdef public object buffer
    cdef public long long received_bytes


cdef class ConnectionFields:
    cdef public object _closing, beat_after, beat_arrived, beat_before, beat_sent, beat_sent_at
    cdef public object beat_silent, beat_taken, end, heartbeat, loop, peer_address
    cdef public object peer_supports, sink, suspension
    cdef public DecoderFields decoder
    cdef public GateFields gate
    cdef public QueueFields queue
    cdef public Py_ssize_t received


def get_buffer(ConnectionFields self not None, _):
    return self.gate.buffer


def buffer_updated(ConnectionFields self not None, Py_ssize_t nbytes):
    """Connection.buffer_updated"""
    cdef GateFields gate = self.gate
    cdef DecoderFields decoder = self.decoder
    if nbytes > SMALL or type(gate.buffer) is not memoryview:
        data = gate.buffer[:nbytes]
    else:
        data = PyBytes_FromStringAndSize(
            <const char *>PyMemoryView_GET_BUFFER(gate.buffer).buf, nbytes
        )
    if decoder.waiting:
        self.data_received(data)
    else:
        gate.received_bytes += nbytes
        feed_and_receive(self, decoder, data)


def data_received(ConnectionFields self not None, data):
    """Connection.data_received"""
    cdef GateFields gate = self.gate
    cdef DecoderFields decoder = self.decoder
    if decoder.waiting:
        plain["Connection.data_received"](self, data)
    else:
        gate.received_bytes += len(data)
        feed_and_receive(self, decoder, data)


cdef int feed_and_receive(ConnectionFields self, DecoderFields decoder, object data) except -1:
    batch = feed_portion(decoder, data, FIRST_PORTION)
    receive(self, batch)
    drop_list(batch)
    return 0


def _receive(ConnectionFields self not None, list batch):
    receive(self, batch)


cdef int receive(ConnectionFields self, list batch) except -1:
    """Connection._receive"""
    cdef DecoderFields decoder = self.decoder
    cdef QueueFields queue = self.queue
    cdef list wake_ups = new_list()
    cdef Py_ssize_t portion = FIRST_PORTION, last = self.received + AT_ONCE
    cdef bint pending
    queue.watched_from = queue.high_water
    try:
        while True:
            if batch:
                self.received += len(batch)
                if self._closing is not None and self._closing.discarding:
                    self._discard(batch)
                elif type(self.sink) is Dispatcher:
                    deliver_messages(<DispatcherFields>self.sink, batch, wake_ups)
                else:
                    self.sink.deliver(batch, wake_ups)
            pending = is_pending(decoder)
            if not pending and (
                decoder.needs
                or decoder.violation is not None
                or decoder.state is not OPEN
                or self.end is not None
            ):
                self._conclude()
            if wake_ups:
                run_all(wake_ups)
            if queue.frames:
                flush_frames(queue)
            if not pending or queue._untaken and queue.answers_stuck:
                break
            if self.received >= last:
                self.go_on_decoding_soon()
                break
            portion = max(FIRST_PORTION, min(2 * portion, <Py_ssize_t>self.gate.pool.size // 4))
            batch = more_of(decoder, portion)
    finally:
        queue.watched_from = 0
        if wake_ups:
            schedule_wake_ups(wake_ups)
        drop_list(wake_ups)
    if queue.frames:
        flush_frames(queue)
    return 0


def run_wake_ups(list wake_ups):
    run_all(wake_ups)


cdef int run_all(list wake_ups) except -1:
    """wake_up.run_wake_ups"""
    if current_task() is not None:
        plain["run_wake_ups"](wake_ups)
        return 0
    if len(wake_ups) > 1:
        wake_ups.reverse()
    try:
        while wake_ups:
            context, fn, future = <tuple?>pop_last(wake_ups)
            PyContext_Enter(context)
            try:
                fn(future)
            finally:
                PyContext_Exit(context)
            fn = future = context = None
    except (SystemExit, KeyboardInterrupt) as end:
        asyncio.get_running_loop().call_soon(raise_in_loop, end)
    finally:
        if wake_ups:
            wake_ups.reverse()
            schedule_wake_ups(wake_ups)
    return 0
