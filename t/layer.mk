# The tests: end to end (t/*.t under prove), fuzz targets with their corpora, tools.
# Files by name, not their folders: in a build directory those hold objects too.
EXTRA_DIST += $(wildcard $(srcdir)/t/*.t) $(wildcard $(srcdir)/t/lib/RPD/*.pm) $(wildcard $(srcdir)/t/fuzz/corpus) \
	t/tool/app.js t/tool/app.py t/tool/decode.py t/tool/grpc_app.py t/tool/h2_client.py t/tool/h2_client.js t/tool/run-prove t/bench/README t/bench/bench.py t/bench/origin.c t/bench/relay.c t/bench/shake.c t/bench/tls_floor.c t/bench/conf

# A fuzz target is t/fuzz/NAME_fuzz.c with its corpus in t/fuzz/corpus/NAME. It is linked with libFuzzer under --enable-fuzz, else
# with replay.c, which runs every file of the corpus and every beginning of it.
FUZZ_TARGETS = t/fuzz/accept_encoding_fuzz t/fuzz/cache_persist_fuzz t/fuzz/cache_control_fuzz t/fuzz/config_fuzz t/fuzz/control_fuzz t/fuzz/h1_chunk_fuzz t/fuzz/h1_request_fuzz t/fuzz/h1_response_fuzz \
	t/fuzz/h2_fuzz t/fuzz/http_date_fuzz t/fuzz/proxyp_fuzz t/fuzz/range_fuzz t/fuzz/tls_scan_fuzz t/fuzz/uri_fuzz
if FUZZ
FUZZ_MAIN =
FUZZ_LD = $(RPD_FUZZ_LD)
noinst_PROGRAMS += $(FUZZ_TARGETS)
else
FUZZ_MAIN = t/fuzz/replay.c
FUZZ_LD =
UNIT_TESTS += $(FUZZ_TARGETS)
check_PROGRAMS += $(FUZZ_TARGETS)
endif
EXTRA_DIST += t/fuzz/replay.c

t_fuzz_accept_encoding_fuzz_SOURCES = t/fuzz/accept_encoding_fuzz.c t/fuzz/fuzz.h $(FUZZ_MAIN)
t_fuzz_accept_encoding_fuzz_LDADD = $(LIBS_HTTP)
t_fuzz_accept_encoding_fuzz_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LD)
t_fuzz_cache_persist_fuzz_SOURCES = t/fuzz/cache_persist_fuzz.c t/fuzz/fuzz.h $(FUZZ_MAIN)
t_fuzz_cache_persist_fuzz_LDADD = $(LIBS_SHM)
t_fuzz_cache_persist_fuzz_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LD)
t_fuzz_config_fuzz_SOURCES = t/fuzz/config_fuzz.c $(FUZZ_MAIN)
t_fuzz_config_fuzz_LDADD = $(LIBS_CONFIG) $(EXT_LIBS)
t_fuzz_config_fuzz_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LD)
t_fuzz_control_fuzz_SOURCES = t/fuzz/control_fuzz.c $(FUZZ_MAIN)
t_fuzz_control_fuzz_LDADD = librpctl.a $(LIBS_BASE)
t_fuzz_control_fuzz_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LD)
t_fuzz_h1_chunk_fuzz_SOURCES = t/fuzz/h1_chunk_fuzz.c t/fuzz/fuzz.h $(FUZZ_MAIN)
t_fuzz_h1_chunk_fuzz_LDADD = $(LIBS_HTTP)
t_fuzz_h1_chunk_fuzz_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LD)
t_fuzz_h1_request_fuzz_SOURCES = t/fuzz/h1_request_fuzz.c t/fuzz/fuzz.h $(FUZZ_MAIN)
t_fuzz_h1_request_fuzz_LDADD = $(LIBS_HTTP)
t_fuzz_h1_request_fuzz_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LD)
t_fuzz_h1_response_fuzz_SOURCES = t/fuzz/h1_response_fuzz.c t/fuzz/fuzz.h $(FUZZ_MAIN)
t_fuzz_h1_response_fuzz_LDADD = $(LIBS_HTTP)
t_fuzz_h1_response_fuzz_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LD)
t_fuzz_h2_fuzz_SOURCES = t/fuzz/h2_fuzz.c t/fuzz/fuzz.h $(FUZZ_MAIN)
t_fuzz_h2_fuzz_LDADD = $(LIBS_HTTP) $(EXT_LIBS)
t_fuzz_h2_fuzz_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LD)
t_fuzz_proxyp_fuzz_SOURCES = t/fuzz/proxyp_fuzz.c t/fuzz/fuzz.h $(FUZZ_MAIN)
t_fuzz_proxyp_fuzz_LDADD = $(LIBS_HTTP)
t_fuzz_proxyp_fuzz_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LD)
t_fuzz_tls_scan_fuzz_SOURCES = t/fuzz/tls_scan_fuzz.c t/fuzz/fuzz.h $(FUZZ_MAIN)
t_fuzz_tls_scan_fuzz_LDADD = $(LIBS_IO)
t_fuzz_tls_scan_fuzz_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LD)
t_fuzz_uri_fuzz_SOURCES = t/fuzz/uri_fuzz.c t/fuzz/fuzz.h $(FUZZ_MAIN)
t_fuzz_uri_fuzz_LDADD = $(LIBS_HTTP)
t_fuzz_uri_fuzz_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LD)
t_fuzz_cache_control_fuzz_SOURCES = t/fuzz/cache_control_fuzz.c t/fuzz/fuzz.h $(FUZZ_MAIN)
t_fuzz_cache_control_fuzz_LDADD = $(LIBS_HTTP)
t_fuzz_cache_control_fuzz_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LD)
t_fuzz_http_date_fuzz_SOURCES = t/fuzz/http_date_fuzz.c t/fuzz/fuzz.h $(FUZZ_MAIN)
t_fuzz_http_date_fuzz_LDADD = $(LIBS_HTTP)
t_fuzz_http_date_fuzz_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LD)
t_fuzz_range_fuzz_SOURCES = t/fuzz/range_fuzz.c t/fuzz/fuzz.h $(FUZZ_MAIN)
t_fuzz_range_fuzz_LDADD = $(LIBS_HTTP)
t_fuzz_range_fuzz_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LD)
