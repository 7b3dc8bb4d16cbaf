/* Datagrams by a socket that connects elsewhere while they leave.
 *
 * `payers HOW ADDRESS PORT OTHER_ADDRESS OTHER_PORT TURNS` connects one socket to the one and to the other in
 * turn, while two threads send. By `there` they name the first as the destination, by `connected` none. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { SENDERS = 2, LENGTH = 100 };

static int flow, names_it;
static long turns;
static struct sockaddr_in ends[2];
static volatile int is_over;

static void *turn(void *nothing) {
    for (long turn = 0; turn < turns; turn++)
        connect(flow, (struct sockaddr *)&ends[turn & 1], sizeof ends[0]);
    is_over = 1;
    return nothing;
}

static void *send_on(void *nothing) {
    char datagram[LENGTH];
    memset(datagram, 'x', sizeof datagram);
    while (!is_over) {
        if (names_it)
            sendto(flow, datagram, LENGTH, 0, (struct sockaddr *)&ends[0], sizeof ends[0]);
        else
            send(flow, datagram, LENGTH, 0);
    }
    return nothing;
}

static struct sockaddr_in end(const char *address, const char *port) {
    struct sockaddr_in end = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    inet_pton(AF_INET, address, &end.sin_addr);
    return end;
}

int main(int count, char **words) {
    if (count != 7)
        return 2;
    names_it = strcmp(words[1], "there") == 0;
    ends[0] = end(words[2], words[3]);
    ends[1] = end(words[4], words[5]);
    turns = atol(words[6]);
    flow = socket(AF_INET, SOCK_DGRAM, 0);
    pthread_t threads[SENDERS + 1];
    for (int number = 0; number <= SENDERS; number++)
        pthread_create(&threads[number], NULL, number == SENDERS ? turn : send_on, NULL);
    for (int number = 0; number <= SENDERS; number++)
        pthread_join(threads[number], NULL);
    return 0;
}
