# The pool's permits, and what the messages of a channel hold.

cdef long RESERVE = 1, LENT_TO_STREAM = 3


@cython.final
cdef class Counter:
    """A number with the operations of a deque that Python uses. See ``plain.counter``."""

    cdef Py_ssize_t n  # other threads change it at any moment

    def __init__(self, Py_ssize_t size=0):
        self.n = size

    def append(self, _):
        add(&self.n, 1)

    def extend(self, items):
        add(&self.n, len(items))

    def pop(self):
        if not take(&self.n):
            raise IndexError("pop from an empty counter")

    def clear(self):
        self.n = 0

    def rotate(self, n=1):
        add(&self.n, 0)  # see protocol.atomic.see_all

    def __len__(self):
        return self.n

    def __iter__(self):
        return iter((None,) * self.n)

    def __repr__(self):
        return f"<Counter {self.n}>"


counter = Counter


cdef class PoolFields:
    cdef public object _on_release, free, parked, reserves, restored, size, suspended, to_lend
    cdef public object unit, waiters
    cdef public double share


cdef class AccountFields:
    cdef public PoolFields pool
    cdef public object bundled, taken
    cdef public bint reserved


cdef inline int add_one(object numbers) except -1:
    if type(numbers) is Counter:
        add(&(<Counter>numbers).n, 1)
    else:
        numbers.append(None)
    return 0


cdef inline bint take_one(object numbers) except -1:
    """Whether there was one to take."""
    if type(numbers) is Counter:
        return take(&(<Counter>numbers).n)
    try:
        numbers.pop()
    except IndexError:
        return False
    return True


cdef inline int release_permit(PoolFields pool) except -1:
    """Pool.release"""
    add_one(pool.free)
    if pool.suspended:
        pool._on_release()
    return 0


cdef int give_back(object permit) except -1:
    """Permit.release"""
    cdef AccountFields account
    cdef PoolFields pool
    cdef long kind
    if give_back_plainly(permit):
        return 0
    if type(permit) is not Account or type((<AccountFields>permit).taken) is not list:
        permit.release()
        return 0
    account = <AccountFields>permit
    pool = account.pool
    kind = (<list>account.taken).pop()
    if not kind:
        return release_permit(pool)
    if kind == RESERVE:
        account.reserved = False
    elif kind == LENT_TO_STREAM:
        add_one(pool.to_lend)
    take_one(pool.reserves)
    if pool.suspended:
        pool.restored.append(account)
        pool._on_release()
    return 0


def release_account(AccountFields self not None):
    if type(self) is Account and type(self.taken) is list:
        give_back(self)
    else:
        plain["Account.release"](self)


cdef int use_reserve(AccountFields account, PoolFields pool) except -1:
    """Account._use_reserve"""
    if type(account.taken) is not list or account.taken is NOTHING_TAKEN:
        account._use_reserve()  # the first message of a channel
        return 0
    account.reserved = True
    add_one(pool.reserves)
    PyList_Insert(<list>account.taken, 0, RESERVE)
    return 0


cdef int charge(AccountFields account, PoolFields pool, Py_ssize_t count) except -1:
    """Account.charge"""
    cdef list taken
    if type(account.taken) is not list:
        account.charge(count)
        return 0
    if not account.reserved:
        use_reserve(account, pool)
        release_permit(pool)
        count -= 1
    taken = <list>account.taken
    while count > 0:
        append(taken, PERMIT)
        count -= 1
    return 0
