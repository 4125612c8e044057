/* The bare kernel, for comparison: one send() per socket and message, and nothing else.
 *
 *     control CONNECTIONS FRAME_BYTES CHANNEL
 *
 * Listens on a free port of 127.0.0.1 and prints {"port":P}; accepts so many connections and prints {"accepted":N};
 * then each line `send COUNT` sends that many messages, one after the other, each to all, and prints {"sent":N}. Ends
 * with standard input.
 *
 * What is sent is made once per message: a WebSocket frame of a protocol message like the server's, FRAME_BYTES long
 * without the WebSocket header, its data "SEQUENCE SENT_US xxx". A socket that is full is waited for.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { CONNECTIONS_MAX = 60000, FRAME_MAX = 1 << 20, HEAD_MAX = 10 };

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
    int used = snprintf(text, FRAME_MAX, "{\"action\":15,\"channel\":\"%s\",\"messages\":[{\"data\":\"%lld %lld ", channel,
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

static void send_all(int socket, const unsigned char *bytes, int length) {
    while (length > 0) {
        ssize_t sent = send(socket, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            must(errno == EAGAIN, "send");
            struct pollfd full = {.fd = socket, .events = POLLOUT};
            must(poll(&full, 1, 10000) == 1, "a client does not read");
            continue;
        }
        bytes += sent;
        length -= sent;
    }
}

int main(int argc, char **argv) {
    static int sockets[CONNECTIONS_MAX];
    static unsigned char bytes[HEAD_MAX + FRAME_MAX + 1];
    int connections = argc == 4 ? atoi(argv[1]) : 0, size = argc == 4 ? atoi(argv[2]) : 0;
    if (connections < 1 || connections > CONNECTIONS_MAX || size < 1 || size > FRAME_MAX) {
        fputs("control CONNECTIONS FRAME_BYTES CHANNEL\n", stderr);
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
    printf("{\"accepted\":%d}\n", connections);
    fflush(stdout);

    char line[64];
    long long next = 0;
    while (fgets(line, sizeof line, stdin)) {
        long long count;
        must(sscanf(line, "send %lld", &count) == 1, "send COUNT is understood");
        for (long long end = next + count; next < end; next++) {
            int length = frame(bytes, size, argv[3], next);
            for (int i = 0; i < connections; i++) send_all(sockets[i], bytes, length);
        }
        printf("{\"sent\":%lld}\n", next);
        fflush(stdout);
    }
    return 0;
}
