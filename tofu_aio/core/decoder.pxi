# Bytes in, messages out.


cdef class ExemptionsFields:
    cdef public object awaited, exchanges, parts, posted
    cdef public bint drain_noted, shared, strays, withdrawals


cdef class DecoderFields:
    cdef public object _header, _number, account, arriving, asked_id, awaited_id, exempt
    cdef public object heartbeats, needs, state, violation, waiting
    cdef public Py_ssize_t _at
    cdef public long long offset
    cdef public bint _ended, special


cdef inline bint is_pending(DecoderFields self):
    """Undecoded.pending"""
    return not self.needs and bool(self.waiting) and self.state not in UNDECIDED


def feed(DecoderFields self not None, data, Py_ssize_t portion=PY_SSIZE_T_MAX):
    return feed_portion(self, data, portion)


cdef list feed_portion(DecoderFields self, object data, Py_ssize_t portion):
    """Decoder.feed"""
    cdef list batch
    if self.waiting or self._header or self.arriving is not None:
        return plain["Decoder.feed"](self, data, portion)
    batch = new_list()
    if len(data):
        parse(self, data, 0, batch, portion, 0)
    return batch


cdef list more_of(DecoderFields self, Py_ssize_t portion):
    """Decoder.more"""
    cdef list batch = new_list()
    if not self.needs:
        chunk, self.waiting = self.waiting, b""
        at, self._at = self._at, 0
        parse(self, chunk, at, batch, portion, 0)
    return batch


def _parse(DecoderFields self not None, data, Py_ssize_t at, list batch, Py_ssize_t portion,
           Py_ssize_t granted=0):
    parse(self, data, at, batch, portion, granted)


cdef int parse(DecoderFields self, object data, Py_ssize_t at, list batch, Py_ssize_t portion,
               Py_ssize_t granted) except -1:
    cdef Py_buffer view
    if self._ended:
        return 0
    if type(data) is bytes:
        parse_bytes(self, data, <const unsigned char *>PyBytes_AS_STRING(data),
                    PyBytes_GET_SIZE(data), at, batch, portion, granted)
        return 0
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        parse_bytes(self, data, <const unsigned char *>view.buf, view.len, at, batch, portion,
                    granted)
    finally:
        PyBuffer_Release(&view)
    return 0


cdef Py_ssize_t budget_of(AccountFields account, PoolFields pool,
                          Py_ssize_t portion) except? -1:
    """The start of Decoder._parse."""
    cdef Py_ssize_t free = len(pool.free)
    if free * pool.share > <double>portion + len(account.taken) + len(account.bundled):
        if not pool.waiters:
            return portion + 1
    return account.budget()


cdef int take_for_response(AccountFields account, PoolFields pool, Py_ssize_t budget) except -1:
    """Account.acquire for one permit: -1 an error, 0 nothing, 1 the reserve, 2 a permit."""
    if not account.reserved:
        use_reserve(account, pool)
        return 1
    if budget < 1 or not take_one(pool.free):
        return 0
    charge(account, pool, 1)
    return 2


cdef void begin_arriving(DecoderFields self, object arriving) noexcept:
    lock(self)
    self.arriving = arriving
    unlock()


cdef int parse_bytes(DecoderFields self, object data, const unsigned char *bytes_, Py_ssize_t end,
                     Py_ssize_t at, list batch, Py_ssize_t portion,
                     Py_ssize_t granted) except -1:
    """Decoder._parse"""
    cdef AccountFields account = None
    cdef PoolFields pool = None
    cdef ExemptionsFields exempt = None
    cdef MessageFields message
    cdef Py_ssize_t budget, quota, left, gratis = portion, start = at, last = end - 16
    cdef Py_ssize_t unit, body_at, stop, spent, held, pays
    cdef unsigned proto, status, headers_len, body_len
    cdef unsigned bits = PUBLIC_BITS if self._number is None else PEER_BITS
    cdef unsigned long long message_id
    cdef const unsigned char *p
    cdef int took
    cdef bint whole
    cdef object number = self._number, state = self.state, permit, broken = None, verdict, id_
    cdef tuple verdicts
    if self.account is None:
        budget = unit = PY_SSIZE_T_MAX
    else:
        account = <AccountFields?>self.account
        pool = account.pool
        budget = budget_of(account, pool, portion)
        if budget < granted:
            budget = granted
        unit = pool.unit
    if self.exempt is None:
        tables = VERDICTS
    else:
        exempt = <ExemptionsFields?>self.exempt
        if exempt.shared or not (exempt.posted or exempt.parts or exempt.exchanges):
            tables = ASK_RESPONSES
        else:
            tables = exempt.tables
    verdicts = <tuple?>tables[state]
    quota = left = budget if budget < portion else portion
    while at <= last:
        p = bytes_ + at
        proto = p[2] & bits
        status = p[3]
        message_id = big64(p + 4)
        headers_len = big16(p + 12)
        body_len = big16(p + 14)
        verdict = verdicts[proto]
        body_at = at + 16 + headers_len
        stop = body_at + body_len
        permit = account
        if verdict is state and message_id:
            if left < 1 or stop - at > unit:
                spent = quota - left
                if left < 1 and spent < budget and stop - at <= unit:
                    break
                permit = self._take(stop - at, budget - spent)
                if permit is None:
                    break
                if permit is not account:
                    budget -= permit.worth
                    left = max(min(left, budget - spent), 0)
                    quota = spent + left
            else:
                if account is not None and not take_one(pool.free):
                    budget = quota = quota - left
                    left = 0
                    continue
                left -= 1
        elif verdict is None and message_id:
            verdict = state
            id_ = message_id
            self.special = True
            if gratis < 1:
                break
            gratis -= 1
            if proto == <unsigned>WITHDRAWAL and headers_len:
                last = at
            elif not proto & MORE_BIT and exempt.parts and id_ in exempt.parts:
                gratis = 0
            if proto & OP_CODE_MASK == RESPONSE and type(exempt) is Exemptions:
                pays = stop - at if id_ in exempt.posted or id_ in exempt.exchanges else 0
            else:
                pays = exempt.pays(proto, id_, status, stop - at)
            if not pays or account is None:
                permit = None
            else:
                spent = quota - left
                if pays <= unit and pays == stop - at and type(account) is Account:
                    took = take_for_response(account, pool, budget - spent)
                    if not took:
                        self.needs = 1
                        break
                    budget -= took - 1
                else:
                    held = account.held
                    permit = self._take(pays, budget - spent, joined=pays > stop - at)
                    if permit is None:
                        break
                    budget -= account.held - held
                left = max(min(left, budget - spent), 0)
                quota = spent + left
        elif not message_id and self._beats(verdict, proto, status, stop - at):
            at = stop
            continue
        elif not message_id and self._announces(verdict, proto, status, stop - at):
            permit = None
            self.special = True
            last = at
        elif self._control(verdict, proto, message_id, at - start):
            permit = None
        else:
            break
        whole = stop <= end
        message = received(
            permit, proto, STATUSES[status], big16(p) if number is None else number, message_id,
            EMPTY_HEADERS, <const char *>bytes_ + body_at, body_len if whole else 0,
        )
        if not whole:
            begin_arriving(self, Arriving(message, headers_len, body_len))
            break
        if headers_len:
            try:
                message.headers = decoded(
                    PyBytes_FromStringAndSize(<const char *>p + 16, headers_len)
                )
            except InvalidMessage as error:
                self._violate(type(error), str(error), at - start)
                broken = message
                break
        append(batch, message)
        at = stop
        if verdict is not state:
            self.state = state = verdict
            verdicts = <tuple?>tables[state]
    if quota > left and account is not None:
        charge(account, pool, quota - left)
    if broken is not None:
        broken.release()
    self.offset += at - start
    if at < end:
        if type(data) is bytes and end - at >= 16 and self.arriving is None and not self._ended:
            self.waiting = data
            self._at = at
        else:
            self._keep(data, at)
    return 0
