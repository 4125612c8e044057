/* io_uring for the control: the same bytes to many sockets with few system calls. */
#include <stddef.h>

/* Told of a socket, by its place, that only took so many bytes. */
typedef void (*uring_rest)(int index, size_t sent);

/* Prepares a ring that knows these sockets; 0, or -1 with errno. ENOSYS or EPERM where the kernel has none to give. */
int uring_open(const int *sockets, int count);

/* Sends the bytes to the first `count` sockets, and names those that are full; 0, or -1 with errno. */
int uring_send(const unsigned char *bytes, size_t length, int count, uring_rest rest);
