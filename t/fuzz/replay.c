/* Stands in for libFuzzer: feeds each file of t/fuzz/corpus/NAME, whole and cut at every byte, to
 * NAME_fuzz. TAP on stdout. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Cuts are tried on inputs up to this size; beyond it the work grows with the square. */
#define CUT_MAX 4096u

static int visible(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

/* Each input in memory of exactly its size, so that a sanitizer sees the first byte read too far.
 */
static void feed(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    if (copy == NULL)
        abort();
    memcpy(copy, data, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static int replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return -1;
    uint8_t *data = NULL;
    size_t n = 0, cap = 0;
    for (;;) {
        if (n == cap) {
            cap = cap > 0 ? cap * 2 : 4096;
            uint8_t *grown = realloc(data, cap);
            if (grown == NULL)
                abort();
            data = grown;
        }
        size_t got = fread(data + n, 1, cap - n, f);
        if (got == 0)
            break;
        n += got;
    }
    fclose(f);
    if (n <= CUT_MAX) {
        for (size_t cut = 0; cut < n; cut++)
            feed(data, cut);
    }
    feed(data, n);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    char dir[4096], path[8192];
    const char *src = getenv("RPD_SRCDIR");
    const char *self = strrchr(argv[0], '/') != NULL ? strrchr(argv[0], '/') + 1 : argv[0];
    if (argc > 1) {
        snprintf(dir, sizeof(dir), "%s", argv[1]);
    } else {
        const char *end = strstr(self, "_fuzz");
        int len = end != NULL ? (int)(end - self) : (int)strlen(self);
        snprintf(dir, sizeof(dir), "%s/t/fuzz/corpus/%.*s", src != NULL ? src : ".", len, self);
    }
    struct dirent **entry = NULL;
    int n = scandir(dir, &entry, visible, alphasort);
    if (n < 0) {
        printf("1..0 # SKIP no corpus %s\n", dir);
        return 0;
    }
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, entry[i]->d_name);
        printf("%s %d - %s\n", replay(path) == 0 ? "ok" : "not ok", i + 1, entry[i]->d_name);
        fflush(stdout);
        free(entry[i]);
    }
    free(entry);
    printf("1..%d\n", n);
    return 0;
}
