noinst_LIBRARIES += libworker.a
libworker_a_SOURCES = \
	worker/certfile.c \
	worker/channel.c \
	worker/check.c \
	worker/drain.c \
	worker/helper.c \
	worker/persist.c \
	worker/promote.c \
	worker/recode.c \
	worker/record.c \
	worker/state.h \
	worker/worker.c worker/worker.h
