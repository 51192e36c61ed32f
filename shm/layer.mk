noinst_LIBRARIES += libshm.a
libshm_a_SOURCES = \
	shm/abuse.c shm/abuse.h \
	shm/cache.c shm/cache.h shm/cache_layout.h \
	shm/cache_body.c \
	shm/cache_disk.c shm/cache_disk.h \
	shm/cache_evict.c \
	shm/cache_fill.c \
	shm/cache_follow.c \
	shm/cache_fsck.c \
	shm/cache_index.c \
	shm/cache_key.c \
	shm/cache_persist.c shm/cache_persist.h shm/cache_persist_in.h \
	shm/cache_meta.c shm/cache_meta.h \
	shm/cache_promote.c shm/cache_promote.h \
	shm/cache_purge.c \
	shm/cache_reap.c \
	shm/cache_record.c \
	shm/cache_restore.c \
	shm/cache_share.c \
	shm/cache_slab.c \
	shm/cache_store.c \
	shm/cache_visit.c \
	shm/cert.c shm/cert.h \
	shm/counter.c shm/counter.h shm/counters.def \
	shm/crc32c.c shm/crc32c.h \
	shm/hist.c \
	shm/layout.h \
	shm/metrics.c shm/metrics.h \
	shm/resolve.c shm/resolve.h \
	shm/segment.c shm/segment.h \
	shm/segment_fsck.c \
	shm/series.c \
	shm/server.c shm/server.h \
	shm/server_circuit.c \
	shm/session.c shm/session.h \
	shm/slot.c shm/slot.h \
	shm/ticket.c shm/ticket.h

check_PROGRAMS += t/unit/shm_segment_test
UNIT_TESTS += t/unit/shm_segment_test
t_unit_shm_segment_test_SOURCES = t/unit/shm_segment_test.c t/unit/tap.h
t_unit_shm_segment_test_LDADD = $(LIBS_SHM)
check_PROGRAMS += t/unit/shm_counter_test
UNIT_TESTS += t/unit/shm_counter_test
t_unit_shm_counter_test_SOURCES = t/unit/shm_counter_test.c t/unit/tap.h
t_unit_shm_counter_test_LDADD = $(LIBS_SHM)
check_PROGRAMS += t/unit/shm_server_test
UNIT_TESTS += t/unit/shm_server_test
t_unit_shm_server_test_SOURCES = t/unit/shm_server_test.c t/unit/tap.h
t_unit_shm_server_test_LDADD = $(LIBS_SHM)
check_PROGRAMS += t/unit/shm_crash_test
UNIT_TESTS += t/unit/shm_crash_test
t_unit_shm_crash_test_SOURCES = t/unit/shm_crash_test.c t/unit/tap.h t/unit/single_step.h
t_unit_shm_crash_test_LDADD = $(LIBS_SHM)
check_PROGRAMS += t/unit/shm_storm_test
UNIT_TESTS += t/unit/shm_storm_test
t_unit_shm_storm_test_SOURCES = t/unit/shm_storm_test.c t/unit/tap.h
t_unit_shm_storm_test_LDADD = $(LIBS_SHM)
check_PROGRAMS += t/unit/shm_tls_test t/unit/shm_abuse_test t/unit/shm_session_storm_test
UNIT_TESTS += t/unit/shm_tls_test t/unit/shm_abuse_test t/unit/shm_session_storm_test
t_unit_shm_tls_test_SOURCES = t/unit/shm_tls_test.c t/unit/tap.h
t_unit_shm_tls_test_LDADD = $(LIBS_SHM)
t_unit_shm_abuse_test_SOURCES = t/unit/shm_abuse_test.c t/unit/tap.h
t_unit_shm_abuse_test_LDADD = $(LIBS_SHM)
t_unit_shm_session_storm_test_SOURCES = t/unit/shm_session_storm_test.c t/unit/tap.h
t_unit_shm_session_storm_test_LDADD = $(LIBS_SHM)
check_PROGRAMS += t/unit/cache_store_test
UNIT_TESTS += t/unit/cache_store_test
t_unit_cache_store_test_SOURCES = t/unit/cache_store_test.c t/unit/cache_fixture.h t/unit/tap.h
t_unit_cache_store_test_LDADD = $(LIBS_SHM)
check_PROGRAMS += t/unit/cache_meta_test
UNIT_TESTS += t/unit/cache_meta_test
t_unit_cache_meta_test_SOURCES = t/unit/cache_meta_test.c t/unit/tap.h
t_unit_cache_meta_test_LDADD = $(LIBS_SHM)
check_PROGRAMS += t/unit/cache_model_test
UNIT_TESTS += t/unit/cache_model_test
t_unit_cache_model_test_SOURCES = t/unit/cache_model_test.c t/unit/cache_fixture.h t/unit/tap.h
t_unit_cache_model_test_LDADD = $(LIBS_SHM)
check_PROGRAMS += t/unit/cache_promote_test
UNIT_TESTS += t/unit/cache_promote_test
t_unit_cache_promote_test_SOURCES = t/unit/cache_promote_test.c t/unit/cache_fixture.h t/unit/tap.h
t_unit_cache_promote_test_LDADD = $(LIBS_SHM)
check_PROGRAMS += t/unit/cache_crash_test
UNIT_TESTS += t/unit/cache_crash_test
t_unit_cache_crash_test_SOURCES = t/unit/cache_crash_test.c t/unit/cache_fixture.h t/unit/tap.h \
	t/unit/single_step.h
t_unit_cache_crash_test_LDADD = $(LIBS_SHM)
check_PROGRAMS += t/unit/cache_storm_test
UNIT_TESTS += t/unit/cache_storm_test
t_unit_cache_storm_test_SOURCES = t/unit/cache_storm_test.c t/unit/cache_storm.h t/unit/cache_fixture.h t/unit/tap.h
t_unit_cache_storm_test_LDADD = $(LIBS_SHM)
# The store once more, for ThreadSanitizer.
check_PROGRAMS += t/unit/cache_tsan_test
UNIT_TESTS += t/unit/cache_tsan_test
t_unit_cache_tsan_test_SOURCES = t/unit/cache_tsan_test.c t/unit/cache_storm.h t/unit/cache_fixture.h t/unit/tap.h \
	shm/cache.c shm/cache_body.c shm/cache_evict.c shm/cache_fill.c shm/cache_follow.c shm/cache_fsck.c shm/cache_index.c \
	shm/cache_key.c shm/cache_purge.c shm/cache_reap.c shm/cache_record.c shm/cache_share.c shm/cache_slab.c shm/cache_store.c shm/crc32c.c
t_unit_cache_tsan_test_CFLAGS = $(AM_CFLAGS) $(RPD_TSAN)
t_unit_cache_tsan_test_LDFLAGS = $(AM_LDFLAGS) $(RPD_TSAN)
t_unit_cache_tsan_test_LDADD = $(LIBS_BASE)
check_PROGRAMS += t/unit/cache_damage_test
UNIT_TESTS += t/unit/cache_damage_test
t_unit_cache_damage_test_SOURCES = t/unit/cache_damage_test.c t/unit/cache_fixture.h t/unit/tap.h
t_unit_cache_damage_test_LDADD = $(LIBS_SHM)
check_PROGRAMS += t/unit/cache_share_test
UNIT_TESTS += t/unit/cache_share_test
t_unit_cache_share_test_SOURCES = t/unit/cache_share_test.c t/unit/cache_fixture.h t/unit/tap.h
t_unit_cache_share_test_LDADD = $(LIBS_SHM) -lm

check_PROGRAMS += t/unit/cache_ratio_test
UNIT_TESTS += t/unit/cache_ratio_test
t_unit_cache_ratio_test_SOURCES = t/unit/cache_ratio_test.c t/unit/cache_fixture.h t/unit/tap.h
t_unit_cache_ratio_test_LDADD = $(LIBS_SHM) -lm
check_PROGRAMS += t/unit/cache_persist_test
UNIT_TESTS += t/unit/cache_persist_test
t_unit_cache_persist_test_SOURCES = t/unit/cache_persist_test.c t/unit/cache_fixture.h t/unit/tap.h
t_unit_cache_persist_test_LDADD = $(LIBS_SHM)
noinst_PROGRAMS += t/bench/cache_bench
t_bench_cache_bench_SOURCES = t/bench/cache_bench.c
t_bench_cache_bench_LDADD = $(LIBS_SHM)
