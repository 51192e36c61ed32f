/* Ranges: whatever is asked for, what is answered lies inside, does not overlap, and is not more
 * than the whole. The first two bytes are the size. */
#include "base/err.h"
#include "t/fuzz/fuzz.h"
#include "worker/http/range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct range_specs specs;
    struct range_set set;
    if (n < 2)
        return 0;
    const uint64_t size = (uint64_t)data[0] << 8 | data[1];
    int rc = range_parse(slice_of((const char *)data + 2, n - 2), &specs);
    CHECK(rc == 0 || rc == -ERR_INVAL);
    if (rc < 0)
        return 0;
    CHECK(specs.n >= 1 && specs.n <= RANGE_SPECS_MAX);
    if (range_resolve(&specs, size, 0, &set) == RANGE_PARTIAL) {
        uint64_t total = 0;
        CHECK(set.n >= 1 && set.n <= RANGE_MAX);
        for (unsigned i = 0; i < set.n; i++) {
            CHECK(set.r[i].first <= set.r[i].last && set.r[i].last < size);
            total += set.r[i].last - set.r[i].first + 1;
            for (unsigned j = 0; j < i; j++)
                CHECK(set.r[j].last < set.r[i].first || set.r[i].last < set.r[j].first);
        }
        CHECK(total == set.bytes && total <= size);
        CHECK(range_multipart_length(&set, SLICE("b"), SLICE_NONE, size) > total);
    }
    if (range_resolve(&specs, RANGE_UNKNOWN, size, &set) == RANGE_PARTIAL) {
        for (unsigned i = 0; i < set.n; i++)
            CHECK(set.r[i].last < size);
    }
    return 0;
}
