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
	worker/upstream/resolver.c \
	worker/upstream/resolver.h \
	worker/upstream/upstream.c \
	worker/upstream/upstream.h
