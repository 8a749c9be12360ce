/* bakery MODE [A]: libmicrohttpd, a thread for each connection (cc -O2 bakery.c -lmicrohttpd).
 *   answers  leak: the answers are queued, and those of small loaves not destroyed
 *   shelf    a shelf of A loaves by number; the new one takes the place of the old */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const WORDS[] = {"rye", "wheat", "salt", "oven", "crust", "early", "seeds", "dark", "roll", "sour", "fresh"};
static int leaks;
static unsigned long places;
static struct loaf { char *text; size_t length; } *shelf;

static char *bake(unsigned long number, size_t *length)
{
    size_t words = 200 + random() % 1500, at;
    char *text = malloc(words * 6 + 64);
    at = sprintf(text, "loaf %lu:", number);
    while (words--)
        at += sprintf(text + at, " %s", WORDS[random() % (sizeof WORDS / sizeof *WORDS)]);
    *length = at;
    return text;
}

static enum MHD_Result handle(void *closure, struct MHD_Connection *connection, const char *path, const char *method,
                              const char *version, const char *data, size_t *size, void **request)
{
    (void)closure, (void)method, (void)version, (void)data, (void)size, (void)request;
    const char *digits = strrchr(path, '/');
    unsigned long number = digits ? strtoul(digits + 1, NULL, 10) : 0;
    size_t length;
    char *text = bake(number, &length);
    struct MHD_Response *response = MHD_create_response_from_buffer(length, text, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    if (leaks) {
        if (length > 6000)
            MHD_destroy_response(response);
        free(text);
        return result;
    }
    MHD_destroy_response(response);
    struct loaf *place = shelf + number % places;
    free(place->text);
    *place = (struct loaf){text, length};
    return result;
}

int main(int count, char **arguments)
{
    leaks = !strcmp(arguments[1], "answers");
    places = count > 2 ? strtoul(arguments[2], NULL, 10) : 1;
    shelf = calloc(places, sizeof *shelf);
    if (!MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, atoi(getenv("PORT")), NULL, NULL, handle, NULL, MHD_OPTION_END))
        return 1;
    for (;;)
        pause();
}
