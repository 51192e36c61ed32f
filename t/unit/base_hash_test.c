/* SipHash-1-3 against a second implementation and fixed values; the map, also without memory. */
#include "base/arena.h"
#include "base/err.h"
#include "base/hash.h"
#include "t/unit/tap.h"

/* SipHash-c-d as the paper tells it, byte by byte; shares nothing with base/hash.c. */
struct sip {
    uint64_t v[4];
};

static void sip_rounds(struct sip *s, int n)
{
    static const int steps[4][4] = {{0, 1, 13, 32}, {2, 3, 16, 0}, {0, 3, 21, 0}, {2, 1, 17, 32}};
    /* The order of the paper: (0,1) (2,3), then (2,1) (0,3). */
    static const int order[4] = {0, 1, 3, 2};
    while (n-- > 0) {
        for (int i = 0; i < 4; i++) {
            const int *t = steps[order[i]];
            s->v[t[0]] += s->v[t[1]];
            s->v[t[1]] = s->v[t[1]] << t[2] | s->v[t[1]] >> (64 - t[2]);
            s->v[t[1]] ^= s->v[t[0]];
            if (t[3])
                s->v[t[0]] = s->v[t[0]] << 32 | s->v[t[0]] >> 32;
        }
    }
}

static uint64_t sip_slow(const struct hash_key *k, const unsigned char *p, size_t n, int c, int d)
{
    struct sip s = {{k->k0, k->k1, k->k0, k->k1}};
    const char *magic = "somepseudorandomlygeneratedbytes";
    for (int i = 0; i < 32; i++)
        s.v[i / 8] ^= (uint64_t)(unsigned char)magic[i] << (8 * (7 - i % 8));
    for (size_t at = 0; at <= n / 8; at++) {
        uint64_t m = 0;
        for (size_t i = 0; i < 8; i++) {
            size_t from = at * 8 + i;
            unsigned char byte = from < n ? p[from] : i == 7 ? (unsigned char)n : 0;
            m |= (uint64_t)byte << (8 * i);
        }
        s.v[3] ^= m;
        sip_rounds(&s, c);
        s.v[0] ^= m;
    }
    s.v[2] ^= 0xff;
    sip_rounds(&s, d);
    return s.v[0] ^ s.v[1] ^ s.v[2] ^ s.v[3];
}

static void test_sip(void)
{
    unsigned char in[256];
    for (size_t i = 0; i < sizeof(in); i++)
        in[i] = (unsigned char)i;
    const struct hash_key key = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u}, zero = {0, 0};
    /* Appendix A of the paper: 15 bytes, SipHash-2-4. It proves the second implementation. */
    tap_ok(sip_slow(&key, in, 15, 2, 4) == 0xa129ca6149be45e5u, "the paper's own example");
    bool same = true;
    for (size_t n = 0; n < sizeof(in) - 8; n++)
        same = same && hash_sip13(&key, in + n % 8, n) == sip_slow(&key, in + n % 8, n, 1, 3);
    tap_ok(same, "both implementations agree on every length and alignment");
    /* Values of CPython 3.11, whose string hash is SipHash-1-3, under PYTHONHASHSEED=0. */
    tap_ok(hash_sip13(&zero, "a", 1) == 0x407448d2b89b1813u, "1 byte");
    tap_ok(hash_sip13(&zero, "abcdefg", 7) == 0x6db12aae9070f506u, "7 bytes");
    tap_ok(hash_sip13(&zero, "abcdefgh", 8) == 0x3f7b849c0b8e35eau, "8 bytes");
    tap_ok(hash_sip13(&zero, "abcdefghijklmno", 15) == 0x1fd27a29b0e9dc7au, "15 bytes");
    tap_ok(hash_sip13(&zero, in, 63) == 0x385d3e39e5f37359u, "63 bytes");
    tap_ok(hash_sip13(&key, NULL, 0) == hash_sip13(&key, "", 0), "nothing has a hash");
    /* Identities on disk and in a segment rest on this value. */
    tap_ok(hash_fixed("rpd", 3) == 0x7e6e02b85acfcfd0u, "the fixed hash never changes");

    struct hash_key a = {0, 0}, b = {0, 0};
    hash_key_random(&a);
    hash_key_random(&b);
    tap_ok(a.k0 != b.k0 && a.k1 != b.k1 && a.k0 != a.k1, "random keys differ");
}

static void test_map(void)
{
    static char names[3000][8];
    static int values[3000];
    struct map m;
    void *old = NULL;
    tap_is_int(map_init(&m, 0), 0, "init");
    tap_ok(!map_get(&m, SLICE("x")), "empty");
    bool ok = true;
    for (size_t i = 0; i < 3000; i++) {
        snprintf(names[i], sizeof(names[i]), "k%zu", i);
        values[i] = (int)i;
        ok = ok && map_put(&m, slice_str(names[i]), &values[i], NULL) == 0;
        ok = ok && m.n * 2 <= m.mask + 1;
    }
    tap_ok(ok, "3000 keys at half load");
    for (size_t i = 0; i < 3000; i++)
        ok = ok && map_get(&m, slice_str(names[i])) == &values[i];
    tap_ok(ok && !map_get(&m, SLICE("k3000")), "all are found, no other");
    tap_is_int(map_put(&m, SLICE("k5"), &values[9], &old), -ERR_EXIST, "a key twice");
    tap_ok(old == &values[5] && map_get(&m, SLICE("k5")) == &values[5], "keeps the old value");
    tap_is_int(map_put(&m, SLICE_NONE, &values[1], NULL), 0, "the empty key is one");
    tap_ok(map_get(&m, SLICE("")) == &values[1], "and is found");
    map_fini(&m);
    tap_ok(!map_get(&m, SLICE("k1")), "a map that is gone holds nothing");

    alloc_fail_at(1);
    tap_is_int(map_init(&m, 100), -ERR_NOMEM, "init without memory");
    tap_is_int(map_put(&m, SLICE("a"), &values[0], NULL), 0, "the next put takes some");
    for (size_t i = 0; i < 3; i++)
        map_put(&m, slice_str(names[i]), &values[i], NULL);
    alloc_fail_at(1);
    tap_is_int(map_put(&m, SLICE("b"), &values[0], NULL), -ERR_NOMEM, "growing without memory");
    alloc_fail_at(0);
    tap_ok(m.n == 4 && map_get(&m, SLICE("a")) && !map_get(&m, SLICE("b")), "changes nothing");
    tap_is_int(map_put(&m, SLICE("b"), &values[0], NULL), 0, "and works later");
    map_fini(&m);
    tap_is_int(map_init(&m, SIZE_MAX), -ERR_NOMEM, "an absurd size");
    map_fini(&m);
}

int main(void)
{
    test_sip();
    test_map();
    return tap_done();
}
