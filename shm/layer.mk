noinst_LIBRARIES += libshm.a
libshm_a_SOURCES = \
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
	shm/slot.c shm/slot.h
