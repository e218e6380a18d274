# Messages that wait to be received.


@cython.final
@cython.freelist(16)
cdef class Inbox:
    """A queue with those operations of a deque that ``Mailbox`` and its owners use.

    Other threads may ask for its length and iterate over it, for statistics.
    """

    cdef list items  # always the same one
    cdef Py_ssize_t first  # the entries before it are None

    def __dealloc__(self):
        drop_items(self)

    def __init__(self, items=()):
        self.items = list(items)
        self.first = 0

    def __len__(self):
        return max(len(self.items) - self.first, 0)

    def __iter__(self):
        # A copy, without what the loop's thread has taken out while it was made.
        return iter([item for item in self.items[self.first:] if item is not None])

    def __getitem__(self, Py_ssize_t index):
        return self.items[self.place(index)]

    def __delitem__(self, Py_ssize_t index):
        cdef Py_ssize_t place = self.place(index)
        if place == self.first:
            pop_first(self)
        else:
            del self.items[place]

    def append(self, item):
        self.shorten()
        self.items.append(item)

    def extend(self, items):
        self.shorten()
        self.items.extend(items)

    def popleft(self):
        if self.first >= len(self.items):
            raise IndexError("pop from an empty inbox")
        return pop_first(self)

    def remove(self, item):
        self.present().remove(item)

    def rotate(self, Py_ssize_t steps=1):
        cdef Py_ssize_t count = len(self)
        if count:
            # One by one, because only so it takes no longer than a deque's ``rotate(-1)``, and
            # loses nothing that a finalizer delivers meanwhile.
            for _ in range(-steps % count):
                self.append(pop_first(self))

    def clear(self):
        self.first = 0
        self.items.clear()

    cdef Py_ssize_t place(self, Py_ssize_t index) except -1:
        """Where an item is in the list, which does not check that itself."""
        cdef Py_ssize_t count = len(self.items) - self.first
        if index < 0:
            index += count
        if not 0 <= index < count:
            raise IndexError("inbox index out of range")
        return self.first + index

    cdef int shorten(self) except -1:
        """Drop the entries before the first item once they are most of the list."""
        if self.first > 64 and 2 * self.first > len(self.items):
            self.present()  # so that a queue that is never empty does not grow without end
        return 0

    cdef list present(self):
        """The list of the items alone."""
        if self.first:
            del self.items[:self.first]
            self.first = 0
        return self.items

    def __repr__(self):
        return f"Inbox({self.present()!r})"


cdef inline Inbox new_inbox(list items, bint emptied):
    cdef Inbox inbox = Inbox.__new__(Inbox)
    inbox.items = new_list()
    if ALONE and emptied:
        move(items, inbox.items)
    else:
        inbox.items.extend(items)
    return inbox


cdef inline bint is_empty(object items) except -1:
    if type(items) is Inbox:
        return (<Inbox>items).first >= len((<Inbox>items).items)
    return not items
