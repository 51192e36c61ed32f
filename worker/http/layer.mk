noinst_LIBRARIES += libhttp.a
libhttp_a_SOURCES = \
	worker/http/accept_encoding.c worker/http/accept_encoding.h \
	worker/http/cache_control.c worker/http/cache_control.h \
	worker/http/cache_status.c worker/http/cache_status.h \
	worker/http/conditions.c worker/http/conditions.h \
	worker/http/etag.c worker/http/etag.h \
	worker/http/forward.c worker/http/forward.h \
	worker/http/h1_chunk.c worker/http/h1_chunk.h \
	worker/http/h1_fields.c worker/http/h1_fields.h \
	worker/http/h1_head.c worker/http/h1_head.h worker/http/h1_scan.h \
	worker/http/h2.c worker/http/h2.h worker/http/h2_in.h worker/http/h2_message.c \
	worker/http/h2_receive.c worker/http/h2_send.c worker/http/h2_memory.c \
	worker/http/h2_abuse.c worker/http/h2_abuse.h \
	worker/http/h2_head.c worker/http/h2_head.h \
	worker/http/h2_queue.c worker/http/h2_queue.h \
	worker/http/h2_walk.c worker/http/h2_walk.h \
	worker/http/http_date.c worker/http/http_date.h \
	worker/http/range.c worker/http/range.h \
	worker/http/http.c worker/http/http.h worker/http/field.def \
	worker/http/proxyp.c worker/http/proxyp.h \
	worker/http/uri.c worker/http/uri.h

HTTP_TESTS = t/unit/accept_encoding_test t/unit/cache_control_test t/unit/conditions_test t/unit/http_date_test t/unit/range_test \
	t/unit/forward_test t/unit/h1_chunk_test t/unit/h1_head_test \
	t/unit/h2_head_test t/unit/h2_memory_test t/unit/h2_test t/unit/http_test \
	t/unit/proxyp_test t/unit/uri_test
check_PROGRAMS += $(HTTP_TESTS)
UNIT_TESTS += $(HTTP_TESTS)
t_unit_accept_encoding_test_SOURCES = t/unit/accept_encoding_test.c t/unit/tap.h
t_unit_accept_encoding_test_LDADD = $(LIBS_HTTP)
t_unit_cache_control_test_SOURCES = t/unit/cache_control_test.c t/unit/tap.h
t_unit_cache_control_test_LDADD = $(LIBS_HTTP)
t_unit_conditions_test_SOURCES = t/unit/conditions_test.c t/unit/tap.h
t_unit_conditions_test_LDADD = $(LIBS_HTTP)
t_unit_http_date_test_SOURCES = t/unit/http_date_test.c t/unit/tap.h
t_unit_http_date_test_LDADD = $(LIBS_HTTP)
t_unit_range_test_SOURCES = t/unit/range_test.c t/unit/tap.h
t_unit_range_test_LDADD = $(LIBS_HTTP)
t_unit_forward_test_SOURCES = t/unit/forward_test.c t/unit/tap.h
t_unit_forward_test_LDADD = $(LIBS_HTTP)
t_unit_h1_chunk_test_SOURCES = t/unit/h1_chunk_test.c t/unit/tap.h
t_unit_h1_chunk_test_LDADD = $(LIBS_HTTP)
t_unit_h1_head_test_SOURCES = t/unit/h1_head_test.c t/unit/tap.h
t_unit_h1_head_test_LDADD = $(LIBS_HTTP)
t_unit_h2_head_test_SOURCES = t/unit/h2_head_test.c t/unit/tap.h
t_unit_h2_head_test_LDADD = $(LIBS_HTTP)
t_unit_h2_memory_test_SOURCES = t/unit/h2_memory_test.c t/unit/tap.h
t_unit_h2_memory_test_LDADD = $(LIBS_HTTP) $(EXT_LIBS)
t_unit_h2_test_SOURCES = t/unit/h2_test.c t/unit/tap.h
t_unit_h2_test_LDADD = $(LIBS_HTTP) $(EXT_LIBS)
t_unit_http_test_SOURCES = t/unit/http_test.c t/unit/tap.h
t_unit_http_test_LDADD = $(LIBS_HTTP)
t_unit_proxyp_test_SOURCES = t/unit/proxyp_test.c t/unit/tap.h
t_unit_proxyp_test_LDADD = $(LIBS_HTTP)
t_unit_uri_test_SOURCES = t/unit/uri_test.c t/unit/tap.h
t_unit_uri_test_LDADD = $(LIBS_HTTP)

# Prints figures, asserts nothing: run by hand.
noinst_PROGRAMS += t/bench/http_bench
t_bench_http_bench_SOURCES = t/bench/http_bench.c
t_bench_http_bench_LDADD = $(LIBS_HTTP)
