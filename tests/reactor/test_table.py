"""The table: looking up by number, by object, and by an object that has lost its number."""

from __future__ import annotations

import selectors
import socket

import pytest

from tofu_aio.reactor.table import Registration, TableView


class Named:
    """A file object that says whatever it is told to."""

    def __init__(self, fileno):
        self._fileno = fileno

    def fileno(self):
        if isinstance(self._fileno, Exception):
            raise self._fileno
        return self._fileno


def table_of(*objects):
    table = {}
    for fd, fileobj in enumerate(objects, 3):
        table[fd] = Registration(selectors.SelectorKey(fileobj, fd, 1, None), fd)
    return table


def test_numbers_and_objects_name_descriptors():
    assert TableView({}).descriptor_of(0) == 0
    assert TableView({}).descriptor_of(Named(7)) == 7


@pytest.mark.parametrize("bad", [-1, Named(-1)])
def test_a_negative_number_is_invalid(bad):
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        TableView({}).descriptor_of(bad)


@pytest.mark.parametrize(
    "bad", ["3", None, object(), Named("x"), Named(None), Named(ValueError("closed"))]
)
def test_what_has_no_descriptor_is_invalid(bad):
    with pytest.raises(ValueError, match="Invalid file object: "):
        TableView({}).descriptor_of(bad)


@pytest.mark.parametrize("lost", [Named(-1), Named(ValueError("closed"))])
def test_an_object_that_lost_its_descriptor_is_found_by_identity(lost):
    table = table_of(Named(3), lost, Named(5))
    view = TableView(table)
    assert view.descriptor_of(lost) == 4
    assert view.find(lost) is table[4]


def test_a_closed_socket_is_found():
    sock = socket.socket()
    view = TableView(table_of(sock))
    sock.close()
    assert view.descriptor_of(sock) == 3


def test_find_says_what_is_not_registered():
    with pytest.raises(KeyError, match="999 is not registered"):
        TableView(table_of()).find(999)


def test_the_view_is_a_live_mapping_by_number_or_object():
    table = {}
    view = TableView(table)
    assert not view
    assert list(view) == []
    named = Named(3)
    table.update(table_of(named))
    key = table[3].key
    assert len(view) == 1
    assert list(view) == [3]
    assert list(view.items()) == [(3, key)]
    assert view[3] is view[named] is view.get(3) is view.get(named) is key
    assert 3 in view
    assert 4 not in view
    assert view.get(4) is None
    assert view.get(4, "default") == "default"
    assert view.get(4, default="default") == "default"
    assert view == {3: key}


def test_the_view_raises_what_a_lookup_raises():
    view = TableView(table_of())
    with pytest.raises(KeyError, match="4 is not registered"):
        view[4]
    for look in (view.__getitem__, view.__contains__, view.get):
        with pytest.raises(ValueError, match="Invalid file object"):
            look("nonsense")


def test_the_view_is_read_only():
    view = TableView(table_of(Named(3)))
    with pytest.raises(TypeError):
        del view[3]
    with pytest.raises(TypeError):
        view[3] = None
