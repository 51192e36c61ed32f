noinst_LIBRARIES += libupstream.a
libupstream_a_SOURCES = \
	worker/upstream/balance.c \
	worker/upstream/balance.h \
	worker/upstream/balance.def \
	worker/upstream/balance_algo.h \
	worker/upstream/balance_ip_hash.c \
	worker/upstream/balance_least_conn.c \
	worker/upstream/balance_random_two.c \
	worker/upstream/balance_round_robin.c \
	worker/upstream/conn.c \
	worker/upstream/conn.h \
	worker/upstream/h1.c \
	worker/upstream/h1.h \
	worker/upstream/h2.c \
	worker/upstream/h2.h \
	worker/upstream/resolver.c \
	worker/upstream/resolver.h \
	worker/upstream/up.c \
	worker/upstream/up.h \
	worker/upstream/upstream.c \
	worker/upstream/upstream.h

check_PROGRAMS += t/unit/balance_test
UNIT_TESTS += t/unit/balance_test
t_unit_balance_test_SOURCES = t/unit/balance_test.c t/unit/tap.h
t_unit_balance_test_LDADD = $(LIBS_UPSTREAM) $(EXT_LIBS)
check_PROGRAMS += t/unit/resolver_test
UNIT_TESTS += t/unit/resolver_test
t_unit_resolver_test_SOURCES = t/unit/resolver_test.c t/unit/tap.h
t_unit_resolver_test_LDADD = $(LIBS_UPSTREAM) $(EXT_LIBS)
check_PROGRAMS += t/unit/up_h2_test
UNIT_TESTS += t/unit/up_h2_test
t_unit_up_h2_test_SOURCES = t/unit/up_h2_test.c t/unit/tap.h t/unit/config_fixture.h
t_unit_up_h2_test_LDADD = $(LIBS_UPSTREAM) $(EXT_LIBS)
