noinst_LIBRARIES += libio.a
libio_a_SOURCES = \
	worker/io/loop.c worker/io/loop.h \
	worker/io/timer.c worker/io/timer.h \
	worker/io/sock.c worker/io/sock.h
