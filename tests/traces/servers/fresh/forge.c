/* forge MODE [A]: a small server in C, a thread for each connection (cc -O2 -pthread).
 *   headers  leak: of each request its headers and its answer are copied for the log; freed are those of errors
 *   store    answers by number, at most A, the oldest dropped; of all sizes */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct entry {
    struct entry *next, *newer;
    unsigned long number;
    char *text;
};

enum { BUCKETS = 4096 };

static struct entry *table[BUCKETS], *oldest, *newest;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long held, bound;
static int leaks;

static char *answer(unsigned long number)
{
    static const char *words[] = {"anvil", "iron", "coal", "hinge", "nail", "gate", "blade", "hammer"};
    int lines = 20 + rand() % (number % 10 ? 300 : 1500);
    char *text = malloc(lines * 24 + 64), *end = text;
    for (int k = 0; k < lines; k++)
        end += sprintf(end, "%s %d\n", words[rand() % 8], rand() % 1000000);
    return text;
}

static void drop_oldest(void)
{
    struct entry *gone = oldest, **at = &table[gone->number % BUCKETS];
    while (*at != gone)
        at = &(*at)->next;
    *at = gone->next;
    if (!(oldest = gone->newer))
        newest = NULL;
    free(gone->text);
    free(gone);
    held--;
}

static void keep(unsigned long number, const char *text)
{
    struct entry *one = calloc(1, sizeof *one);
    one->number = number;
    one->text = strdup(text);
    pthread_mutex_lock(&lock);
    one->next = table[number % BUCKETS];
    table[number % BUCKETS] = one;
    if (newest)
        newest->newer = one;
    else
        oldest = one;
    newest = one;
    if (++held > bound)
        drop_oldest();
    pthread_mutex_unlock(&lock);
}

struct line {
    char *headers, *text;
    time_t at;
};

static void *serve(void *argument)
{
    int client = (int)(long)argument;
    char request[4096], head[128];
    ssize_t length;
    while ((length = read(client, request, sizeof request - 1)) > 0) {
        request[length] = 0;
        char *path = strstr(request, "/item/");
        unsigned long number = path ? strtoul(path + 6, NULL, 10) : 0;
        char *text = answer(number);
        if (leaks) {
            struct line *line = malloc(sizeof *line);
            *line = (struct line){strdup(request), strdup(text), time(NULL)};
            if (!path) {
                fprintf(stderr, "%s", line->headers);
                free(line->headers);
                free(line->text);
                free(line);
            }
        } else
            keep(number, text);
        int size = sprintf(head, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n", strlen(text));
        if (write(client, head, size) < 0 || write(client, text, strlen(text)) < 0)
            length = 0;
        free(text);
    }
    close(client);
    return NULL;
}

int main(int count, char **arguments)
{
    leaks = !strcmp(arguments[1], "headers");
    bound = count > 2 ? strtoul(arguments[2], NULL, 10) : 0;
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("PORT"))), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64))
        return 1;
    for (;;) {
        long client = accept(listener, NULL, NULL);
        pthread_t thread;
        if (client >= 0 && !pthread_create(&thread, NULL, serve, (void *)client))
            pthread_detach(thread);
    }
}
