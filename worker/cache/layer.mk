noinst_LIBRARIES += libcache.a
libcache_a_SOURCES = \
	worker/cache/cache.c worker/cache/cache.h \
	worker/cache/coded.c worker/cache/coded.h \
	worker/cache/key.c worker/cache/key.h \
	worker/cache/policy.c worker/cache/policy.h \
	worker/cache/stored.c worker/cache/stored.h \
	worker/cache/update.c worker/cache/update.h \
	worker/cache/vary.c worker/cache/vary.h

CACHE_TESTS = t/unit/coded_test t/unit/cache_key_test t/unit/cache_policy_test t/unit/cache_stored_test
check_PROGRAMS += $(CACHE_TESTS)
UNIT_TESTS += $(CACHE_TESTS)
t_unit_coded_test_SOURCES = t/unit/coded_test.c t/unit/tap.h
t_unit_coded_test_LDADD = $(LIBS_CACHE)
t_unit_cache_key_test_SOURCES = t/unit/cache_key_test.c t/unit/tap.h
t_unit_cache_key_test_LDADD = $(LIBS_CACHE)
t_unit_cache_stored_test_SOURCES = t/unit/cache_stored_test.c t/unit/tap.h
t_unit_cache_stored_test_LDADD = $(LIBS_CACHE)
t_unit_cache_policy_test_SOURCES = t/unit/cache_policy_test.c t/unit/tap.h
t_unit_cache_policy_test_LDADD = $(LIBS_CACHE)
