noinst_LIBRARIES += libclient.a
libclient_a_SOURCES = \
	worker/client/client.c worker/client/client.h \
	worker/client/h1.c worker/client/h1.h worker/client/h1_answer.c worker/client/h1_body.c \
	worker/client/handover.c worker/client/handover.h \
	worker/client/h2.c worker/client/h2.h worker/client/h2_stream.c \
	worker/client/open.c
