noinst_LIBRARIES += libhttp.a
libhttp_a_SOURCES = \
	worker/http/forward.c worker/http/forward.h \
	worker/http/h1_chunk.c worker/http/h1_chunk.h \
	worker/http/h1_fields.c worker/http/h1_fields.h \
	worker/http/h1_head.c worker/http/h1_head.h worker/http/h1_scan.h \
	worker/http/http.c worker/http/http.h worker/http/field.def \
	worker/http/proxyp.c worker/http/proxyp.h \
	worker/http/uri.c worker/http/uri.h
