noinst_LIBRARIES += libio.a
libio_a_SOURCES = \
	worker/io/link.c worker/io/link.h \
	worker/io/loop.c worker/io/loop.h \
	worker/io/pipe.c worker/io/pipe.h \
	worker/io/sock.c worker/io/sock.h \
	worker/io/timer.c worker/io/timer.h
