noinst_LIBRARIES += libstream.a
libstream_a_SOURCES = \
	worker/stream/cached.c worker/stream/cached.h \
	worker/stream/cached_coded.c worker/stream/cached_fill.c \
	worker/stream/cached_own.c worker/stream/cached_query.c worker/stream/cached_read.c \
	worker/stream/fetch.c worker/stream/fetch.h \
	worker/stream/https.c worker/stream/https.h \
	worker/stream/stream.c worker/stream/stream.h \
	worker/stream/match.c worker/stream/match.h \
	worker/stream/route.c worker/stream/route.h \
	worker/stream/route_build.c worker/stream/route_table.h \
	worker/stream/tunnel.c worker/stream/tunnel.h \
	worker/stream/synth.c worker/stream/synth.h

check_PROGRAMS += t/unit/match_test
UNIT_TESTS += t/unit/match_test
t_unit_match_test_SOURCES = t/unit/match_test.c t/unit/tap.h
t_unit_match_test_LDADD = libstream.a $(LIBS_BASE) $(EXT_LIBS)

check_PROGRAMS += t/unit/route_test
UNIT_TESTS += t/unit/route_test
t_unit_route_test_SOURCES = t/unit/route_test.c t/unit/route_fixture.h t/unit/tap.h
t_unit_route_test_LDADD = libstream.a $(LIBS_CONFIG) $(EXT_LIBS)

check_PROGRAMS += t/unit/synth_test
UNIT_TESTS += t/unit/synth_test
t_unit_synth_test_SOURCES = t/unit/synth_test.c t/unit/tap.h
t_unit_synth_test_LDADD = libstream.a libhttp.a $(LIBS_CONFIG) $(EXT_LIBS)

check_PROGRAMS += t/bench/route_bench
t_bench_route_bench_SOURCES = t/bench/route_bench.c t/unit/route_fixture.h t/unit/tap.h
t_bench_route_bench_LDADD = libstream.a $(LIBS_CONFIG) $(EXT_LIBS)
