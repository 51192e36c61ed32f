noinst_LIBRARIES += libbase.a
libbase_a_SOURCES = \
	base/addr.c base/addr.h \
	base/arena.c base/arena.h base/asan.h \
	base/buf.c base/buf.h \
	base/clock.c base/clock.h \
	base/err.c base/err.h base/err.def \
	base/hash.c base/hash.h \
	base/json.c base/json.h \
	base/list.h \
	base/log.c base/log.h \
	base/msg.c base/msg.h \
	base/num.c base/num.h \
	base/panic.c base/panic.h \
	base/pool.c base/pool.h \
	base/proc.c base/proc.h \
	base/slice.c base/slice.h
