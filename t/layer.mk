# The tests: end to end (t/*.t under prove), fuzz targets with their corpora, tools.
EXTRA_DIST += $(wildcard $(srcdir)/t/*.t) t/lib t/tool t/bench t/conf $(wildcard $(srcdir)/t/fuzz/corpus)

# A fuzz target is t/fuzz/NAME_fuzz.c with its corpus in t/fuzz/corpus/NAME. It is linked with libFuzzer under --enable-fuzz, else
# with replay.c, which runs every file of the corpus and every beginning of it.
FUZZ_TARGETS =
if FUZZ
FUZZ_MAIN =
FUZZ_LD = $(RPD_FUZZ_LD)
else
FUZZ_MAIN = t/fuzz/replay.c
FUZZ_LD =
UNIT_TESTS += $(FUZZ_TARGETS)
endif
EXTRA_DIST += t/fuzz/replay.c
check_PROGRAMS += $(FUZZ_TARGETS)
