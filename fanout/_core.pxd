"""The engine's table of C functions (`rust/python/src/table.rs`); what is declared here changes `VERSION` there."""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


ctypedef struct Slice:
    const uint8_t *ptr  # NULL: none
    size_t len

ctypedef struct Header:
    Slice name
    Slice value

ctypedef struct CRecord:
    Slice topic
    Slice key
    Slice value
    const Header *headers
    size_t header_count
    const Slice *channels
    size_t channel_count
    int64_t offset
    int64_t timestamp
    int32_t partition
    int32_t epoch
    uint8_t routed

ctypedef struct Table:
    uint32_t version
    size_t (*ingest)(const void *, const CRecord *, size_t, uint8_t *) noexcept nogil
    uint64_t (*register_)(const void *, int, uint8_t, Slice, uint8_t) noexcept nogil
    void (*unregister)(const void *, uint64_t) noexcept nogil
    void (*send)(const void *, uint64_t, uint8_t, Slice) noexcept nogil
    void (*heard)(const void *, uint64_t) noexcept nogil
    void (*acknowledged)(const void *, uint64_t, uint16_t) noexcept nogil


@cython.final
cdef class Engine:
    cdef object _native
    cdef object _router
    cdef dict _take_facts
    cdef object _take_failures
    cdef object _take_dead_letters
    cdef frozenset _dead_letter_topics
    cdef tuple _rules
    cdef const void *_address

    cpdef uint64_t register(self, int fd, int wire, str connection_id, bint heartbeat_frames) except 0
    cpdef uint64_t register_pipe(self, int wire, str connection_id, bint heartbeat_frames) except 0
    cpdef unregister(self, uint64_t connection)
    cpdef send(self, uint64_t connection, bytes payload, int opcode=*)
    cpdef heard(self, uint64_t connection)
    cpdef acked(self, uint64_t connection, uint16_t packet_id)
