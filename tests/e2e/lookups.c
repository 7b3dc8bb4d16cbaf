/* An agent that looks a name up and goes to its address at once, again and again.
 *
 * `lookups MODE COUNT NAMES PORT` asks for n0.cdn.test up to n(NAMES - 1).cdn.test in turn, COUNT times in
 * all, and says how that went. MODE is what is done with an answer: `udp` and `tcp` go to one of its
 * addresses, `every` goes to each of them by UDP. A datagram holds its number. `flood` waits for no answer,
 * asks for names that are allowed by a wildcard and for names that are denied, and goes on until it is
 * killed. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { HEADER = 12, MESSAGE = 4096, ADDRESSES = 64, A = 1 };

static unsigned unanswered, empty, refused, went;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* Where nothing else is said, an answer holds 512 octets: by EDNS (RFC 6891, section 6.1.2), 4,096. */
static const uint8_t OPT[] = {0, 0, 41, MESSAGE >> 8, MESSAGE & 255, 0, 0, 0, 0, 0, 0};

/* A question for the address of a name without dots at its ends; returns its length. */
static size_t question(uint8_t *message, uint16_t id, const char *name) {
    const uint8_t header[HEADER] = {id >> 8, id & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1};
    const uint8_t type_and_class[] = {0, A, 0, 1};
    uint8_t *end = message + HEADER;
    memcpy(message, header, HEADER);
    while (*name) {
        size_t label = strcspn(name, ".");
        *end++ = label;
        memcpy(end, name, label);
        end += label;
        name += label + (name[label] == '.');
    }
    *end++ = 0;
    memcpy(end, type_and_class, sizeof type_and_class);
    end += sizeof type_and_class;
    memcpy(end, OPT, sizeof OPT);
    return end + sizeof OPT - message;
}

/* The addresses of an answer whose first `asked` octets are header and question. */
static int addresses(const uint8_t *message, ssize_t length, size_t asked, struct in_addr *found) {
    const uint8_t *at = message + asked, *end = message + length;
    int count = 0;
    for (int answers = message[6] << 8 | message[7]; answers > 0 && at + 12 <= end; answers--) {
        /* A pointer to the question, type, class, TTL, length. */
        int type = at[2] << 8 | at[3], size = at[10] << 8 | at[11];
        if ((at[0] & 0xc0) != 0xc0 || at + 12 + size > end)
            break;
        if (type == A && size == 4 && count < ADDRESSES)
            memcpy(&found[count++], at + 12, 4);
        at += 12 + size;
    }
    return count;
}

/* Asks and waits; returns how many addresses there are. */
static int look_up(int resolver, uint16_t id, const char *name, struct in_addr *found) {
    uint8_t message[MESSAGE];
    size_t asked = question(message, id, name);
    if (send(resolver, message, asked, 0) < 0)
        fail("send to the resolver");
    for (;;) {
        ssize_t length = recv(resolver, message, sizeof message, 0);
        if (length < 0) {
            unanswered++;
            return 0;
        }
        /* Not an answer that comes after its time. */
        if (length >= (ssize_t)asked && (message[0] << 8 | message[1]) == id)
            return addresses(message, length, asked - sizeof OPT, found);
    }
}

static void note(int result) {
    if (result < 0 && refused++ < 5)
        perror("to the address");
    went += result >= 0;
}

static int new_socket(int kind) {
    int fd = socket(AF_INET, kind, 0);
    if (fd < 0)
        fail("socket");
    return fd;
}

/* By a socket that is open for all, or by one that is connected to this address. */
static void go_by_udp(int open, struct sockaddr_in to, uint32_t number, int connects) {
    if (!connects) {
        note(sendto(open, &number, sizeof number, 0, (struct sockaddr *)&to, sizeof to));
        return;
    }
    int fd = new_socket(SOCK_DGRAM);
    int result = connect(fd, (struct sockaddr *)&to, sizeof to);
    note(result < 0 ? result : send(fd, &number, sizeof number, 0));
    close(fd);
}

static void go_by_tcp(struct sockaddr_in to) {
    /* A reset at the end, so that no port waits. */
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    int fd = new_socket(SOCK_STREAM);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    note(connect(fd, (struct sockaddr *)&to, sizeof to));
    close(fd);
}

static int connected_to_resolver(void) {
    /* Whatever server is asked, the agent's own answers. */
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(53)};
    const struct timeval patience = {.tv_sec = 10};
    int fd = new_socket(SOCK_DGRAM);
    inet_pton(AF_INET, "10.99.0.53", &server.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&server, sizeof server) < 0)
        fail("connect to the resolver");
    return fd;
}

static void flood(void) {
    int resolver = connected_to_resolver();
    uint8_t message[MESSAGE];
    char name[64];
    puts("flooding");
    fflush(stdout);
    for (uint32_t number = 0;; number++) {
        snprintf(name, sizeof name, number % 2 ? "w%u.wide.test" : "d%u.evil.test", number);
        /* What finds the listener's queue full is lost. */
        (void)send(resolver, message, question(message, number, name), 0);
    }
}

int main(int count, char **arguments) {
    if (count > 1 && !strcmp(arguments[1], "flood"))
        flood();
    if (count != 5)
        return 2;
    const char *mode = arguments[1];
    uint32_t loops = atoi(arguments[2]), names = atoi(arguments[3]);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[4]))};
    int resolver = connected_to_resolver(), open = new_socket(SOCK_DGRAM);
    for (uint32_t number = 0; number < loops; number++) {
        struct in_addr found[ADDRESSES];
        char name[64];
        snprintf(name, sizeof name, "n%u.cdn.test", number % names);
        int length = look_up(resolver, number, name, found);
        empty += length == 0;
        if (!strcmp(mode, "every")) {
            for (int index = 0; index < length; index++) {
                to.sin_addr = found[index];
                go_by_udp(open, to, number, index % 2);
            }
        } else if (length > 0) {
            to.sin_addr = found[number / names % length];
            if (!strcmp(mode, "tcp"))
                go_by_tcp(to);
            else
                go_by_udp(open, to, number, number % 2);
        }
    }
    printf("went %u refused %u empty %u unanswered %u\n", went, refused, empty, unanswered);
    return 0;
}
