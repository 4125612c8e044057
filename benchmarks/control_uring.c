/* io_uring as lean as it gets for sending: registered sockets, completions run by the submitter alone
 * (SINGLE_ISSUER, DEFER_TASKRUN), none posted for what succeeds (CQE_SKIP_SUCCESS). By the bare system calls of
 * io_uring_setup(2), io_uring_enter(2) and io_uring_register(2).
 *
 * Nothing stays behind in the kernel: MSG_DONTWAIT completes each request when it is submitted, and MSG_WAITALL makes a
 * short send a failure, which is posted with the count of bytes that went out.
 */
#include "control_uring.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ENTRIES = 4096 };

static struct {
    int fd;
    unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
    unsigned waiting; /* requests that the kernel has not been told of */
} ring;

int uring_open(const int *sockets, int count) {
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL};
    ring.fd = syscall(SYS_io_uring_setup, ENTRIES, &params);
    if (ring.fd < 0) return -1;
    size_t size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    size_t sq_size = params.sq_off.array + params.sq_entries * sizeof(unsigned);
    if (sq_size > size) size = sq_size;
    char *rings = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQ_RING);
    ring.sqes = mmap(NULL, params.sq_entries * sizeof *ring.sqes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                     ring.fd, IORING_OFF_SQES);
    if (rings == MAP_FAILED || ring.sqes == MAP_FAILED) return -1;
    ring.sq_tail = (unsigned *)(rings + params.sq_off.tail);
    ring.sq_mask = (unsigned *)(rings + params.sq_off.ring_mask);
    ring.sq_array = (unsigned *)(rings + params.sq_off.array);
    ring.cq_head = (unsigned *)(rings + params.cq_off.head);
    ring.cq_tail = (unsigned *)(rings + params.cq_off.tail);
    ring.cq_mask = (unsigned *)(rings + params.cq_off.ring_mask);
    ring.cqes = (struct io_uring_cqe *)(rings + params.cq_off.cqes);
    return syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_FILES, sockets, count) < 0 ? -1 : 0;
}

/* Lets the kernel carry out what waits, and hands what failed to `rest`. */
static int submit(uring_rest rest) {
    while (ring.waiting) {
        long taken = syscall(SYS_io_uring_enter, ring.fd, ring.waiting, 0, IORING_ENTER_GETEVENTS, NULL, 0);
        if (taken < 0 && errno != EINTR) return -1;
        if (taken > 0) ring.waiting -= taken;
    }
    unsigned head = *ring.cq_head;
    for (; head != __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE); head++) {
        const struct io_uring_cqe *done = &ring.cqes[head & *ring.cq_mask];
        if (done->res < 0 && done->res != -EAGAIN) {
            errno = -done->res;
            return -1;
        }
        rest(done->user_data, done->res < 0 ? 0 : done->res);
    }
    __atomic_store_n(ring.cq_head, head, __ATOMIC_RELEASE);
    return 0;
}

int uring_send(const unsigned char *bytes, size_t length, int count, uring_rest rest) {
    for (int i = 0; i < count; i++) {
        if (ring.waiting == ENTRIES && submit(rest) < 0) return -1;
        unsigned tail = *ring.sq_tail, place = tail & *ring.sq_mask;
        ring.sqes[place] = (struct io_uring_sqe){
            .opcode = IORING_OP_SEND,
            .flags = IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS,
            .fd = i,
            .addr = (unsigned long)bytes,
            .len = length,
            .msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL,
            .user_data = i,
        };
        ring.sq_array[place] = place;
        __atomic_store_n(ring.sq_tail, tail + 1, __ATOMIC_RELEASE);
        ring.waiting++;
    }
    return submit(rest);
}
