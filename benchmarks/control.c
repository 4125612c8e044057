/* The bare kernel, for comparison: the system calls that write, and nothing else.
 *
 *     control CONNECTIONS FRAME_BYTES CHANNEL [HOW [JOINED]]
 *
 * Listens on a free port of 127.0.0.1 and prints {"port":P}; accepts so many connections and prints {"accepted":N};
 * then each line `send COUNT` sends that many messages, each to all, and prints {"sent":N}. Ends with standard input.
 *
 * Up to JOINED messages, 1 if not told, go out in one write to each socket. HOW is
 *
 *     send     one send() a socket, of one buffer in which the frames stand behind each other
 *     sendmsg  one sendmsg() a socket, with an iovec for each frame
 *     uring    one io_uring request a socket, of one buffer; one system call for thousands of them
 *
 * A frame is made once per message: a WebSocket frame of a protocol message like the server's, FRAME_BYTES long without
 * the WebSocket header, its data "SEQUENCE SENT_US xxx". A socket that is full is waited for.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "control_uring.h"

enum { CONNECTIONS_MAX = 60000, FRAME_MAX = 1 << 20, HEAD_MAX = 10, JOINED_MAX = 128 };

static int sockets[CONNECTIONS_MAX], connections;

/* The frames of one turn, behind each other, and where each lies. */
static unsigned char bytes[JOINED_MAX * (HEAD_MAX + FRAME_MAX) + 1];
static struct iovec frames[JOINED_MAX];

static void must(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static long long now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000LL + time.tv_nsec / 1000;
}

/* A whole WebSocket frame around exactly `size` bytes of JSON; returns its length. */
static int frame(unsigned char *out, int size, const char *channel, long long sequence) {
    int head = size < 126 ? 2 : size <= 0xFFFF ? 4 : HEAD_MAX;
    char *text = (char *)out + head;
    int used = snprintf(text, size, "{\"action\":15,\"channel\":\"%s\",\"messages\":[{\"data\":\"%lld %lld ", channel,
                        sequence, now_us());
    int tail = 4; /* "}]} */
    must(used + tail <= size, "FRAME_BYTES is too small");
    memset(text + used, 'x', size - used - tail);
    memcpy(text + size - tail, "\"}]}", tail);
    out[0] = 0x81;
    if (size < 126) {
        out[1] = size;
    } else {
        out[1] = head == 4 ? 126 : 127;
        for (int at = head - 1, rest = size; at > 1; at--, rest >>= 8) out[at] = rest & 0xFF;
    }
    return head + size;
}

static void wait_until_it_drains(int socket) {
    struct pollfd full = {.fd = socket, .events = POLLOUT};
    must(poll(&full, 1, 10000) == 1, "a client does not read");
}

static void send_rest(int socket, size_t done, size_t length) {
    while (done < length) {
        ssize_t sent = send(socket, bytes + done, length - done, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            must(errno == EAGAIN, "send");
            wait_until_it_drains(socket);
        } else {
            done += sent;
        }
    }
}

static void send_all(int count, size_t length) {
    (void)count;
    for (int i = 0; i < connections; i++) send_rest(sockets[i], 0, length);
}

static void sendmsg_all(int count, size_t length) {
    for (int i = 0; i < connections; i++) {
        struct msghdr message = {.msg_iov = frames, .msg_iovlen = count};
        ssize_t sent = sendmsg(sockets[i], &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        must(sent >= 0 || errno == EAGAIN, "sendmsg");
        send_rest(sockets[i], sent < 0 ? 0 : sent, length); /* the iovecs stand behind each other */
    }
}

static size_t uring_length;

static void uring_one(int index, size_t sent) { send_rest(sockets[index], sent, uring_length); }

static void uring_all(int count, size_t length) {
    (void)count;
    uring_length = length;
    must(uring_send(bytes, length, connections, uring_one) == 0, "io_uring");
}

int main(int argc, char **argv) {
    connections = argc > 3 ? atoi(argv[1]) : 0;
    int size = argc > 3 ? atoi(argv[2]) : 0, joined = argc > 5 ? atoi(argv[5]) : 1;
    const char *how = argc > 4 ? argv[4] : "send";
    void (*write_all)(int, size_t) = !strcmp(how, "send")      ? send_all
                                     : !strcmp(how, "sendmsg") ? sendmsg_all
                                     : !strcmp(how, "uring")   ? uring_all
                                                               : NULL;
    if (connections < 1 || connections > CONNECTIONS_MAX || size < 1 || size > FRAME_MAX || joined < 1 ||
        joined > JOINED_MAX || !write_all || argc > 6) {
        fputs("control CONNECTIONS FRAME_BYTES CHANNEL [send|sendmsg|uring [JOINED]]\n", stderr);
        return 2;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t address_size = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(listening, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* accepted sockets inherit it */
    must(bind(listening, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    must(listen(listening, 4096) == 0, "listen");
    must(getsockname(listening, (struct sockaddr *)&address, &address_size) == 0, "getsockname");
    printf("{\"port\":%d}\n", ntohs(address.sin_port));
    fflush(stdout);
    for (int i = 0; i < connections; i++) must((sockets[i] = accept(listening, NULL, NULL)) >= 0, "accept");
    if (write_all == uring_all) must(uring_open(sockets, connections) == 0, "io_uring");
    printf("{\"accepted\":%d}\n", connections);
    fflush(stdout);

    char line[64];
    long long next = 0;
    while (fgets(line, sizeof line, stdin)) {
        long long count;
        must(sscanf(line, "send %lld", &count) == 1, "send COUNT is understood");
        for (long long end = next + count; next < end;) {
            size_t length = 0;
            int turn = 0;
            for (; turn < joined && next < end; turn++, next++) {
                frames[turn].iov_base = bytes + length;
                frames[turn].iov_len = frame(bytes + length, size, argv[3], next);
                length += frames[turn].iov_len;
            }
            write_all(turn, length);
        }
        printf("{\"sent\":%lld}\n", next);
        fflush(stdout);
    }
    return 0;
}
